"""The order of numbered packets: whatever a network does to them, each is passed on once, in order, and what is missing is counted."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.arrivals import Arrivals, Declaring
from halftrack_dataplane.packet_order import Order
from halftrack_dataplane.ring import Ring


@dataclass
class Taker:
    """A caller of Order as its docstring wants one; what it passed on and what it gave up, in order."""

    order: Order
    kept: set[int] = field(default_factory=set)
    story: list[tuple[str, int]] = field(default_factory=list)

    def take(self, seq: int) -> str:
        while (word := self.order.judge(seq)) in ("beyond", "again"):
            if word == "beyond":
                self._lose(self.order.surrender(seq))
                self._kept()
            else:
                self.give_up()
                self.order.restart(seq)
        if word == "ahead":
            self.order.keep(seq)
            self.kept.add(seq)
        elif word == "next":
            self._pass(seq)
            self._kept()
        return word

    def give_up(self) -> None:
        while self.order.waiting:
            self._lose(self.order.surrender())
            self._kept()

    def _pass(self, seq: int) -> None:
        assert seq == self.order.expected
        self.story.append(("frame", seq))
        self.order.advance()

    def _kept(self) -> None:
        while self.order.due:
            self.kept.remove(self.order.expected)
            self._pass(self.order.expected)

    def _lose(self, count: int) -> None:
        self.story += [("lost", self.order.expected - count + at) for at in range(count)]


@st.composite
def networks(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A window, and a stream of up to 120 packets of which some are lost, doubled, or later than they should be."""
    first = draw(st.integers(0, 1 << 40))
    window = draw(st.integers(1, 32))
    delays = draw(st.lists(st.lists(st.integers(0, 60), max_size=3), max_size=120))
    sent = [(at + delay, at) for at, copies in enumerate(delays) for delay in copies]
    return window, [first + at for _, at in sorted(sent)]


# invariants: S1, S2
@given(networks())
def test_each_packet_once_in_order_and_every_missing_one_counted(network: tuple[int, list[int]]) -> None:
    window, seen = network
    taker = Taker(Order(window))
    for seq in seen:
        taker.take(seq)
        assert taker.order.waiting == len(taker.kept) < window
        assert all(taker.order.expected < kept < taker.order.expected + window for kept in taker.kept)
    taker.give_up()
    order, story = taker.order, taker.story
    assert not taker.kept
    assert [seq for _, seq in story] == list(range(seen[0], order.expected) if seen else [])
    assert order.delivered == sum(kind == "frame" for kind, _ in story)
    assert order.lost == sum(kind == "lost" for kind, _ in story)
    assert {seq for kind, seq in story if kind == "frame"} <= set(seen)
    assert order.delivered + order.late + order.duplicates == len(seen)
    assert order.strays == order.restarts == 0


@given(networks())
def test_what_is_within_the_window_is_never_lost(network: tuple[int, list[int]]) -> None:
    _, seen = network
    reach = max((max(seen[:at]) - seq for at, seq in enumerate(seen) if at), default=0)
    first = min(seen, default=0)
    taker = Taker(Order(max(1, reach + 1)))
    for seq in seen:
        if seen[0] == first:
            taker.take(seq)
    taker.give_up()
    passed = {seq for kind, seq in taker.story if kind == "frame"}
    assert passed == (set(seen) if seen and seen[0] == first else set())


def test_a_late_packet_and_a_second_copy_are_told_apart() -> None:
    taker = Taker(Order(4))
    assert [taker.take(seq) for seq in (10, 11, 11, 13, 13, 12, 12)] == [
        "next", "next", "duplicate", "ahead", "duplicate", "next", "duplicate",
    ]  # fmt: skip
    assert [taker.take(seq) for seq in (20, 14, 13)] == ["ahead", "late", "duplicate"]
    assert (taker.order.late, taker.order.duplicates) == (1, 4)


def test_no_more_is_given_up_than_what_is_in_the_way() -> None:
    taker = Taker(Order(4))
    assert [taker.take(seq) for seq in (0, 4, 6, 3)] == ["next", "ahead", "ahead", "next"]
    assert [seq for kind, seq in taker.story if kind == "lost"] == [1, 2]


def test_a_sender_that_begins_again_is_believed_after_sixteen_packets() -> None:
    taker = Taker(Order(4))
    words = [taker.take(seq) for seq in (1 << 30, *range(100))]
    assert words == ["next", *["stray"] * 15, *["next"] * 85]
    assert (taker.order.strays, taker.order.restarts, taker.order.lost) == (15, 1, 0)


def test_one_wild_number_costs_nothing_else() -> None:
    taker = Taker(Order(4))
    assert [taker.take(seq) for seq in (0, 1, 1 << 50, 2, 3)] == ["next", "next", "stray", "next", "next"]
    assert taker.order.lost == 0


def test_a_stream_begins_with_a_whole_group() -> None:
    taker = Taker(Order(8, 4))
    for seq in (4003, 4001, 4000, 4002):
        taker.take(seq)
    assert taker.story == [("frame", seq) for seq in range(4000, 4004)]


@pytest.mark.parametrize(("window", "group"), [(0, 1), (4097, 1), (8, 9), (8, 0)])
def test_windows_that_cannot_be_are_refused(window: int, group: int) -> None:
    with pytest.raises(ValueError, match="window"):
        Order(window, group)


def test_nothing_begins_again_while_packets_are_kept() -> None:
    taker = Taker(Order(4))
    taker.take(0)
    taker.take(2)
    with pytest.raises(ValueError, match="pass them on first"):
        taker.order.restart(9)


# invariants: S1, S2
@given(networks())
def test_arrivals_put_the_same_story_into_a_ring(network: tuple[int, list[int]]) -> None:
    window, seen = network
    model = Taker(Order(window))
    with Ring.create(None, capacity_bytes=1 << 20, slots=1024) as ring, ring.writer() as writer:
        arrivals = Arrivals(writer, window=window, epoch=7)
        for seq in seen:
            model.take(seq)
            arrivals.take(seq, seq, seq.to_bytes(8, "little"))
        model.give_up()
        arrivals.give_up()
        story, at = [], seen[0] if seen else 0
        while at < ring.head:
            record = ring.peek(at)
            assert record is not None
            if not record.gap:
                assert int.from_bytes(record.payload, "little") == at
                assert record.epoch == 7
            story += [("lost" if record.gap else "frame", at + more) for more in range(record.gap or 1)]
            at += record.gap or 1
        assert story == model.story
        assert (arrivals.out.frames, arrivals.out.bytes, arrivals.out.dropped) == (
            model.order.delivered,
            8 * model.order.delivered,
            0,
        )


# invariant: S2
@given(st.lists(st.integers(1, 9), max_size=30), st.integers(0, 200))
def test_what_found_no_room_is_a_gap_at_its_own_sequences(batches: list[int], read_after: int) -> None:
    """A lossless reader takes nothing until `read_after` frames were offered; then all that is there, each time."""
    offered = 0
    with (
        Ring.create(None, capacity_bytes=4096, slots=8, frame_bytes=64) as ring,
        ring.reader(start="oldest") as reader,
        ring.writer(full="drop") as writer,
    ):
        out = Declaring(writer)
        story: list[int] = []

        def take() -> None:
            while (one := reader.read(0)) is not None:
                assert one.seq == len(story)
                assert one.gap or int.from_bytes(one.payload[:8], "little") == one.seq
                story.extend([one.gap != 0] * (one.gap or 1))

        for size in batches:
            out.put([seq.to_bytes(64, "little") for seq in range(offered, offered + size)])
            offered += size
            if offered >= read_after:
                take()
        take()
        assert out.settled()
        take()
        assert len(story) == offered
        assert (story.count(False), story.count(True)) == (out.frames, out.dropped)
