"""How the outputs of members compare with what passed: counted by ring, the first that differ, and who of three is the odd one. Pure, bounded.

Members of one generation compute the same from the same input, so one that differs from what passed has *diverged*: it, or the one whose
frame passed. Two cannot say which. A third ring can, of the same generation or of a green that shadows: whoever agrees with neither says
nothing, so a release that is expected to differ needs no rule of its own.

Owns what is remembered of comparisons. Never sees a frame: digests are made where the frames are (`merge_runs.pyx`).
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

DISPUTES = 64  # sequences about which rings disagree, while the third ring's word may still come
SPANS = 256  # of each ring: what it has passed, and what of it was compared, in contiguous spans
FIRST = 8  # of a ring's diverged sequences, how many are told by number

Differing = tuple[int, int, int]  # sequence, digest, digest of what passed


@dataclass(frozen=True, slots=True)
class Divergence:
    """Frames of a ring that differ from what passed from a ring of its own generation: how many, and the `first` of them.

    `odd` counts frames, also those that passed, about which all others agreed against this ring.
    """

    frames: int = 0
    first: tuple[int, ...] = ()
    odd: int = 0


def odd_one(digests: Mapping[str, int]) -> str | None:
    """The ring that differs from all others while these agree; None where there is no such, or nobody but two to ask."""
    votes = Counter(digests.values())
    if len(digests) < 3 or len(votes) != 2 or min(votes.values()) != 1:
        return None
    lonely = min(votes, key=lambda digest: votes[digest])
    return next(ring for ring, digest in digests.items() if digest == lonely)


@dataclass(slots=True)
class _Known:
    """Of one ring: what it passed, and what of it was compared frame by frame; the newest spans, each [first, end)."""

    passed: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=SPANS))
    compared: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=SPANS))


@dataclass(slots=True)
class _Dispute:
    """One sequence, and what each ring says that it is. It is `open` when twins disagree, and so one of them is wrong."""

    digests: dict[str, int]
    passed: int
    open: bool = False
    told: bool = False


class Comparison:
    """All rings of one merge. `counts` is (equal, different) of each, held against whatever passed, of its generation or not."""

    def __init__(self) -> None:
        self.counts: dict[str, tuple[int, int]] = {}
        self.diverged: dict[str, Divergence] = {}
        self._known: dict[str, _Known] = {}
        self._disputes: OrderedDict[int, _Dispute] = OrderedDict()

    def passed(self, ring: str, first: int, end: int) -> None:
        """`ring`'s frames [first, end) are the output's."""
        _extend(self._of(ring).passed, first, end)

    def dropped(
        self, ring: str, first: int, end: int, counted: tuple[int, int], differing: Sequence[Differing], *, twins: bool
    ) -> None:
        """`ring`'s frames [first, end) were held against what passed: `counted` (equal, different), the first of them `differing`.

        `twins`: what passed there was its own generation's.
        """
        equal, different = counted
        if not equal and not different:
            return
        before = self.counts.get(ring, (0, 0))
        self.counts[ring] = before[0] + equal, before[1] + different
        if different and twins:
            held = self.diverged.get(ring, Divergence())
            told = held.first + tuple(seq for seq, _, _ in differing)
            self.diverged[ring] = Divergence(held.frames + different, told[:FIRST], held.odd)
        for seq, digest, kept in differing:
            self._disagree(ring, seq, digest, kept, twins)
        if equal + different == end - first and different == len(
            differing
        ):  # what is not among those that differ is equal
            _extend(self._of(ring).compared, first, end)
            self._agree(ring, first, end)

    def forget(self, ring: str) -> None:
        """The ring is gone; what it has said about disputes stays said."""
        self.counts.pop(ring, None)
        self.diverged.pop(ring, None)
        self._known.pop(ring, None)

    def _of(self, ring: str) -> _Known:
        return self._known.setdefault(ring, _Known())

    def _disagree(self, ring: str, seq: int, digest: int, kept: int, twins: bool) -> None:
        dispute = self._disputes.get(seq)
        if dispute is None:
            agreeing = (
                name
                for name, known in self._known.items()
                if _covers(known.passed, seq) or _covers(known.compared, seq)
            )
            dispute = self._disputes[seq] = _Dispute(dict.fromkeys(agreeing, kept), kept)
            if len(self._disputes) > DISPUTES:
                self._disputes.popitem(last=False)
        dispute.digests[ring] = digest
        dispute.open |= twins
        self._vote(dispute)

    def _agree(self, ring: str, first: int, end: int) -> None:
        for seq, dispute in self._disputes.items():
            if first <= seq < end and ring not in dispute.digests:
                dispute.digests[ring] = dispute.passed
                self._vote(dispute)

    def _vote(self, dispute: _Dispute) -> None:
        """Each dispute is told once: later words can only confirm it or make it undecidable."""
        odd = odd_one(dispute.digests) if dispute.open and not dispute.told else None
        if odd is None:
            return
        dispute.told = True
        held = self.diverged.get(odd, Divergence())
        self.diverged[odd] = Divergence(held.frames, held.first, held.odd + 1)


def _extend(spans: deque[tuple[int, int]], first: int, end: int) -> None:
    if spans and spans[-1][1] == first:
        spans[-1] = spans[-1][0], end
    else:
        spans.append((first, end))


def _covers(spans: Sequence[tuple[int, int]], seq: int) -> bool:
    return any(first <= seq < end for first, end in spans)
