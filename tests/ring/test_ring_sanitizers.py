"""The C core under ThreadSanitizer, AddressSanitizer and UBSan, with threads as peers of one ring. See ring_stress.c.

ThreadSanitizer knows no membarrier and no fences, so the core is built with full fences; what it checks is every access that is not
atomic. The one race on purpose, copying what may be overwritten meanwhile, is marked function by function (HT_MAY_RACE).
"""

import functools
import os
import subprocess
from pathlib import Path

import pytest

from tests.ring.native_build import CC, NATIVE, STRICT

SOURCES = [*sorted(NATIVE.glob("*.c")), Path(__file__).with_name("ring_stress.c")]
BUILDS = {
    "plain": ["-O2"],
    "thread": ["-O1", "-g", "-fsanitize=thread", "-DHT_FULL_FENCES", "-Wno-tsan"],
    "address": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
}
BLOCK, OVERWRITE, CHECKED, SHARED = 0, 2, 1, 2
MILLISECONDS = 700


@functools.cache
def available(kind: str) -> bool:
    """Does this compiler have that sanitizer's library?"""
    done = subprocess.run(
        [CC, *BUILDS[kind], "-x", "c", "-o", os.devnull, "-"], input="int main(void) { return 0; }", text=True, capture_output=True, check=False
    )  # fmt: skip
    return done.returncode == 0


def build(folder: Path, kind: str, *more: str) -> Path:
    if not available(kind):
        pytest.skip(f"this compiler has no {kind} sanitizer")
    program = folder / f"stress-{kind}"
    words = [CC, "-std=gnu11", *BUILDS[kind], *STRICT, *more, "-o", program, *SOURCES, "-lpthread"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return program


def stress(program: Path, policy: int, frame_bytes: int, flags: int, seed: int) -> "subprocess.CompletedProcess[str]":
    """Its memory is laid out without chance, which ThreadSanitizer needs on some kernels."""
    words = ["setarch", "-R", program, *map(str, (MILLISECONDS, policy, frame_bytes, flags, seed))]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module", params=BUILDS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("stress"), request.param)


# invariants: S1, S2
@pytest.mark.parametrize(
    ("policy", "frame_bytes", "flags"),
    [
        (BLOCK, 0, 0),
        (BLOCK, 64, 0),
        (OVERWRITE, 0, 0),
        (OVERWRITE, 64, CHECKED),
        (BLOCK, 64, SHARED),
        (OVERWRITE, 0, SHARED),
    ],
    ids=["waiting", "growing", "overwriting", "checked", "shared and waiting", "shared and overwriting"],
)
def test_many_peers_see_whole_frames_and_no_sanitizer_complains(
    program: Path, policy: int, frame_bytes: int, flags: int
) -> None:
    done = stress(program, policy, frame_bytes, flags, seed=20260729)
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]
    assert done.stderr == ""
    written, taken, _, joined, evicted = map(int, done.stdout.split())
    assert min(written, taken, joined) > 100
    assert evicted > 0 or policy == BLOCK


def test_the_one_race_on_purpose_is_seen_where_it_is_not_marked(tmp_path: Path) -> None:
    """So the silence of the others means something."""
    done = stress(build(tmp_path, "thread", "-DHT_MAY_RACE="), OVERWRITE, 64, CHECKED, seed=1)
    assert "WARNING: ThreadSanitizer: data race" in done.stderr
    assert "copy_that_may_tear" in done.stderr or "ht_crc32c" in done.stderr
