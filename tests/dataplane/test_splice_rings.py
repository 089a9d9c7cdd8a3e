"""An inlet that goes over to other inputs, on real rings, step by step: whatever comes when, and whenever it dies, each number comes out once, in order,
from one generation, which the owner table names.

invariant: S1
invariant: S2
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.joining import Inlet
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import InletInput, RunSpec, dump
from tests.dataplane import inlet_reference as reference
from tests.dataplane.inlet_reference import Given, Out, Stream
from tests.dataplane.test_inlet_rings import Act, Rig

COUNT = 90


class Died(Exception):  # noqa: N818 - it says what has happened
    """A planted death."""


class Mortal:
    """The output's ring, for an inlet that dies just before or just after it writes the owner table."""

    def __init__(self, ring: Ring, fate: str) -> None:
        self._ring, self._fate = ring, fate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ring, name)

    @property
    def head(self) -> int:
        return self._ring.head

    def propose_cut(self, *row: Any) -> None:
        self._at("propose_cut", *row)

    def apply_cut(self, *row: Any) -> None:
        self._at("apply_cut", *row)

    def _at(self, name: str, *row: Any) -> None:
        if self._fate == f"before {name}":
            raise Died
        getattr(self._ring, name)(*row)
        if self._fate == f"after {name}":
            raise Died


FATES = [f"{when} {what}" for when in ("before", "after") for what in ("propose_cut", "apply_cut")]


class Changing(Rig):
    """A rig with a clock, orders that change, and deaths at the table."""

    now = 0.0
    fate = ""

    def begin(self) -> None:
        self.writer = self.output.writer()
        ring = Mortal(self.output, self.fate) if self.fate else self.output
        self.inlet = Inlet(self.spec, self.rings, ring, self.writer)  # type: ignore[arg-type]

    def step(self, most: int) -> bool:
        waits = []
        for _ in range(most):
            try:
                waits.append(self.inlet.step(self.now, 0))
            except Died:
                self.fate = ""
                self.die()
                self.begin()
                waits.append(())
            self.now += 0.01
        return () in waits

    def play(self, acts: Sequence[Act]) -> None:
        for what, number in acts:
            if what == "evict":
                every = [each for one in (self.inlet._now, *self.inlet._later) for each in one.inputs]
                each = every[number % len(every)]
                each.ring.evict(each.reader.slot)
            else:
                super().play([(what, number)])

    def finish(self) -> None:
        newest = max(each.generation for each in self.spec.inputs)
        for _ in range(3000):
            for which in range(len(self.rings)):
                self.publish(which, 64)
            if self.step(8) or self.output.head < COUNT:
                continue
            if self.inlet._now.number == newest:
                return
            self.now += 0.2
        raise AssertionError("it does not come to an end")


def orders(join: str, sizes: Sequence[int], **each: object) -> RunSpec:
    """Of each generation so many inputs, from rings in0, in1, ..."""
    numbers = [number for number, size in enumerate(sizes) for _ in range(size)]
    inputs = tuple(
        InletInput(f"in{which}", f"/in{which}", generation=number, **each)  # type: ignore[arg-type]
        for which, number in enumerate(numbers)
    )
    return RunSpec("inlet", "g.v.in", output_ring="/out", inputs=inputs, join=join if max(sizes) > 1 else "")


@contextmanager
def changing(
    streams: Sequence[Stream],
    spec: RunSpec,
    acts: Sequence[Act],
    fate: str = "",
    slots: int = 4096,
    capacity: int = 1 << 20,
) -> Iterator[Changing]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-splice-") as folder:
        made = Changing(Path(folder), streams, spec, slots, capacity)
        try:
            made.die()
            made.fate = fate
            made.begin()
            made.play(acts)
            made.finish()
            yield made
        finally:
            made.close()


def stream_of(generation: int, which: int, lost: set[int], count: int = COUNT) -> list[Given | None]:
    """Frames that say whose they are."""
    return [
        None if seq in lost else Given(seq * 1000, generation, bytes([generation, which]) + seq.to_bytes(4, "big"))
        for seq in range(count)
    ]


def joined(join: str, streams: Sequence[Stream]) -> list[Out | None]:
    if len(streams) == 1:
        return reference.single(streams[0])
    return reference.union(streams) if join == "union" else reference.sequence(streams, False, [1] * len(streams))


def judged(made: Changing, whole: Sequence[Sequence[Out | None]]) -> list[Out | None]:
    """The output, if each number is its owner's, and the owners are what the table says."""
    found = reference.read(made.output)
    assert len(found) == COUNT
    rows = [(cut.generation, cut.applied_at) for cut in made.output.cuts() if cut.applied_at is not None]
    assert rows == sorted(rows, key=lambda row: (row[0], row[1])), "generations and numbers rise together"
    for seq, out in enumerate(found):
        owner = max((generation for generation, first in rows if first <= seq), default=0)
        assert out is None or out == whole[owner][seq]
    return found


acts = st.lists(
    st.tuples(st.sampled_from(["0", "1", "2", "3", "step", "step", "step", "die", "evict"]), st.integers(1, 12)).filter(
        lambda act: act[0] not in ("die", "evict") or act[1] < 3
    ),
    max_size=50,
)
losses = st.one_of(
    st.sets(st.integers(0, COUNT - 1), max_size=4), st.integers(0, COUNT - 1).map(lambda end: set(range(end)))
)
sizes = st.lists(st.integers(1, 2), min_size=2, max_size=3)


@settings(max_examples=70)
@given(
    sizes,
    st.sampled_from(["sequence", "union"]),
    st.lists(losses, min_size=6, max_size=6),
    acts,
    st.sampled_from(["", *FATES]),
)
def test_each_number_is_its_owners(
    sizes: list[int], join: str, lost: list[set[int]], acts: list[Act], fate: str
) -> None:
    spec = orders(join, sizes)
    dump(spec)
    streams: list[list[Given | None]] = [
        stream_of(each.generation, 0 if join == "union" else which, lost[which])
        for which, each in enumerate(spec.inputs)
    ]
    whole = []
    for number in range(len(sizes)):
        mine = [stream for each, stream in zip(spec.inputs, streams, strict=True) if each.generation == number]
        whole.append(joined(join, mine))
    with changing(streams, spec, acts, fate) as made:
        found = judged(made, whole)
        rows = [(cut.generation, cut.applied_at) for cut in made.output.cuts() if cut.applied_at is not None]
        for seq, out in enumerate(found):
            owner = max((generation for generation, first in rows if first <= seq), default=0)
            assert (out is None) == (whole[owner][seq] is None), "nothing is lost that its owner has"


@settings(max_examples=50)
@given(acts, st.integers(1, 2), st.sampled_from(["", *FATES]))
def test_small_rings_hold_what_may_be_needed(acts: list[Act], size: int, fate: str) -> None:
    """Nobody but a death or an eviction can take from a branch what it is held at."""
    acts = [act for act in acts if act[0] not in ("die", "evict")]
    spec = orders("sequence", [1, size])
    streams: list[list[Given | None]] = [
        stream_of(each.generation, which, set()) for which, each in enumerate(spec.inputs)
    ]
    whole = [joined("sequence", streams[:1]), joined("sequence", streams[1:])]
    with changing(streams, spec, acts, fate, 8, 4096) as made:
        assert None not in judged(made, whole)


@settings(max_examples=40)
@given(acts, st.sampled_from(["lossy", "lossless"]))
def test_what_is_overrun_is_declared(acts: list[Act], policy: str) -> None:
    spec = orders("", [1, 1], policy=policy)
    streams: list[list[Given | None]] = [stream_of(number, number, set()) for number in range(2)]
    whole = [reference.single(stream) for stream in streams]
    with changing(streams, spec, acts, "", 8, 4096) as made:
        found = judged(made, whole)
        if not any(what == "die" for what, _ in acts):
            assert made.inlet._status().counters["gap_frames"] == found.count(None)


def test_new_orders_are_taken_in_the_middle_and_touch_no_input_that_stays() -> None:
    streams: list[list[Given | None]] = [stream_of(number, number, set()) for number in range(3)]
    whole = [reference.single(stream) for stream in streams]
    full = orders("", [1, 1, 1])
    first = replace(full, inputs=full.inputs[:1])
    with changing(streams[:1], first, [("0", 10), ("step", 5)]) as made:
        assert made.output.head == COUNT
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-splice-") as folder:
        made = Changing(Path(folder), streams, replace(first, inputs=full.inputs), 16, 4096)
        made.die()
        made.spec = first
        made.rings, rings = made.rings[:1], made.rings
        made.begin()
        made.rings = rings
        taken: list[Ring] = []

        def ring_at(path: str) -> Ring:
            taken.append(rings[int(path[-1])])
            return taken[-1]

        for number in (2, 3):
            made.publish(0, 8)
            made.step(6)
            before = {each.spec.name: each.reader.slot for each in made.inlet._inputs}
            wanted = replace(first, inputs=full.inputs[:number] if number < 3 else full.inputs[1:])
            assert made.inlet.takes(wanted)
            made.inlet.take(wanted, ring_at)
            after = {each.spec.name: each.reader.slot for each in made.inlet._inputs}
            assert all(after.get(name, slot) == slot for name, slot in before.items())
            assert len(taken) == number - 1
            for _ in range(15):
                for which in range(number):
                    made.publish(which, 2 if which < number - 1 else 12)
                made.step(6)
        made.spec = replace(first, inputs=full.inputs[1:])
        made.finish()
        found = reference.read(made.output)
        assert None not in found
        assert [out and out.payload for out in found] == [
            (
                whole[0]
                if seq < made.output.cuts()[0].applied_at
                else whole[1]
                if seq < made.output.cuts()[1].applied_at
                else whole[2]
            )[seq].payload  # type: ignore[union-attr, operator]
            for seq in range(COUNT)
        ]
        assert not rings[0].stats().readers, "who has left is held up no more"
        made.close()
