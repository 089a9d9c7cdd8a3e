"""`halftrack-stream pipe`: any filter is a step of a stream, and none can make it hang, grow, or lose count."""

import os
import signal
import sys
from pathlib import Path

import pytest

from halftrack_dataplane.ring import Ring
from tests.dataplane.commands import LIMIT_S, out, payloads, records, running, told, words
from tests.dataplane.processes import until

FRAMES = 3000

# A filter of framed frames, in few words: what it does with frame number n is its argument.
FILTER = """
import os, signal, struct, sys
read, write = sys.stdin.buffer, sys.stdout.buffer
def frames():
    while head := read.read(4):
        yield read.read(*struct.unpack("<I", head))
def put(data):
    write.write(struct.pack("<I", len(data)) + data)
for n, frame in enumerate(frames()):
    exec(sys.argv[1])
"""


def _filter(each: str) -> list[str]:
    return ["--", sys.executable, "-c", FILTER, each]


@pytest.fixture
def rings(folder: Path) -> tuple[Path, Path]:
    """A ring with a stream, from 500 on, with epochs, times and gaps; and an empty one."""
    with Ring.create(folder / "in", capacity_bytes=8 << 20, slots=8192, base_seq=500) as ring, ring.writer() as writer:
        for number in range(FRAMES):
            writer.write(b"%d" % number, epoch=number // 1000, timestamp_ns=number // 10)
            if number % 1000 == 10:
                writer.gap(3, epoch=number // 1000, timestamp_ns=5)
    Ring.create(folder / "out", capacity_bytes=8 << 20, slots=8192).close()
    return folder / "in", folder / "out"


def _between(rings: tuple[Path, Path]) -> list[object]:
    return ["pipe", "--in", rings[0], "--out", rings[1]]


def _same(rings: tuple[Path, Path]) -> None:
    """Frame for frame and gap for gap, --out is --in."""
    before = records(rings[0])
    with Ring.open(rings[1], readonly=True) as ring:
        assert ring.head == before[-1].seq + 1
        assert [ring.peek(one.seq) for one in before] == before


def test_what_comes_out_has_the_numbers_of_what_went_in(rings: tuple[Path, Path]) -> None:
    out(*_between(rings), "--count", FRAMES, *_filter("put(frame)"))
    _same(rings)


def test_a_filter_may_change_what_is_in_a_frame(rings: tuple[Path, Path]) -> None:
    out(*_between(rings), "--count", FRAMES, *_filter("put(b'<' + frame + b'>')"))
    assert payloads(rings[1]) == [b"<%d>" % number for number in range(FRAMES)]


def test_lines_pass_through_a_program_that_knows_nothing_of_rings(rings: tuple[Path, Path]) -> None:
    out(*_between(rings), "--lines", "--count", FRAMES, "--", "tr", "0-9", "a-j")
    assert payloads(rings[1]) == [
        (b"%d" % n).translate(bytes.maketrans(b"0123456789", b"abcdefghij")) for n in range(FRAMES)
    ]


def test_frames_of_one_length_may_change_it(folder: Path) -> None:
    with Ring.create(folder / "in", capacity_bytes=1 << 20, frame_bytes=8) as ring, ring.writer() as writer:
        writer.write_many([b"%08d" % number for number in range(100)])
    Ring.create(folder / "out", capacity_bytes=1 << 20).close()
    half = "import sys\nwhile data := sys.stdin.buffer.read(8): sys.stdout.buffer.write(data[4:])"
    sizes = ["--frame-bytes", 8, "--out-frame-bytes", 4, "--count", 100]
    out("pipe", "--in", folder / "in", "--out", folder / "out", *sizes, "--", sys.executable, "-c", half)
    assert payloads(folder / "out") == [b"%04d" % number for number in range(100)]


def test_a_filter_that_holds_everything_until_its_input_ends_does_not_block(rings: tuple[Path, Path]) -> None:
    hoarder = "import sys\ndata = sys.stdin.buffer.read()\nsys.stdout.buffer.write(data)"
    out(*_between(rings), "--count", FRAMES, "--", sys.executable, "-c", hoarder)
    _same(rings)


def test_a_filter_that_holds_more_than_it_may_is_told_of(rings: tuple[Path, Path]) -> None:
    said = told(*_between(rings), "--in-flight", 100, "--timeout", 0.5, *_filter("pass"), status=3)
    assert "holds 100 frames" in said
    assert "--in-flight" in said


def test_a_filter_that_takes_no_more_is_an_error_however_it_may_count(folder: Path) -> None:
    with Ring.create(folder / "in", capacity_bytes=1 << 20) as ring, ring.writer() as writer:
        writer.write(bytes(200_000))  # more than a pipe holds
    Ring.create(folder / "out", capacity_bytes=1 << 20).close()
    between = ["pipe", "--in", folder / "in", "--out", folder / "out"]
    assert "ended before its input" in told(*between, "--renumber", "--count", 1, "--", "true", status=1)


def test_a_frame_that_is_not_one_line_is_not_passed_as_two(rings: tuple[Path, Path]) -> None:
    with Ring.open(rings[0]) as ring, ring.writer() as writer:
        writer.write(b"two\nlines")
    assert "line break" in told(*_between(rings), "--lines", "--", "cat", status=1)
    assert payloads(rings[1])[-1] == b"%d" % (FRAMES - 1)


def test_large_frames_pass_both_ways_at_once(folder: Path) -> None:
    with Ring.create(folder / "in", capacity_bytes=16 << 20) as ring, ring.writer() as writer:
        for number in range(12):
            writer.write(bytes([number]) * (1 << 20))
    Ring.create(folder / "out", capacity_bytes=16 << 20).close()
    out("pipe", "--in", folder / "in", "--out", folder / "out", "--count", 12, "--", "cat")
    _same((folder / "in", folder / "out"))


@pytest.mark.parametrize(
    ("end", "word"),
    [("sys.exit(7)", "ended with status 7"), ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL")],
)
def test_a_filter_that_dies_is_told_of_and_one_started_again_goes_on(
    rings: tuple[Path, Path], end: str, word: str
) -> None:
    said = told(*_between(rings), *_filter(f"put(frame); write.flush()\nif n == 1234: {end}"), status=1)
    assert word in said
    with Ring.open(rings[1], readonly=True) as ring:
        assert 500 < ring.head < records(rings[0])[-1].seq
        done = len(payloads(rings[1]))
    out(*_between(rings), "--count", FRAMES - done, *_filter("put(frame)"))
    _same(rings)


def test_a_filter_that_ends_before_its_input_is_an_error(rings: tuple[Path, Path]) -> None:
    assert "ended before its input" in told(*_between(rings), *_filter("put(frame)\nif n == 5: sys.exit(0)"), status=1)


def test_a_filter_that_loses_a_frame_is_found_out(rings: tuple[Path, Path]) -> None:
    said = told(*_between(rings), "--count", FRAMES, *_filter("n == 5 or put(frame)"), status=1)
    assert "1 frames fewer than it read" in said
    assert "--renumber" in said


def test_a_filter_that_makes_a_frame_up_is_found_out(rings: tuple[Path, Path]) -> None:
    said = told(*_between(rings), "--count", FRAMES, *_filter("put(frame); n == 5 and put(frame)"), status=1)
    assert "had read none for" in said


def test_a_filter_that_may_change_the_count_numbers_its_output_anew(rings: tuple[Path, Path]) -> None:
    out(*_between(rings), "--renumber", "--count", FRAMES, *_filter("n % 3 or [put(frame), put(frame)]"))
    found = [bytes(one.payload) for one in records(rings[1]) if not one.gap]
    assert found == [b"%d" % number for number in range(0, FRAMES, 3) for _ in range(2)]
    assert sum(one.gap for one in records(rings[1])) == 9


def test_output_that_ends_inside_a_frame_is_an_error(rings: tuple[Path, Path]) -> None:
    said = told(*_between(rings), "--count", 3, *_filter("put(frame) if n < 2 else write.write(b'xx')"), status=1)
    assert "is no frame after sequence 501" in said


def test_an_interrupted_pipe_lets_its_filter_write_what_it_holds(rings: tuple[Path, Path]) -> None:
    with (
        Ring.open(rings[0], readonly=True) as ring,
        running(words(*_between(rings), *_filter("put(frame)")), start_new_session=True) as pipe,
    ):
        until(lambda: any(reader.lag_frames == 0 for reader in ring.stats().readers), "all has gone in")
        os.killpg(pipe.pid, signal.SIGINT)  # as a terminal does: to all that are in the foreground
        assert pipe.wait(LIMIT_S) == 130
    _same(rings)


def test_without_room_in_the_output_it_blocks_and_says_so(rings: tuple[Path, Path]) -> None:
    rings[1].unlink()
    with Ring.create(rings[1], capacity_bytes=4096, slots=16) as ring, ring.reader(name="stuck"):
        said = told(*_between(rings), "--timeout", 0.3, *_filter("put(frame)"), status=3)
    assert "no room" in said


def test_an_output_that_is_another_streams_is_refused(rings: tuple[Path, Path]) -> None:
    with Ring.open(rings[1]) as ring, ring.writer() as writer:
        writer.start_at(10**6)
        writer.write(b"other")
    assert "not this stream's" in told(*_between(rings), *_filter("put(frame)"), status=1)


def test_a_filter_that_is_not_there_is_named(rings: tuple[Path, Path]) -> None:
    assert "no-such-filter" in told(*_between(rings), "--", "no-such-filter", status=1)
    assert payloads(rings[1]) == []
