"""The inlet's loop: looks at its branches, asks `join`, does that one thing, and asks again. One ring comes out.

Owns the readers of all inputs and the output's writer. Decides nothing, and remembers nothing that its output does not say: its head, and
in joins by time the newest frame's word on where each input goes on.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from halftrack_dataplane import join, parts
from halftrack_dataplane.branch import Branch, begins_at
from halftrack_dataplane.frames import Evicted, RingFull, reader_name
from halftrack_dataplane.join import Drop, Head, Lose, Pass, Take, Wait
from halftrack_dataplane.ring import Reader, Ring, Writer
from halftrack_dataplane.runspec import InletInput, RunSpec
from halftrack_dataplane.runtime import EXIT_RING, TICK_S, Stop, Unable, open_ring, ring_writer
from halftrack_dataplane.seam import Seam
from halftrack_dataplane.status import Status, StatusFile

AHEAD = 1024  # frames that are looked at at once: as many as a batch has
AHEAD_BYTES = 1 << 20
PARTS = 4  # a chunk of a bucket holds a quarter of its ring at most, so that its writer never waits for us while we wait for it
SLICE_S = 0.004  # of waiting for one of several, any of which may be next
LEAST_NS = -(1 << 63)


@dataclass(slots=True)
class Input:
    """One input: its orders, its ring, and what is read ahead of it."""

    spec: InletInput
    ring: Ring
    reader: Reader
    branch: Branch
    dropped: int = 0  # frames that were for nobody any more
    gaps: int = 0  # numbers that it had lost

    def head(self, gone: bool) -> Head:
        """As joins by number want it."""
        branch = self.branch
        first, end = branch.first, branch.end
        none, alike = branch.kind(0) if branch.count else (False, 0)
        return Head(first, end, branch.lost, none, first + alike, gone)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an inlet goes on: its inputs' sequences (empty: from its output's head), the bucket that is open, the newest time."""

    inputs: tuple[int, ...] = ()
    floor: int | None = None
    last_ns: int = LEAST_NS
    rates_ns: tuple[int | None, ...] = ()


def numbered(spec: RunSpec) -> bool:
    """Do its outputs have its inputs' numbers? Else each says where its inputs go on."""
    return spec.join in ("sequence", "union") or (spec.join == "" and not _loose(spec.inputs[0]))


def _loose(each: InletInput) -> bool:
    return each.latest or each.rate_per_s > 0


def place_of(spec: RunSpec, ring: Ring) -> Place | None:
    """Where the newest frame of the output says that its inputs go on; None if there never was one."""
    if ring.head == ring.base_seq:
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
        return (ring.head if _loose(each) else oldest), ""
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


class Inlet:
    """One inlet: its inputs in, its vertex's one ring out."""

    def __init__(self, spec: RunSpec, rings: Sequence[Ring], ring: Ring, writer: Writer) -> None:
        self._spec = spec
        self._ring = ring
        self._writer = writer
        self._patience = join.Patience(tuple(each.evict_after_ms / 1000 for each in spec.inputs))
        self._counters = {"passed": 0, "gap_frames": 0, "late": 0, "rejoined": 0}
        self._numbered = numbered(spec)
        self._message = ""
        self._inputs: list[Input] = []
        self._floor: int | None = None
        self._last_ns = LEAST_NS
        self._join(rings)
        self._seam = Seam(writer, [each.branch for each in self._inputs])
        self._step = {"order": self._in_order, "time": self._by_time}.get(
            spec.join, self._by_number if self._numbered else self._in_order
        )

    def close(self) -> None:
        """Let go of all inputs; the output's writer is whoever's who opened it."""
        for each in self._inputs:
            each.reader.close()

    # ---- beginning ------------------------------------------------------------------------------------------------------

    def _join(self, rings: Sequence[Ring]) -> None:
        fresh = self._ring.head == self._ring.base_seq
        place = Place() if self._numbered or fresh else place_of(self._spec, self._ring)
        if place is not None and place.inputs:
            self._floor, self._last_ns = place.floor, place.last_ns
        told = []
        for which, (each, ring) in enumerate(zip(self._spec.inputs, rings, strict=True)):
            last_ns = None
            if fresh:
                position, says = begin_of(each, ring)
                told.append(says)
            elif place is not None and place.inputs:
                position, last_ns = place.inputs[which], place.rates_ns[which]
            else:
                position = self._ring.head * each.every
            self._inputs.append(self._opened(each, ring, position, last_ns, fresh))
        self._message = "; ".join(says for says in told if says)
        if fresh and self._numbered:
            begin = max(each.branch.first for each in self._inputs)
            if begin > self._ring.head:
                self._writer.start_at(begin)
        if self._numbered:
            for source in self._inputs:
                source.branch.skip_to(self._ring.head)

    def _opened(self, each: InletInput, ring: Ring, position: int, last_ns: int | None, fresh: bool) -> Input:
        reader = ring.reader(
            policy="lossless" if each.policy == "lossless" else "lossy",
            name=reader_name(self._spec.name),
            start=min(position, ring.head),
            evict_after_s=each.evict_after_ms / 1000 if each.evict_after_ms else None,
        )
        if fresh:
            position = max(position, reader.cursor)  # what went while we looked was never ours
        branch = Branch(
            reader,
            position,
            every=each.every,
            rate_per_s=each.rate_per_s,
            latest=each.latest,
            key_offset=each.key_offset,
            key_bytes=each.key_bytes,
            key_of=each.key_of,
            key_take=each.key_take,
            folds=not self._numbered,
            last_ns=last_ns,
        )
        return Input(each, ring, reader, branch)

    def _rejoin(self) -> None:
        """Whoever was evicted joins again where it was: what has gone meanwhile is found to be lost."""
        for which, each in enumerate(self._inputs):
            if each.branch.evicted:
                position, last_ns = each.branch.place, each.branch.last_ns
                each.reader.close()
                again = self._opened(each.spec, each.ring, position, last_ns, False)
                again.dropped, again.gaps = each.dropped, each.gaps
                self._inputs[which] = again
                self._counters["rejoined"] += 1
        self._seam = Seam(self._writer, [each.branch for each in self._inputs])

    # ---- one step -------------------------------------------------------------------------------------------------------

    def step(self, now: float, timeout_s: float = TICK_S) -> tuple[int, ...]:
        """Do the next thing, and wait for room up to `timeout_s`; whom it waits for, if there is nothing to do."""
        try:
            return self._step(self._patience.gone(now), timeout_s)
        except Evicted:
            self._rejoin()
            return ()

    def _by_number(self, gone: frozenset[int], timeout_s: float) -> tuple[int, ...]:
        expected = self._ring.head
        heads = []
        for which, each in enumerate(self._inputs):
            each.branch.fetch(AHEAD, AHEAD_BYTES)
            heads.append(each.head(which in gone))
            if heads[-1].end > expected:
                self._patience.heard(which)
        union = self._spec.join == "union"
        decision = join.union(expected, heads) if union else join.sequence(expected, heads, self._spec.join_partial)
        match decision:
            case Drop(inputs):
                for which in inputs:
                    self._inputs[which].dropped += self._inputs[which].branch.skip_to(expected)
            case Pass(inputs, count):
                self._pass(inputs, count, expected, timeout_s)
            case Lose(count):
                self._lose(count, timeout_s)
            case Wait(inputs):
                return inputs
        return ()

    def _pass(self, inputs: tuple[int, ...], count: int, expected: int, timeout_s: float) -> None:
        if self._spec.join == "sequence" or (self._spec.join == "" and self._inputs[0].spec.policy == "sample"):
            done = self._seam.joined(inputs, count, expected, timeout_s)
        else:
            done = self._seam.united(inputs, count, timeout_s)
        for which in inputs:
            self._inputs[which].branch.settle(done)
        self._counters["passed"] += done

    def _lose(self, count: int, timeout_s: float) -> None:
        try:
            self._writer.gap(count, timeout_s=timeout_s)
        except RingFull:
            return  # decided again on the next step, by what is true then
        self._counters["gap_frames"] += count

    def _in_order(self, gone: frozenset[int], timeout_s: float) -> tuple[int, ...]:
        decision = join.order(self._times(AHEAD), gone)
        if not isinstance(decision, Take):
            return decision.inputs
        each = self._inputs[decision.input]
        branch = each.branch
        count = branch.count if decision.before_ns is None else branch.before(decision.before_ns)
        before = self._ring.head
        done, self._last_ns = self._seam.ordered(decision.input, count, self._last_ns, timeout_s)
        self._settle(each, done)
        self._counters["passed"] += self._ring.head - before
        return ()

    def _by_time(self, gone: frozenset[int], timeout_s: float) -> tuple[int, ...]:
        times = self._times(0)
        decision = join.bucket(times, gone, self._floor, self._spec.join_width_ns)
        if isinstance(decision, Wait):
            return decision.inputs
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
                self._patience.heard(which)
        if waiting := join.unfilled([over for _, over, _ in chunks], gone):
            return waiting
        more = any(over and again for _, over, again in chunks)
        counts = [count for count, _, _ in chunks]
        begin_ns = decision.bucket * self._spec.join_width_ns
        before = self._ring.head
        if not self._seam.placed(counts, parts.MORE if more else 0, begin_ns, begin_ns, timeout_s):
            return ()
        for each, count in zip(self._inputs, counts, strict=True):
            self._settle(each, count)
        if self._ring.head > before:
            self._floor = decision.bucket + (not more)
            self._counters["passed"] += 1
        return ()

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
                self._patience.heard(which)
        return times

    def _limits(self) -> list[tuple[int, int]]:
        """How many frames and bytes of each input a chunk of a bucket may have: constants of the rings, so the same in every life."""
        share = self._seam.most_bytes // len(self._inputs) - 256
        return [
            (max(each.ring.slots // PARTS, 1), min(share, each.ring.capacity_bytes // PARTS)) for each in self._inputs
        ]

    # ---- running --------------------------------------------------------------------------------------------------------

    def run(self, stop: Stop, clock: Callable[[], float] = time.monotonic) -> None:
        """Until asked to stop."""
        file = StatusFile(self._spec.status_path)
        try:
            while not stop.asked:
                now = clock()
                if waiting := self.step(now):
                    self._wait(waiting, now)
                file.offer(self._status)
        finally:
            file.offer(self._status, last=True)

    def _wait(self, waiting: tuple[int, ...], now: float) -> None:
        held = any(each.branch.count or each.branch.lost for each in self._inputs)
        self._patience.waits(waiting, held, now)
        # Joins but the union need all of these, so whichever is waited for, the others are not late.
        seconds = SLICE_S if self._spec.join == "union" and len(self._inputs) > 1 else TICK_S
        self._inputs[waiting[0]].branch.wait(int(min(seconds, self._patience.due_s(now)) * 1e9) + 1)

    def _status(self) -> Status:
        head = self._ring.head
        late = "duplicates" if self._spec.join == "union" else "late"
        counters = self._counters | {
            late: sum(each.dropped for each in self._inputs),
            "left_out": self._patience.left_out,
        }
        counters["missed"] = sum(each.branch.missed for each in self._inputs)
        out = ", ".join(self._inputs[which].spec.name for which in sorted(self._patience.gone(time.monotonic())))
        message = "; ".join(filter(None, [self._message, f"left out, since silent: {out}" if out else ""]))
        lag = max(each.reader.lag_frames for each in self._inputs)
        return Status(self._spec.name, self._spec.role, head, head, lag, counters, message=message)


def run(spec: RunSpec, stop: Stop) -> None:
    """The role's loop."""
    rings = [open_ring(each.ring, stop) for each in spec.inputs]
    ring = open_ring(spec.output_ring, stop)
    with ring_writer(ring, spec.name, stop) as writer:
        inlet = Inlet(spec, rings, ring, writer)
        try:
            inlet.run(stop)
        finally:
            inlet.close()
