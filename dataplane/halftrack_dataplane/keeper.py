"""A keeper: it holds a source's sockets for longer than the source's process lives, hands them to whoever runs, and reads nothing.

Owns the sockets' life. It binds none: whoever starts it has bound them, with what rights that needs, and names their descriptors in its
environment. While nobody reads, the kernel's buffer takes what comes; what that drops is counted. Connections are accepted here, so that they
outlive the process that reads them; what they send waits, and holds the sender back.

A keeper that was killed finds its sockets in use, by the process that it gave them to: that one returns them.
"""

import contextlib
import json
import os
import selectors
import socket as sockets
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path

from halftrack_dataplane import feed_wire
from halftrack_dataplane.feed_orders import FeedSpec
from halftrack_dataplane.feed_wire import Malformed, Word
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_RING, EXIT_SPEC, Stop, Unable
from halftrack_dataplane.status import Status, StatusFile

DESCRIPTORS = (
    "HALFTRACK_FEEDS"  # the environment: one number a feed, in the order of the spec; -1: its address is in use
)
RETURN_S = 2.0  # a source that runs notices at once that its keeper is gone; one that does not run returns nothing
LOOK_S = 0.1
MAX_LINES = 4
MAX_CONNECTIONS = 64  # of a feed: each is an instrument, not a visitor
_SO_MEMINFO, _MEMINFO = 55, struct.Struct("9I")  # <linux/sock_diag.h>: bytes that wait first, drops last


@dataclass
class _Feed:
    spec: FeedSpec
    socket: sockets.socket | None
    connections: dict[int, tuple[sockets.socket, str]] = field(default_factory=dict)
    refused: int = 0


class Keeper:
    """One workload's sockets. `look` handles what has happened, and returns."""

    def __init__(self, spec: RunSpec, descriptors: list[int]) -> None:
        self._spec = spec
        self._feeds = {
            feed.name: _Feed(feed, None if fd < 0 else sockets.socket(fileno=fd))
            for feed, fd in zip(spec.feeds, descriptors, strict=True)
        }
        self._last = 0
        self._began = time.monotonic()
        self._lines: list[sockets.socket] = []
        self._taker: sockets.socket | None = None
        self._selector = selectors.DefaultSelector()
        for feed in self._feeds.values():
            self._serve(feed)
        self._door = feed_wire.listening(spec.feed_dir)
        self._selector.register(self._door, selectors.EVENT_READ, self._admit)

    def look(self, seconds: float = LOOK_S) -> None:
        """Whatever happens within so long."""
        for key, _ in self._selector.select(seconds):
            key.data()
        if self._missing() and time.monotonic() - self._began > RETURN_S:
            places = ", ".join(f"{feed.spec.bind} ({feed.spec.protocol})" for feed in self._missing())
            raise Unable(EXIT_RING, f"in use by somebody else: {places}; end that process, or bind another port")

    def status(self) -> Status:
        """What it holds."""
        counters: dict[str, int] = {}
        messages = []
        for name, feed in self._feeds.items():
            if feed.socket is None:
                continue
            waiting, dropped = _memory(feed.socket)
            if feed.spec.protocol == "udp":
                counters |= {f"{name}.dropped": dropped, f"{name}.waiting_bytes": waiting}
            else:
                counters |= {f"{name}.connections": len(feed.connections), f"{name}.refused": feed.refused}
            granted = feed.socket.getsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF) // 2
            if granted < feed.spec.buffer_bytes:
                messages.append(
                    f"the kernel gives {name} {granted} bytes of buffer, not {feed.spec.buffer_bytes}: raise it with "
                    f"sysctl -w net.core.rmem_max={feed.spec.buffer_bytes}"
                )
        if self._taker is None:
            messages.append("nobody takes its sockets now; what comes waits in their buffers")
        counters["dropped"] = sum(count for key, count in counters.items() if key.endswith(".dropped"))
        return Status(self._spec.name, self._spec.role, counters=counters, message="; ".join(messages))

    def close(self) -> None:
        """Let go of everything."""
        for line in [*self._lines]:
            self._hang_up(line)
        self._selector.close()
        self._door.close()
        feed_wire.leave(self._spec.feed_dir)
        for feed in self._feeds.values():
            for connection, _ in feed.connections.values():
                connection.close()
            if feed.socket is not None:
                feed.socket.close()

    # ------------------------------------------------------------------------------------------------- who may take

    def _admit(self) -> None:
        line, _ = self._door.accept()
        line.setblocking(False)
        if len(self._lines) >= MAX_LINES or not self._known(line):
            line.close()
            return
        self._lines.append(line)
        self._selector.register(line, selectors.EVENT_READ, lambda: self._hear(line))

    def _known(self, line: sockets.socket) -> bool:
        """Is it the workload's own process, and nobody else of the same user?"""
        pid, uid = feed_wire.peer(line)
        if uid != os.getuid():
            return False
        if not self._spec.taker_path:
            return True
        try:
            who = json.loads(Path(self._spec.taker_path).read_bytes())
            return bool(who["pid"] == pid and who["start_ticks"] == _start_ticks(pid))
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return False

    def _hang_up(self, line: sockets.socket) -> None:
        self._lines.remove(line)
        self._selector.unregister(line)
        line.close()
        if self._taker is line:
            self._taker = None

    # ------------------------------------------------------------------------------------------------- what is said

    def _hear(self, line: sockets.socket) -> None:
        try:
            heard = feed_wire.receive(line)
        except BlockingIOError:
            return
        except Malformed:
            heard = None
        if heard is None:
            self._hang_up(line)
            return
        word, descriptors = heard
        given = [sockets.socket(fileno=fd) for fd in descriptors]
        feed = self._feeds.get(word.name)
        if word.say == "take":
            self._taker = line
            self._tell(line)
        elif feed is not None and word.say == "return" and given:
            self._take_back(feed, given.pop())
            self._tell(line)
        elif feed is not None and word.say == "again" and given and len(feed.connections) < MAX_CONNECTIONS:
            self._last = max(self._last, word.number)
            feed.connections.setdefault(word.number, (given.pop(), word.text))
        elif feed is not None and word.say == "done" and word.number in feed.connections:
            feed.connections.pop(word.number)[0].close()
        for each in given:
            each.close()

    def _tell(self, line: sockets.socket) -> None:
        """All that is kept, and what is missing."""
        with contextlib.suppress(OSError):  # who does not listen is gone, which the next look tells
            for name, feed in self._feeds.items():
                if feed.socket is not None:
                    word = Word("feed", name, feed.spec.buffer_bytes, feed.spec.protocol)
                    feed_wire.send(line, word, feed.socket.fileno())
                for number, (connection, peer) in feed.connections.items():
                    feed_wire.send(line, Word("connection", name, number, peer), connection.fileno())
            feed_wire.send(line, Word("all", text=",".join(feed.spec.name for feed in self._missing())))

    def _missing(self) -> list[_Feed]:
        return [feed for feed in self._feeds.values() if feed.socket is None]

    def _take_back(self, feed: _Feed, given: sockets.socket) -> None:
        """A socket that an earlier keeper gave away, if it is the one that is lacking."""
        if feed.socket is None and _is_of(given, feed.spec):
            feed.socket = given
            self._serve(feed)
        else:
            given.close()

    # ------------------------------------------------------------------------------------------------- connections

    def _serve(self, feed: _Feed) -> None:
        if feed.socket is not None and feed.spec.protocol == "tcp":
            feed.socket.setblocking(False)
            self._selector.register(feed.socket, selectors.EVENT_READ, lambda: self._accept(feed))

    def _accept(self, feed: _Feed) -> None:
        assert feed.socket is not None  # noqa: S101 - it was registered
        try:
            connection, address = feed.socket.accept()
        except OSError:  # it has gone already
            return
        if len(feed.connections) >= MAX_CONNECTIONS:
            feed.refused += 1
            connection.close()
            return
        connection.setsockopt(
            sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1
        )  # a sender whose host is gone shall not wait here for ever
        self._last = max(self._last + 1, time.time_ns())  # never that of an earlier keeper's connection
        peer = f"{address[0]}:{address[1]}"
        feed.connections[self._last] = (connection, peer)
        if self._taker is not None:
            with contextlib.suppress(OSError):
                feed_wire.send(self._taker, Word("connection", feed.spec.name, self._last, peer), connection.fileno())


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    keeper = Keeper(spec, _descriptors(len(spec.feeds)))
    file = StatusFile(spec.status_path)
    try:
        while not stop.asked:
            keeper.look()
            file.offer(keeper.status)
    finally:
        file.offer(keeper.status, last=True)
        keeper.close()


def _descriptors(count: int) -> list[int]:
    try:
        found = [int(word) for word in os.environ.get(DESCRIPTORS, "").split(",")]
        for fd in found:
            if fd >= 0:
                os.set_inheritable(fd, False)
    except (ValueError, OSError) as error:
        raise Unable(EXIT_SPEC, f"a keeper is started with bound sockets, named in {DESCRIPTORS}: {error}") from None
    if len(found) != count:
        raise Unable(EXIT_SPEC, f"{count} feeds are to be kept, and {DESCRIPTORS} names {len(found)} sockets")
    return found


def _start_ticks(pid: int) -> int:
    """When the process began, as the kernel counts: a pid alone is used again."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])


def _memory(kept: sockets.socket) -> tuple[int, int]:
    """How many bytes wait in a socket, and how many packets it had no room for."""
    found = _MEMINFO.unpack(kept.getsockopt(sockets.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))
    return int(found[0]), int(found[8])


def _is_of(given: sockets.socket, spec: FeedSpec) -> bool:
    """Is it bound as that feed?"""
    kind = sockets.SOCK_DGRAM if spec.protocol == "udp" else sockets.SOCK_STREAM
    try:
        host, port = given.getsockname()[:2]
    except (OSError, ValueError, TypeError):
        return False
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return given.type & ~sockets.SOCK_NONBLOCK == kind and shown == spec.bind
