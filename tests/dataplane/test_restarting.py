"""A state that nobody has any more: waited for, or begun anew by one member, behind numbers that nobody has used, and told."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane import bridge_wire
from halftrack_dataplane.bridge_wire import StandingIs, StandingWanted
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.member import Outlet
from halftrack_dataplane.restarting import Place, begin, refusal, restart_at
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import RunSpec, SnapshotPeer
from halftrack_dataplane.runtime import EXIT_GAP, EXIT_NO_STATE, Stop, Unable
from halftrack_dataplane.snapshot_fetch import standing_of
from halftrack_dataplane.snapshots import Snapshot, SnapshotFolder, Young
from halftrack_dataplane.standing import Standing
from halftrack_dataplane.status import MAX_RANGES, Losses
from tests.dataplane.processes import PairHost, until
from tests.dataplane.stream_program import WINDOW, Chain, frame_of, ledger, outputs_of
from tests.dataplane.test_member_states import ONE, Stage, staged
from tests.dataplane.test_snapshot_fetch import Hosts

standings = st.builds(Standing, st.booleans(), st.integers(0, 50), st.sampled_from([("a",), ("a", "b"), ("b",), ()]))
twins = st.lists(st.tuples(st.just("10.0.0.2:7450"), st.none() | standings), max_size=3)


@given(member=st.sampled_from("ab"), in_force=st.sampled_from([None, False, True]), here=standings, asked=twins)
def test_an_empty_state_is_begun_with_only_when_all_have_said_that_they_have_none(
    member: str, in_force: bool | None, here: Standing, asked: list[tuple[str, Standing | None]]
) -> None:
    # invariant: O1 S1
    reason = refusal(Place(member, in_force), here, asked)
    silent = any(twin is None for _, twin in asked)
    someone = here.hopes or any(twin is not None and twin.hopes for _, twin in asked)
    other = in_force is not None and bool(here.members) and here.members[0] != member
    assert (reason == "") == (not silent and not someone and not other and in_force is not False)
    answered = [twin for _, twin in asked if twin is not None]
    assert restart_at(here, answered) > max([here.published, *(twin.published for twin in answered)])


@given(asked=twins, members=st.sampled_from([("a", "b"), ("a",)]))
def test_of_two_members_on_one_host_one_decides(
    asked: list[tuple[str, Standing | None]], members: tuple[str, ...]
) -> None:
    # invariant: S1
    here = Standing(False, 3, members)
    assert sum(refusal(Place(member, True), here, asked) == "" for member in members) <= 1


@given(ranges=st.lists(st.tuples(st.integers(0, 100), st.integers(1, 9)), max_size=30))
def test_lost_ranges_are_the_newest_and_what_follows_is_one(ranges: list[tuple[int, int]]) -> None:
    losses, numbers, at = Losses(), list[int](), 0
    for step, count in ranges:
        at += step
        losses.add(at, at + count)
        numbers += range(at, at + count)
        at += count
    told = [number for first, end in losses.ranges for number in range(first, end)]
    assert told == numbers[len(numbers) - len(told) :]
    assert len(losses.ranges) <= MAX_RANGES
    assert all(one[1] < two[0] for one, two in itertools.pairwise(losses.ranges))
    assert told == numbers or len(losses.ranges) == MAX_RANGES


@given(hopes=st.booleans(), published=st.integers(0, 1 << 61), reads=st.lists(st.text(max_size=9), max_size=3))
def test_the_question_and_its_answer_cross_the_wire(hopes: bool, published: int, reads: list[str]) -> None:
    asked, said = StandingWanted("s/chain", "s/source", "1.0.0", tuple(reads)), StandingIs(hopes, published)
    assert bridge_wire.decode(bridge_wire.encode(asked)) == asked
    assert bridge_wire.decode(bridge_wire.encode(said)) == said


# ---------------------------------------------------------------------------------------------------- lives in one process


def merged(stage: Stage, generation: int = 0) -> Ring:
    """The ring that the merge would write, with that generation in force."""
    ring = Ring.create(stage.folder / "chain.ring", capacity_bytes=1 << 16, slots=64)
    ring.propose_cut(1, generation, None, "")
    ring.apply_cut(1, 0)
    return ring


def of_a_young_state(first_in: int, end: int, first_out: int, state: bytes = b"") -> dict[int, bytes]:
    """What a Chain puts out that goes on from `state`, or has seen nothing, before input `first_in`."""
    vertex = Chain({"flavour": "1.0.0"})
    if state:
        vertex.restore(state, same_release=True)
    numbers = itertools.count(first_out)
    found: dict[int, bytes] = {}
    for seq in range(first_in, end):
        output = vertex.process(Frame(seq, 0, 0, frame_of(seq, 64)))
        if output is not None:
            found[next(numbers)] = output
    return found


@given(
    before=st.integers(1, 60),
    slots=st.sampled_from([16, 32]),
    deaths=st.lists(st.integers(0, 20), max_size=3),
    every=st.integers(1, 9),
    published=st.integers(0, 30),
    on_loss=st.sampled_from(["restart", "resume"]),
)
@settings(max_examples=80, deadline=None)
def test_a_member_that_may_goes_on_without_some_inputs_once_and_every_later_life_from_there(
    before: int, slots: int, deaths: list[int], every: int, published: int, on_loss: str
) -> None:
    # invariant: S1 S2 R1
    with staged(slots) as stage:
        one = stage.spec("1.0.0", every, state_on_loss=on_loss, **ONE)
        output = merged(stage)
        stage.feed(min(before, slots))
        stage.live(one, Chain)
        with output.writer() as writer:  # the other member may have been ahead, and the merge has passed it
            for _ in range(published):
                writer.write(b"")
        own = stage.target("1.0.0").head
        stage.feed(before + 3 * slots)  # nobody reads: all that the snapshots would need is gone
        oldest = stage.source.tail
        newest = stage.snapshots.read(stage.snapshots.entries()[0])
        assert newest is not None
        for death in deaths:
            stage.killed(one, Chain, death)
        stage.live(one, Chain)
        first_out = max(own, published) + 1
        young = stage.snapshots.young("a@1.0.0")
        resumes = on_loss == "resume"
        assert young == Young(1, newest.next_in, oldest, first_out, resumes)
        whole = outputs_of(min(before, slots) // WINDOW, "1.0.0", 64)
        anew = of_a_young_state(oldest, stage.source.head, first_out, bytes(newest.state) if resumes else b"")
        assert stage.outputs("1.0.0") == dict(enumerate(whole)) | anew
        assert stage.covered("1.0.0"), "what nobody can bring is declared"


@given(before=st.integers(1, 40), lost=st.integers(1, 30), after=st.integers(1, 40), every=st.integers(1, 50))
@settings(max_examples=40, deadline=None)
def test_over_a_declared_gap_a_state_is_resumed_with_all_that_came_before_it(
    before: int, lost: int, after: int, every: int
) -> None:
    """And at once: what was taken before a gap is no hope of anybody that reads the same input."""
    # invariant: S1 S2 R1
    with staged() as stage:
        one = stage.spec("1.0.0", every, state_on_loss="resume", **ONE)
        merged(stage)
        stage.feed(before)
        with stage.source.writer() as writer:
            writer.gap(lost)
        stage.feed(before + lost + after)
        with pytest.raises(Unable, match=f"input frames {before} to {before + lost - 1} are declared lost") as caught:
            stage.live(one, Chain)
        assert caught.value.code == EXIT_GAP
        stage.live(one, Chain)
        whole = outputs_of(before // WINDOW, "1.0.0", 64)
        vertex = Chain({"flavour": "1.0.0"})
        for seq in range(before):
            vertex.process(Frame(seq, 0, 0, frame_of(seq, 64)))
        first_out = len(whole) + 1
        assert stage.snapshots.young("a@1.0.0") == Young(1, before, before + lost, first_out, True)
        resumed = of_a_young_state(before + lost, stage.source.head, first_out, vertex.snapshot())
        assert stage.outputs("1.0.0") == dict(enumerate(whole)) | resumed
        assert "were lost before the state knew them" in stage.message


def test_a_state_of_the_release_before_is_resumed_where_this_one_has_none_of_its_own() -> None:
    # invariant: S2 R1
    with staged(16) as stage:
        blue = stage.spec("1.0.0", 4, **ONE)
        green = stage.spec("2.0.0", 4, state_on_loss="resume", generation=2, **ONE)
        merged(stage, 2)
        stage.feed(14)
        stage.live(blue, Chain)
        stage.feed(64)
        stage.live(green, Chain)
        young = stage.snapshots.young("a@2.0.0")
        assert (young.known_in, young.first_in, young.kept) == (14, 48, True)
        # In mid-window the first output would mix two releases, so it is declared lost as well.
        first = young.first_out + 1
        assert sorted(stage.outputs("2.0.0")) == list(range(first, first + 3))
        assert stage.covered("2.0.0")


def test_what_the_twin_has_is_resumed_where_it_is_newer(hosts: Hosts) -> None:
    # invariant: S2 R1
    with staged(16) as stage:
        twin = SnapshotPeer(hosts.address, hosts.keys["server"].public, twin=True)
        links = {name: getattr(hosts.member, name) for name in ("curve_secret_path", "curve_public")}
        one = stage.spec("1.0.0", state_on_loss="resume", snapshot_peers=(twin,), **links, **ONE)
        one = replace(one, output_ring=str(stage.folder / "s" / "chain.a@1.0.0.ring"))
        (stage.folder / "s").mkdir()
        stage.targets["1.0.0"] = Ring.create(one.output_ring, capacity_bytes=1 << 16, slots=64)
        output = Ring.create(stage.folder / "s" / "chain.ring", capacity_bytes=1 << 16, slots=64)
        output.propose_cut(1, 0, None, "")
        output.apply_cut(1, 0)
        stage.source = Ring.create(stage.folder / "s" / "in.ring", capacity_bytes=1 << 16, slots=16)
        one = replace(one, input_ring=stage.source.path)
        state = Chain({"flavour": "1.0.0"}).snapshot()
        stage.snapshots.write("a@1.0.0", Snapshot("chain/1", "1.0.0", 5, 1, state))
        hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", 9, 2, state))
        stage.feed(64)
        stage.live(one, Chain)
        assert stage.snapshots.young("a@1.0.0").known_in == 9


def test_without_the_word_or_the_merge_or_as_second_member_it_waits() -> None:
    # invariant: S1
    with staged(16) as stage:
        one = stage.spec("1.0.0", state_on_loss="restart", **ONE)
        stage.feed(16)
        stage.live(one, Chain)
        stage.feed(64)
        for why, spec, make_merged in (
            ("nothing to begin from", replace(one, state_on_loss=""), None),
            ("not the one that counts", one, None),  # there is no merge here
            ("not the one that counts", one, 7),  # another release is in force: this one is a green on trial
        ):
            output = None if make_merged is None else merged(stage, make_merged)
            with pytest.raises(Unable, match=why) as caught:
                stage.live(spec, Chain)
            assert caught.value.code == EXIT_NO_STATE
            if output is not None:
                Path(output.path).unlink()
        merged(stage)
        (stage.folder / "chain.b@1.0.0.ring").hardlink_to(stage.folder / "chain.a@1.0.0.ring")
        with pytest.raises(Unable, match="member a decides"):
            stage.live(replace(one, output_ring=str(stage.folder / "chain.b@1.0.0.ring")), Chain)
        assert stage.snapshots.young("a@1.0.0") == Young()


def test_who_waits_for_a_state_says_which_numbers_it_will_not_bring() -> None:
    """Or the merge would wait for it, the other member for the merge, and it for a snapshot that the full input does not follow any more."""
    # invariant: S1
    with staged(16) as stage:
        one = stage.spec("1.0.0", state_on_loss="restart", **ONE)
        merged(stage)
        stage.feed(16)
        stage.live(one, Chain)
        made = stage.target("1.0.0").head
        stage.feed(64)
        second = Ring.create(stage.folder / "chain.b@1.0.0.ring", capacity_bytes=1 << 16, slots=64)
        spec, told = replace(one, output_ring=second.path), list[int]()
        with pytest.raises(Unable, match="member a decides"):
            begin(spec, Chain, stage.source, second, stage.snapshots, Stop(), told.append)
        assert set(told) == {made}
        with second.writer() as writer:
            outlet = Outlet(second, writer, Stop())
            writer.write(b"what it had put out before")
            assert outlet.advance(made)
        assert (second.head, second.stats().gap_frames) == (made, made - 1)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for somebody gives up soon."""
    monkeypatch.setattr("halftrack_dataplane.restoring.PEER_WAIT_S", 0.3)


# ------------------------------------------------------------------------------------------------------- other hosts


@pytest.fixture
def hosts(folder: Path) -> Iterator[Hosts]:
    hosts = Hosts(folder)
    yield hosts
    hosts.close()


def test_a_host_says_how_a_vertex_stands_there(hosts: Hosts) -> None:
    peer = SnapshotPeer(hosts.address, hosts.keys["server"].public, twin=True)

    def asked() -> Standing | None:
        return standing_of(hosts.member, peer, "s/chain", "s/other", ("chain/1",))

    source, own = hosts.near.ring("s/other", slots=16), hosts.near.ring("s/chain.b@1.0.0")
    hosts.near.ring("s/chain.b@2.0.0")
    assert asked() == Standing(False, 0, ())
    with source.writer(full="overwrite") as writer, own.writer() as other:
        for seq in range(40):
            writer.write(frame_of(seq))
        other.write(b"an output")
        hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", source.tail - 1, 5, b"state"))
        assert asked() == Standing(False, 1, ()), "a snapshot that the ring has left behind is no hope"
        with source.reader(name="b"):
            assert asked() == Standing(True, 1, ()), "it goes on: it writes its ring and reads its input"
        assert asked() == Standing(False, 1, ())
        hosts.there.write("b@1.0.0", Snapshot("chain/1", "1.0.0", source.tail, 5, b"state"))
        assert asked() == Standing(True, 1, ()), "it could go on"
    hosts.near.kill("bridge")
    assert asked() is None, "who is silent says nothing"


# ------------------------------------------------------------------------------------------------------ real processes


class LossyHost(PairHost):
    """A pair on one host with one folder of snapshots, whose source does not wait."""

    on_loss = ""

    def member(self, member: str, release: str, generation: int, **params: str | int | bool) -> RunSpec:
        spec = super().member(member, release, generation, **params)
        folder = self.folder / "snapshots" / "s" / "chain"
        self.specs[spec.name] = replace(spec, snapshot_dir=str(folder), state_on_loss=self.on_loss)
        return self.specs[spec.name]

    def begun(self, name: str) -> bool:
        """A member reads its input, once it has begun."""
        return "@" not in name or any(reader.name == name for reader in self._made[0].stats().readers)


@pytest.mark.parametrize("on_loss", ["restart", "resume"])
def test_both_members_killed_and_the_ring_run_on_the_stream_goes_on_behind_a_declared_gap(
    folder: Path, on_loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # invariant: S1 S2 R1
    monkeypatch.setattr(LossyHost, "on_loss", on_loss)
    host = LossyHost(folder / "host", slots=512)
    members = ["s.chain.a@1.0.0", "s.chain.b@1.0.0"]
    try:
        for name in reversed(host.specs):  # the source last: its first frame is for everybody
            host.start(host.specs[name])
            until(lambda name=name: host.begun(name), f"{name} is there")  # type: ignore[misc]
        until(lambda: len(ledger(host.ledger)) >= 20, "outputs")
        for name in members:
            host.kill(name)
        source = host._made[0]
        last = source.head
        until(lambda: source.head > last + 600, "the ring has left all snapshots behind")
        for name in reversed(members):
            host.start(host.specs[name])
        until(lambda: any(row[1] for row in ledger(host.ledger)), "the sink hears of the gap")
        goal = len(ledger(host.ledger)) + 20
        until(lambda: len(ledger(host.ledger)) >= goal, "outputs of the state made anew")
        host.check()
        rows = ledger(host.ledger)
        ends = [row[0] + max(row[1], 1) for row in rows]
        assert [row[0] for row in rows[1:]] == ends[:-1], "in order, each once"
        assert [row[1] for row in rows if row[1]] == [1], "one number is lost, and said to be"
        young = SnapshotFolder(host.specs[members[0]].snapshot_dir).young("a@1.0.0")
        (gap,) = (row for row in rows if row[1])
        assert young.first_out == gap[0] + 1
        assert young.kept == (on_loss == "resume")

        def told() -> bool:
            merge = host.status("s.chain.merge")
            return merge is not None and merge.lost == ((gap[0], gap[0] + 1),)

        until(told, "the merge tells which number is lost")
        merge = host.status("s.chain.merge")
        assert merge is not None
        assert all(compared.different == 0 for compared in merge.shadow.values()), "both made it anew alike"
        status = host.status(members[0])
        assert status is not None
        assert status.counters["state_lost"] == 1
        assert f"output {gap[0]} is declared lost" in status.message
    finally:
        host.close()
