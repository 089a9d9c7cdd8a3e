"""Snapshots of a vertex's state: where they lie, which to keep, and how a large one goes from one process to another.

One folder holds the snapshots of all members of a vertex on a host, whatever their release, because a green begins from its
blue's. It lies in memory, beside the rings: what takes one takes the other, and a snapshot is of no use without the inputs behind it.

A large snapshot is written into a file that is used again and stays mapped: new memory costs five times as much as the copy. It is made of
large pages where the kernel gives them, or who reads would pay for 65,536 small ones in 256 MiB. Who reads one maps it too, and holds a shared lock on it as long as anything refers to that memory; a file is used again only under an
exclusive lock. So nobody waits for anybody, and what was verified never changes under a reader.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from halftrack_dataplane.snapshot_form import (
    HEAD_BYTES,
    MAX_SNAPSHOT_BYTES,
    PIECE_BYTES,
    Entry,
    Head,
    Snapshot,
    State,
    entry_of,
    fits,
    head_of,
    joined,
    name_of,
    pack,
    parts_of,
    size_of,
    unpack,
    write_into,
)
from halftrack_dataplane.state_copy import Room, first_bad

__all__ = [
    "KEPT",
    "MAX_SNAPSHOT_BYTES",
    "Entry",
    "Head",
    "Snapshot",
    "SnapshotFolder",
    "State",
    "entry_of",
    "fits",
    "joined",
    "pack",
    "unpack",
]

KEPT = 2  # the newest may be too new for a restart that must recompute, or damaged
SMALL_BYTES = 1 << 20  # below, a file of its own costs less than a lock and a mapping that must be looked after
LARGE_BYTES = 2 << 20  # of a large page, where memory has them; elsewhere it means nothing
_VERIFIERS = 2  # threads that check a large state: one reads half as fast as the memory can give


@dataclass(frozen=True, slots=True)
class Young:
    """A state that does not know all inputs: how often it was so begun, and from which input and output on the last one is.

    The newest snapshot before it knew the inputs below `known_in`: it was `kept`, or the state is one that was begun with nothing. Output
    `first_out - 1` stands for all that is missing.
    """

    losses: int = 0
    known_in: int = 0
    first_in: int = 0
    first_out: int = 0
    kept: bool = False

    def text(self) -> str:
        """For people."""
        if not self.losses:
            return ""
        inputs = f"inputs {self.known_in} to {self.first_in - 1}" if self.known_in < self.first_in else ""
        if self.kept:
            told = (
                f"{inputs or 'no inputs'} were lost before the state knew them: it goes on with input {self.first_in}"
            )
        else:
            lost = f", and with it {inputs}" if inputs else ""
            told = f"the state was lost{lost}: it is made anew from input {self.first_in} on"
        return (
            f"{told}, and outputs from {self.first_out} on are made of it; "
            f"output {self.first_out - 1} is declared lost for all that are missing"
        )


@dataclass(slots=True)
class _Slot:
    """A file of ours that a large snapshot is, or can be, written into."""

    name: str  # in the folder, at the moment
    fd: int
    memory: Room

    def close(self) -> None:
        os.close(self.fd)  # the memory goes with the last who refers to it


class SnapshotFolder:
    """The snapshots of one vertex on this host."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self.damaged = 0
        self._condemned: set[str] = set()
        self._slots: list[_Slot] = []  # mapped files of large snapshots, and one to spare
        self._making: threading.Thread | None = None

    def entries(self) -> tuple[Entry, ...]:
        """All snapshots, newest input first."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return ()
        found = [entry for name in names if (entry := entry_of(name)) is not None]
        return tuple(sorted(found, key=lambda entry: (-entry.next_in, entry.name)))

    # ---- reading ----------------------------------------------------------------------------------------------------

    def head(self, entry: Entry) -> Head | None:
        """What the snapshot's head says, or None when it is gone or damaged. The state is not looked at."""
        try:
            with open(self._folder / entry.name, "rb") as file:
                head = head_of(file.read(HEAD_BYTES))
                return head if self._sound(entry, head) else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self._condemn(entry.name)
            return None

    def read(self, entry: Entry) -> Snapshot | None:
        """The snapshot, or None when it is gone or damaged. A large one's state is the file's own memory, for as long as it is referred to."""
        try:
            with self.opened(entry.name) as fd:
                size = os.fstat(fd).st_size
                if size <= HEAD_BYTES + SMALL_BYTES:
                    snapshot = unpack(os.pread(fd, size, 0))
                    return snapshot if self._sound(entry, snapshot) else None
                memory = Room(fd, size, readonly=True)  # it keeps the file open, and with it the lock
                head = head_of(memoryview(memory)[:HEAD_BYTES])
                if not self._sound(entry, head):
                    return None
                state = memoryview(memory)[HEAD_BYTES : head.total_bytes]
                if state.nbytes != head.size or not _matches(state, head.sums):
                    raise ValueError("the state does not match its checksums")
                return head.with_state(state)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            self._condemn(entry.name)
            return None

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """The file of that name, which is not used again while it is open; FileNotFoundError when it is gone, or going."""
        fd = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _share(fd, self._folder / name)
            yield fd
        finally:
            os.close(fd)

    def _sound(self, entry: Entry, found: Snapshot | Head) -> bool:
        """Is the file what its name says? A renamed one is not, and counts as damaged."""
        if (found.next_in, found.release) == (entry.next_in, entry.release):
            return True
        self._condemn(entry.name)
        return False

    def _condemn(self, name: str) -> None:
        if name not in self._condemned:
            self._condemned.add(name)
            self.damaged += 1

    # ---- fetching from a peer ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def drafted(self, instance: str, entry: Entry) -> Iterator[int]:
        """A file for what comes of it, with what a former life of `instance` has left. It has one at a time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._draft(instance, entry)
        for other in self._folder.glob(f".{instance}.*.fetched"):
            if other != draft:
                other.unlink(missing_ok=True)
        fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)

    def adopt(self, instance: str, entry: Entry) -> Entry:
        """It has come whole: from now on it is one of the folder's."""
        os.replace(self._draft(instance, entry), self._folder / entry.name)
        return entry

    def _draft(self, instance: str, entry: Entry) -> Path:
        return self._folder / f".{instance}.{entry.name}.fetched"

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(self, instance: str, snapshot: Snapshot, form: int = 0) -> None:
        """Add one, whole or not at all, and drop all but this instance's newest.

        Not synced: what a power cut takes, it takes together with the rings that the snapshot would be replayed from.
        """
        parts = parts_of(snapshot.state)
        size = size_of(parts)
        name = name_of(instance, snapshot.next_in, form)
        self._folder.mkdir(parents=True, exist_ok=True)
        if size <= SMALL_BYTES:
            draft = self._folder / f".{instance}.draft"
            try:
                draft.write_bytes(pack(snapshot))
                os.replace(draft, self._folder / name)
            except OSError:
                draft.unlink(missing_ok=True)  # in a full folder, half of one would take what others need
                raise
        else:
            slot = self._spare(instance, size)
            write_into(memoryview(slot.memory), snapshot, parts)
            os.replace(self._folder / slot.name, self._folder / name)
            slot.name = name
        mine = [entry for entry in self.entries() if (entry.instance, entry.form) == (instance, form)]
        stale = [entry for entry in mine if entry.next_in > snapshot.next_in]  # of a life that began further ahead
        self.drop([*stale, *[entry for entry in mine if entry not in stale][KEPT:]])
        if size > SMALL_BYTES:
            self.prepare(instance, size)

    def prepare(self, instance: str, size: int) -> None:
        """See to it, beside the stream, that there is memory for a snapshot of that size: taking it anew would be felt as a pause."""
        if size <= SMALL_BYTES or any(slot.name.startswith(".") for slot in self._slots):
            return
        if self._making is None or not self._making.is_alive():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._making = threading.Thread(target=self._try_to_make, args=(instance, size), daemon=True)
            self._making.start()

    def drop(self, entries: Iterable[Entry]) -> None:
        """Remove these. A file of ours that nobody reads is kept for the next snapshot."""
        ours = {slot.name: slot for slot in self._slots}
        for entry in entries:
            slot = ours.get(entry.name)
            if slot is None:
                (self._folder / entry.name).unlink(missing_ok=True)
            elif _taken_back(slot.fd, self._folder / entry.name, self._folder / f".{entry.name}.spare"):
                slot.name = f".{entry.name}.spare"
            else:
                self._forget(slot)

    def close(self) -> None:
        """Let go of the memory that is kept for the next snapshot; those in the folder stay."""
        if self._making is not None:
            self._making.join()
        for slot in list(self._slots):
            if slot.name.startswith("."):
                self._forget(slot)
            else:
                slot.close()
        self._slots.clear()

    def _spare(self, instance: str, size: int) -> _Slot:
        if self._making is not None:
            self._making.join()
        for slot in [slot for slot in self._slots if slot.name.startswith(".")]:
            if len(slot.memory) >= HEAD_BYTES + size:
                return slot
            self._forget(slot)
        return self._make(instance, size)

    def _try_to_make(self, instance: str, size: int) -> None:
        with contextlib.suppress(OSError):  # the snapshot that needs it tries again, and says what it met
            self._make(instance, size)

    def _make(self, instance: str, size: int) -> _Slot:
        """With room for a state that grows a little. All of it is there before it is written to: no room is an error, not a signal.

        Called beside the stream too: it does not make the folder, or it would bring back one that was removed meanwhile.
        """
        room = HEAD_BYTES + (size + size // 16 + PIECE_BYTES) // PIECE_BYTES * PIECE_BYTES
        name = f".{instance}.spare"
        (self._folder / name).unlink(missing_ok=True)  # of a former life
        fd = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, room)
            slot = _Slot(name, fd, Room(fd, room))
            for at in range(0, room, LARGE_BYTES):  # a large page grows out of a small one, not out of nothing
                os.posix_fallocate(fd, at, 1)
            slot.memory.enlarge()  # before the rest is there, which would have to be copied
            os.posix_fallocate(fd, 0, room)
        except OSError:
            os.close(fd)
            (self._folder / name).unlink(missing_ok=True)
            raise
        slot.memory.populate()
        self._slots.append(slot)
        return slot

    def _forget(self, slot: _Slot) -> None:
        (self._folder / slot.name).unlink(missing_ok=True)
        self._slots.remove(slot)
        slot.close()

    # A stateful member that met a gap must not begin before the gap's end again; it tells its successor by this mark.

    def mark_gap(self, instance: str, end: int) -> None:
        """Remember that `instance` cannot pass the inputs before `end`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{instance}.gap.draft"
        draft.write_text(str(end))
        os.replace(draft, self._folder / f"{instance}.gap")

    def gaps_end(self, below: int) -> int:
        """The first input that nobody here has met a gap before, of those up to `below`: a mark beyond is from before the ring was made anew."""
        instances = (path.name.removesuffix(".gap") for path in self._folder.glob("*.gap"))
        return max((end for instance in instances if (end := self.gap_end(instance)) <= below), default=0)

    def gap_end(self, instance: str) -> int:
        """The first input that `instance` may begin with; 0 when it never met a gap."""
        try:
            return int((self._folder / f"{instance}.gap").read_text())
        except (OSError, ValueError):
            return 0

    # So must it tell every later life that the state does not know all inputs: it is reported until it is known.

    def mark_young(self, instance: str, young: Young) -> None:
        """Remember that `instance` has begun with such a state."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{instance}.young.draft"
        draft.write_text(f"{young.losses} {young.known_in} {young.first_in} {young.first_out} {young.kept:d}")
        os.replace(draft, self._folder / f"{instance}.young")

    def young(self, instance: str) -> Young:
        """Whether and when it has."""
        try:
            losses, known_in, first_in, first_out, *kept = map(
                int, (self._folder / f"{instance}.young").read_text().split()
            )
        except (OSError, ValueError):
            return Young()
        return Young(losses, known_in, first_in, first_out, kept == [1])


def _share(fd: int, path: Path) -> None:
    """A reader's lock. Once it has it, the file is still that snapshot, or it never was while the reader looked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FileNotFoundError(f"{path} is just being taken back") from None
    if os.fstat(fd).st_ino != os.stat(path).st_ino:
        raise FileNotFoundError(f"{path} has another file now")


def _taken_back(fd: int, path: Path, spare: Path) -> bool:
    """The writer's end of `_share`: rename the file away under the exclusive lock; False when somebody reads it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.replace(path, spare)
    except (BlockingIOError, FileNotFoundError):
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def _matches(state: memoryview, sums: bytes) -> bool:
    """By several threads at once: the memory gives more than one of them can take."""
    pieces = len(sums) // 4
    share = -(-pieces // _VERIFIERS)
    bad = [-1] * _VERIFIERS

    def check(number: int) -> None:
        bad[number] = first_bad(state, sums, PIECE_BYTES, number * share, (number + 1) * share)

    others = [threading.Thread(target=check, args=(number,)) for number in range(1, _VERIFIERS)]
    for other in others:
        other.start()
    check(0)
    for other in others:
        other.join()
    return max(bad) < 0
