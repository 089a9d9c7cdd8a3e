"""Snapshots over the bridge, the serving end: a member whose host has none that it could use asks the other member's host.

Owns which snapshot is offered, and that it stays as it is while it is fetched. Judges heads only: a state of a gigabyte is the asker's to
verify, piece by piece, for streams wait while the server reads. So it gives one piece at a time, and then the streams have their turn.
"""

import contextlib
import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from halftrack_dataplane import standing
from halftrack_dataplane.bridge_data import WireError
from halftrack_dataplane.bridge_wire import (
    SNAPSHOT_PART_BYTES,
    SnapshotGet,
    SnapshotIs,
    SnapshotPart,
    SnapshotWanted,
    StandingIs,
    StandingWanted,
)
from halftrack_dataplane.snapshot_form import HEAD_BYTES, Entry, entry_of
from halftrack_dataplane.snapshots import SnapshotFolder

MAX_PINS = 4  # snapshots that are fetched at a time; each keeps memory that its member would use again
PIN_S = (
    5.0  # for which one is kept for somebody who asks no more: longer than a cut link takes to be noticed and replaced
)
MAX_WAITING = 64  # asks of all peers that wait for their turn; who is beyond asks again
_VERTEX = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*")
_RING = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*(\.in)?")  # that a member reads: of a vertex, or of its inlet


@dataclass(slots=True)
class _Pin:
    fd: int
    until_s: float


class Shelf:
    """The snapshots of all vertices below one folder, for peers."""

    def __init__(self, root: str, rings: str) -> None:
        self._root, self._rings = root, rings
        self._pins: dict[tuple[str, str], _Pin] = {}
        self._waiting: deque[tuple[bytes, SnapshotGet]] = deque()
        self.offered = 0
        self.parts = 0

    @property
    def busy(self) -> bool:
        """Does anybody wait for a piece?"""
        return bool(self._waiting)

    def offer(self, asked: SnapshotWanted) -> SnapshotIs:
        """The newest of the asker's release, else the newest of which it reads the schema."""
        self.offered += 1
        folder = self._folder(asked.vertex)
        if folder is None:
            return SnapshotIs("", 0)
        recent = [entry for entry in folder.entries() if entry.next_in >= asked.min_next_in]

        def order(entry: Entry) -> tuple[bool, int]:
            return entry.release != asked.release or entry.form != 0, -entry.next_in

        for entry in sorted(recent, key=order):
            head = folder.head(entry)
            own = entry.release == asked.release and entry.form == 0
            if head is not None and (own or head.schema in asked.reads):
                return SnapshotIs(entry.name, head.total_bytes)
        return SnapshotIs("", 0)

    def stands(self, asked: StandingWanted) -> StandingIs:
        """How that vertex stands on this host."""
        folder = self._folder(asked.vertex)
        if not _RING.fullmatch(asked.ring):
            raise WireError(f"{asked.ring!r} is not a ring's name")
        if folder is None:
            return StandingIs(False, 0)
        found = standing.of(Path(self._rings), folder, asked.vertex, asked.ring, asked.release, asked.reads)
        return StandingIs(found.hopes, found.published)

    def ask(self, routing: bytes, asked: SnapshotGet) -> None:
        """Somebody wants a piece; it comes when it is its turn."""
        if self._folder(asked.vertex) is None or entry_of(asked.name) is None:
            raise WireError(f"{asked.vertex!r} {asked.name!r} is not a snapshot")
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append((routing, asked))

    def next_part(self, now_s: float) -> tuple[bytes, SnapshotGet, SnapshotPart] | None:
        """The piece whose turn it is, and who asked for it. The head is a piece of its own, so that all others end where a sum does."""
        if not self._waiting:
            return None
        routing, asked = self._waiting.popleft()
        body = b""
        with contextlib.suppress(OSError):
            length = SNAPSHOT_PART_BYTES if asked.offset >= HEAD_BYTES else HEAD_BYTES - asked.offset
            body = os.pread(self._pinned(asked, now_s), length, asked.offset)
        self.parts += 1
        return routing, asked, SnapshotPart(asked.name, asked.offset, body)

    def put_back(self, routing: bytes, asked: SnapshotGet) -> None:
        """The piece could not go out: the asker's queue is full, so the others come first."""
        self._waiting.append((routing, asked))

    def forget(self, now_s: float) -> None:
        """Let go of what nobody fetches any more."""
        for key, pin in list(self._pins.items()):
            if pin.until_s < now_s:
                os.close(self._pins.pop(key).fd)

    def close(self) -> None:
        """Let go of everything."""
        self.forget(float("inf"))

    def _folder(self, vertex: str) -> SnapshotFolder | None:
        if not _VERTEX.fullmatch(vertex):
            raise WireError(f"{vertex!r} is not a vertex")
        return SnapshotFolder(str(Path(self._root) / vertex)) if self._root else None

    def _pinned(self, asked: SnapshotGet, now_s: float) -> int:
        """Its file, held so that the member that wrote it does not use it again."""
        key = (asked.vertex, asked.name)
        pin = self._pins.get(key)
        if pin is None:
            if len(self._pins) >= MAX_PINS:
                raise FileNotFoundError(f"{MAX_PINS} snapshots are fetched already")
            with SnapshotFolder(str(Path(self._root) / asked.vertex)).opened(asked.name) as fd:
                pin = self._pins[key] = _Pin(os.dup(fd), 0.0)
        pin.until_s = now_s + PIN_S
        return pin.fd
