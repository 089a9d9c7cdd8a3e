"""Rehearsals: a right vertex comes through whatever a script does to it, a wrong one is caught and told, and so is a wrong runner."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane import member, merge
from halftrack_dataplane.frames import Cut, Frame
from halftrack_dataplane.merge import Decision, Offer, Pass
from halftrack_dataplane.sdk import Vertex
from halftrack_dataplane.testkit import Kill, KillMerge, Release, StreamBroken, Swap, rehearse, stage
from halftrack_dataplane.testkit.script import DURING
from tests.testkit import vertices

FRAMES = [seq.to_bytes(8, "little") * 4 for seq in range(300)]
STATE: dict[str, Any] = {"writes": "sums/1", "reads": ("sums/1",)}


def releases(kind: type[Vertex], count: int = 3, **declared: Any) -> list[Release]:
    """Some releases of one vertex, told apart by their flavour."""
    declared = declared or STATE
    return [Release(f"1.{n}.0", kind, {"flavour": f"1.{n}.0"}, **declared) for n in range(count)]


@pytest.mark.parametrize("kind", [vertices.Sums, vertices.Honest, vertices.Bursts])
@given(seed=st.integers(0, 2**32), every=st.integers(1, 20), kills=st.integers(0, 12))
@settings(max_examples=15)
def test_a_right_vertex_comes_through_everything(kind: type[Vertex], seed: int, every: int, kills: int) -> None:
    # invariant: S1
    result = rehearse(releases(kind), FRAMES, seed=seed, snapshot_every=every, kills=kills)
    assert result.verdict.right
    assert result.swaps == 2
    assert len(result.outputs) == result.verdict.outputs >= 100
    assert {cut.label for cut in result.cuts} == {"1.0.0", "1.1.0", "1.2.0"}


@given(seed=st.integers(0, 2**32))
@settings(max_examples=15)
def test_a_vertex_without_state_keeps_its_inputs_numbers(seed: int) -> None:
    # invariant: S1
    result = rehearse(releases(vertices.Stateless, writes=""), FRAMES, seed=seed)
    gaps = [record for record in result.records if record.gap]
    assert [record.seq for record in gaps] == [seq for seq in range(300) if seq % 5 == 4], (
        "what has no output is declared"
    )


def test_the_same_seed_is_the_same_rehearsal() -> None:
    first, again = (rehearse(releases(vertices.Honest), FRAMES, seed=7) for _ in range(2))
    assert first == again
    assert first.story != rehearse(releases(vertices.Honest), FRAMES, seed=8).story


@pytest.mark.parametrize("during", DURING)
def test_a_kill_takes_place_where_it_was_asked_for(during: Any) -> None:
    result = rehearse(releases(vertices.Honest, 1), FRAMES, [Kill("a", 40, during), Kill("a", 90)])
    places = {
        "process": 40,
        "computed": 40,
        "published": 41,
        "snapshot": 47,
        "restore": 90,
    }  # outputs are at 41, snapshots after 47
    assert result.kills == 2
    assert f"a@1.0.0 is killed at input {places[during]}" in result.story
    assert result.lives == (3 if during == "restore" else 4), "who dies in restore has not lived"


def test_a_script_is_played_in_full_or_refused() -> None:
    blue, green, _ = releases(vertices.Honest)
    events = [Swap("1.1.0", 20, 5, abort="cut"), Swap("1.1.0", 50, 0, surge=2), KillMerge(60), Kill("b", 200)]
    result = rehearse([blue, green], FRAMES, events, seed=3)
    assert (result.swaps, result.aborts, result.kills) == (1, 1, 1)
    assert [cut.label for cut in result.cuts] == ["1.0.0", "1.1.0", "1.0.0", "1.1.0"]
    with pytest.raises(StreamBroken, match="the script waits for output 500 to pass"):
        rehearse([blue, green], FRAMES, [Swap("1.1.0", 500)])
    with pytest.raises(ValueError, match="never came to pass"):
        rehearse([blue], FRAMES, [Kill("a", 5000)])
    with pytest.raises(ValueError, match="none of the releases"):
        rehearse([blue], FRAMES, [Swap("2.0.0", 10)])
    with pytest.raises(ValueError, match="too few for 2 swaps"):
        rehearse(releases(vertices.Sums), FRAMES[:30])


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (vertices.Forgetful, r"output \d+ is not that of release|is not what . computed"),
        (vertices.Alternating, r"output \d+ is not that of release|computed"),
        (vertices.Random, r"output \d+ of b@1\.0\.0 is not what a@1\.0\.0 computed|a@1\.0\.0 is not what b@1\.0\.0"),
    ],
)
def test_a_wrong_vertex_is_caught(kind: type[Vertex], told: str) -> None:
    for seed in range(4):
        with pytest.raises(StreamBroken, match=told) as caught:
            rehearse(releases(kind), FRAMES, seed=seed)
        assert f"seed={seed} repeats it" in str(caught.value)


def test_a_vertex_that_is_wrong_in_mid_window_only_is_caught_by_most_seeds() -> None:
    """Its two members of a release must have begun from snapshots that differ in that, which not every seed brings about."""
    caught = []
    for seed in range(12):
        try:
            rehearse(releases(vertices.Counted), FRAMES, seed=seed)
        except StreamBroken as error:
            caught.append(str(error))
    assert len(caught) > 6
    for told in caught:
        assert re.search(r"output \d+ of .@1\.[12]\.0 is not what .@1\.[12]\.0 computed", told)


def test_several_outputs_without_state_are_refused() -> None:
    with pytest.raises(TypeError, match="one number a frame"):
        rehearse(releases(vertices.Crowded, 1, writes=""), FRAMES[:4])


def test_what_a_vertex_raises_comes_out_with_its_place() -> None:
    class Picky(vertices.Sums):
        def process(self, frame: Frame) -> bytes | Sequence[bytes] | None:
            if frame.seq == 30 and self.flavour == b"1.1.0":
                raise ArithmeticError("not to my taste")
            return super().process(frame)

    with pytest.raises(ArithmeticError) as caught:
        rehearse(releases(Picky, 2), FRAMES, [Swap("1.1.0", 2)])
    assert "raised by a@1.1.0 at input 30" in caught.value.__notes__[0]


# ---- a wrong runner: each of these was right until it was patched --------------------------------------------------------


def _caught(count: int = 12) -> int:
    found = 0
    for seed in range(count):
        try:
            rehearse(releases(vertices.Honest), FRAMES, seed=seed)
        except (StreamBroken, AssertionError, IndexError):
            found += 1
    return found


def test_a_member_that_forgets_its_place_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = member.Progress.snapshot
    monkeypatch.setattr(
        member.Progress, "snapshot", lambda self, *of: replace(right(self, *of), next_out=self.next_out + 1)
    )
    assert _caught() > 0


def test_a_member_that_suppresses_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(self: member.Progress, frame: Frame) -> list[tuple[int, bytes]]:
        self.suppress = 0
        return right(self, frame)

    right = member.Progress.take
    monkeypatch.setattr(member.Progress, "take", take)
    assert _caught() > 0


def test_a_member_that_saves_among_a_frames_outputs_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must not be: a number that counts outputs which a death may still take."""

    def put(self: stage.BookedOutlet, number: int, output: bytes, timestamp_ns: int) -> bool:
        return right(self, number, output, timestamp_ns) if number % 4 != 2 else True

    right = stage.BookedOutlet.put
    monkeypatch.setattr(stage.BookedOutlet, "put", put)
    with pytest.raises((StreamBroken, AssertionError)):
        rehearse(releases(vertices.Bursts), FRAMES, seed=1)


def test_a_merge_that_cuts_late_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def decide(expected: int, cuts: Sequence[Cut], offers: Sequence[Offer]) -> Decision:
        late = [replace(cut, applied_at=cut.applied_at + 1) if cut.applied_at else cut for cut in cuts]
        return right(expected, late, offers)

    right = merge.decide
    monkeypatch.setattr(stage, "decide", decide)
    assert _caught() == 12


def test_a_merge_that_passes_whatever_is_first_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def decide(expected: int, cuts: Sequence[Cut], offers: Sequence[Offer]) -> Decision:
        found = right(expected, cuts, offers)
        ready = [offer for offer in offers if offer.end and offer.seq == expected and not offer.gap]
        return Pass(ready[-1].ring, found.epoch, ready[-1].end) if isinstance(found, Pass) else found

    right = merge.decide
    monkeypatch.setattr(stage, "decide", decide)
    assert _caught() > 6


def test_scripts_are_drawn_by_their_seed() -> None:
    results = [rehearse(releases(vertices.Sums, 2), FRAMES, seed=random.Random(n).randrange(99)) for n in range(8)]
    swaps = [event for result in results for event in result.script if isinstance(event, Swap)]
    assert {swap.surge for swap in swaps} == {1, 2}
    assert len({swap.abort for swap in swaps}) >= 3
