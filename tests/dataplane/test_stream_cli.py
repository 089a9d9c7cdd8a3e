"""`halftrack-stream` as its users have it: real processes, real pipes, exit statuses, and what it says when something is wrong."""

import json
import random
import signal
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halftrack_dataplane.ring import Ring
from halftrack_dataplane.stream_cli_top import Watch
from tests.dataplane.commands import LIMIT_S, out, payloads, running, stream, told, words
from tests.dataplane.processes import until


@pytest.fixture
def ring(folder: Path) -> Path:
    """A small ring of frames of any length."""
    Ring.create(folder / "ring", capacity_bytes=1 << 20).close()
    return folder / "ring"


# ----------------------------------------------------------------------------------------------------------- create, write


def test_create_makes_the_ring_that_was_asked_for(folder: Path) -> None:
    path = folder / "ring"
    options = [
        "--size",
        "128KiB",
        "--slots",
        64,
        "--frame-bytes",
        16,
        "--schema",
        "<i8",
        "--label",
        "a b",
        "--mode",
        "640",
    ]
    said = json.loads(out("create", path, *options, "--checked", "-o", "json"))
    assert said == {
        "ring": str(path),
        "capacity_bytes": 128 << 10,
        "slots": 64,
        "frame_bytes": 16,
        "checked": True,
        "label": "a b",
        "schema": "<i8",
        "shared": False,
        "retain_s": None,
        "base_seq": 0,
    }
    assert path.stat().st_mode & 0o777 == 0o640
    with Ring.open(path) as made:
        assert (made.capacity_bytes, made.slots, made.frame_bytes, made.checked) == (128 << 10, 64, 16, True)
        assert (made.label, made.schema) == ("a b", "<i8")


def test_lines_pass_between_programs_that_know_nothing_of_rings(ring: Path) -> None:
    with (
        running(["seq", "1", "5000"], stdout=subprocess.PIPE) as source,
        running(words("write", ring, "--lines"), stdin=source.stdout) as write,
    ):
        assert write.wait(LIMIT_S) == 0
    with (
        running(words("read", ring, "--start", "oldest", "--drain", "--lines"), stdout=subprocess.PIPE) as read,
        running(["tail", "-n", "1"], stdin=read.stdout, stdout=subprocess.PIPE) as last,
    ):
        assert last.communicate(timeout=LIMIT_S)[0] == b"5000\n"
        assert read.wait(LIMIT_S) == 0
    assert payloads(ring) == [b"%d" % number for number in range(1, 5001)]


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["raw", "framed", "lines"]), st.integers(1, 5000), st.integers(0, 300), st.integers())
def test_what_is_read_is_what_was_written(folder: Path, form: str, size: int, count: int, seed: int) -> None:
    """Bytes from a seed: a large example drawn byte by byte takes longer than the processes."""
    noise = random.Random(seed)
    path = folder / "ring"
    path.unlink(missing_ok=True)
    if form == "raw":
        given_bytes, options, back = noise.randbytes(size * count), ["--frame-bytes", size], []
    elif form == "framed":
        frames = [noise.randbytes(noise.randrange(size)) for _ in range(count)]
        given_bytes = b"".join(struct.pack("<I", len(frame)) + frame for frame in frames)
        options, back = ["--framed"], ["--framed"]
    else:
        lines = [noise.randbytes(noise.randrange(size)).replace(b"\n", b"") for _ in range(count)]
        given_bytes, options, back = b"".join(line + b"\n" for line in lines), ["--lines"], ["--lines"]
    out("write", path, *options, "--create", "--size", "4MiB", given=given_bytes)
    assert out("read", path, "--start", "oldest", "--drain", *back) == given_bytes


def test_a_reader_that_is_there_first_gets_everything_as_it_comes(ring: Path) -> None:
    frames = [random.Random(number).randbytes(5000) for number in range(1000)]  # five times what the ring holds
    with (
        Ring.open(ring, readonly=True) as watched,
        running(words("read", ring, "--count", 1000), stdout=subprocess.PIPE) as read,
    ):
        until(lambda: bool(watched.stats().readers), "the reader has joined")
        with (
            running(["cat"], stdin=read.stdout, stdout=subprocess.PIPE) as cat,
            running(words("write", ring, "--frame-bytes", 5000), stdin=subprocess.PIPE) as write,
            ThreadPoolExecutor() as other,
        ):
            seen = other.submit(cat.communicate, timeout=LIMIT_S)
            other.submit(write.communicate, b"".join(frames), timeout=LIMIT_S)
            assert seen.result()[0] == b"".join(frames)
            assert write.wait(LIMIT_S) == 0
        assert read.wait(LIMIT_S) == 0


def test_a_full_ring_blocks_drops_or_overwrites_as_it_is_told(folder: Path) -> None:
    path, lines = folder / "ring", b"".join(b"%d\n" % (number % 7 * 10**number) for number in range(40))
    with Ring.create(path, capacity_bytes=4096, slots=16) as made, made.reader(name="stuck") as stuck:
        said = told("write", path, "--lines", "--timeout", 0.1, given=lines, status=3)
        assert "16 frames were written before, up to sequence 16" in said
        assert "halftrack-stream top" in said
        said = told("write", path, "--lines", "--full", "drop", given=lines)
        assert "dropped: 40 frames" in said
        assert made.stats().dropped == 40
        done = json.loads(out("write", path, "--lines", "--full", "overwrite", "-o", "json", given=lines))
        assert (done["frames"], done["dropped"], done["next_seq"]) == (40, 0, 56)
        assert made.stats().evicted == 1
        stuck.close()


@pytest.mark.parametrize(
    ("options", "data", "word"),
    [
        (["--frame-bytes", 4], b"abcdefgh123", "3 of a frame's 4 bytes"),
        (["--framed"], b"\4\0\0\0abcd\4\0\0\0efgh\4\0\0\000123", "3 of a frame's 4 bytes"),
        (["--framed"], b"\4\0\0\0abcd\4\0\0\0efgh\xff\xff\xff\xff", "4294967295"),
        (["--lines"], b"abcd\nefgh\n" + b"x" * (600 << 10), "more than 524288 bytes"),
    ],
)
def test_input_that_is_not_what_it_was_said_to_be(ring: Path, options: list[str], data: bytes, word: str) -> None:
    said = told("write", ring, *options, given=data, status=1)
    assert word in said
    assert "after 2 frames, which are written" in said
    assert payloads(ring) == [b"abcd", b"efgh"]


# ------------------------------------------------------------------------------------------------------------------- read


def test_read_tells_of_frames_in_json_and_of_gaps(ring: Path) -> None:
    with Ring.open(ring) as opened, opened.writer() as writer:
        writer.write(b"one", epoch=1, timestamp_ns=10)
        writer.gap(5, epoch=2, timestamp_ns=20)
        writer.write(b"", epoch=3, timestamp_ns=30)
    done = stream("read", ring, "--start", "oldest", "--drain", "-o", "json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"seq": 0, "epoch": 1, "timestamp_ns": 10, "bytes": 3, "gap": 0},
        {"seq": 1, "epoch": 2, "timestamp_ns": 20, "bytes": 0, "gap": 5},
        {"seq": 6, "epoch": 3, "timestamp_ns": 30, "bytes": 0, "gap": 0},
    ]
    assert done.stderr.decode().splitlines() == [
        "gap: sequences 1 to 5 are declared as lost",
        "lost: 5 frames: 5 in 1 declared gaps, 0 missed, 0 corrupt",
    ]


def test_what_is_no_longer_there_is_counted(folder: Path) -> None:
    path = folder / "ring"
    with Ring.create(path, capacity_bytes=4096, slots=16) as made, made.writer() as writer:
        for number in range(100):
            writer.write(b"%d" % number)
        oldest = made.tail
    done = stream("read", path, "--start", 5, "--drain", "--lines", "--policy", "lossy")
    assert done.stdout == b"".join(b"%d\n" % number for number in range(oldest, 100))
    assert f"missed: {oldest - 5} frames before sequence {oldest}" in done.stderr.decode()


def test_many_losses_are_told_in_few_lines(ring: Path) -> None:
    with Ring.open(ring) as opened, opened.writer() as writer:
        for _ in range(500):
            writer.gap(2)
            writer.write(b"x")
    said = told("read", ring, "--start", "oldest", "--drain").splitlines()
    assert len(said) < 15
    assert said[-1].startswith("lost: 1000 frames: 1000 in 500 declared gaps")


def test_read_begins_where_it_is_told(ring: Path) -> None:
    with Ring.open(ring) as opened, opened.writer() as writer:
        for number in range(10):
            writer.write(b"%d" % number, timestamp_ns=1000 + number * 10)
    assert out("read", ring, "--start", 7, "--drain") == b"789"
    assert out("read", ring, "--start", "@1055", "--count", 2) == b"67"
    assert out("read", ring, "--start", "now", "--drain") == b""


def test_a_sampling_reader_takes_only_some_even_of_one_record(ring: Path) -> None:
    with Ring.open(ring) as opened, opened.writer() as writer:
        writer.write_many([b"%d" % number for number in range(10)])
    sample = ["read", ring, "--start", "oldest", "--drain", "--policy", "sample"]
    assert out(*sample, "--every", 4) == b"048"
    assert out(*sample, "--latest") == b"9"


def test_verify_leaves_out_what_is_corrupt(folder: Path) -> None:
    path = folder / "ring"
    with Ring.create(path, capacity_bytes=1 << 16, checked=True) as made, made.writer() as writer:
        for number in range(5):
            writer.write(b"frame %d" % number)
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(data.index(b"frame 2"))
        file.write(b"F")
    assert out("read", path, "--start", "oldest", "--drain", "--lines").count(b"\n") == 5
    done = stream("read", path, "--start", "oldest", "--drain", "--lines", "--verify")
    assert done.returncode == 1
    assert done.stdout == b"frame 0\nframe 1\nframe 3\nframe 4\n"
    assert "corrupt: 1 frames before sequence 3" in done.stderr.decode()


def test_a_reader_whom_nobody_reads_ends_by_itself_and_quietly(ring: Path) -> None:
    with (
        Ring.open(ring) as opened,
        opened.writer() as writer,
        running(words("read", ring, "--lines"), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as read,
        running(["head", "-n", "1"], stdin=read.stdout, stdout=subprocess.PIPE) as head,
    ):
        read.stdout.close()  # type: ignore[union-attr]
        until(lambda: bool(opened.stats().readers), "the reader has joined")
        writer.write(b"one")
        assert head.communicate(timeout=LIMIT_S)[0] == b"one\n"
        assert read.wait(LIMIT_S) == 1  # although no frame comes that it could fail to write
        assert read.stderr.read() == b""  # type: ignore[union-attr]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_waiting_reader_cleanly(ring: Path, number: signal.Signals, status: int) -> None:
    with (
        Ring.open(ring, readonly=True) as opened,
        running(words("read", ring), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as read,
    ):
        until(lambda: bool(opened.stats().readers), "the reader has joined")
        read.send_signal(number)
        assert read.wait(LIMIT_S) == status
        assert read.stderr.read().strip() == b""  # type: ignore[union-attr]
        assert not opened.stats().readers


def test_a_signal_ends_a_blocked_writer_cleanly(folder: Path) -> None:
    path = folder / "ring"
    with (
        Ring.create(path, capacity_bytes=4096, slots=16) as made,
        made.reader(),
        running(words("write", path, "--frame-bytes", 1000), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as write,
    ):
        write.stdin.write(bytes(8000))  # type: ignore[union-attr]
        write.stdin.flush()  # type: ignore[union-attr]
        until(lambda: made.head == 4, "it has written what there is room for")
        write.send_signal(signal.SIGINT)
        assert write.wait(LIMIT_S) == 130
        assert b"Traceback" not in write.stderr.read()  # type: ignore[union-attr]
        assert made.stats().writer_pid == 0


# --------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "status", "hint"),
    [
        (["read", "{}/none"], 1, "halftrack-stream create"),
        (["read", "{}"], 1, "{}"),
        (["read", "{}/file"], 1, "not a ring"),
        (["read", "{}/ring", "--timeout", "0"], 3, "no frame within 0.0 s"),
        (["read", "{}/ring", "--start", "yesterday"], 1, "write now, oldest, a sequence"),
        (["read", "{}/ring", "--every", "3"], 1, "--policy sample"),
        (["read", "{}/ring", "--lines", "--framed"], 1, "exclude each other"),
        (["read", "{}/ring", "--verify"], 1, "--checked"),
        (["write", "{}/ring"], 1, "say how the input is cut"),
        (["write", "{}/ring", "--lines", "--size", "1MiB"], 1, "add --create"),
        (["write", "{}/none", "--lines"], 1, "halftrack-stream create"),
        (["write", "{}/fixed", "--frame-bytes", "5"], 1, "every frame of this ring has 8 bytes, not 5"),
        (["create", "{}/ring"], 1, "remove it first"),
        (["create", "{}/new", "--slots", "5"], 1, "power of two"),
        (["create", "{}/new", "--size", "many"], 1, "64MiB"),
        (["create", "{}/new", "--mode", "999"], 1, "three octal digits"),
        (["create", "{}/none/new"], 1, "No such file or directory"),
        (["dump", "{}/ring", "{}/none/file"], 1, "No such file or directory"),
        (["replay", "{}/none", "{}/ring"], 1, "No such file or directory"),
        (["replay", "{}/file", "{}/ring", "--speed", "fast"], 1, "how many times as fast"),
        (["top", "{}/none"], 1, "neither a ring nor a folder"),
        (["bench", "--frame-bytes", "16MiB"], 1, "--size"),
    ],
)
def test_mistakes_are_told_in_a_sentence(folder: Path, arguments: list[str], status: int, hint: str) -> None:
    Ring.create(folder / "ring", capacity_bytes=4096).close()
    Ring.create(folder / "fixed", capacity_bytes=4096, frame_bytes=8).close()
    (folder / "file").write_bytes(b"hello" * 10000)
    said = told(*[word.format(folder) for word in arguments], given=b"12345", status=status)
    assert hint.format(folder) in said
    assert "rror: " in said


def test_every_verb_has_help_with_examples() -> None:
    for verb in ("create", "write", "read", "pipe", "dump", "replay", "top", "bench"):
        said = out(verb, "--help").decode()
        assert f"  halftrack-stream {verb}" in said.partition("Examples:")[2]


# --------------------------------------------------------------------------------------------------------------- top, bench


def test_top_shows_who_is_where(folder: Path) -> None:
    (folder / "deep").mkdir()
    with (
        Ring.create(folder / "deep/ring", capacity_bytes=1 << 16, label="adc") as made,
        made.writer(name="source") as writer,
        running(words("read", folder / "deep/ring", "--name", "gone"), stdout=subprocess.DEVNULL) as read,
        made.reader(name="late"),
    ):
        until(lambda: len(made.stats().readers) == 2, "both have joined")
        read.kill()
        read.wait()
        writer.write_many([b"x" * 100] * 50)
        writer.gap(3)
        (row,) = json.loads(out("top", folder, "--once", "-o", "json"))
        assert (row["ring"], row["label"]) == (str(folder / "deep/ring"), "adc")
        assert (row["head"], row["tail"], row["gap_frames"], row["dropped"], row["writer_alive"]) == (53, 0, 3, 0, True)
        assert {reader["name"]: (reader["alive"], reader["policy"]) for reader in row["readers"]} == {
            "gone": (False, "lossless"),
            "late": (True, "lossless"),
        }
        text = out("top", folder / "deep/ring", "--once").decode()
        assert f"{read.pid} (dead)" in text
        assert "late" in text


def test_top_follows_rings_that_come_go_and_are_made_anew(folder: Path) -> None:
    watch = Watch([str(folder)])
    assert watch.look() == []
    with Ring.create(folder / "ring", capacity_bytes=4096) as made, made.writer() as writer:
        assert [row.frames_per_s for row in watch.look()] == [None]
        writer.write(b"x")
        (row,) = watch.look()
        assert row.head == 1
        assert row.frames_per_s is not None
        assert row.frames_per_s > 0
    (folder / "ring").unlink()
    Ring.create(folder / "ring", capacity_bytes=8192).close()
    assert [(row.head, row.capacity_bytes, row.frames_per_s) for row in watch.look()] == [(0, 8192, None)]
    (folder / "ring").unlink()
    assert watch.look() == []


def test_top_ends_cleanly_at_ctrl_c(ring: Path) -> None:
    command = words("top", ring, "-o", "json", "--interval", 0.05)
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as top:
        for _ in range(3):
            assert json.loads(top.stdout.readline())[0]["ring"] == str(ring)  # type: ignore[union-attr]
        top.send_signal(signal.SIGINT)
        assert top.wait(LIMIT_S) == 130
        assert top.stderr.read().strip() == b""  # type: ignore[union-attr]


def test_bench_measures_what_it_is_told_to() -> None:
    options = ["--frame-bytes", 64, "--frame-bytes", "64KiB", "--batch", 16, "--seconds", 0.1, "--size", "8MiB"]
    rows = json.loads(out("bench", *options, "-o", "json"))
    assert [(row["frame_bytes"], row["batch"], row["way"]) for row in rows] == [
        (64, 16, "copies"),
        (65536, 16, "views"),
    ]
    assert all(row["frames"] > 16 and row["frames_per_s"] > 0 and row["gbytes_per_s"] > 0 for row in rows)
