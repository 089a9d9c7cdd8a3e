"""Whom the server serves with what: a ring that is open once for all who receive it, and each receiver's session.

Owns the readers and the ring's mapping. A reader is a lossy one: a link that is cut must never hold an instrument up; what it missed by
that is told. What goes out next is bridge_outlet's.
"""

import os
from typing import Any

from halftrack_dataplane.bridge_data import MAX_FRAME_BYTES
from halftrack_dataplane.bridge_outlet import Outlet
from halftrack_dataplane.bridge_wire import Hello
from halftrack_dataplane.frames import RingError
from halftrack_dataplane.ring import Reader, Ring


class Source:
    """A ring on its way to any number of receivers."""

    def __init__(self, path: str, socket: Any, wake_fd: int, linger_us: int) -> None:
        self.path = path
        self._inode = os.stat(path).st_ino  # before opening: a ring made anew in between is noticed, not the reverse
        self.ring = Ring.open(path)
        self.outlet = Outlet(self.ring, socket, wake_fd, linger_us)

    def is_gone(self) -> bool:
        """Was the ring removed, or made anew?"""
        try:
            return os.stat(self.path).st_ino != self._inode
        except OSError:
            return True


class Session:
    """What the server knows of one receiver's one ring."""

    def __init__(self, hello: Hello, routing: bytes, user: str, source: Source, now: float) -> None:
        self.id = hello.session
        self.user = user
        self.ring_name = hello.ring
        self.heard_at = now
        self.source = source
        self._reader = self._join(hello.next_seq)
        self.lane = source.outlet.join(routing, self._reader, hello.next_seq, hello.credit_bytes)

    def close(self) -> None:
        """Serve it no more."""
        self.source.outlet.leave(self.lane)
        self._reader.close()

    def end_of_service(self) -> str | None:
        """Why it cannot be served any more; None if it can, with another reader in an evicted one's place. "" if nobody is there to tell."""
        match self.lane.trouble:
            case None:
                return None
            case "evicted":
                return self._rejoined()
            case "too large":
                return f"frame {self.lane.next_seq} has {self.lane.wrong_bytes} bytes, {MAX_FRAME_BYTES} can travel"
            case "damaged":
                return self._damage()
            case _:
                return ""

    def _rejoined(self) -> str | None:
        self._reader.close()
        try:
            self._reader = self._join(self.lane.next_seq)
        except RingError as error:
            return str(error)
        self.source.outlet.rejoin(self.lane, self._reader)
        return None

    def _damage(self) -> str:
        try:
            self.source.ring.peek(max(self.lane.next_seq, 0))
        except RingError as error:
            return str(error)
        return f"the ring {self.ring_name} is damaged"

    def _join(self, next_seq: int) -> Reader:
        name = f"bridge:{self.user[:8]}"
        return self.source.ring.reader(policy="lossy", name=name, start=next_seq if next_seq >= 0 else "oldest")
