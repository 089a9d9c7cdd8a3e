"""The same vertices as real processes: SIGKILL at given outputs, swaps and ways back, and S1 from the sink's file alone."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.testkit import ProcessEnded, RealStream, Record, Release, StreamBroken, real
from halftrack_dataplane.testkit.programs import HEAD, NAME, Ledger, records
from tests.testkit import vertices

Begin = Callable[..., RealStream]
STATE: dict[str, Any] = {"writes": "sums/1", "reads": ("sums/1",)}


def frame_at(seq: int) -> bytes:
    """Frame `seq`, for ever."""
    return seq.to_bytes(8, "little") * 8


def release(version: str, kind: type[Any] = vertices.Honest, **declared: Any) -> Release:
    """A release with its own flavour."""
    return Release(version, kind, {"flavour": version}, **(declared or STATE))


def test_kills_and_swaps_leave_no_trace(halftrack_stream: Begin) -> None:
    # invariant: S1
    rng = random.Random(4)
    stream = halftrack_stream(release("1.0.0"), frame_at)
    for who in ("a", "merge", "b", "sink"):
        stream.kill(who, stream.output + rng.randint(5, 40))
    victims = {"shadowing": "a", "armed": "merge", "cut": "a@1.1.0", "draining": "b"}
    stream.swap(release("1.1.0"), stream.output + 30, meanwhile=lambda phase: stream.kill(victims[phase]))
    stream.kill("a", stream.output + 30)
    run = stream.finish()
    assert (run.kills, run.swaps) == (9, 1)
    assert run.verdict.right
    assert [cut.label for cut in run.cuts if cut.applied_at is not None] == ["1.0.0", "1.1.0"]
    assert len(run.records) == run.verdict.outputs > 150


def test_who_has_gone_holds_nothing_up(halftrack_stream: Begin) -> None:
    """Neither blue, of which one was killed on the way, nor a green that was taken back: the source runs on for longer than it runs ahead of anybody."""
    stream = halftrack_stream(release("1.0.0"), frame_at)
    stream.swap(release("1.1.0"), 40, abort="shadowing")
    stream.swap(release("1.1.0"), 60, meanwhile=lambda phase: stream.kill("b") if phase == "draining" else None)
    stream.reach(stream.output + real.SLOTS // 8)  # of three inputs each
    assert stream.finish().verdict.right


def test_every_way_back_leaves_no_trace(halftrack_stream: Begin) -> None:
    # invariant: S1
    stream = halftrack_stream(release("1.0.0", vertices.Bursts), frame_at)
    for abort in ("shadowing", "armed", "cut"):
        stream.swap(release("1.1.0", vertices.Bursts), stream.output + 40, abort=abort)
    stream.swap(release("1.2.0", vertices.Bursts), stream.output + 40, surge=2)
    run = stream.finish()
    assert run.swaps == 1
    assert run.cuts[-1].label == "1.2.0"
    assert run.cuts[-1].applied_at is not None


def test_a_member_that_hangs_holds_nothing_up(halftrack_stream: Begin) -> None:
    """Where each output has a number of its own. What a hanging member might still bring in place of a declared gap is waited for."""
    # invariant: S1
    stream = halftrack_stream(release("1.0.0", vertices.Sums), frame_at)
    for who in ("b", "a"):
        stream.pause(who)
        stream.reach(stream.output + 200)
        stream.resume(who)
    assert stream.finish().verdict.right


def test_a_list_of_frames_runs_to_its_end_without_state(halftrack_stream: Begin) -> None:
    stream = halftrack_stream(release("1.0.0", vertices.Stateless, writes=""), [frame_at(seq) for seq in range(600)])
    stream.kill("a", 100, restart=False)
    stream.reach(200)
    stream.restart("a")
    stream.pause("b")
    stream.resume("b")
    run = stream.finish()
    assert run.frames == 600
    assert sum(record.gap for record in run.records) == 120, "each fifth frame has no output, which is declared"


def test_a_vertex_that_forgets_is_caught(halftrack_stream: Begin) -> None:
    stream = halftrack_stream(release("1.0.0", vertices.Forgetful), frame_at)
    for _ in range(2):
        stream.kill("a", stream.output + 30)
        stream.kill("b", stream.output + 30)
        stream.reach(stream.output + 30)
    with pytest.raises(StreamBroken, match=r"wrong [1-9]\d*\n.*is not that of release 1\.0\.0"):
        stream.finish()


def test_a_program_that_ends_by_itself_is_told_with_its_last_words(halftrack_stream: Begin) -> None:
    declared = Release("1.0.0", vertices.Failing, {"raise_at": 50}, **STATE)
    stream = halftrack_stream(declared, frame_at)
    with pytest.raises(ProcessEnded, match=r"(?s)has ended with status 1.*ArithmeticError: not to my taste"):
        stream.reach(60)


def test_nothing_is_left_of_a_stream() -> None:
    with RealStream(release("1.0.0"), frame_at) as stream:
        stream.reach(5)
        folder, processes = stream._host.folder, list(stream._host._running.values())
        assert len(processes) == 4
    assert not folder.exists()
    assert all(process.poll() is not None for process in processes)


def test_a_ledger_goes_on_after_what_is_whole(tmp_path: Path) -> None:
    whole = HEAD.pack(0, 0, 1, 3) + b"abc" + HEAD.pack(1, 4, 1, 0)
    for torn in range(len(HEAD.pack(5, 0, 1, 4)) + 4):
        (tmp_path / NAME).write_bytes(whole + (HEAD.pack(5, 0, 1, 4) + b"defg")[:torn])
        ledger = Ledger({}, str(tmp_path))
        assert ledger.next_seq() == 5
        ledger.flush()
        assert (tmp_path / NAME).read_bytes() == whole
    assert records(whole)[0] == [Record(0, 0, 1, b"abc"), Record(1, 4, 1, b"")]
