"""A spool when things end or fail: killed at any of its steps, a full disk, a broken one, damage, another ring, a second spooler."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.frames import RingFull
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.spool_files import Folder
from halftrack_dataplane.spool_reader import SpoolReader
from halftrack_dataplane.spool_segments import HEAD_BYTES, Limits, SpoolBusy, SpoolFailed, SpoolMismatch
from halftrack_dataplane.spool_writer import Spooler, segment_bytes_for
from tests.dataplane.commands import running, words
from tests.dataplane.processes import until
from tests.dataplane.spool_disks import Failing, broken, full, killed

FRAMES = 300
SIZE = 100


def _ring(folder: Path, name: str = "ring", **options: int | str) -> Ring:
    return Ring.create(folder / name, capacity_bytes=16384, slots=64, **options)  # type: ignore[arg-type]


def _limits(ring: Ring, segments: int = 20) -> Limits:
    size = segment_bytes_for(ring, 0)
    return Limits(segments * size, size)


def _payload(seq: int) -> bytes:
    return (b"%d " % seq * SIZE)[:SIZE]


def _fill(ring: Ring, count: int = 10) -> None:
    with ring.writer() as writer:
        _write(ring, writer, count)


def _write(ring: Ring, writer: Writer, count: int) -> None:
    for _ in range(count):
        writer.write(_payload(ring.head), timeout_s=0)


def _spool(spooler: Spooler, times: int = 20) -> None:
    for _ in range(times):
        spooler.step(0)
    spooler.sync()


def _all(path: Path, ring: Path | None = None, start: int | str = "oldest") -> list[tuple[int, int, bytes]]:
    """Everything that is there: sequence, gap, bytes."""
    with SpoolReader(path, ring, start=start) as reader:  # type: ignore[arg-type]
        found = []
        while (frame := reader.read(0)) is not None:
            found.append((frame.seq, frame.gap, bytes(frame.payload)))
        return found


def _whole(first: int, end: int) -> list[tuple[int, int, bytes]]:
    return [(seq, 0, _payload(seq)) for seq in range(first, end)]


# --------------------------------------------------------------------------------------------------------------- killed


def _writes_and_spools(folder: Path, at: int) -> None:
    """One life: an instrument and its spooler in one process, killed at the spooler's n-th touch of the disk."""
    with Ring.open(folder / "ring") as ring, ring.writer() as writer:
        disk = Failing(at, killed)
        with Spooler(ring, folder / "spool", _limits(ring, 12), start="oldest", disk=disk, sync_s=0) as spooler:
            while ring.head < FRAMES:
                try:
                    writer.write(_payload(ring.head), timeout_s=0)
                except RingFull:
                    spooler.step(0)
            while spooler.durable_seq < FRAMES:
                spooler.step(0)


def _survives(life: Callable[[], None]) -> bool:
    """Run one life in a process of its own: True if it was not killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            life()
            status = 0
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL)
    return status == 0


def test_killed_at_any_touch_of_the_disk_it_goes_on_and_nothing_is_missing(folder: Path) -> None:
    for at in range(1, 200):
        where = folder / str(at)
        where.mkdir()
        with _ring(where) as ring:
            ended = _survives(lambda where=where, at=at: _writes_and_spools(where, at))  # type: ignore[misc]
            ring.reap()
            if not ended:  # the ring still holds what was not released: nobody has written since
                assert _survives(lambda where=where: _writes_and_spools(where, 0))  # type: ignore[misc]
            assert _all(where / "spool") == _whole(0, FRAMES)
            assert not Folder(where / "spool").unfinished()
        if ended:
            assert at > 20  # it has rolled and synced, and was killed there
            return
    raise AssertionError("it touched the disk more often than it was killed")


@settings(max_examples=4)  # each starts some ten processes
@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.booleans())
def test_spoolers_and_consumers_that_are_killed_at_random_lose_nothing(delays: list[int], through: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        where = Path(name)
        with _ring(where) as ring, ring.writer() as writer:
            command = words("spool", where / "ring", "--to", where / "spool", "--limit", "1MiB", "--start", "oldest")
            wanted = ring.head
            for delay in [*delays, None]:
                with running(command, stderr=subprocess.DEVNULL) as spooler:
                    until(lambda: any(each.name == "spool" for each in ring.stats().readers), "it has joined")
                    for _ in range(100):
                        writer.write(_payload(ring.head), timeout_s=10)
                    if delay is None:
                        until(lambda: _all(where / "spool")[-1][0] == ring.head - 1, "all is spooled")
                    else:
                        wanted = _consumed(where, delay, wanted, through)
                    spooler.kill()
                    spooler.wait()
                    ring.reap()  # as the agent does; nothing is written before the next one has joined
            with SpoolReader(where / "spool", name="killed") as reader:
                for seq in range(wanted, ring.head):
                    frame = reader.read(0)
                    assert frame is not None
                    assert (frame.seq, frame.payload) == (seq, _payload(seq))


_CONSUMER = """
import sys
from halftrack_dataplane.spool_reader import SpoolReader
reader = SpoolReader(sys.argv[1], sys.argv[2] or None, name="killed")
for frame in reader:
    sys.stdout.write(f"{frame.seq} {frame.gap} {frame.payload.decode()}\\n")
    sys.stdout.flush()
    reader.commit()
"""


def _consumed(where: Path, count: int, wanted: int, through: bool) -> int:
    """A consumer reads and commits `count` frames and is killed: it began where the last one ended. Where the next begins."""
    ring = str(where / "ring") if through else ""
    command = [sys.executable, "-c", _CONSUMER, str(where / "spool"), ring]
    until(lambda: (where / "spool").exists() and bool(Folder(where / "spool").firsts()), "there is a spool")
    with running(command, stdout=subprocess.PIPE) as consumer:
        assert consumer.stdout is not None
        for seq in range(wanted, wanted + count):
            assert consumer.stdout.readline() == b"%d 0 %s\n" % (seq, _payload(seq))
        consumer.kill()
        consumer.wait()
    place = Folder(where / "spool").consumers().get("killed")
    committed = wanted if place is None else place.seq
    assert committed >= wanted + count - 1  # at most the last one was given out and not committed
    return committed


# ------------------------------------------------------------------------------------------------------------ full, broken


def test_a_full_disk_is_waited_for_and_nothing_is_lost(folder: Path) -> None:
    for at in range(3, 12):
        where = folder / str(at)
        where.mkdir()
        said: list[str] = []
        with _ring(where) as ring, ring.writer() as writer:
            disk = Failing(at, full, ("allocate", "write"))
            spooler = Spooler(ring, where / "spool", _limits(ring), disk=disk, tell=said.append)
            with spooler:
                states = set()
                while ring.head < FRAMES or spooler.durable_seq < FRAMES:
                    try:
                        if ring.head < FRAMES:
                            writer.write(_payload(ring.head), timeout_s=0)
                    except RingFull:
                        pass
                    states.add(spooler.step(0))
                    spooler.sync()
            assert states == {"spooling", "disk full"}
            assert any(text.startswith("disk full") for text in said)
        assert _all(where / "spool") == _whole(0, FRAMES)


def test_a_disk_that_is_full_from_the_beginning_is_told_at_once(folder: Path) -> None:
    with _ring(folder) as ring:
        with pytest.raises(SpoolFailed, match="No space left"):
            Spooler(ring, folder / "spool", _limits(ring), disk=Failing(1, full))
        assert not ring.stats().readers  # nobody is held up by who could not begin


def test_a_disk_that_fails_ends_the_spooler_and_the_ring_keeps_what_was_not_released(folder: Path) -> None:
    with _ring(folder) as ring:
        spooler = Spooler(ring, folder / "spool", _limits(ring), disk=Failing(2, broken, ("sync",)))
        _fill(ring)
        spooler.step(0)
        with pytest.raises(SpoolFailed, match="Nothing after sequence 0 is certain"):
            spooler.sync()
        assert spooler.state == "failed"
        held = ring.stats().readers[0].cursor
        spooler.close()
        assert held == 0
        with Spooler(ring, folder / "spool", _limits(ring)) as again:
            _spool(again)
        assert _all(folder / "spool") == _whole(0, 10)


def test_at_its_limit_it_stops_reading_until_a_consumer_commits(folder: Path) -> None:
    with (
        _ring(folder) as ring,
        ring.writer() as writer,
        Spooler(ring, folder / "spool", _limits(ring, 2)) as spooler,
        SpoolReader(folder / "spool", name="slow") as reader,
    ):
        while spooler.state != "full":
            writer.write(_payload(ring.head), timeout_s=0)
            spooler.step(0)
        with pytest.raises(RingFull):  # the ring's own policy applies
            _write(ring, writer, 200)
        for seq in range(spooler.durable_seq):
            frame = reader.read(0)
            assert frame is not None
            assert (frame.seq, frame.payload) == (seq, _payload(seq))
        assert spooler.step(0) == "full"
        reader.commit()
        _spool(spooler)
        assert spooler.state == "spooling"
        assert spooler.durable_seq == ring.head
        assert spooler.losses.lost == 0


# ------------------------------------------------------------------------------------------------------ damage, other rings


@pytest.mark.parametrize("what", ["fields", "frames", "zeroed"])
def test_a_damaged_record_is_a_gap_of_its_range_and_is_never_given_out(folder: Path, what: str) -> None:
    with _ring(folder) as ring, Spooler(ring, folder / "spool", _limits(ring)) as spooler:
        _fill(ring)
        _spool(spooler)
        path = folder / "spool" / f"{0:020d}.seg"
        place = HEAD_BYTES + 3 * (64 + 128)
        with path.open("r+b") as file:
            file.seek(place + (70 if what == "frames" else 20))
            file.write(bytes(64) if what == "zeroed" else b"!")
        told = [(seq, gap) for seq, gap, _ in _all(folder / "spool")]
        assert told == [(0, 0), (1, 0), (2, 0), (3, 1), *((seq, 0) for seq in range(4, 10))]
        # Through the ring it is there: what is damaged in one is read from the other, where that still has it.
        assert _all(folder / "spool", folder / "ring") == _whole(0, 10)


def test_what_the_ring_reclaimed_while_no_spooler_ran_is_a_counted_gap(folder: Path) -> None:
    said: list[str] = []
    with _ring(folder) as ring:
        with Spooler(ring, folder / "spool", _limits(ring)) as spooler:
            _fill(ring)
            _spool(spooler)
        with ring.writer(full="overwrite") as writer:
            for _ in range(FRAMES):
                writer.write(_payload(ring.head))
        with Spooler(ring, folder / "spool", _limits(ring), tell=said.append) as spooler:
            _spool(spooler)
            missed = ring.tail - 10
            assert spooler.losses.missed == missed
        found = _all(folder / "spool")
        assert found == [*_whole(0, 10), (10, missed, b""), *_whole(10 + missed, ring.head)]
        assert any(text.startswith(f"missed: sequences 10 to {9 + missed}") for text in said)
        with Spooler(ring, folder / "spool", _limits(ring)) as spooler:
            assert spooler.losses.missed == missed  # counted for good


def test_a_spooler_that_is_evicted_joins_again(folder: Path) -> None:
    with _ring(folder) as ring, Spooler(ring, folder / "spool", _limits(ring)) as spooler:
        _fill(ring)
        spooler.step(0)
        ring.evict(ring.stats().readers[0].slot)
        _fill(ring, 5)
        _spool(spooler)
        assert _all(folder / "spool") == _whole(0, 15)


def test_one_spooler_a_folder_and_one_process_a_consumer(folder: Path) -> None:
    with _ring(folder) as ring, Spooler(ring, folder / "spool", _limits(ring)):
        with pytest.raises(SpoolBusy, match="one spooler"):
            Spooler(ring, folder / "spool", _limits(ring))
        with SpoolReader(folder / "spool", name="it"), pytest.raises(SpoolBusy, match="one process"):
            SpoolReader(folder / "spool", name="it")


def test_another_ring_is_refused_and_one_made_anew_behind_the_end_goes_on(folder: Path) -> None:
    with _ring(folder, label="adc") as ring, Spooler(ring, folder / "spool", _limits(ring)) as spooler:
        _fill(ring)
        _spool(spooler)
    for name, options in {"label": {"label": "dac"}, "again": {"label": "adc"}, "same": {"label": "adc"}}.items():
        with _ring(folder, name, **options) as other:
            with other.writer() as writer:
                for _ in range(10 if name == "same" else 0):
                    writer.write(b"another")
            with pytest.raises(SpoolMismatch):
                Spooler(other, folder / "spool", _limits(other))
            if name != "same":  # a reader does not look at the frames
                with pytest.raises(SpoolMismatch):
                    SpoolReader(folder / "spool", folder / name, name="other")
    assert not Folder(folder / "spool").consumers()  # who is refused is not waited for
    said: list[str] = []
    with _ring(folder, "anew", label="adc", base_seq=12) as ring:
        with Spooler(ring, folder / "spool", _limits(ring), tell=said.append) as spooler:
            _fill(ring)
            _spool(spooler)
        assert "made anew" in said[0]
        assert _all(folder / "spool") == [*_whole(0, 10), (10, 2, b""), *_whole(12, 22)]
