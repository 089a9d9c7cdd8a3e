"""The inlet's loop: looks at its branches, asks `join`, does that one thing, and asks again. One ring comes out.

Owns the output's writer, and the inputs of every generation (`inlet_inputs.py`). Decides nothing, and remembers nothing that its output does not
say: its head, the owner table in its header, and in joins by time the newest frame's word on where each input goes on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from halftrack_dataplane import inlet_inputs, join, parts, refill, splice
from halftrack_dataplane.anchor import Anchor
from halftrack_dataplane.frames import Evicted, RingError, RingFull, reader_name
from halftrack_dataplane.inlet_inputs import AHEAD, AHEAD_BYTES, LEAST_NS, Generation, Grip, Input, Place
from halftrack_dataplane.join import Drop, Lose, Pass, Take, Wait
from halftrack_dataplane.numbering import Numbering
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import InletInput, RunSpec, SpecError
from halftrack_dataplane.runtime import TICK_S, Orders, Stop, open_ring, ring_writer
from halftrack_dataplane.splice import Go, Hold, Splice
from halftrack_dataplane.spool_commits import Commits
from halftrack_dataplane.status import Status, StatusFile

PARTS = 4  # a chunk of a bucket holds a quarter of its ring at most, so that its writer never waits for us while we wait for it
SLICE_S = 0.004  # of waiting for one of several, any of which may be next
ANCHORED_S = 0.005  # of waiting for room that an anchor gives, which nobody tells us of
ORDERS_S = 0.1  # between two looks at whether there are new orders


class Inlet:
    """One inlet: its inputs in, its vertex's one ring out."""

    def __init__(self, spec: RunSpec, rings: Sequence[Ring], ring: Ring, writer: Writer) -> None:
        self._spec = spec
        self._ring = ring
        self._writer = writer
        self._numbering = Numbering(spec.numbers_path, ring)
        self._counters = {"passed": 0, "gap_frames": 0, "late": 0, "rejoined": 0, "splices": 0}
        self._past = {"late": 0, "left_out": 0, "missed": 0, "lost": 0}  # of inputs that have left
        self._numbered = inlet_inputs.numbered(spec)
        self._message = ""
        self._waits = ""  # why a later generation is not in force yet
        self._floor: int | None = None
        self._last_ns = LEAST_NS
        self._splice = Splice()
        # Whoever is away finds what has waited for it on the disk; so nothing of it may be passed over in memory either.
        spooled = any(each.spool for each in spec.inputs)
        self._anchor = Anchor(ring, reader_name(f"{spec.name}.anchor")) if spooled else None
        self._commits = Commits(ring, self._anchor)
        self._later: list[Generation] = []
        self._begin(dict(zip(spec.inputs, rings, strict=True)))
        self._step = {"order": self._in_order, "time": self._by_time}.get(
            spec.join, self._by_number if self._numbered else self._in_order
        )

    @property
    def _inputs(self) -> list[Input]:
        """Those in force."""
        return self._now.inputs

    def close(self) -> None:
        """Let go of all inputs; the output's writer is whoever's who opened it."""
        self._numbering.close()
        for each in (self._now, *self._later):
            each.close()
        if self._anchor is not None:
            self._anchor.close()

    # ---- beginning ------------------------------------------------------------------------------------------------------

    def _begin(self, rings: dict[InletInput, Ring]) -> None:
        mine, later, untold = inlet_inputs.standing(self._spec, self._ring)
        orders = inlet_inputs.by_generation(self._spec.inputs)
        self._now = Generation(
            self._spec, mine, self._placed({each: rings[each] for each in orders[mine]}), self._writer
        )
        if self._numbered and self._ring.head == self._ring.base_seq:
            self._writer.start_at(max(self._ring.head, *(each.branch.first for each in self._inputs)))
        if self._numbered:
            for source in self._inputs:
                source.branch.skip_to(self._ring.head)
        if untold:
            self._record(mine, self._ring.head)
        self._later = [
            Generation(self._spec, each, [self._waiting(one, rings[one]) for one in orders[each]], self._writer)
            for each in later
        ]

    def _placed(self, rings: dict[InletInput, Ring]) -> list[Input]:
        """The inputs in force, where the output says that they go on."""
        place = Place() if self._numbered else inlet_inputs.place_of(self._spec, self._ring)
        fresh = place is None or self._ring.head == self._ring.base_seq
        if place is not None and place.inputs:
            self._floor, self._last_ns = place.floor, place.last_ns
        found, told = [], []
        for which, (each, ring) in enumerate(rings.items()):
            last_ns = None
            if fresh:
                position, says = inlet_inputs.begin_of(each, ring)
                told.append(says)
            elif place is not None and place.inputs:
                position, last_ns = place.inputs[which], place.rates_ns[which]
            else:
                position = self._ring.head * each.every
            found.append(inlet_inputs.opened(self._spec, each, ring, position, last_ns, fresh=fresh))
        self._message = "; ".join(says for says in told if says)
        return found

    def _waiting(self, each: InletInput, ring: Ring) -> Input:
        """An input of a generation that is not in force yet, held where it may have to go on."""
        return inlet_inputs.opened(self._spec, each, ring, self._ring.head * each.every, grip=Grip.PINNED)

    # ---- new orders -----------------------------------------------------------------------------------------------------

    def takes(self, spec: RunSpec) -> bool:
        """Can it go on in this life with these orders? Only its inputs may be others, and numbers must be kept."""
        same = replace(spec, inputs=self._spec.inputs, join=self._spec.join, join_partial=self._spec.join_partial)
        return same == self._spec and self._numbered and inlet_inputs.numbered(spec)

    def take(self, spec: RunSpec, ring_at: Callable[[str], Ring]) -> None:
        """Go on with these orders, from the expected number on. Inputs that are in both are not touched; RingError: nothing has changed."""
        orders = inlet_inputs.by_generation(spec.inputs)
        mine, later, untold = inlet_inputs.standing(spec, self._ring)
        held = {each.spec: each for one in (self._now, *self._later) for each in one.inputs}
        wanted = [each for number in (mine, *later) for each in orders[number]]
        opened: dict[InletInput, Input] = {}
        try:
            for each in wanted:
                opened[each] = held[each] if each in held else self._waiting(each, ring_at(each.ring))
            if untold:
                self._record(mine, self._ring.head)
        except RingError:
            for each in opened.keys() - held.keys():
                opened[each].close()
            raise
        before = {each.number: each for each in (self._now, *self._later)}
        made = [
            Generation(spec, number, [opened[each] for each in orders[number]], self._writer)
            for number in (mine, *later)
        ]
        for one in made:
            if one.number in before and one.like(before[one.number]):
                one.patience = before[one.number].patience
        for each in held.keys() - opened.keys():
            self._leave(held[each])
        self._spec, self._now, self._later = spec, made[0], made[1:]
        self._now.enter(self._ring.head)
        self._splice, self._waits = Splice(), ""

    def _leave(self, each: Input) -> None:
        self._past["late"] += each.dropped
        self._past["missed"] += each.branch.missed
        self._past["lost"] += each.unkept
        each.close()

    # ---- one step -------------------------------------------------------------------------------------------------------

    def step(self, now: float, timeout_s: float = TICK_S) -> tuple[Input, ...]:
        """Do the next thing, and wait for room up to `timeout_s`; whom it waits for, if there is nothing to do."""
        if self._anchor is not None:
            self._anchor.follow()
            timeout_s = min(timeout_s, ANCHORED_S)
        try:
            return self._step(now, timeout_s)
        except Evicted:
            self._counters["rejoined"] += sum(each.rejoin() for each in (self._now, *self._later))
            return ()

    def _by_number(self, now: float, timeout_s: float) -> tuple[Input, ...]:
        expected, lose = self._ring.head, 0
        decision = self._now.decision(expected, self._now.patience.gone(now))
        if self._later and not isinstance(decision, Drop):
            move, waits = self._moved(expected, decision, now)
            if isinstance(move, Go):
                self._go(move.generation, expected)
                return ()
            if isinstance(move, Hold):
                return waits
            lose = move.lose
        match decision:
            case Drop(inputs):
                for each in self._now.chosen(inputs):
                    each.dropped += each.branch.skip_to(expected)
            case Pass(inputs, count):
                self._counters["passed"] += self._now.passed(inputs, count, expected, timeout_s)
            case Lose(count):
                self._lose(min(count, lose or count), timeout_s)
            case Wait(inputs):
                return self._now.chosen(inputs)
        return ()

    def _lose(self, count: int, timeout_s: float) -> None:
        try:
            self._writer.gap(count, timeout_s=timeout_s)
        except RingFull:
            return  # decided again on the next step, by what is true then
        self._counters["gap_frames"] += count

    # ---- going over -----------------------------------------------------------------------------------------------------

    def _moved(
        self, expected: int, decision: Pass | Lose | Wait, now: float
    ) -> tuple[Go | Hold | splice.Keep, tuple[Input, ...]]:
        """Whether to go over to a later generation, and for whose sake the one in force is held back."""
        mine = self._now.side(decision, now)
        followed = [each.follow(expected, now) for each in self._later]
        sides = [side for side, _ in followed]
        self._waits = splice.told(expected, mine, sides)
        move = self._splice.decide(expected, mine, sides, now)
        waits = next(
            (waits for side, waits in followed if isinstance(move, Hold) and side.generation == move.generation), ()
        )
        return move, waits

    def _go(self, generation: int, expected: int) -> None:
        """From `expected` on, `generation` answers: first in the table, then here, then in what comes out."""
        number = [each.number for each in self._later].index(generation)
        later = self._later[number]
        if later.enter(expected):
            return  # asked again, now that it is read as whoever is in force is
        self._record(generation, expected)
        for gone in (self._now, *self._later[:number]):
            self._past["left_out"] += gone.patience.left_out
            for each in gone.inputs:
                self._leave(each)
        self._now, self._later = later, self._later[number + 1 :]
        self._splice, self._waits = Splice(), ""
        self._counters["splices"] += 1

    def _record(self, generation: int, expected: int) -> None:
        """A row of the owner table. A death before it is applied leaves it proposed, and the next life decides anew where it counts from."""
        cuts = self._ring.cuts()
        for cut in cuts:
            if cut.applied_at is None and cut.epoch != generation:
                self._ring.withdraw_cut(cut.epoch)
        if generation not in [cut.epoch for cut in cuts]:
            self._ring.propose_cut(generation, generation, None, "")
        self._ring.apply_cut(generation, expected)

    # ---- joins by time --------------------------------------------------------------------------------------------------

    def _in_order(self, now: float, timeout_s: float) -> tuple[Input, ...]:
        decision = join.order(self._times(AHEAD), self._now.patience.gone(now))
        if not isinstance(decision, Take):
            return self._now.chosen(decision.inputs)
        each = self._inputs[decision.input]
        branch = each.branch
        count = branch.count if decision.before_ns is None else branch.before(decision.before_ns)
        before = self._taken()
        done, self._last_ns = self._now.seam.ordered(decision.input, count, self._last_ns, timeout_s)
        self._settle(each, done)
        self._counters["passed"] += self._ring.head - before
        return ()

    def _by_time(self, now: float, timeout_s: float) -> tuple[Input, ...]:
        times, gone = self._times(0), self._now.patience.gone(now)
        decision = join.bucket(times, gone, self._floor, self._spec.join_width_ns)
        if isinstance(decision, Wait):
            return self._now.chosen(decision.inputs)
        # Where a branch has nothing for long, its ring must not fill up with the word of it.
        dropped = [each.branch.drop_none(decision.end_ns) for each in self._inputs]
        if any(dropped):
            return ()
        chunks = [
            each.branch.chunk(decision.end_ns, count, cost)
            for each, (count, cost) in zip(self._inputs, self._limits(), strict=True)
        ]
        for which, (_, over, _) in enumerate(chunks):
            if over:
                self._now.patience.heard(which)
        if waiting := join.unfilled([over for _, over, _ in chunks], gone):
            return self._now.chosen(waiting)
        more = any(over and again for _, over, again in chunks)
        counts = [count for count, _, _ in chunks]
        begin_ns = decision.bucket * self._spec.join_width_ns
        before = self._taken()
        if not self._now.seam.placed(counts, parts.MORE if more else 0, begin_ns, begin_ns, timeout_s):
            return ()
        for each, count in zip(self._inputs, counts, strict=True):
            self._settle(each, count)
        if self._ring.head > before:
            self._floor = decision.bucket + (not more)
            self._counters["passed"] += 1
        return ()

    def _taken(self) -> int:
        """The next number, which may be given now. Where the inputs have begun is known with the first output, and not before."""
        self._numbering.start(self._writer, [each.branch.first for each in self._inputs])
        self._numbering.give(self._ring.head + AHEAD)  # more than a step brings
        return self._ring.head

    def _settle(self, each: Input, count: int) -> None:
        lost = each.branch.settle(count)
        each.gaps += lost
        self._counters["gap_frames"] += lost

    def _times(self, most: int) -> list[int | None]:
        """The times of the first frames at hand."""
        times = []
        for which, (each, (count, cost)) in enumerate(zip(self._inputs, self._limits(), strict=True)):
            each.branch.fetch(most or count + 1, AHEAD_BYTES if most else cost + 1)
            times.append(each.branch.time_ns)
            if times[-1] is not None and most:
                self._now.patience.heard(which)
        return times

    def _limits(self) -> list[tuple[int, int]]:
        """How many frames and bytes of each input a chunk of a bucket may have: constants of the rings, so the same in every life."""
        share = self._now.seam.most_bytes // len(self._inputs) - 256
        return [
            (max(each.ring.slots // PARTS, 1), min(share, each.ring.capacity_bytes // PARTS)) for each in self._inputs
        ]

    # ---- running --------------------------------------------------------------------------------------------------------

    def run(self, stop: Stop, orders: Orders, clock: Callable[[], float] = time.monotonic) -> None:
        """Until asked to stop, or ordered what only a new life can do."""
        file = StatusFile(self._spec.status_path)
        due = 0.0
        try:
            while not stop.asked:
                now = clock()
                if now >= due:
                    due = now + ORDERS_S
                    if not self._obeys(orders):
                        return
                if waiting := self.step(now):
                    self._wait(waiting, now)
                self._commits.offer(self._inputs)
                file.offer(self._status)
        finally:
            file.offer(self._status, last=True)

    def _obeys(self, orders: Orders) -> bool:
        """Take new orders, if there are any; False if this life cannot."""
        try:
            spec = orders.changed()
            if spec is None:
                return True
            if not self.takes(spec):
                return False
            self.take(spec, Ring.open)
            self._message = ""
            orders.taken()
        except (SpecError, RingError) as error:  # tried again at the next look: it goes on as it was
            self._message = f"new orders are not carried out yet: {error}"
        return True

    def _wait(self, waiting: tuple[Input, ...], now: float) -> None:
        mine = self._now
        held = any(each.branch.count or each.branch.lost for each in mine.inputs)
        which = [number for number, each in enumerate(mine.inputs) if each in waiting]
        mine.patience.waits(which, held, now)
        # Joins but the union need all of these, so whichever is waited for, the others are not late.
        seconds = SLICE_S if self._later or mine.join == "union" else TICK_S
        waiting[0].branch.wait(int(min(seconds, mine.patience.due_s(now)) * 1e9) + 1)

    def _status(self) -> Status:
        head = self._ring.head
        mine, past = self._now, self._past
        late = "duplicates" if self._spec.join == "union" else "late"
        counters = self._counters | {
            late: past["late"] + sum(each.dropped for each in mine.inputs),
            "left_out": past["left_out"] + mine.patience.left_out,
            "missed": past["missed"] + sum(each.branch.missed for each in mine.inputs),
            "lost": past["lost"] + sum(each.unkept for each in mine.inputs),
        }
        out = ", ".join(mine.inputs[which].spec.name for which in sorted(mine.patience.gone(time.monotonic())))
        left_out = f"left out, since silent: {out}" if out else ""
        spools = [each.refill.trouble for each in mine.inputs if each.refill is not None]
        message = "; ".join(filter(None, [self._message, self._waits, left_out, self._numbering.trouble, *spools]))
        lag = max(each.lag_frames for each in mine.inputs)
        inputs = {
            each.spec.name: each.counts(late, mine.patience.outs.get(which, 0))
            for which, each in enumerate(mine.inputs)
        }
        return Status(self._spec.name, self._spec.role, head, head, lag, counters, message=message, inputs=inputs)


def run(spec: RunSpec, stop: Stop, orders: Orders) -> None:
    """The role's loop."""
    ring = open_ring(spec.output_ring, stop)
    with ring_writer(ring, spec.name, stop) as writer:
        # It begins with what it cannot do without. What is not in force yet, and may not even be there, is taken up on the way.
        begin = inlet_inputs.in_force(spec, ring)
        if ring.head == ring.base_seq:  # later, there is a place to go on from, whether the spool is back or not
            for each in begin.inputs:
                if each.spool:
                    refill.awaited(each.spool, stop)
        inlet = Inlet(begin, [open_ring(each.ring, stop) for each in begin.inputs], ring, writer)
        try:
            if begin != spec:
                orders.again()
            inlet.run(stop, orders)
        finally:
            inlet.close()
