"""How a vertex is tested before it is published: the spectrometer and its upgrade, through what production may do to them.

    pytest examples/spectra/test_spectrometer.py

`halftrack_stream` is a fixture that comes with Halftrack; nothing has to be set up.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from halftrack_dataplane.testkit import Kill, RealStream, Release, StreamBroken, Swap, check_deterministic, rehearse

HERE = Path(__file__).parent
RNG = np.random.default_rng(1)
FRAMES = [RNG.normal(size=4096).astype("<f4").tobytes() for _ in range(320)]


def spectrometer(version: str, **declared: object) -> Release:
    """A release as its manifest declares it."""
    name = f"spectrometer_{version.replace('.', '_')}"
    declared = {"writes": "spectra/1", "reads": ("spectra/1",)} | declared
    return Release.from_file(version, HERE / f"{name}.py", f"{name}:Spectrometer", **declared)


BLUE, GREEN = spectrometer("1.0.0"), spectrometer("1.1.0")


@pytest.mark.parametrize("release", [BLUE, GREEN], ids=lambda release: release.version)
def test_it_is_deterministic(release: Release) -> None:
    assert check_deterministic(release, FRAMES[:40]).outputs == 10


@pytest.mark.parametrize("seed", range(5))
def test_the_upgrade_comes_through_whatever_a_seed_draws(seed: int) -> None:
    result = rehearse([BLUE, GREEN], FRAMES, seed=seed)
    assert result.swaps == 1
    assert len(result.outputs) == 80


def test_a_death_in_the_middle_of_a_window_right_after_the_cut() -> None:
    result = rehearse(
        [BLUE, GREEN], FRAMES, [Swap("1.1.0", output=20, ahead=3), Kill("a", frame=97), Kill("b", frame=98)]
    )
    assert result.kills == 2


def test_a_state_that_leaves_something_out_does_not_come_through() -> None:
    class Forgetful(BLUE.make):  # type: ignore[name-defined, misc]
        def snapshot(self) -> bytes:
            self.chain = 0
            return bytes(super().snapshot())

    with pytest.raises(StreamBroken):
        rehearse([Release("1.0.0", Forgetful, writes="spectra/1")], FRAMES)


def test_as_real_processes(halftrack_stream: Callable[..., RealStream]) -> None:
    stream = halftrack_stream(BLUE, lambda seq: FRAMES[seq % len(FRAMES)], rate_frames_per_s=800)
    stream.kill("a", 10)
    stream.swap(GREEN, 30, meanwhile=lambda phase: stream.kill("merge") if phase == "armed" else None)
    stream.kill("b", stream.output + 10)
    run = stream.finish()
    assert (run.swaps, run.kills) == (1, 3)
