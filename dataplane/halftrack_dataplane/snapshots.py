"""Snapshots of a vertex's state: their form on disk, which to keep, and in which order to try them after a restart.

One folder holds the snapshots of all members of a vertex on a host, whatever their release, because a green begins from its
blue's. A file is a SHA-256 and then msgpack; one that does not match is passed over and counted, never believed.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

MAX_SNAPSHOT_BYTES = 64 << 20  # a stream waits while its member is snapshotted: more would be felt as a pause
KEPT = 2  # the newest may be too new for a restart that must recompute, or torn by a power cut
_NAME = re.compile(r"(\d{20})\.([a-z0-9-]{1,63})@([0-9A-Za-z.+-]{1,64})\.snap")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A vertex's state before input `next_in`, when its next output is `next_out`."""

    schema: str
    release: str
    next_in: int
    next_out: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A snapshot's file, as its name tells."""

    name: str
    next_in: int
    instance: str  # member@release
    release: str


def entry_of(name: str) -> Entry | None:
    """What the file name says, or None when it is not a snapshot's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return Entry(name, int(match[1]), f"{match[2]}@{match[3]}", match[3])


def pack(snapshot: Snapshot) -> bytes:
    """The file's bytes."""
    tree = [snapshot.schema, snapshot.release, snapshot.next_in, snapshot.next_out, snapshot.state]
    body: bytes = msgpack.packb(tree)
    return hashlib.sha256(body).digest() + body


def unpack(data: bytes) -> Snapshot:
    """The snapshot that `data` holds; ValueError when it is damaged."""
    digest, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError("the snapshot does not match its digest")
    tree: Any = msgpack.unpackb(body, max_bin_len=MAX_SNAPSHOT_BYTES)
    match tree:
        case [str(schema), str(release), int(next_in), int(next_out), bytes(state)] if next_in >= 0 and next_out >= 0:
            return Snapshot(schema, release, next_in, next_out, state)
        case _:
            raise ValueError("the snapshot has another form")


def fits(snapshot: Snapshot, release: str, writes: str, reads: Iterable[str]) -> bool:
    """May a member of `release` go on from it?"""
    return snapshot.schema == writes if snapshot.release == release else snapshot.schema in tuple(reads)


class SnapshotFolder:
    """The snapshots of one vertex on this host."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self.damaged = 0
        self._condemned: set[str] = set()

    def entries(self) -> tuple[Entry, ...]:
        """All snapshots, newest input first."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return ()
        found = [entry for name in names if (entry := entry_of(name)) is not None]
        return tuple(sorted(found, key=lambda entry: (-entry.next_in, entry.name)))

    def read(self, entry: Entry) -> Snapshot | None:
        """The snapshot, or None when it is gone or damaged."""
        try:
            with open(self._folder / entry.name, "rb") as file:
                snapshot = unpack(file.read(MAX_SNAPSHOT_BYTES + 4096))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self._condemn(entry.name)
            return None
        if snapshot.next_in != entry.next_in or snapshot.release != entry.release:
            self._condemn(entry.name)  # a renamed file is not what its name says
            return None
        return snapshot

    def _condemn(self, name: str) -> None:
        if name not in self._condemned:
            self._condemned.add(name)
            self.damaged += 1

    def write(self, instance: str, snapshot: Snapshot) -> None:
        """Add one, whole or not at all, and drop all but this instance's newest.

        Not synced: what a power cut takes, it takes together with the rings that the snapshot would be replayed from.
        """
        if len(snapshot.state) > MAX_SNAPSHOT_BYTES:
            raise ValueError(f"a snapshot of {len(snapshot.state)} bytes; at most {MAX_SNAPSHOT_BYTES} are allowed")
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{snapshot.next_in:020d}.{instance}.snap"
        if entry_of(name) is None:  # else it would never be found again, nor dropped
            raise ValueError(f"{instance!r} cannot name a snapshot: member@release is needed")
        draft = self._folder / f".{instance}.draft"
        try:
            draft.write_bytes(pack(snapshot))
            os.replace(draft, self._folder / name)
        except OSError:
            draft.unlink(missing_ok=True)  # on a full disk, half of one would take what others need
            raise
        mine = [entry for entry in self.entries() if entry.instance == instance]
        stale = [entry for entry in mine if entry.next_in > snapshot.next_in]  # of a life that began further ahead
        self.drop([*stale, *[entry for entry in mine if entry not in stale][KEPT:]])

    def drop(self, entries: Iterable[Entry]) -> None:
        """Remove these."""
        for entry in entries:
            (self._folder / entry.name).unlink(missing_ok=True)

    # A stateful member that met a gap must not begin before the gap's end again; it tells its successor by this mark.

    def mark_gap(self, instance: str, end: int) -> None:
        """Remember that `instance` cannot pass the inputs before `end`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{instance}.gap.draft"
        draft.write_text(str(end))
        os.replace(draft, self._folder / f"{instance}.gap")

    def gap_end(self, instance: str) -> int:
        """The first input that `instance` may begin with; 0 when it never met a gap."""
        try:
            return int((self._folder / f"{instance}.gap").read_text())
        except (OSError, ValueError):
            return 0
