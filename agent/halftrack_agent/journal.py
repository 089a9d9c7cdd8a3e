"""The agent's memory: accepted plans and the records of swaps, on the disk before anything is done about them (P3, D1).

Owns the file, its compaction and its recovery; never interprets a plan (the core verifies recovered plans again). Entries are
the core's own actions: what was to be journaled is exactly what recovery hands back, in order.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from halftrack_agent.events import ForgetSwap, JournalPlan, JournalSwap
from halftrack_agent.ledger import Ledger, payload_bytes
from halftrack_agent.notes import Note, floor_of
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput
from halftrack_model.seals import Sealed
from halftrack_model.swap import SwapRecord

Entry = JournalPlan | JournalSwap | ForgetSwap

COMPACT_AT_BYTES = 1 << 20  # a swap writes about twenty records of 400 bytes: a hundred swaps between two rewrites


@dataclass(frozen=True, slots=True)
class _Line:
    """The form of an entry in the file: exactly one field is set."""

    plan: Sealed | None
    swap: SwapRecord | None
    forget: str | None


def encoded(entry: Entry) -> bytes:
    """An entry's canonical bytes."""
    match entry:
        case JournalPlan(sealed):
            return canonical.encode(_Line(sealed, None, None))
        case JournalSwap(record):
            return canonical.encode(_Line(None, record, None))
        case ForgetSwap(swap_id):
            return canonical.encode(_Line(None, None, swap_id))


def decoded(payload: bytes) -> Entry:
    """The entry that `payload` spells; InvalidInput when it spells none."""
    line = canonical.decode(_Line, payload)
    if line.plan is not None:
        return JournalPlan(line.plan)
    if line.swap is not None:
        return JournalSwap(line.swap)
    if line.forget is not None:
        return ForgetSwap(line.forget)
    raise InvalidInput("bad-entry", "a journal entry with nothing in it")


def living(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """What still counts of `entries`, in their order: the last plan, and the last record of each swap not forgotten."""
    kept: dict[str, Entry] = {}
    for entry in entries:
        match entry:
            case JournalPlan():
                key = "plan"
            case JournalSwap(record):
                key = f"swap {record.swap_id}"
            case ForgetSwap(swap_id):
                kept.pop(f"swap {swap_id}", None)
                continue
        kept.pop(key, None)  # a later entry stands at its own place, not at its predecessor's
        kept[key] = entry
    return tuple(kept.values())


class Journal:
    """The open journal of one agent. `findings` says what recovery had to do, in words for Observed.problems."""

    def __init__(self, folder: Path, floor: Note[int] | None = None) -> None:
        self._ledger = Ledger(folder / "journal", "journal")
        try:
            self._entries = tuple(decoded(payload) for payload in self._ledger.recovered)
        except InvalidInput as error:
            self._ledger.close()
            raise HostFault(
                "journal-version",
                f"{self._ledger.path} has entries that this version of the agent does not know ({error.message}): install the "
                "version that wrote it, or move the file away to start over from the controller's plan",
            ) from error
        self._note = floor or floor_of(folder)
        self.floor = self._note.read() or 0
        self.findings = (*self._ledger.findings, *filter(None, (self._note.finding,)))
        self.quarantined = self._ledger.quarantined

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that counts, oldest first."""
        return self._entries

    @property
    def problems(self) -> tuple[str, ...]:
        """What keeps it from taking entries now, in words for the site's owner."""
        return (f"journal: {self._ledger.broken}",) if self._ledger.broken else ()

    @property
    def size_bytes(self) -> int:
        """The file's length."""
        return self._ledger.size_bytes

    def append(self, entry: Entry) -> None:
        """Put `entry` on the disk; HostFault (`disk-full`, `disk-fault`), and nothing changed, when it cannot be."""
        payload = encoded(entry)
        if self._ledger.broken:  # by a disk that was full, most often: it takes entries again as soon as there is room
            self._ledger.rewrite([*(encoded(each) for each in living(self._entries)), payload])
        else:
            if self._ledger.size_bytes + payload_bytes([payload]) > COMPACT_AT_BYTES:
                self._compact()
            self._ledger.append(payload)
        self._entries = living((*self._entries, entry))

    def raise_floor(self, revision: int) -> None:
        """Remember, apart from the journal, that this host has accepted `revision`. Never lowers it (P2)."""
        if revision > self.floor:
            self._note.write(revision)
            self.floor = revision

    def obeyed(self, revision: int) -> None:
        """A plan was found here: the life that took it may have ended before it had raised the floor, and the journal can be lost later. Waits for no room."""
        with contextlib.suppress(HostFault):
            self.raise_floor(revision)

    def close(self) -> None:
        """Give the file back."""
        self._ledger.close()

    def _compact(self) -> None:
        """Rewrite the file when half of it no longer counts: then rewriting stays rare, however large the plan is."""
        payloads = [encoded(entry) for entry in self._entries]
        if payloads and self._ledger.size_bytes > 2 * payload_bytes(payloads):
            with contextlib.suppress(
                HostFault
            ):  # no room for a second file: the append that follows may still have its own
                self._ledger.rewrite(payloads)
