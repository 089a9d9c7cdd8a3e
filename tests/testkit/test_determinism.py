"""A deterministic vertex passes, and each way not to be one is found out and named."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.sdk import Vertex
from halftrack_dataplane.testkit import NotAProgram, NotDeterministic, Release, VertexFailed, check_deterministic
from halftrack_dataplane.testkit.determinism import Run, parts_at
from tests.testkit import vertices

FRAMES = [seq.to_bytes(8, "little") * 4 for seq in range(60)]
SPECTRA = Path(__file__).parents[2] / "examples/spectra"


@pytest.mark.parametrize("kind", [vertices.Honest, vertices.Bursts, vertices.Stateless])
def test_a_deterministic_vertex_passes(kind: type[Vertex]) -> None:
    seen = check_deterministic(kind, FRAMES, params={"flavour": "x"}, seed=5)
    assert seen.frames == 60
    assert seen.outputs > 15
    assert len(seen.splits) == 3


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (vertices.Random, r"frame 2: its outputs part: 20 bytes; byte 1[6-9] is .*What matters: nothing .* randomness"),
        (vertices.Hashed, r"frame 2: its outputs part: .*What matters: the order of a set"),
        (
            vertices.Timed,
            r"frame 2: its outputs part: 24 bytes; byte 1[6-9] .*clocks put forward .*What matters: the time",
        ),
        (vertices.Forgetful, r"restored before frames .*What matters: snapshot\(\) and restore\(\): what they carry"),
        (vertices.Alternating, r"What matters: snapshot\(\): it changes"),
        (
            vertices.Addressed,
            r"frame \d+: .*run 3 .from the snapshot that run 2 wrote.*What matters: a snapshot that another",
        ),
    ],
)
def test_what_matters_and_must_not_is_named(kind: type[Vertex], told: str) -> None:
    with pytest.raises(NotDeterministic, match=f"(?s){told}"):
        check_deterministic(kind, FRAMES)


def test_an_artifact_is_loaded_as_the_runner_loads_it() -> None:
    released = Release.from_file("1.0.0", SPECTRA / "spectrometer_1_0_0.py", "spectrometer_1_0_0:Spectrometer")
    assert check_deterministic(released, [bytes(4096)] * 12).outputs == 3


def test_what_cannot_run_elsewhere_is_refused_in_words() -> None:
    class Local(vertices.Sums):
        pass

    with pytest.raises(NotAProgram, match="top of a module"):
        check_deterministic(Local, FRAMES)
    with pytest.raises(NotAProgram):
        check_deterministic(lambda params: vertices.Sums({"flavour": "y"} | dict(params)), FRAMES)


def test_a_vertex_that_fails_is_told_with_its_frame() -> None:
    with pytest.raises(VertexFailed, match=r"run 1 .* raised at frame 7: ArithmeticError: not to my taste"):
        check_deterministic(vertices.Failing, FRAMES, params={"raise_at": 7})
    with pytest.raises(VertexFailed, match="ended with status 3"):
        check_deterministic(vertices.Failing, FRAMES, params={"exit_at": 7})


@given(
    outputs=st.lists(st.lists(st.binary(max_size=3), max_size=2), min_size=1, max_size=9),
    cut=st.integers(0, 8),
    at=st.integers(0, 8),
)
def test_runs_part_where_they_were_made_to(outputs: list[list[bytes]], cut: int, at: int) -> None:
    one = Run("", 0, tuple(map(tuple, outputs)))
    cut, at = cut % len(outputs), at % len(outputs)
    two = Run("", cut, one.outputs[cut:])
    assert parts_at(one, two) is None
    if at >= cut:
        changed = list(two.outputs)
        changed[at - cut] = (*changed[at - cut], b"more")
        parting = parts_at(one, Run("", cut, tuple(changed)))
        assert parting is not None
        assert parting[0] == at
