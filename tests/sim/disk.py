"""A host's disk: what a sync has put there stays, the write that a crash interrupts may be there in part, and bits may rot.

The journal is kept as entries for as long as nothing is wrong with it; what has been torn or has rotted is spelt out in the real ledger's
bytes, and the real ledger's recovery says what is left of it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from halftrack_agent import journal, ledger
from halftrack_agent.journal import Entry
from halftrack_model.errors import HostFault
from tests.sim.processes import Snapshot

MAGIC = ledger.magic_of("journal")
SECTOR = 512


class Trouble(Enum):
    """What happens to the next write."""

    NONE = "none"
    KILLED = "killed"  # the program dies in the middle of it: the kernel has a part, and puts that on the disk
    POWER = "power"  # the machine does: of the part that was written, any sector may be missing
    SYNC = "sync"  # EIO


class Interrupted(Exception):  # noqa: N818 - reads as what it is where it is raised
    """The write did not return. `trouble` says why."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.value)
        self.trouble = trouble


@dataclass(frozen=True, slots=True)
class Found:
    """What an agent that begins finds. `unacknowledged`: the interrupted write's entry, when all of it is there after all."""

    entries: tuple[Entry, ...]
    floor: int
    unacknowledged: Entry | None
    lost: bool  # the journal was damaged, or is gone: nothing of it is used


@lru_cache(maxsize=512)
def _decoded(payload: bytes) -> Entry:
    """As the real journal does it. Remembered, because each restart asks the same thing."""
    return journal.decoded(payload)


class Disk:
    """Durable is what `append` has returned from."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._payloads: list[bytes] = []
        self._tail = b""  # of an interrupted write
        self._pending: Entry | None = None
        self._rotten = False
        self._gone = False
        self.floor = 0  # the highest revision acknowledged: a file of its own
        self.full = False
        self.trouble = Trouble.NONE
        self.snapshots: dict[str, list[Snapshot]] = {}

    def append(self, entry: Entry) -> None:
        """Durable when this returns."""
        if self.full:
            raise HostFault("disk-full", "no room")
        payload, trouble = journal.encoded(entry), self.trouble
        if trouble is not Trouble.NONE:
            self.trouble = Trouble.NONE
            self._tail, self._pending = self._part(ledger.framed(len(self._payloads) + 1, payload), trouble), entry
            raise Interrupted(trouble)
        self._payloads.append(payload)

    def _part(self, frame: bytes, trouble: Trouble) -> bytes:
        """What is left of a write that was interrupted."""
        if trouble is Trouble.SYNC and self._rng.random() < 0.5:
            return frame
        part = frame[: self._rng.randint(0, len(frame))]
        if trouble is Trouble.KILLED:
            return part
        at = len(MAGIC) + sum(len(ledger.framed(1, payload)) for payload in self._payloads)
        first = (at // SECTOR + 1) * SECTOR - at  # of the file's sectors, those that begin in this write
        sectors = [part[:first], *(part[n : n + SECTOR] for n in range(first, len(part), SECTOR))]
        return b"".join(s if self._rng.random() < 0.7 else bytes(len(s)) for s in sectors)

    def rot(self) -> bool:
        """One bit of what the journal holds; nobody notices before it is read. False when there is none."""
        self._rotten = bool(self._payloads)
        return self._rotten

    def lose(self) -> None:
        """The journal is no more; the folder's other files are."""
        self._gone = True

    def recovered(self) -> Found:
        """As the real journal hands it back, after compaction."""
        pending, self._pending = self._pending, None
        self.trouble = Trouble.NONE
        if not (self._tail or self._rotten or self._gone):
            return Found(self._entries(), self.floor, None, lost=False)
        scan = ledger.scan(self._bytes(), MAGIC)
        before = len(self._payloads)
        lost = self._gone or scan.end is ledger.End.CORRUPT
        self._payloads = [] if lost else list(scan.payloads)
        self._tail, self._rotten, self._gone = b"", False, False
        assert lost or len(self._payloads) >= before, "an acknowledged entry is missing, and nobody was told"
        whole = pending if len(self._payloads) > before else None
        return Found(self._entries(), self.floor, whole, lost)

    def _bytes(self) -> bytes:
        data = bytearray(MAGIC)
        for number, payload in enumerate(self._payloads, 1):
            data += ledger.framed(number, payload)
        if self._rotten:
            bit = self._rng.randrange(8 * len(data))
            data[bit // 8] ^= 1 << bit % 8
        return b"" if self._gone else bytes(data) + self._tail

    def _entries(self) -> tuple[Entry, ...]:
        return journal.living(tuple(_decoded(payload) for payload in self._payloads))
