"""The inputs of an inlet: opened where they go on, generation by generation.

Owns the readers of the input rings. Decides nothing: `join` and `splice` do, from what is shown here.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from halftrack_dataplane import join, parts, splice
from halftrack_dataplane.beginning import begins_at
from halftrack_dataplane.branch import Branch
from halftrack_dataplane.frames import reader_name
from halftrack_dataplane.join import Drop, Head, Lose, Pass, Wait
from halftrack_dataplane.refill import Refill
from halftrack_dataplane.ring import Reader, Ring, Writer
from halftrack_dataplane.runspec import BY_NUMBER, InletInput, RunSpec
from halftrack_dataplane.runtime import EXIT_RING, Unable
from halftrack_dataplane.seam import Seam
from halftrack_dataplane.splice import Side

AHEAD = 1024  # frames that are looked at at once: as many as a batch has
AHEAD_BYTES = 1 << 20
LEAST_NS = -(1 << 63)
LIVE_GRACE_S = 3.0  # as the merge has it: a dead writer counts as living for so long, since its agent starts it again in a fraction of that
PIN_S = (
    1.0  # a generation that is not in force yet holds up nobody else's stream for longer, whatever its edge may later
)
LOOK_S = 0.1  # between two looks at who writes


class Grip(Enum):
    """What an input's reader keeps in its ring: as its edge orders; what may be needed soon, for a while; or nothing."""

    ORDERED = "ordered"
    PINNED = "pinned"
    LOOSE = "loose"


@dataclass(slots=True)
class Input:
    """One input: its orders, its ring, and what is read ahead of it."""

    spec: InletInput
    ring: Ring
    reader: Reader
    branch: Branch
    grip: Grip
    refill: Refill | None = None
    dropped: int = 0  # frames that were for nobody any more
    gaps: int = 0  # numbers that it had lost
    overrun: int = 0  # numbers that were gone before an earlier reader of ours got to them
    gone: int = 0  # numbers that the stream had lost, as an earlier reader found
    alive_at: float = 0.0
    looked_at: float = 0.0

    def close(self) -> None:
        """Let go of its ring, and of its spool if it has one."""
        self.reader.close()
        if self.refill is not None:
            self.refill.close()

    @property
    def lag_frames(self) -> int:
        """What is published and not yet passed on, wherever it lies."""
        return self.reader.lag_frames if self.refill is None else max(0, self.ring.head - self.branch.place)

    def head(self, gone: bool) -> Head:
        """As joins by number want it."""
        branch = self.branch
        first, end = branch.first, branch.end
        none, alike = branch.kind(0) if branch.count else (False, 0)
        return Head(first, end, branch.lost, none, first + alike, gone)

    def followed_by(self, other: "Input") -> "Input":
        """The same input with another reader: `other`, and what was counted before."""
        overrun, gone = self.overrun + self.branch.overrun, self.gone + self.branch.gone
        return replace(other, dropped=self.dropped, gaps=self.gaps, overrun=overrun, gone=gone)

    def counts(self, late: str, left_out: int) -> dict[str, int]:
        """What it did not bring, by why."""
        overrun, gone = self.overrun + self.branch.overrun, self.gone + self.branch.gone
        return {"missed": overrun, "lost": gone, late: self.dropped, "left_out": left_out}

    @property
    def unkept(self) -> int:
        """Numbers that had gone although it reads without loss: it was evicted, or away for longer than its ring lasts. A spool tells of its own."""
        promised = self.spec.policy == "lossless" and not self.spec.spool
        return self.overrun + self.branch.overrun if promised else 0

    @property
    def newest(self) -> int:
        """Everything below this number has been there; 0 if there was never anything."""
        head = self.ring.head
        return 0 if head == self.ring.base_seq else -(-head // self.spec.every)

    def orphaned(self, now: float) -> bool:
        """Has nobody written its ring for a while?"""
        if now - self.looked_at >= LOOK_S or not self.looked_at:
            if not self.looked_at or _running(self.ring.stats().writer_pid):
                self.alive_at = now
            self.looked_at = now
        return now - self.alive_at >= LIVE_GRACE_S


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where an inlet goes on: its inputs' sequences (empty: from its output's head), the bucket that is open, the newest time."""

    inputs: tuple[int, ...] = ()
    floor: int | None = None
    last_ns: int = LEAST_NS
    rates_ns: tuple[int | None, ...] = ()


def numbered(spec: RunSpec) -> bool:
    """Do its outputs have its inputs' numbers? Else each says where its inputs go on."""
    return spec.join in BY_NUMBER and all(each.numbered for each in spec.inputs)


def place_of(spec: RunSpec, ring: Ring) -> Place | None:
    """Where the newest frame of the output says that its inputs go on; None if there never was one."""
    if ring.head in (ring.base_seq, begins_at(ring)):
        return None
    frame = ring.peek(ring.head - 1)
    if frame is None or frame.gap or frame.payload[:8] != parts.MAGIC:
        raise Unable(
            EXIT_RING,
            f"{ring.path} holds no joined frame at {ring.head - 1}, its newest: something else has written there. Remove the ring, so that it is made anew",
        )
    form = parts.loaded(frame.payload)
    inputs: list[int] = [-1] * len(spec.inputs)
    rates: list[int | None] = [None] * len(spec.inputs)
    for row in form.rows:
        if row.input >= len(inputs):
            raise Unable(
                EXIT_RING,
                f"{ring.path} has frames of {row.input + 1} inputs, and this inlet has {len(inputs)}: it needs a ring of its own",
            )
        if not row.flags & parts.LOST:
            inputs[row.input] = row.seq + (0 if row.flags & parts.NEXT else 1)
        if not row.flags & (parts.LOST | parts.NEXT):
            rates[row.input] = row.timestamp_ns
    if -1 in inputs:
        raise Unable(
            EXIT_RING,
            f"{ring.path} says nothing of input {inputs.index(-1)}: it was joined of fewer, and this inlet needs a ring of its own",
        )
    floor = None
    if spec.join == "time":
        floor = frame.timestamp_ns // spec.join_width_ns + (0 if form.flags & parts.MORE else 1)
    return Place(tuple(inputs), floor, frame.timestamp_ns, tuple(rates))


def begin_of(each: InletInput, ring: Ring) -> tuple[int, str]:
    """Where a new input begins, and what is to be told of it."""
    begins = begins_at(ring)
    oldest = ring.tail if begins is None else begins
    if not each.replay_ms:
        return min(oldest, _spooled(each, ring, oldest)) if each.numbered else ring.head, ""
    newest = ring.peek(ring.head - 1) if ring.head > oldest else None
    if newest is None:
        return oldest, f"{each.name} has nothing to be replayed yet"
    wanted_ns = newest.timestamp_ns - each.replay_ms * 1_000_000
    at = max(ring.seq_at(wanted_ns), oldest)
    first = ring.peek(at)
    back_s = 0.0 if first is None else (newest.timestamp_ns - first.timestamp_ns) / 1e9
    short = at == oldest and first is not None and first.timestamp_ns > wanted_ns
    told = f"{each.name} begins at {at}, {back_s:.3f} s back"
    return at, told + (f", the oldest that is retained of {each.replay_ms / 1000:g} s" if short else "")


def _spooled(each: InletInput, ring: Ring, oldest: int) -> int:
    """Where its spool would have it begin: who died before its first frame had begun before what the ring holds now."""
    if not each.spool:
        return oldest
    refill = Refill(each.spool, ring)
    begin = refill.begin()
    refill.close()
    return oldest if begin is None else begin


def opened(
    spec: RunSpec,
    each: InletInput,
    ring: Ring,
    position: int,
    last_ns: int | None = None,
    *,
    grip: Grip = Grip.ORDERED,
    fresh: bool = False,
) -> Input:
    """The input, from `position` of its ring on. `fresh`: what has gone while we looked was never ours."""
    patience_s = each.evict_after_ms / 1000
    if grip is Grip.PINNED:
        patience_s = min(patience_s or PIN_S, PIN_S)
    lossless = each.policy == "lossless" and not each.spool and grip is not Grip.LOOSE
    reader = ring.reader(
        policy="lossless" if lossless else "lossy",
        name=reader_name(spec.name),
        start=min(position, ring.head),
        evict_after_s=patience_s or None,
    )
    refill = Refill(each.spool, ring) if each.spool else None
    branch = Branch(
        reader,
        max(position, reader.cursor) if fresh and not each.spool else position,
        every=each.every,
        rate_per_s=each.rate_per_s,
        latest=each.latest,
        key_offset=each.key_offset,
        key_bytes=each.key_bytes,
        key_of=each.key_of,
        key_take=each.key_take,
        folds=not numbered(spec),
        last_ns=last_ns,
        refill=refill,
    )
    return Input(each, ring, reader, branch, grip, refill)


class Generation:
    """The inputs that belong together, and how they flow into the output. A single one passes as it is."""

    def __init__(self, spec: RunSpec, number: int, inputs: Sequence[Input], writer: Writer) -> None:
        self.number = number
        self.inputs = list(inputs)
        self.join = spec.join if len(self.inputs) > 1 else ""
        self._partial = spec.join_partial
        self._spec, self._writer = spec, writer
        self.patience = join.Patience(tuple(each.spec.evict_after_ms / 1000 for each in self.inputs))
        self.seam = Seam(writer, [each.branch for each in self.inputs])

    def close(self) -> None:
        """Let go of its inputs."""
        for each in self.inputs:
            each.close()

    def chosen(self, which: Sequence[int]) -> tuple[Input, ...]:
        """Some of its inputs."""
        return tuple(self.inputs[each] for each in which)

    def like(self, other: "Generation") -> bool:
        """Are these the same inputs, joined alike?"""
        return self.join == other.join and [each.spec for each in self.inputs] == [each.spec for each in other.inputs]

    def decision(self, expected: int, gone: frozenset[int]) -> Drop | Pass | Lose | Wait:
        """What its inputs, as far as they are at hand, make of the expected number."""
        heads = []
        for which, each in enumerate(self.inputs):
            each.branch.fetch(AHEAD, AHEAD_BYTES)
            heads.append(each.head(which in gone))
            if heads[-1].end > expected:
                self.patience.heard(which)
        if self.join == "union":
            return join.union(expected, heads)
        return join.sequence(expected, heads, self._partial)

    def passed(self, inputs: tuple[int, ...], count: int, expected: int, timeout_s: float) -> int:
        """Have them published; how many were."""
        if self.join == "sequence" or (self.join == "" and self.inputs[0].spec.policy == "sample"):
            done = self.seam.joined(inputs, count, expected, timeout_s)
        else:
            done = self.seam.united(inputs, count, timeout_s)
        for which in inputs:
            self.inputs[which].branch.settle(done)
        return done

    def side(self, decision: Drop | Pass | Lose | Wait, now: float) -> Side:
        """As the splice wants it."""
        newest = min(each.newest for each in self.inputs)
        match decision:
            case Pass(_, count):
                return Side(self.number, there=count, newest=newest)
            case Lose(count):
                return Side(self.number, lost=count, newest=newest)
            case Wait(inputs):
                gone = self.patience.gone(now)
                silent = [which in gone or self.inputs[which].orphaned(now) for which in inputs]
                return Side(self.number, newest=newest, silent=any(silent))
        return Side(self.number, newest=newest)

    def follow(self, expected: int, now: float) -> tuple[Side, tuple[Input, ...]]:
        """How it stands while it is not in force, held at the expected number, and what it waits for. All of its inputs are needed."""
        for each in self.inputs:
            each.branch.skip_to(expected)
        decision = self.decision(expected, frozenset())
        waits = decision.inputs if isinstance(decision, Wait) else ()
        return self.side(decision, now), self.chosen(waits)

    def rejoin(self) -> int:
        """Whoever was evicted joins again where it was: what has gone meanwhile is found to be lost. How many those were.

        Who is evicted while it is not in force has held somebody up for long enough: from then on it keeps nothing.
        """
        again = 0
        for which, each in enumerate(self.inputs):
            if each.branch.evicted:
                position, last_ns = each.branch.place, each.branch.last_ns
                each.close()
                grip = Grip.ORDERED if each.grip is Grip.ORDERED else Grip.LOOSE
                fresh = opened(self._spec, each.spec, each.ring, position, last_ns, grip=grip)
                self.inputs[which] = each.followed_by(fresh)
                again += 1
        self._sew()
        return again

    def enter(self, expected: int) -> bool:
        """Have its inputs read as their edges order, as those in force are. False if they were: then they are what was looked at."""
        waiting = [which for which, each in enumerate(self.inputs) if each.grip is not Grip.ORDERED]
        for which in waiting:
            each = self.inputs[which]
            self.inputs[which] = opened(self._spec, each.spec, each.ring, expected * each.spec.every)
            each.close()  # after the new one has joined: in between, nothing is let go
        self._sew()
        return bool(waiting)

    def _sew(self) -> None:
        self.seam = Seam(self._writer, [each.branch for each in self.inputs])


def by_generation(inputs: Sequence[InletInput]) -> dict[int, tuple[InletInput, ...]]:
    """The orders of each generation, the oldest first, each in the order of the edges."""
    return {
        number: tuple(each for each in inputs if each.generation == number)
        for number in sorted({each.generation for each in inputs})
    }


def standing(spec: RunSpec, ring: Ring) -> tuple[int, tuple[int, ...], bool]:
    """Which generation is in force, which may follow, and whether the table does not know that yet."""
    cuts = ring.cuts() if numbered(spec) else ()
    if (found := splice.standing(cuts, [each.generation for each in spec.inputs])) is not None:
        return found
    newest = max(cut.generation for cut in cuts)
    raise Unable(
        EXIT_RING,
        f"{ring.path} is read on from inputs of generation {newest}, and its orders know older ones only: "
        "an inlet never goes back. Order its inputs as a newer generation",
    )


def in_force(spec: RunSpec, ring: Ring) -> RunSpec:
    """The orders without what is not in force yet, or no longer."""
    mine, _, _ = standing(spec, ring)
    return replace(spec, inputs=by_generation(spec.inputs)[mine])
