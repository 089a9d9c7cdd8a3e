"""The sockets of a source, as its keeper hands them out: by name, again after the keeper was killed, and given back to it then.

Owns the line to the keeper. Never binds, accepts or reads: that is the keeper's, and the source's.
"""

import os
import socket as sockets
import time
from collections.abc import Callable
from dataclasses import dataclass

from halftrack_dataplane import feed_wire
from halftrack_dataplane.feed_wire import Malformed, Word
from halftrack_dataplane.runtime import EXIT_RING, EXIT_SPEC, RING_WAIT_S, Stop, Unable

LOOK_S = 0.02  # between two looks at the keeper: a connection that is new may wait so long, and so may a keeper that lacks its sockets


@dataclass(frozen=True, slots=True, eq=False)
class Connection:
    """One that the keeper has accepted. What is read of it is gone for whoever comes after this process."""

    feed: str
    number: int  # of no other, also after the keeper was started again
    socket: sockets.socket
    peer: str


class Feeds:
    """What `sdk.Fed` gets as its context."""

    def __init__(self, folder: str, stop: Stop) -> None:
        self._folder, self._stop = folder, stop
        self._line: sockets.socket | None = None
        self._sockets: dict[str, tuple[sockets.socket, str]] = {}
        self._connections: dict[int, Connection] = {}
        self._listed: set[int] = set()
        self._due = 0.0
        self._complete = False
        self.attended: Callable[[], None] = lambda: None  # what attending says of us: that we live

    def open(self) -> None:
        """Wait for the keeper, and for all that it keeps."""
        end = time.monotonic() + RING_WAIT_S
        while True:
            self.attend()
            if self._complete:
                return
            if self._stop.asked:
                raise Unable(0, "asked to stop while waiting for the keeper of its sockets")
            if time.monotonic() >= end:
                raise Unable(EXIT_RING, f"no keeper hands out its sockets in {self._folder}: has it been started?")
            time.sleep(LOOK_S / 4)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its feeds."""
        return tuple(sorted(self._sockets))

    def socket(self, name: str) -> sockets.socket:
        """The datagram socket of that feed, bound. It stays the context's: read it, and close it never."""
        kept, protocol = self._of(name)
        if protocol != "udp":
            raise Unable(EXIT_SPEC, f"feed {name!r} is {protocol}: ask for its connections")
        return kept

    def connections(self, name: str) -> tuple[Connection, ...]:
        """The connections of that feed that are open now, oldest first."""
        if self._of(name)[1] != "tcp":
            raise Unable(EXIT_SPEC, f"feed {name!r} has no connections: ask for its socket")
        return tuple(each for _, each in sorted(self._connections.items()) if each.feed == name)

    def buffer_bytes(self, name: str) -> int:
        """What the kernel gives that feed's socket, and each of its connections to begin with."""
        return int(self._of(name)[0].getsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF)) // 2

    def done(self, connection: Connection) -> None:
        """All of it was taken, or what comes is no use: close it, for the keeper too."""
        self._connections.pop(connection.number, None)
        connection.socket.close()
        self._say(Word("done", connection.feed, connection.number))

    def attend(self) -> None:
        """Hear what is new. Call it now and then; a keeper that was killed gets its sockets back here."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + LOOK_S
        self.attended()
        if self._line is None:
            self._line = feed_wire.connected(self._folder) if os.path.isdir(self._folder) else None
            self._listed.clear()
            self._say(Word("take"))
        while self._line is not None:
            try:
                heard = feed_wire.receive(self._line)
            except BlockingIOError:
                return
            except Malformed:
                heard = None
            if heard is None:
                self._hang_up()
            else:
                self._hear(*heard)

    def close(self) -> None:
        """Let go of everything; the keeper keeps it."""
        self._hang_up()
        for kept, _ in self._sockets.values():
            kept.close()
        for connection in self._connections.values():
            connection.socket.close()

    def _of(self, name: str) -> "tuple[sockets.socket, str]":
        if name not in self._sockets:
            known = ", ".join(self.names) or "none"
            raise Unable(EXIT_SPEC, f"there is no feed {name!r}: the vertex declares {known}")
        return self._sockets[name]

    def _hear(self, word: Word, descriptors: list[int]) -> None:
        given = [sockets.socket(fileno=fd) for fd in descriptors]
        if word.say == "feed" and given:
            self._keep(word, given[0])
        elif word.say == "connection" and given:
            self._listed.add(word.number)
            if word.number in self._connections:
                given[0].close()
            else:
                self._connections[word.number] = Connection(word.name, word.number, given[0], word.text)
        elif word.say == "all":
            self._return([name for name in word.text.split(",") if name])
        else:
            for each in given:
                each.close()

    def _keep(self, word: Word, given: sockets.socket) -> None:
        held = self._sockets.get(word.name)
        if held is not None and os.fstat(held[0].fileno()).st_ino == os.fstat(given.fileno()).st_ino:
            given.close()
            return
        self._sockets[word.name] = (given, word.text)
        if held is not None:
            held[0].close()

    def _return(self, missing: list[str]) -> None:
        """What this process has and its keeper lacks. Then the keeper says all of it again."""
        for name in missing:
            if name in self._sockets:
                self._say(Word("return", name), self._sockets[name][0].fileno())
        for number, each in self._connections.items():
            if number not in self._listed:
                self._say(Word("again", each.feed, number, each.peer), each.socket.fileno())
        self._complete = not missing

    def _say(self, word: Word, *descriptors: int) -> None:
        if self._line is not None:
            try:
                feed_wire.send(self._line, word, *descriptors)
            except OSError:
                self._hang_up()

    def _hang_up(self) -> None:
        if self._line is not None:
            self._line.close()
        self._line = None
