"""Frames from another host into a ring: takes messages from libzmq, checks them, and writes each record as one. Without the GIL.

Owns the message at hand, and how far it is written. Whatever is not frames is handed to Python as it came. Never opens a connection, and
never decides what a hole, a gap or a broken peer means.
"""

import cython

from halftrack_dataplane.bridge_data import Data, Gap, OtherVersion, Record, WireError

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EAGAIN

from halftrack_dataplane.bridge_native cimport *
from halftrack_dataplane.libzmq cimport DONTWAIT, Calls, calls, socket_of, zmq_msg_t
from halftrack_dataplane.native cimport *
from halftrack_dataplane.ring_writer cimport Writer

__all__ = ["Inlet", "decode"]

cdef enum:
    MOST = 3  # messages that belong together: header, payload, verdict; or parts of what is not frames

# What a turn ended with.
cdef enum outcome:
    NOTHING, TURN, CONTROL, A_GAP, AHEAD, TORN, WAITS, WRONG, UNKNOWN, BROKEN

_WORDS = {
    NOTHING: "nothing", TURN: "turn", CONTROL: "control", A_GAP: "gap", AHEAD: "ahead", TORN: "torn", WAITS: "waits", WRONG: "wrong",
    UNKNOWN: "unknown", BROKEN: "broken",
}


@cython.no_gc_clear
cdef class Inlet:
    """Frames on their way into one ring, from whichever connection there is at the moment."""

    cdef const Calls *zmq
    cdef void *socket
    cdef object socket_object
    cdef Writer writer
    cdef bint welcome     # what comes now is for us, and not of a session that is over
    cdef zmq_msg_t messages[3]
    cdef int count        # of them at hand
    cdef bint whole       # nothing more belongs to them
    cdef ht_wire wire     # what the first one says
    cdef uint32_t record  # that is being written
    cdef uint64_t written # frames of it
    cdef uint64_t into    # where that record begins in the payload
    cdef const char *why
    cdef readonly object frames, payload_bytes, duplicates, owed

    def __cinit__(self, Writer writer):
        self.zmq = calls()
        self.writer = writer
        self.count, self.welcome = 0, False
        self.frames = self.payload_bytes = self.duplicates = self.owed = 0

    def __dealloc__(self):
        self._drop()

    def attach(self, socket):
        """From here on this connection is listened to."""
        self.drop()
        self.socket_object, self.socket = socket, socket_of(socket)
        self.begin()

    def begin(self):
        """From here on frames are passed over, until `welcomed`: they are of a session that is over. Nothing is owed any more."""
        self.welcome, self.owed = False, 0

    def welcomed(self):
        """The server has begun our session: what follows is for us."""
        self.welcome = True

    def drop(self):
        """Gives up the message at hand, also one that waits for room."""
        self._drop()
        if self.writer.mapping is not None:
            ht_unblock(&self.writer.out)

    def returned(self):
        """The credit that is owed was given back."""
        self.owed = 0

    def owes(self, more):
        """So much more was consumed, by somebody else than us."""
        self.owed += more

    def take(self, int most=64, uint64_t enough=1 << 62):
        """Takes up to `most` messages or `enough` bytes of credit, and says what ended it; what is to be done about it, then call again.

        "nothing": no message waits; "turn": there may be more; "control": see `control`; "gap": see `gap`; "ahead": `first` is beyond the
        ring's head; "torn": a payload was overwritten on its way, and dropped; "waits": the ring has no room, a slice (0.1 s) long;
        "wrong": see `refused`; "unknown": see `unwritable`; "broken": the socket.
        """
        cdef outcome end
        cdef uint64_t frames = 0, size = 0, again = 0, cost = 0
        self.writer._enter()
        try:
            with nogil:
                end = self._take(most, enough, &frames, &size, &again, &cost)
        finally:
            self.frames += frames
            self.payload_bytes += size
            self.duplicates += again
            self.owed += cost
            self.writer._leave()
        return _WORDS[end]

    @property
    def first(self):
        """The first sequence of the message at hand."""
        return self.wire.head.first

    def control(self):
        """The message at hand, part by part as it came; it is dropped."""
        cdef int number
        parts = [
            PyBytes_FromStringAndSize(<const char *>self.zmq.data(&self.messages[number]), self.zmq.size(&self.messages[number]))
            for number in range(self.count)
        ]
        self._drop()
        return parts

    def gap(self):
        """The gap at hand, which is dropped."""
        self._drop()
        return Gap(self.wire.head.first, self.wire.head.amount)

    def refused(self):
        """The error that says what is wrong with what is at hand, which is dropped."""
        self._drop()
        if self.wire.head.version != HT_WIRE_VERSION:
            return OtherVersion(self.wire.head.version)
        return WireError(self.why.decode())

    def unwritable(self):
        """Writes the frame that the ring refuses once more, so that its error is raised in full."""
        cdef ht_wire_record record = ht_wire_record_at(&self.wire, self.record)
        cdef const char *at = self._payload() + self.into + self.written * record.length
        self.writer.write(PyBytes_FromStringAndSize(at, record.length), epoch=record.epoch, timestamp_ns=record.timestamp_ns)

    # -- without the GIL ----------------------------------------------------------------------------------------------

    cdef void _drop(self) noexcept nogil:
        cdef int number
        for number in range(self.count):
            self.zmq.close(&self.messages[number])
        self.count = 0
        self.whole = False

    cdef outcome _take(self, int most, uint64_t enough, uint64_t *frames, uint64_t *size, uint64_t *again, uint64_t *cost) noexcept nogil:
        cdef outcome end
        cdef int taken
        for taken in range(most):
            if not self.whole:
                end = self._receive()
                if end != TURN:
                    return TURN if taken and end == NOTHING else end  # something was heard
                if not self.whole:
                    continue
            end = self._write(frames, size, again)
            if end != TURN:
                return end
            cost[0] += ht_wire_cost(&self.wire)
            self._drop()
            if cost[0] >= enough:
                break
        return TURN

    cdef outcome _receive(self) noexcept nogil:
        """The next message; TURN without `whole`: there has to come more, or it is for nobody."""
        cdef zmq_msg_t *message = &self.messages[self.count]
        cdef int failed
        self.zmq.init(message)
        if self.zmq.recv(message, self.socket, DONTWAIT) < 0:
            failed = self.zmq.error()
            self.zmq.close(message)
            return NOTHING if failed == EAGAIN else BROKEN
        self.count += 1
        if self.count == 1:
            self.wire.head.version = HT_WIRE_VERSION
            if self.zmq.more(message) or not ht_wire_is(self.zmq.data(message), self.zmq.size(message)):
                return self._rest_of_control()
            return self._begin_frames(message)
        if self.zmq.more(message) or self.zmq.size(message) != (self.wire.head.amount if self.count == 2 else 1):
            self.why = "a payload or a verdict of another length than the header says"
            return WRONG
        if self.count < MOST:
            return TURN
        if not self.welcome:
            self._drop()
        elif (<const char *>self.zmq.data(message))[0] != HT_WHOLE:
            self._drop()
            return TORN
        else:
            self.whole = True
        return TURN

    cdef outcome _rest_of_control(self) noexcept nogil:
        """All parts of a message that is not frames; they are there, or none is."""
        while self.zmq.more(&self.messages[self.count - 1]) and self.count < MOST:
            self.zmq.init(&self.messages[self.count])
            self.count += 1
            if self.zmq.recv(&self.messages[self.count - 1], self.socket, DONTWAIT) < 0:
                return BROKEN
        if not self.zmq.more(&self.messages[self.count - 1]):
            return CONTROL
        self.why = "too many parts"
        return WRONG  # and with it this connection: its other parts go with it

    cdef outcome _begin_frames(self, zmq_msg_t *message) noexcept nogil:
        self.record, self.written, self.into = 0, 0, 0
        self.why = ht_wire_read(self.zmq.data(message), self.zmq.size(message), &self.wire)
        if self.why != NULL:
            return WRONG
        if self.wire.head.kind == HT_WIRE_LATE:
            return TURN
        if not self.welcome:
            self._drop()
            return TURN
        if self.wire.head.kind == HT_WIRE_GAP:
            return A_GAP
        self.whole = True
        return TURN

    cdef const char *_payload(self) noexcept nogil:
        return <const char *>self.zmq.data(&self.messages[1]) if self.wire.head.kind == HT_WIRE_LATE else self.wire.payload

    cdef outcome _write(self, uint64_t *frames, uint64_t *size, uint64_t *again) noexcept nogil:
        """The rest of the message at hand, record by record; what the ring has already is a duplicate."""
        cdef ht_writer *w = &self.writer.out.w
        cdef ht_wire_record record
        cdef const char *payload = self._payload()
        cdef uint64_t seq = self.wire.head.first, run, known
        cdef uint32_t number
        cdef int rc
        if not self.record and not self.written and seq > w.head:
            return AHEAD
        for number in range(self.record):
            seq += ht_wire_record_at(&self.wire, number).count
        while self.record < self.wire.head.records:
            record = ht_wire_record_at(&self.wire, self.record)
            if seq + self.written < w.head:
                known = min(<uint64_t>record.count, w.head - seq) - self.written
                self.written += known
                again[0] += known
            while self.written < record.count:
                run = min(ht_run_frames(w.h, record.length), record.count - self.written)
                rc = ht_send(
                    &self.writer.out, payload + self.into + self.written * record.length, run, record.length, record.epoch,
                    record.timestamp_ns, -1,
                )
                if rc != HT_OK:
                    return WAITS if rc == HT_AGAIN else UNKNOWN
                self.written += run
                frames[0] += run
                size[0] += run * record.length
            seq += record.count
            self.into += <uint64_t>record.count * record.length
            self.record += 1
            self.written = 0
        return TURN


def decode(list messages):
    """The frames or the gap that `messages` spell, by the decoder that receivers use; for tests, which hold it against bridge_data's."""
    cdef ht_wire wire
    cdef bytes header = messages[0]
    cdef const char *why
    cdef uint32_t number
    cdef ht_wire_record record
    if not ht_wire_is(<const char *>header, len(header)):
        raise WireError("not frames")
    why = ht_wire_read(<const char *>header, len(header), &wire)
    if wire.head.version != HT_WIRE_VERSION:
        raise OtherVersion(wire.head.version)
    if why != NULL:
        raise WireError(why.decode())
    late = wire.head.kind == HT_WIRE_LATE
    if len(messages) != (3 if late else 1) or (late and (<uint64_t>len(messages[1]) != wire.head.amount or len(messages[2]) != 1)):
        raise WireError("not the messages that belong together")
    if wire.head.kind == HT_WIRE_GAP:
        return Gap(wire.head.first, wire.head.amount)
    records = []
    for number in range(wire.head.records):
        record = ht_wire_record_at(&wire, number)
        records.append(Record(record.count, record.length, record.epoch, record.timestamp_ns))
    if late:
        return Data(wire.head.first, tuple(records), messages[1] if messages[2][0] == HT_WHOLE else None)
    return Data(wire.head.first, tuple(records), PyBytes_FromStringAndSize(wire.payload, wire.head.amount))
