"""Vertices in C: what they make is what the same vertex in Python makes, and what cannot be called is refused in words."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.native_vertex import VertexError
from halftrack_dataplane.runtime import EXIT_SPEC, Unable, load_program
from halftrack_dataplane.sdk import Frame
from halftrack_dataplane.testkit import RealStream, Release, check_deterministic, rehearse
from tests.house.source import ROOT

EXAMPLE = ROOT / "examples/native/moving_sum.c"
HEADERS = ROOT / "dataplane/halftrack_dataplane/native"
WORDS = [(number * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8, "little") for number in range(240)]
CC = shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None, reason="no C compiler")


def compiled(source: Path | str, target: Path) -> Path:
    """The shared object that a C file, or its text, makes."""
    if isinstance(source, str):
        text, source = source, target.with_suffix(".c")
        source.write_text(text)
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{HEADERS}"]
    subprocess.run([str(CC), *flags, str(source), "-o", str(target)], check=True)
    return target


@pytest.fixture(scope="module")
def moving_sum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(EXAMPLE, tmp_path_factory.mktemp("native") / "moving_sum.so")


def release(path: Path, version: str = "1.0.0", window: int = 8) -> Release:
    state = {"writes": "moving-sum/1", "reads": ("moving-sum/1",)}
    return Release.from_file(version, path, "moving_sum:MovingSum", params={"window": window}, **state)


def outputs_of(made: bytes | list[bytes] | None) -> list[bytes]:
    return [] if made is None else [made] if isinstance(made, bytes) else made


def frame(seq: int, payload: bytes | memoryview) -> Frame:
    return Frame(seq, 1, seq, payload)


@given(
    words=st.lists(st.integers(0, (1 << 64) - 1), max_size=60),
    window=st.integers(1, 9),
    handed_over=st.integers(0, 60),
)
@settings(max_examples=60, deadline=None)
def test_it_computes_what_python_would_through_any_hand_over(
    moving_sum: Path, words: list[int], window: int, handed_over: int
) -> None:
    make = load_program(str(moving_sum), "moving_sum:MovingSum")
    vertex, found = make({"window": window}), []
    for seq, word in enumerate(words):
        if seq == handed_over:
            state = b"".join(vertex.snapshot())
            vertex = make({"window": window})
            assert vertex.restore(state, same_release=False) == 0
        found += outputs_of(vertex.process(frame(seq, memoryview(word.to_bytes(8, "little")))))
    expected = []
    for seq in range(len(words)):
        total = sum(words[max(0, seq + 1 - window) : seq + 1]) % (1 << 64)
        expected.append(total.to_bytes(8, "little"))
        if (seq + 1) % window == 0:
            expected.append(b"odd" if total % 2 else b"even")
    assert found == expected


@pytest.mark.parametrize("seed", range(3))
def test_it_comes_through_kills_and_swaps(moving_sum: Path, seed: int) -> None:
    # invariant: S1
    result = rehearse([release(moving_sum), release(moving_sum, "1.1.0")], WORDS, seed=seed)
    assert result.swaps == 1
    assert len(result.outputs) == len(WORDS) * 9 // 8


def test_as_real_processes(moving_sum: Path, halftrack_stream: Callable[..., RealStream]) -> None:
    # invariant: S1
    blue, green = release(moving_sum), release(moving_sum, "1.1.0")
    stream = halftrack_stream(blue, lambda seq: WORDS[seq % len(WORDS)], rate_frames_per_s=800)
    stream.kill("a", 20)
    stream.swap(green, 60, meanwhile=lambda phase: stream.kill("b") if phase == "armed" else None)
    run = stream.finish()
    assert (run.swaps, run.kills) == (1, 2)


def test_it_is_checked_to_be_deterministic(moving_sum: Path) -> None:
    assert check_deterministic(release(moving_sum), WORDS[:40]).outputs == 45


def test_its_failures_are_told_in_its_own_words(moving_sum: Path) -> None:
    make = load_program(str(moving_sum), "moving_sum:MovingSum")
    with pytest.raises(VertexError, match="create failed: the param `window` must be from 1 to 1024"):
        make({"window": 0})
    vertex = make({"window": 2})
    with pytest.raises(VertexError, match="process failed: frame 7 has 3 bytes, not 8"):
        vertex.process(frame(7, b"abc"))
    with pytest.raises(VertexError, match="restore failed: the state is of another window"):
        vertex.restore(b"", same_release=True)
    assert outputs_of(vertex.process(frame(8, bytes(8)))) == [bytes(8)], "a failure leaves nothing behind"


PLAIN = """
#include "halftrack_vertex.h"
static int kept;
static void *create(const char *params, ht_host *host) { (void)params; (void)host; return &kept; }
static void destroy(void *vertex) { (void)vertex; }
static int process(void *vertex, const ht_vertex_frame *frame, ht_host *host) {
    (void)vertex;
    if (frame->length == 1) host->fail(host, "\\xff is no text");
    if (frame->length > 1) host->give(host, frame->bytes, frame->length - 1);
    return 0;
}
const ht_vertex Plain = {%s, %s, create, destroy, process, 0, 0};
"""


def plain(folder: Path, abi: str = "HT_VERTEX_ABI", size: str = "sizeof(ht_vertex)") -> Path:
    return compiled(PLAIN % (abi, size), folder / "plain.so")


def test_one_without_state_need_not_say_more(tmp_path: Path) -> None:
    vertex: Any = load_program(str(plain(tmp_path)), "plain:Plain")({})
    assert vertex.process(frame(0, b"")) is None
    assert vertex.process(frame(1, b"abc")) == b"ab"
    with pytest.raises(VertexError, match="Plain has no snapshot, and its release declares a state"):
        vertex.snapshot()
    with pytest.raises(VertexError, match="process failed: \ufffd is no text"):
        vertex.process(frame(2, b"x"))  # it said that it failed, whatever it returned


@pytest.mark.parametrize(
    ("abi", "size", "name", "told"),
    [
        ("HT_VERTEX_ABI + 1", "sizeof(ht_vertex)", "Plain", "of ABI 2, .* this runner calls ABI 1"),
        ("HT_VERTEX_ABI", "8", "Plain", "8 bytes"),
        ("HT_VERTEX_ABI", "sizeof(ht_vertex)", "Other", "it has no 'Other': define"),
    ],
)
def test_what_cannot_be_called_is_refused(tmp_path: Path, abi: str, size: str, name: str, told: str) -> None:
    path = plain(tmp_path, abi, size)
    with pytest.raises(Unable, match=told) as refused:
        load_program(str(path), f"plain:{name}")
    assert refused.value.code == EXIT_SPEC


def test_what_is_damaged_is_refused(tmp_path: Path, moving_sum: Path) -> None:
    torn = tmp_path / "torn.so"
    torn.write_bytes(moving_sum.read_bytes()[:200])
    with pytest.raises(Unable, match="cannot be loaded here"):
        load_program(str(torn), "moving_sum:MovingSum")
