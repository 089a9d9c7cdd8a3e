"""A source of what comes over TCP connections: frames by length, of one size or by lines, from however many senders at once.

Owns the reading, in the order look, publish, take: a process that is killed loses no byte and repeats none (`stream_place`). A sender is held
back by a full ring, through its own connection. Frames of several connections come in the order in which they were found.
"""

import fcntl
import select
import socket
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Literal, cast

from halftrack_dataplane import stream_place
from halftrack_dataplane.capturing import Taking, drafted, number, only, read, text
from halftrack_dataplane.feeds import Connection
from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.framing import LENGTH, Form, Overlong
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.runtime import EXIT_SPEC, TICK_S, Unable, ring_writer
from halftrack_dataplane.sdk import Param

LOOK_BYTES = 1 << 18  # of a connection's buffer at a time
LOOK_S = 0.02  # as often as the keeper is heard: new connections come from there
_STATE_AT, _RECEIVED_AT, _CLOSE_WAIT = 0, 128, 8  # in a struct tcp_info
_INFO_BYTES = 192


class Connections:
    """Params: `feed` (the only one's name), `form` (framed: each behind its length, 32 bits, little-endian; fixed: of `frame_bytes`; lines),
    `most_bytes` (of a frame; a longer one ends its connection).
    """

    def __init__(self, params: Mapping[str, Param]) -> None:
        kind = text(params, "form", "framed", ("framed", "fixed", "lines"))
        self._feed = text(params, "feed", "")
        self._most = number(params, "most_bytes", 1 << 20, 1 << 30)
        size = number(params, "frame_bytes", None, 1 << 30) if kind == "fixed" else 0
        self._form = Form(cast(Literal["framed", "fixed", "lines"], kind), size)

    def capture(self, taking: Taking) -> None:
        """Until asked to stop."""
        feed = self._feed or only(taking.feeds)
        room = min(taking.feeds.buffer_bytes(feed), taking.ring.capacity_bytes) // 2
        most = min(self._most, room)
        if self._form.frame_bytes > most:
            raise Unable(
                EXIT_SPEC, f"frames of {self._form.frame_bytes} bytes; the feed's buffer and the ring take {most}"
            )
        with ring_writer(taking.ring, taking.name, taking.stop) as writer:
            before = stream_place.read(read(taking.place))
            taking.numbering.start(writer)
            with drafted(taking.place, stream_place.SIZE) as (memory, settle):
                stream_place.begin(memory)
                work = _Work(taking, writer, self._form, most, memory)
                for connection in taking.feeds.connections(feed):
                    work.begin(connection, before)
                settle()
                while not taking.stop.asked:
                    taking.feeds.attend()
                    work.look(taking.feeds.connections(feed))
                    taking.offer(work.counts)


class _Work:
    """All connections of one feed, and the ring."""

    def __init__(self, taking: Taking, writer: Writer, form: Form, most: int, memory: memoryview) -> None:
        self._taking, self._writer, self._form, self._most, self._memory = taking, writer, form, most, memory
        self._offsets: dict[int, int] = {}  # how many bytes were taken of each connection
        self.counts = dict.fromkeys(("frames", "bytes", "connections", "ended", "cut_short", "overlong"), 0)

    def begin(self, connection: Connection, before: stream_place.Turn | None) -> None:
        """Find where it stands. What is in the ring and was not taken is taken now."""
        kept, number = connection.socket, connection.number
        kept.setblocking(False)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._offsets[number] = taken(kept)
        again = stream_place.published(before, number, self._offsets[number], self._taking.ring.head)
        if again:
            found = self._whole(_seen(kept, LOOK_BYTES + self._most))[0][:again]
            self._take(connection, len(self._form.joined(found)))

    def look(self, connections: Sequence[Connection]) -> None:
        """Whatever comes within a slice."""
        poller = select.poll()
        by_descriptor = {each.socket.fileno(): each for each in connections}
        for each in connections:
            if each.number not in self._offsets:
                self.begin(each, None)
            poller.register(each.socket, select.POLLIN | select.POLLRDHUP)
        for descriptor, events in poller.poll(LOOK_S * 1000):
            self._serve(by_descriptor[descriptor], bool(events & ~select.POLLIN))
        self.counts["connections"] = len(connections)

    def _serve(self, connection: Connection, ending: bool) -> None:
        limit = LOOK_BYTES + self._most
        data = _seen(connection.socket, limit)
        frames, overlong = self._whole(data)
        self._pass_on(connection, frames)
        rest = data[len(self._form.joined(frames)) :]
        if overlong or (ending and not frames and len(data) < limit):
            self.counts["overlong" if overlong else "cut_short"] += overlong or bool(rest)
            self._end(connection)
        elif not self._taking.stop.asked:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, self._wanted(rest))

    def _whole(self, data: bytes) -> tuple[list[bytes], bool]:
        """The whole frames that `data` begins with, and whether the one behind them is too long."""
        try:
            return self._form.cutter(self._most).feed(data), False
        except Overlong as error:
            return error.frames, True

    def _wanted(self, data: bytes) -> int:
        """How many bytes complete the next frame: the kernel wakes nobody before."""
        if self._form.kind == "fixed":
            return self._form.frame_bytes
        if self._form.kind == "framed":
            return LENGTH.size + (LENGTH.unpack_from(data)[0] if len(data) >= LENGTH.size else 0)
        return len(data) + 1

    def _pass_on(self, connection: Connection, frames: list[bytes]) -> None:
        """Say it, publish it, take it."""
        if not frames:
            return
        ring, length, offset = self._taking.ring, len(self._form.joined(frames)), self._offsets[connection.number]
        first, stamp = ring.head, time.time_ns()
        self._taking.numbering.give(first + len(frames) - 1)
        stream_place.write(self._memory, stream_place.Turn(connection.number, offset, first, length))
        while (done := ring.head - first) < len(frames):
            if self._taking.stop.asked:
                return  # what is in the ring is known by its head, and still in the socket
            try:
                self._writer.write_many(frames[done:], timestamp_ns=stamp, timeout_s=TICK_S)
            except RingFull:
                self._taking.offer(self.counts)
        self._take(connection, length)
        self.counts["frames"] += len(frames)
        self.counts["bytes"] += length

    def _take(self, connection: Connection, length: int) -> None:
        """Off the socket, without a copy."""
        self._offsets[connection.number] += length
        while length:
            length -= len(connection.socket.recv(length, socket.MSG_TRUNC))

    def _end(self, connection: Connection) -> None:
        self.counts["ended"] += 1
        self._offsets.pop(connection.number, None)
        self._taking.feeds.done(connection)


def _seen(kept: socket.socket, limit: int) -> bytes:
    """What lies in its buffer, which stays there."""
    try:
        return kept.recv(limit, socket.MSG_PEEK)
    except (BlockingIOError, ConnectionError):
        return b""


def taken(kept: socket.socket) -> int:
    """How many bytes of a connection were ever taken, by whichever process: those that came, without those that lie in its buffer."""
    while True:
        before = kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        waiting = int(struct.unpack("i", fcntl.ioctl(kept.fileno(), termios.FIONREAD, b"\0" * 4))[0])
        after = kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        counted = [int(struct.unpack_from("<Q", info, _RECEIVED_AT)[0]) for info in (before, after)]
        if counted[0] == counted[1] and before[_STATE_AT] == after[_STATE_AT]:
            return counted[0] - waiting - int(before[_STATE_AT] == _CLOSE_WAIT)
