"""Who waits beats: a process that is held up, for whatever reason and however long, is no process that hangs. One that was stopped is."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from halftrack_dataplane.status import FREE, STEADY
from tests.dataplane.processes import PairHost, until

BEATS = 4  # in one place: no status that was on its way when it stood still


@pytest.fixture
def host(folder: Path) -> Iterator[PairHost]:
    host = PairHost(folder / "host", rate=0, slots=64)
    yield host
    host.close()


def stands_and_beats(host: PairHost, name: str) -> None:
    """It writes status after status, and none of them says that anything has moved."""
    seen: dict[tuple[int, int], set[int]] = {}

    def enough() -> bool:
        found = host.status(name)
        if found is not None:
            at = found.seq_in, found.seq_out
            seen.setdefault(at, set()).add((host.folder / "status" / name).stat().st_mtime_ns)
        return any(len(marks) >= BEATS for marks in seen.values())

    until(enough, f"{name} beats where it stands: {seen}")


def test_who_is_held_up_by_a_full_ring_beats(host: PairHost) -> None:
    readers = [name for name in host.specs if name != "s.source"]
    for name in readers:
        host.start(host.specs[name])
    until(lambda: all(host.status(name) for name in readers), "all have begun to read")
    host.start(host.specs["s.source"])
    until(lambda: (sink := host.status("s.sink")) is not None and sink.seq_in > 0, "frames come through")
    sink = host.process("s.sink")
    os.kill(sink, signal.SIGSTOP)
    try:
        names = ["s.source", "s.chain.a@1.0.0", "s.chain.b@1.0.0", "s.chain.merge"]
        for name in names:
            stands_and_beats(host, name)
        marks = [(host.folder / "status" / "s.sink").stat().st_mtime_ns]
        stands_and_beats(host, "s.chain.merge")  # so much time has gone by
        assert marks == [(host.folder / "status" / "s.sink").stat().st_mtime_ns]  # no thread beats for a stopped loop
        told = {name: found.beats for name in names if (found := host.status(name)) is not None}
        assert told == dict.fromkeys(names, STEADY) | {"s.source": FREE}
    finally:
        os.kill(sink, signal.SIGCONT)
    host.check()


def test_who_has_nothing_to_do_beats(host: PairHost) -> None:
    """Without a source nothing moves."""
    names = [name for name in host.specs if name != "s.source"]
    for name in names:
        host.start(host.specs[name])
    for name in names:
        stands_and_beats(host, name)


def test_a_source_whose_frames_have_ended_beats(host: PairHost, folder: Path) -> None:
    program = folder / "ending.py"
    program.write_text(
        "class Ending:\n    def __init__(self, params): pass\n    def frames(self, next_seq): yield b'last'\n"
    )
    host.start(replace(host.specs["s.source"], program=str(program), entry="ending:Ending"))
    stands_and_beats(host, "s.source")
    until(lambda: (found := host.status("s.source")) is not None and found.beats == STEADY, "it promises beats now")
