"""Merge: which frames are the output's next, when a cut takes effect, and what is lost. Pure; `merging.py` carries it out.

The rules, S1 in one place:

- The next sequence is `expected`, the output ring's own head: the merge has no memory that a death could take.
- Its owner is the generation of the applied cut with the greatest epoch whose `applied_at` is at most `expected`.
- A proposed cut is applied when `expected` is exactly its fence, or at once when it has none. One whose fence has gone by is
  never applied: its proposer withdraws it and asks again further ahead.
- A cut waits for its generation, if that begins only beyond `expected` and the owner still has what comes before: a fence in that stretch goes
  by, and one without a fence is applied where its generation begins. So what an owner has in hand is never given up for a loss.
- The first ring of the owner's generation that has frame `expected` passes it, and with it the run of frames that follow there, up to
  the next proposed fence. Others wait at `expected`, so that they are there when a cut falls on it, and so that what they hold can be
  compared with what passed.
- What lies behind `expected` is a duplicate: compared, counted, dropped; a run of them up to where the owner has changed.
- A sequence is lost only when all rings of the owner's generation that can still speak are past it, and a loss never
  reaches across a fence: beyond it, another generation answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from halftrack_dataplane.frames import Cut

NO_FENCE = 1 << 62  # beyond every number


@dataclass(frozen=True, slots=True)
class Offer:
    """What one input ring has next: [seq, end), a declared gap or (`gap` False) a run of frames; or nothing yet.

    `end` 0 means nothing yet. `live` says that the ring's writer can still bring what is not there.
    """

    ring: str
    generation: int
    seq: int
    end: int
    gap: bool
    live: bool


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply the proposed cut `epoch` at `at_seq`."""

    epoch: int
    at_seq: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Compare and drop what `ring` offers below `end`: it is behind."""

    ring: str
    end: int


@dataclass(frozen=True, slots=True)
class Pass:
    """Pass the frames that `ring` offers below `end`, stamped with `epoch`."""

    ring: str
    epoch: int
    end: int


@dataclass(frozen=True, slots=True)
class Lose:
    """Declare `count` sequences from the expected one on as lost, in `epoch`."""

    count: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until a ring has more; `ring` is the likeliest to have it first (empty: nobody knows)."""

    ring: str


Decision = Apply | Drop | Pass | Lose | Wait


@dataclass(frozen=True, slots=True)
class Steady:
    """What holds while the output's head is below `until` and the owner table is as it was: `generation` passes in `epoch`.

    What lies below `since` had another owner.
    """

    generation: int
    epoch: int
    since: int
    until: int


def decide(expected: int, cuts: Sequence[Cut], offers: Sequence[Offer]) -> Decision:
    """The one thing to do now. Whoever carries it out asks again with what is then true."""
    for offer in offers:
        if offer.end and offer.seq < expected and (offer.end <= expected or not offer.gap):
            return Drop(offer.ring, min([offer.end, expected, *_handed_over(offer.seq, cuts)]))
    due = due_cut(expected, cuts)
    begins = 0 if due is None else _begins_beyond(expected, due, cuts, offers)
    if due is not None and not begins:
        return Apply(due.epoch, expected)
    owner = owner_of(expected, cuts)
    if owner is None:
        return Wait("")
    owned = [offer for offer in offers if offer.generation == owner.generation]
    for offer in owned:
        if _has(expected, offer):
            bounds = [*_fences_ahead(expected, cuts), *([begins] if begins else [])]
            return Pass(offer.ring, owner.epoch, min([offer.end, *bounds]))
    if count := _lost(expected, cuts, owner, offers):
        return Lose(count, owner.epoch)
    waiting = [offer.ring for offer in owned if not offer.end]
    return Wait(waiting[0] if waiting else "")


def steady(expected: int, cuts: Sequence[Cut]) -> Steady | None:
    """What holds from `expected` on with no more to decide than what frames say themselves; None when a cut is due, or nobody owns it."""
    owner = owner_of(expected, cuts)
    if owner is None or due_cut(expected, cuts) is not None:
        return None
    since = max(cut.applied_at for cut in cuts if cut.applied_at is not None and cut.applied_at <= expected)
    return Steady(owner.generation, owner.epoch, since, min(_fences_ahead(expected, cuts), default=NO_FENCE))


def due_cut(expected: int, cuts: Sequence[Cut]) -> Cut | None:
    """The proposed cut to apply at `expected`, the oldest first; None when there is none."""
    in_force = max((cut.epoch for cut in cuts if cut.applied_at is not None), default=-1)
    due = [
        cut
        for cut in cuts
        if cut.applied_at is None and cut.epoch > in_force and (cut.fence is None or cut.fence == expected)
    ]
    return min(due, key=lambda cut: cut.epoch, default=None)


def owner_of(expected: int, cuts: Sequence[Cut]) -> Cut | None:
    """The cut that owns `expected`; None before any does."""
    applied = [cut for cut in cuts if cut.applied_at is not None and cut.applied_at <= expected]
    return max(applied, key=lambda cut: cut.epoch, default=None)


def _begins_beyond(expected: int, due: Cut, cuts: Sequence[Cut], offers: Sequence[Offer]) -> int:
    """The number, above `expected`, with which the cut's generation begins while the owner has what comes before; 0: it is to be applied.

    Of a cut without a fence, which repairs something, only frames in hand are passed first: it waits for nobody.
    """
    owner = owner_of(expected, cuts)
    if owner is None or owner.generation == due.generation:
        return 0
    speakers = _speakers(offers, due.generation)
    if not speakers or not all(_past(expected, offer) for offer in speakers):
        return 0
    owned = [offer for offer in offers if offer.generation == owner.generation]
    if due.fence is None:
        goes_on = any(_has(expected, offer) for offer in owned)
    else:
        goes_on = any(offer.live and not _past(expected, offer) for offer in owned)
    return min(offer.end if offer.gap else offer.seq for offer in speakers) if goes_on else 0


def _lost(expected: int, cuts: Sequence[Cut], owner: Cut, offers: Sequence[Offer]) -> int:
    """How many sequences from `expected` on nobody of the owner's generation can bring."""
    speakers = _speakers(offers, owner.generation)
    if not speakers or not all(_past(expected, offer) for offer in speakers):
        return 0
    known = min(offer.end if offer.gap and offer.seq <= expected else offer.seq for offer in speakers)
    return min([known, *_fences_ahead(expected, cuts)]) - expected


def _handed_over(seq: int, cuts: Sequence[Cut]) -> list[int]:
    """Where above `seq` the owner has changed: a run of duplicates is held against one generation's frames."""
    return [cut.applied_at for cut in cuts if cut.applied_at is not None and cut.applied_at > seq]


def _fences_ahead(expected: int, cuts: Sequence[Cut]) -> list[int]:
    """Where the owner may change: nothing is decided across, neither a run nor a loss."""
    return [cut.fence for cut in cuts if cut.applied_at is None and cut.fence is not None and cut.fence > expected]


def _speakers(offers: Sequence[Offer], generation: int) -> list[Offer]:
    """Those of a generation whose word counts: while any lives, the living."""
    mine = [offer for offer in offers if offer.generation == generation]
    return [offer for offer in mine if offer.live] or mine


def _has(expected: int, offer: Offer) -> bool:
    return offer.seq == expected and offer.end > expected and not offer.gap


def _past(expected: int, offer: Offer) -> bool:
    return offer.end > expected and (offer.gap or offer.seq > expected)
