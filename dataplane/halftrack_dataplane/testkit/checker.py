"""What a sink was given, held against what it should have been: S1 counted, and told in prose. Pure.

Sees records, the stream's owner table and what each release's outputs are; knows nothing of how any of them came about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from halftrack_dataplane.frames import Cut

KINDS = ("lost", "duplicated", "reordered", "mixed", "wrong")
TOLD = 12  # findings in words; all are counted


@dataclass(frozen=True, slots=True)
class Record:
    """What a sink was given: a frame, or with `gap` > 0 the declared loss of [seq, seq + gap)."""

    seq: int
    gap: int
    epoch: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Expected:
    """A release's outputs from number `first` on. None is a number that has none: a vertex without state may skip a frame."""

    first: int
    outputs: Sequence[bytes | None]

    @property
    def end(self) -> int:
        """The number after the last."""
        return self.first + len(self.outputs)

    def knows(self, number: int) -> bool:
        """Is it known what `number` must be?"""
        return self.first <= number < self.end

    def at(self, number: int) -> bytes | None:
        """What `number` must be."""
        return self.outputs[number - self.first]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many of the outputs were not as they should be, by what was wrong with them; and the first of them in words."""

    outputs: int
    lost: int
    duplicated: int
    reordered: int
    mixed: int  # of a release, or under an epoch, that did not own the number
    wrong: int  # of no release
    findings: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Everything was."""
        return not (self.lost or self.duplicated or self.reordered or self.mixed or self.wrong)

    def __str__(self) -> str:
        line = ", ".join(f"{kind} {getattr(self, kind)}" for kind in KINDS)
        return "\n".join([f"{self.outputs} outputs: {line}", *self.findings])


@dataclass(slots=True)
class _Count:
    found: dict[str, int] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def add(self, kind: str, text: str, count: int = 1) -> None:
        self.found[kind] = self.found.get(kind, 0) + count
        if len(self.findings) < TOLD:
            self.findings.append(text)


def check(records: Sequence[Record], cuts: Sequence[Cut], expected: Mapping[str, Expected], end: int) -> Verdict:
    """The stream must be numbers 0 to `end` - 1, each once, in order, and each the output of the release that owned it.

    A cut's `label` names its release, as in a stream's owner table.
    """
    count, seen, following = _Count(), set[int](), 0
    for record in records:
        size = max(record.gap, 1)
        if record.seq > following:
            lost = record.seq - following
            count.add("lost", f"output {following} and {lost - 1} more were skipped: the next was {record.seq}", lost)
        elif record.seq < following and record.seq in seen:
            count.add("duplicated", f"output {record.seq} came again, after {following - 1}")
            continue
        elif record.seq < following:
            count.add("reordered", f"output {record.seq} came late, after {following - 1}")
            count.found["lost"] -= size  # it was counted when it was skipped
        seen.update(range(record.seq, record.seq + size))
        following = max(following, record.seq + size)
        _look(record, owner_of(record.seq, cuts), expected, count)
    if following < end:
        count.add("lost", f"the stream ends before output {following}; it should go on to {end - 1}", end - following)
    elif following > end:
        count.add(
            "wrong", f"the stream goes on to output {following - 1}; it should end with {end - 1}", following - end
        )
    lost, duplicated, reordered, mixed, wrong = (count.found.get(kind, 0) for kind in KINDS)
    return Verdict(len(records), lost, duplicated, reordered, mixed, wrong, tuple(count.findings))


def owner_of(number: int, cuts: Sequence[Cut]) -> Cut | None:
    """Who owns `number`: of the cuts applied at or before it, that of the greatest epoch."""
    applied = [cut for cut in cuts if cut.applied_at is not None and cut.applied_at <= number]
    return max(applied, key=lambda cut: cut.epoch, default=None)


def _look(record: Record, owner: Cut | None, expected: Mapping[str, Expected], count: _Count) -> None:
    if owner is None:
        return count.add("mixed", f"output {record.seq} came before any release owned the stream")
    right = expected.get(owner.label)
    if right is None:
        return count.add("mixed", f"output {record.seq} belongs to release {owner.label}, which is not known here")
    if record.gap:
        numbers = range(record.seq, record.seq + record.gap)
        wanted = [number for number in numbers if not right.knows(number) or right.at(number) is not None]
        if wanted:
            count.add("lost", f"output {wanted[0]} and {len(wanted) - 1} more were declared lost", len(wanted))
        return None
    if record.epoch != owner.epoch:
        text = f"output {record.seq} is stamped with epoch {record.epoch}; {owner.epoch} ({owner.label}) owned it"
        return count.add("mixed", text)
    if not right.knows(record.seq):
        where = "had not taken over" if record.seq < right.first else "has no outputs left"
        return count.add("mixed", f"output {record.seq} belongs to release {owner.label}, which {where} there")
    if right.at(record.seq) == record.payload:
        return None
    return _tell(record, owner.label, expected, count)


def _tell(record: Record, release: str, expected: Mapping[str, Expected], count: _Count) -> None:
    for other, known in expected.items():
        if other != release and known.knows(record.seq) and known.at(record.seq) == record.payload:
            return count.add("mixed", f"output {record.seq} is that of release {other}; {release} owned it")
    right = expected[release]
    if len(count.findings) < TOLD and record.payload in right.outputs:
        number = right.first + list(right.outputs).index(record.payload)
        return count.add("wrong", f"output {record.seq} is what output {number} of release {release} should be")
    wanted = right.at(record.seq)
    if wanted is None:
        return count.add("wrong", f"output {record.seq} should not be there: release {release} has none for that frame")
    text = difference(record.payload, wanted)
    return count.add("wrong", f"output {record.seq} is not that of release {release}: {text}")


def difference(found: bytes, wanted: bytes) -> str:
    """Where two outputs part, in prose."""
    shared = min(len(found), len(wanted))
    at = next((place for place in range(shared) if found[place] != wanted[place]), shared)
    sizes = f"{len(found)} bytes" if len(found) == len(wanted) else f"{len(found)} bytes instead of {len(wanted)}"
    if at == shared:
        return f"{sizes}; the first {shared} are equal" if len(found) != len(wanted) else f"{sizes}, all equal"
    return f"{sizes}; byte {at} is {found[at]:#04x}, not {wanted[at]:#04x}"
