"""Inlets on real rings, step by step in one process: whatever comes when, and whenever they die, their output is what its inputs' frames say.

invariant: S1
invariant: S2
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.branch import part_of
from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.joining import Inlet
from halftrack_dataplane.parts import MORE, NONE, Row, dumped, loaded
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import InletInput, RunSpec, dump
from tests.dataplane import inlet_reference as reference
from tests.dataplane.inlet_reference import Given, Out, Stream, noise, told

WIDTH_NS = 100
Act = tuple[str, int]


class Rig:
    """Inputs, an output, and an inlet that can die between any two steps."""

    def __init__(
        self, folder: Path, streams: Sequence[Stream], spec: RunSpec, slots: int = 4096, capacity: int = 1 << 20
    ) -> None:
        self.streams = streams
        self.rings = [
            Ring.create(folder / f"in{which}", slots=slots, capacity_bytes=capacity) for which in range(len(streams))
        ]
        self.writers: list[Writer] = [ring.writer() for ring in self.rings]
        self.output = Ring.create(folder / "out", slots=1 << 14, capacity_bytes=4 << 20)
        self.spec = spec
        dump(spec)
        self.begin()

    def begin(self) -> None:
        """A new life."""
        self.writer = self.output.writer()
        self.inlet = Inlet(self.spec, self.rings, self.output, self.writer)

    def die(self) -> None:
        """All that a process has of its own is gone."""
        self.inlet.close()
        self.writer.close()

    def publish(self, which: int, count: int) -> bool:
        """The next `count` sequences of one input; False when it has no more, or no room."""
        stream, ring, writer = self.streams[which], self.rings[which], self.writers[which]
        some = False
        for each in stream[ring.head : ring.head + count]:
            try:
                if each is None:
                    writer.gap(1, timeout_s=0)
                else:
                    writer.write(each.payload, epoch=each.epoch, timestamp_ns=each.time_ns, timeout_s=0)
            except RingFull:
                break
            some = True
        return some

    def step(self, most: int) -> bool:
        """Up to `most` steps; False when there was nothing to do."""
        waits = [self.inlet.step(0.0, 0) for _ in range(most)]
        return () in waits

    def finish(self) -> None:
        """Everything is published, and everything passed that can be."""
        for _ in range(10_000):
            moved = [self.publish(which, 64) for which in range(len(self.rings))]
            if not self.step(8) and not any(moved):
                return
        raise AssertionError("it does not come to an end")

    def play(self, acts: Sequence[Act]) -> None:
        """Arrivals, steps and deaths in this order."""
        for what, number in acts:
            if what == "die":
                self.die()
                self.begin()
            elif what == "step":
                self.step(number)
            elif what == "evict":
                each = self.inlet._inputs[number % len(self.rings)]
                each.ring.evict(each.reader.slot)
            else:
                self.publish(int(what) % len(self.rings), number)

    def close(self) -> None:
        self.die()
        for writer in self.writers:
            writer.close()
        for ring in [*self.rings, self.output]:
            ring.close()


@contextmanager
def rig(
    streams: Sequence[Stream], spec: RunSpec, acts: Sequence[Act] = (), slots: int = 4096, capacity: int = 1 << 20
) -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-inlet-") as folder:
        made = Rig(Path(folder), streams, spec, slots, capacity)
        try:
            made.play(acts)
            made.finish()
            yield made
        finally:
            made.close()


def spec_of(count: int, join: str = "", *, partial: bool = False, width_ns: int = 0, **each: object) -> RunSpec:
    inputs = tuple(InletInput(f"in{which}", f"/in{which}", **each) for which in range(count))  # type: ignore[arg-type]
    return RunSpec(
        role="inlet",
        name="g.v.in",
        output_ring="/out",
        inputs=inputs,
        join=join,
        join_partial=partial,
        join_width_ns=width_ns,
    )


@st.composite
def streams_of(
    draw: st.DrawFn, least: int, most: int, losses: bool = True, steady: bool = True
) -> list[list[Given | None]]:
    """Some streams with times, epochs, lengths, gaps, and frames that say there is none here."""
    found = []
    for which in range(draw(st.integers(least, most))):
        stream: list[Given | None] = []
        time_ns = 0
        for what in draw(st.lists(st.integers(0, 19), max_size=30)):
            time_ns = time_ns + draw(st.sampled_from([0, 0, 1, 30, 250])) if steady else draw(st.integers(0, 900))
            if losses and what < 3:
                stream += [None] * (what + 1)
            elif what == 3:
                stream.append(Given(time_ns, 0, NONE))
            else:
                stream.append(Given(time_ns, which if what == 4 else 0, noise(len(stream) * 8 + which, what)))
        found.append(stream)
    return found


acts = st.lists(
    st.tuples(st.sampled_from(["0", "1", "2", "step", "die"]), st.integers(1, 12)).filter(
        lambda act: act[0] != "die" or act[1] < 4
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(streams_of(1, 1), acts)
def test_one_input_passes_as_it_is(streams: list[Stream], acts: list[Act]) -> None:
    with rig(streams, spec_of(1), acts) as made:
        assert reference.read(made.output) == reference.single(streams[0])


@settings(max_examples=60)
@given(streams_of(1, 1), acts, st.integers(0, 6), st.integers(1, 6), st.integers(1, 5), st.data())
def test_a_partition_keeps_numbers_and_says_none_here(
    streams: list[Stream], acts: list[Act], offset: int, size: int, of: int, data: st.DataObject
) -> None:
    take = tuple(data.draw(st.sets(st.integers(0, of - 1), min_size=1)))
    with rig(streams, spec_of(1, key_offset=offset, key_bytes=size, key_of=of, key_take=take), acts) as made:
        assert reference.read(made.output) == reference.single(reference.partition(streams[0], offset, size, of, take))


@settings(max_examples=40)
@given(streams_of(1, 1), acts, st.integers(1, 5))
def test_a_sample_is_every_so_many_with_their_numbers(streams: list[Stream], acts: list[Act], every: int) -> None:
    with rig(streams, spec_of(1, policy="sample", every=every), acts) as made:
        assert reference.read(made.output) == reference.sequence(streams, False, [every])


@settings(max_examples=80)
@given(streams_of(2, 3), acts, st.booleans(), st.integers(1, 3))
def test_a_sequence_joins_frame_n_of_all(streams: list[Stream], acts: list[Act], partial: bool, every: int) -> None:
    spec = spec_of(len(streams), "sequence", partial=partial, policy="sample", every=every)
    with rig(streams, spec, acts) as made:
        found = reference.read(made.output)
        wanted = reference.sequence(streams, partial, [every] * len(streams))
        # A number that one input has lost is lost for all, and known to be before the others have it.
        assert found[: len(wanted)] == wanted
        assert partial or not any(found[len(wanted) :])


@settings(max_examples=60)
@given(
    streams_of(1, 1),
    acts,
    st.integers(2, 5),
    st.lists(st.sets(st.integers(0, 30), max_size=5), min_size=2, max_size=3),
    st.data(),
)
def test_a_union_of_partitions_is_the_stream(
    streams: list[Stream], acts: list[Act], of: int, away: list[set[int]], data: st.DataObject
) -> None:
    owners = [data.draw(st.sampled_from(range(len(away)))) for _ in range(of)]
    branches = []
    for which, lost in enumerate(away):
        take = [part for part in range(of) if owners[part] == which]
        mine = reference.partition(streams[0], 0, 4, of, take)
        branches.append([None if seq in lost else each for seq, each in enumerate(mine)])
    with rig(branches, spec_of(len(branches), "union"), acts) as made:
        found = reference.read(made.output)
        assert found == reference.union(branches)
    for seq, (whole, out) in enumerate(zip(reference.single(streams[0]), found, strict=True)):
        holder = None if whole is None else owners[reference.crc32c(whole.payload[:4]) % of]
        if whole is not None and whole.payload == NONE:
            assert out is None or out.payload == NONE
        elif holder is None or seq in away[holder]:
            assert out is None
        else:
            assert out == whole


@settings(max_examples=60)
@given(streams_of(1, 1), acts, st.lists(st.sets(st.integers(0, 30), max_size=9), min_size=2, max_size=3))
def test_a_union_of_copies_loses_only_what_all_have_lost(
    streams: list[Stream], acts: list[Act], away: list[set[int]]
) -> None:
    branches = [[None if seq in lost else each for seq, each in enumerate(streams[0])] for lost in away]
    with rig(branches, spec_of(len(branches), "union"), acts) as made:
        found = reference.read(made.output)
        assert found[: len(streams[0])] == reference.union(branches)


@settings(max_examples=80)
@given(streams_of(2, 3), acts)
def test_in_order_of_time_each_frame_once(streams: list[Stream], acts: list[Act]) -> None:
    with rig(streams, spec_of(len(streams), "order"), acts) as made:
        found = reference.read(made.output)
        assert [told(out) for out in found if out] == reference.order(streams)
        times = [out.time_ns for out in found if out]
        assert times == sorted(times)


@settings(max_examples=80)
@given(streams_of(2, 3, steady=False), acts)
def test_clocks_that_go_back_cost_no_frame_and_no_order_of_their_own(streams: list[Stream], acts: list[Act]) -> None:
    for join, width_ns in (("order", 0), ("time", WIDTH_NS)):
        with rig(streams, spec_of(len(streams), join, width_ns=width_ns)) as quiet:
            wanted = reference.read(quiet.output)
        with rig(streams, spec_of(len(streams), join, width_ns=width_ns), acts) as made:
            found = reference.read(made.output)
        assert found == wanted
        times = [out.time_ns for out in found if out]
        assert times == sorted(times)
        for which, stream in enumerate(streams):
            mine = [each for out in found if out for each in told(out) if each.input == which]
            whole = [each for parts in reference.flat(which, stream) for each in parts]
            assert [(each.seq, each.lost, each.payload) for each in mine] == [
                (each.seq, each.lost, each.payload) for each in whole[: len(mine)]
            ]


@settings(max_examples=80)
@given(streams_of(2, 3), acts, st.sampled_from([(4096, 1 << 20), (8, 4096), (32, 1 << 14)]))
def test_buckets_of_time_are_closed_by_every_input(
    streams: list[Stream], acts: list[Act], size: tuple[int, int]
) -> None:
    with rig(streams, spec_of(len(streams), "time", width_ns=WIDTH_NS), acts, *size) as made:
        found = [out for out in reference.read(made.output) if out]
        whole: dict[int, list[reference.Told]] = {}
        for out, before in zip(found, [None, *found], strict=False):
            if out.time_ns // WIDTH_NS in whole:
                assert before is not None
                assert loaded(before.payload).flags & MORE, "a bucket went on that was said to be closed"
            whole.setdefault(out.time_ns // WIDTH_NS, []).extend(told(out))
        wanted = reference.by_time(streams, WIDTH_NS)
        for number, parts in whole.items():
            whole[number] = sorted(parts, key=lambda each: (each.input, each.seq))
        last = max(whole, default=0)
        assert {number: parts for number, parts in whole.items() if number in wanted} == wanted
        assert set(whole) - set(wanted) <= {last}, "only the newest bucket may have begun with a chunk"


@settings(max_examples=40)
@given(streams_of(2, 2, losses=False), acts)
def test_small_rings_hold_their_writers_back_and_lose_nothing(streams: list[Stream], acts: list[Act]) -> None:
    """The cursor follows what was passed on: a ring that is full at any death still has what the next life needs."""
    for join, width_ns in (("sequence", 0), ("order", 0)):
        with rig(streams, spec_of(2, join, width_ns=width_ns), acts, 4, 4096) as made:
            found = reference.read(made.output)
            if join == "sequence":
                assert found == reference.sequence(streams, False, [1, 1])
            else:
                assert [told(out) for out in found if out] == reference.order(streams)


@given(st.binary(max_size=40), st.integers(1, 64))
def test_a_key_falls_into_the_part_that_its_crc32c_says(key: bytes, of: int) -> None:
    assert part_of(key, of) == reference.crc32c(key) % of


def test_a_rate_goes_by_the_streams_own_time_and_survives_a_death() -> None:
    stream = [Given(at * 100_000_000, 0, bytes([at])) for at in range(30)]
    spec = spec_of(1, policy="sample", rate_per_s=2)
    for acts in ([], [("0", 7), ("step", 9), ("die", 1), ("0", 9), ("step", 9), ("die", 1)]):
        with rig([stream], spec, [("step", 1), *acts]) as made:
            found = [out for out in reference.read(made.output) if out]
            assert [out.payload for out in found] == [
                dumped([Row(0, 0, 1, seq, seq * 100_000_000, 0, bytes([seq]))]) for seq in range(0, 30, 5)
            ]


def test_latest_takes_the_newest_whenever_it_looks() -> None:
    stream = [Given(at, 0, bytes([at])) for at in range(10)]
    with rig(
        [stream],
        spec_of(1, policy="sample", latest=True),
        [("0", 4), ("step", 2), ("0", 3), ("step", 2), ("die", 1), ("step", 2)],
    ) as made:
        found = [out for out in reference.read(made.output) if out]
        assert [told(out)[0].seq for out in found] == [3, 6, 9]


@pytest.mark.parametrize("join", ["sequence", "order"])
def test_without_room_the_inputs_wait(join: str) -> None:
    stream = [Given(at, 0, noise(at, 64)) for at in range(200)]
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-inlet-") as folder:
        made = Rig(Path(folder), [stream, stream], spec_of(2, join), slots=16, capacity=4096)
        taken: list[Out] = []
        made.output.close()
        made.die()
        made.output = Ring.create(Path(folder) / "small", slots=8, capacity_bytes=4096)
        made.begin()
        reader = made.output.reader(policy="lossless", start=0)
        held_back = 0
        for _ in range(2000):
            before = made.output.head, made.rings[0].head
            made.publish(0, 3)
            made.publish(1, 3)
            made.step(2)
            if before == (made.output.head, made.rings[0].head):  # nobody moves any more
                held_back += made.rings[0].head < len(stream)
                while (frame := reader.read(0)) is not None:
                    assert not frame.gap
                    taken.append(Out(frame.timestamp_ns, frame.epoch, bytes(frame.payload)))
        assert held_back >= 8, "its writer was hardly ever held back"
        if join == "sequence":
            assert taken == reference.sequence([stream, stream], False, [1, 1])
        else:
            assert [told(out) for out in taken] == reference.order([stream, stream])
        reader.close()
        made.close()
