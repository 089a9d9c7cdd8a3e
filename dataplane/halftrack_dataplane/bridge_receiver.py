"""The bridge's receiving end: one ring of another host, replicated here with the same sequences, epochs and timestamps.

It leads: after every interruption it names the next sequence that it lacks, and goes on from there. Owns the replica's writer;
bridge_inlet writes with it, without the GIL. Never invents a frame; what the server no longer has becomes a declared gap, counted
as lost.
"""

import random
import secrets
import time

import zmq

from halftrack_dataplane import bridge_sockets
from halftrack_dataplane.bridge_data import FRAME_COST, Gap, WireError
from halftrack_dataplane.bridge_inlet import Inlet
from halftrack_dataplane.bridge_wire import (
    DEAD_S,
    HEARTBEAT_S,
    MAX_CREDIT,
    Credit,
    Heartbeat,
    Hello,
    Message,
    Refusal,
    decode,
    encode,
)
from halftrack_dataplane.frames import RingError, RingFull
from halftrack_dataplane.libzmq import keep_freed
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_SPEC, TICK_S, Stop, Unable, open_ring, ring_writer
from halftrack_dataplane.status import Losses, Status, StatusFile

CREDIT_BYTES = 16 << 20  # half a second at 32 MB/s; the param `credit_bytes` says otherwise
BACKOFF_FIRST_S, BACKOFF_CAP_S = 0.02, 0.5
HELLO_POLL_S = 0.01  # until a connection stands, which nothing tells


def backoff_s(attempt: int, chance: float) -> float:
    """Full jitter: anything up to a bound that doubles, but is capped before the exponent can grow beyond reason."""
    return chance * min(BACKOFF_CAP_S, BACKOFF_FIRST_S * (1 << min(attempt, 8)))


def due_credit(owed: int, window: int) -> bool:
    """Is it time to give credit back? In steps of half a window: rarely, and the other half is still on its way."""
    return owed >= max(window // 2, 1)


class Broken(Exception):  # noqa: N818 - reads as what it is where it is raised
    """This connection is of no more use; another will be."""


class Receiver:
    """One replica and its connection, whichever that is at the moment."""

    def __init__(self, spec: RunSpec, ring: Ring, writer: Writer, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        credit = spec.params.get("credit_bytes", CREDIT_BYTES)
        if type(credit) is not int or not 1 <= credit <= MAX_CREDIT:
            raise Unable(EXIT_SPEC, f"param 'credit_bytes' must be an integer from 1 to {MAX_CREDIT}, not {credit!r}")
        self._spec = spec
        self._ring = ring
        self._writer = writer
        self._context = context
        self._credit = credit
        self._session = b""
        self._inlet = Inlet(writer)
        self._heard_at = self._beat_at = 0.0
        self._hello_due: float | None = None
        self._attempt = 0
        self._counters = {"lost": 0, "connects": 0, "refused_messages": 0, "torn": 0}
        self._losses = Losses()
        self._message = f"connecting to {spec.connect}"
        self._file = StatusFile(spec.status_path)

    def run(self, stop: Stop) -> None:
        """Until asked to stop."""
        try:
            while not stop.asked:
                socket = bridge_sockets.client(self._context, self._spec, self._spec.connect, self._spec.server_public)
                try:
                    self._converse(socket, stop)
                except Broken as broken:
                    self._message = str(broken)
                finally:
                    self._inlet.drop()
                    socket.close(0)
                self._file.offer(self._status)
                stop.sleep(self._pause_s())
        finally:
            self._file.offer(self._status, last=True)

    def _pause_s(self) -> float:
        self._attempt += 1
        return backoff_s(self._attempt, random.random())  # noqa: S311 - spreads load, guards nothing

    def _converse(self, socket: zmq.Socket[bytes], stop: Stop) -> None:
        """One connection, from hello to silence."""
        self._heard_at = time.monotonic()
        self._hello_due = self._heard_at
        self._session = b""
        self._inlet.attach(socket)
        self._counters["connects"] += 1
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        while not stop.asked:
            self._speak(socket)
            end = self._inlet.take(enough=max(self._credit // 2 - self._inlet.owed, 1))
            if end == "nothing":
                if time.monotonic() - self._heard_at > DEAD_S:
                    raise Broken(f"nothing heard from {self._spec.connect} for {DEAD_S:g} s; connecting anew")
                poller.poll(self._quiet_ms())
            else:
                self._act(socket, end, stop)
            self._file.offer(self._status)

    def _quiet_ms(self) -> int:
        """For how long there is nothing to do but to listen."""
        now = time.monotonic()
        if self._hello_due is not None:
            return int(min(max(HELLO_POLL_S, self._hello_due - now), HEARTBEAT_S) * 1000)
        return max(1, int((self._beat_at + HEARTBEAT_S - now) * 1000) + 1)

    # ---- what goes out ----------------------------------------------------------------------------------------------

    def _speak(self, socket: zmq.Socket[bytes]) -> None:
        """Whatever is due. A message that cannot go out is not queued: what is true later is said then."""
        now = time.monotonic()
        if self._hello_due is not None:
            if now >= self._hello_due:
                session = secrets.token_bytes(8)
                # Not whether it retains anything: one that a death has emptied goes on where it was, or its loss is never told.
                held_any = self._ring.head > 0
                hello = Hello(session, self._spec.ring_name, self._ring.head if held_any else -1, self._credit)
                if _sent(socket, hello):
                    self._session, self._hello_due, self._beat_at = session, None, now
                    self._inlet.begin()
            return
        if due_credit(self._inlet.owed, self._credit) and _sent(socket, Credit(self._session, self._inlet.owed)):
            self._inlet.returned()
            self._beat_at = now
        if now - self._beat_at >= HEARTBEAT_S and _sent(socket, Heartbeat(self._session)):
            self._beat_at = now

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _act(self, socket: zmq.Socket[bytes], end: str, stop: Stop) -> None:
        """What a turn of the inlet ended with."""
        match end:
            case "control":
                self._understand(self._inlet.control())
            case "gap":
                self._gap(socket, self._inlet.gap(), stop)
            case "ahead":
                self._reach(self._inlet.first)
            case "torn":  # what came is void, and behind it there is a hole: ask again from there
                self._counters["torn"] += 1
                self._hello_due = time.monotonic()
            case "waits":
                return  # a reader here is slow: that holds us up, and through the credit the server, but nobody takes us for dead
            case "wrong":
                self._refused(self._inlet.refused())
            case "unknown":
                self._inlet.unwritable()
            case "broken":
                raise Broken(f"the connection to {self._spec.connect} failed")
        self._heard_at = time.monotonic()

    def _understand(self, parts: list[bytes]) -> None:
        try:
            self._heard(decode(parts))
        except WireError as error:
            self._refused(error)

    def _refused(self, error: WireError) -> None:
        self._counters["refused_messages"] += 1
        raise Broken(f"{self._spec.connect} said what cannot be understood: {error}") from None

    def _heard(self, message: Message) -> None:
        match message:
            case Heartbeat(session) if session == self._session:
                self._inlet.welcomed()
                self._attempt = 0
                self._message = f"connected to {self._spec.connect}"
            case Refusal(session, reason) if session == self._session:
                self._message = f"{self._spec.connect} refuses: {reason}"
                self._hello_due = time.monotonic() + self._pause_s()
            case _:
                return  # of a session that is over

    def _gap(self, socket: zmq.Socket[bytes], gap: Gap, stop: Stop) -> None:
        self._inlet.owes(FRAME_COST)
        end = gap.first + gap.count
        if self._ring.head == self._ring.tail and self._started_at(end):
            return  # nobody here has ever had anything of what is missing
        self._reach(gap.first)
        first = self._ring.head
        missing = end - first
        if missing <= 0:
            return
        while True:
            try:
                self._writer.gap(missing, timeout_s=TICK_S)
            except RingFull:
                if stop.asked:
                    raise Broken("asked to stop") from None
                self._speak(socket)
                self._file.offer(self._status)
            else:
                self._counters["lost"] += missing
                self._losses.add(first, end)
                return

    def _reach(self, first: int) -> None:
        """`first` follows what we have, or is where a replica that has nothing begins."""
        head = self._ring.head
        if first > head and not (head == self._ring.tail and self._started_at(first)):
            raise Broken(f"{self._spec.connect} went on at {first} instead of {head}")

    def _started_at(self, seq: int) -> bool:
        try:
            self._writer.start_at(seq)
        except RingError:
            return False  # it is empty, but not new
        return True

    def _status(self) -> Status:
        head = self._ring.head
        inlet = self._inlet
        counters = {
            "frames": inlet.frames,
            "bytes": inlet.payload_bytes,
            "duplicates": inlet.duplicates,
        } | self._counters
        return Status(
            self._spec.name, self._spec.role, head, head, 0, counters, message=self._message, lost=self._losses.ranges
        )


def _sent(socket: zmq.Socket[bytes], message: Message) -> bool:
    try:
        socket.send_multipart(encode(message), zmq.NOBLOCK)
    except zmq.Again:
        return False
    return True


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    keep_freed()
    ring = open_ring(spec.output_ring, stop)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        with ring_writer(ring, spec.name, stop) as writer:
            Receiver(spec, ring, writer, context).run(stop)
    finally:
        context.destroy(0)
