"""Recordings: what is read back is what was written, up to the first byte that is not; `dump` and `replay` around them."""

import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.recording import (
    Origin,
    Record,
    RecordingDamaged,
    RecordingError,
    RecordingReader,
    RecordingWriter,
)
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.stream_cli_record import Pace
from tests.dataplane.commands import LIMIT_S, out, payloads, records, running, told, words
from tests.dataplane.processes import until

END = 56  # bytes of the end, and of a record without its payload
_NUMBER = st.integers(0, (1 << 62) - 1)
_TIME = st.integers(-(1 << 62), 1 << 62)
_RECORDS = st.lists(
    st.one_of(
        st.builds(Record, _NUMBER, _NUMBER, _TIME, _TIME, st.binary(max_size=200)),
        st.builds(Record, _NUMBER, _NUMBER, _TIME, _TIME, gap=st.integers(1, 1 << 40)),
    ),
    max_size=6,
)
_ORIGINS = st.builds(
    Origin, st.text(max_size=20), st.text(max_size=20), st.integers(0, 1 << 40), st.integers(0, 1 << 40), _TIME
)


def _write(path: Path, origin: Origin, all_of: Sequence[Record]) -> bytes:
    with RecordingWriter(path, origin, replace=True) as writer:
        for one in all_of:
            writer.add(one.seq, one.epoch, one.timestamp_ns, one.arrival_ns, one.payload, one.gap)
        writer.finish()
    return path.read_bytes()


def _read(path: Path) -> tuple[list[Record], RecordingError | None]:
    found: list[Record] = []
    try:
        with RecordingReader(path) as reader:
            found.extend(reader)
    except RecordingError as error:
        return found, error
    return found, None


# ------------------------------------------------------------------------------------------------------------ properties


@given(_ORIGINS, _RECORDS)
def test_what_is_read_is_what_was_written(origin: Origin, all_of: list[Record]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        _write(path, origin, all_of)
        with RecordingReader(path) as reader:
            assert reader.origin == origin
            assert list(reader) == all_of
            assert list(reader) == all_of  # for a loop


@given(_RECORDS, st.data())
def test_any_truncation_is_seen_and_what_was_before_it_is_whole(all_of: list[Record], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        whole = _write(path, Origin("label"), all_of)
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        found, error = _read(path)
        assert error is not None
        assert found == all_of[: len(found)]


@given(_RECORDS, st.data())
def test_any_altered_byte_is_seen_and_what_was_before_it_is_whole(all_of: list[Record], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        whole = bytearray(_write(path, Origin("label", "schema"), all_of))
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole)
        found, error = _read(path)
        assert error is not None
        assert found == all_of[: len(found)]


@given(
    st.lists(
        st.builds(Record, _NUMBER, _NUMBER, _TIME, _TIME, st.just(b"payload")), min_size=2, max_size=5, unique=True
    ),
    st.data(),
)
def test_a_record_that_is_missing_doubled_or_moved_is_seen(all_of: list[Record], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        head = len(_write(path, Origin(), [])) - END
        whole = _write(path, Origin(), all_of)
        size = END + len(b"payload")
        parts = [whole[head + at * size : head + (at + 1) * size] for at in range(len(all_of))]
        assert b"".join([whole[:head], *parts, whole[-END:]]) == whole
        at, other = data.draw(st.permutations(range(len(parts))))[:2]
        moved = list(parts)
        moved[at], moved[other] = moved[other], moved[at]
        for altered in (parts[:at] + parts[at + 1 :], [*parts[: at + 1], *parts[at:]], moved):
            path.write_bytes(b"".join([whole[:head], *altered, whole[-END:]]))
            found, error = _read(path)
            assert isinstance(error, RecordingDamaged)
            assert found == all_of[: len(found)]


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=50),
    st.floats(0.01, 100),
    st.lists(st.floats(0, 0.5), min_size=50, max_size=50),
)
def test_lateness_never_adds_up(steps: list[int], speed: float, late: list[float]) -> None:
    pace, now, arrival = Pace(1000.0, speed), 1000.0, 0
    for step, lateness in zip(steps, late, strict=False):
        arrival += step
        wait = pace.wait_s(arrival, now)
        due = 1000.0 + (arrival - steps[0]) / 1e9 / speed
        assert wait >= 0
        assert now + wait == pytest.approx(max(due, now))
        now += wait + lateness
    assert Pace(1000.0, None).wait_s(arrival, now) == 0


# ---------------------------------------------------------------------------------------------------------- dump, replay


def _stream(folder: Path) -> Path:
    """A ring that begins at 1000 and has epochs, times and a gap."""
    path = folder / "from"
    with Ring.create(path, capacity_bytes=1 << 20, base_seq=1000) as ring, ring.writer() as writer:
        for number in range(300):
            writer.write(b"%d" % number, epoch=number // 100, timestamp_ns=number * 10)
        writer.gap(7, epoch=5, timestamp_ns=6)
        writer.write_many([b"x" * number for number in range(100)], epoch=9)
    return path


def test_a_replay_into_a_fresh_ring_is_the_stream_again(folder: Path) -> None:
    path = _stream(folder)
    out("dump", path, folder / "file", "--start", "oldest", "--count", 400)
    assert not (folder / "file.part").exists()
    out("replay", folder / "file", folder / "to", "--create", "--size", "1MiB")
    with Ring.open(folder / "to", readonly=True) as ring:
        again = [ring.peek(seq) for seq in range(1000, 1300)] + [ring.peek(seq) for seq in range(1307, 1407)]
        gap = ring.peek(1300)
    assert again == [one for one in records(path) if not one.gap]
    assert gap is not None
    assert (gap.gap, gap.epoch, gap.timestamp_ns) == (7, 5, 6)


def test_a_replay_into_a_ring_that_held_frames_goes_on_with_its_numbers(folder: Path) -> None:
    out("dump", _stream(folder), folder / "file", "--start", 1290, "--count", 20)
    with Ring.create(folder / "to", capacity_bytes=1 << 20) as ring, ring.writer() as writer:
        writer.write(b"first")
    out("replay", folder / "file", folder / "to", "--speed", "max", "--loop", 2)
    found = records(folder / "to")
    once = [(0, b"%d" % number) for number in range(290, 300)] + [(7, b"")] + [(0, b"x" * n) for n in range(10)]
    assert [(one.gap, one.payload) for one in found] == [(0, b"first"), *once, *once]


def test_what_a_lossy_recorder_missed_is_a_gap_in_the_replay(folder: Path) -> None:
    with Ring.create(folder / "from", capacity_bytes=1 << 16, slots=16) as ring, ring.writer() as writer:
        for number in range(100):
            writer.write(b"%d" % number)
        oldest = ring.tail
        said = told(
            "dump", folder / "from", folder / "file", "--start", 10, "--count", 100 - oldest, "--policy", "lossy"
        )
    assert f"missed: {oldest - 10} frames" in said
    with RecordingReader(folder / "file") as reader:
        kept = list(reader)
    with RecordingWriter(folder / "holed", Origin()) as holed:
        for one in [*kept[:3], *kept[5:]]:
            holed.add(one.seq, one.epoch, one.timestamp_ns, one.arrival_ns, one.payload)
        holed.finish()
    out("replay", folder / "holed", folder / "to", "--create", "--size", "1MiB")
    with Ring.open(folder / "to", readonly=True) as again:
        gap = again.peek(oldest + 3)
        assert gap is not None
        assert gap.gap == 2
        assert again.head == 100


def test_replay_takes_as_long_as_was_recorded(folder: Path) -> None:
    with RecordingWriter(folder / "file", Origin()) as recording:
        for number in range(5):
            recording.add(number, 0, 0, number * 300_000_000, b"frame")
        recording.finish()
    took = []
    for speed in ("original", "2.0", "max"):
        began = time.monotonic()
        out("replay", folder / "file", folder / "to", "--create", "--size", "64KiB", "--speed", speed)
        took.append(time.monotonic() - began)
    assert took[0] >= 1.2 > took[2]  # more than it takes to start a process
    assert took[1] >= 0.6
    assert payloads(folder / "to") == [b"frame"] * 15


def test_a_damaged_recording_says_what_is_wrong_with_it(folder: Path) -> None:
    path = folder / "file"
    whole = _write(path, Origin(), [Record(0, 0, 0, 0, b"payload"), Record(1, 0, 0, 0, b"payload")])
    for altered, word in (
        (whole[:-END], "before its end mark"),
        (whole[: -END - 3], "ends inside the record"),
        (whole.replace(b"payload", b"Payload", 1), "the payload of the record there is altered"),
        (whole + b"more", "its end mark is not where its end is"),
    ):
        path.write_bytes(altered)
        assert word in str(_read(path)[1])


def test_an_interrupted_recording_is_complete_up_to_there(folder: Path) -> None:
    path = folder / "from"
    with (
        Ring.create(path, capacity_bytes=1 << 16) as ring,
        ring.writer() as writer,
        running(words("dump", path, folder / "file"), stderr=subprocess.PIPE) as dump,
    ):
        until(lambda: bool(ring.stats().readers), "the recorder has joined")
        writer.write_many([b"a", b"bb", b""])
        until(lambda: ring.stats().readers[0].lag_frames == 0, "all is read")
        dump.send_signal(signal.SIGINT)
        assert dump.wait(LIMIT_S) == 130
    found, error = _read(folder / "file")
    assert error is None
    assert [one.payload for one in found] == [b"a", b"bb", b""]
    assert not (folder / "file.part").exists()


def test_a_killed_recorder_leaves_a_part_that_replays_up_to_its_end(folder: Path) -> None:
    path, part = folder / "from", folder / "file.part"
    frame = b"f" * (1 << 16)
    with (
        Ring.create(path, capacity_bytes=1 << 20) as ring,
        ring.writer() as writer,
        running(words("dump", path, folder / "file")) as dump,
    ):
        until(lambda: bool(ring.stats().readers), "the recorder has joined")
        for _ in range(64):
            writer.write(frame, timeout_s=LIMIT_S)
        until(lambda: part.stat().st_size > 4 * len(frame), "some of it is in the file")
        dump.kill()
        dump.wait()
    assert not (folder / "file").exists()
    said = told("replay", part, folder / "to", "--create", "--size", "8MiB", status=1)
    assert "is damaged at byte" in said
    assert "were replayed" in said
    whole, error = _read(part)
    assert error is not None
    assert payloads(folder / "to") == [frame] * len(whole)
    assert len(whole) >= 3


def test_a_recording_is_not_replaced_by_accident(folder: Path) -> None:
    path = _stream(folder)
    (folder / "file").write_bytes(b"dear")
    assert "--force" in told("dump", path, folder / "file", "--seconds", 0, status=1)
    assert (folder / "file").read_bytes() == b"dear"
    out("dump", path, folder / "file", "--seconds", 0, "--force")
    assert _read(folder / "file") == ([], None)


def test_a_stream_that_stands_still_ends_the_recording_as_blocked(folder: Path) -> None:
    path = _stream(folder)
    assert "no frame within" in told("dump", path, folder / "file", "--start", 1390, "--timeout", 0.1, status=3)
    found, error = _read(folder / "file")
    assert error is None
    assert [one.seq for one in found] == list(range(1390, 1407))


@pytest.mark.parametrize(
    ("content", "word"), [(b"", "not a recording"), (b"hello", "not a recording"), (b"HTRKDUMP", "damaged")]
)
def test_what_is_no_recording_is_refused(folder: Path, content: bytes, word: str) -> None:
    (folder / "file").write_bytes(content)
    assert word in told("replay", folder / "file", folder / "to", "--create", status=1)
    assert not (folder / "to").exists()
