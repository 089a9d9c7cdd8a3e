"""A disk that fails, and one that is full: the first ends the agent, the second leaves it the room that it has kept back for itself."""

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from halftrack_agent import files, reserve
from halftrack_agent.ledger import Ledger
from halftrack_agent.reserve import Reserve
from halftrack_model.errors import HostFault
from tests.small_disk import grown, small_disk


def failing(_fd: int) -> None:
    raise OSError(5, "Input/output error")


# invariant: D1
def test_nobody_goes_on_after_a_sync_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever handles errors on the way, and in whichever task or thread it is met: the program ends, with a status of its own."""
    book = Ledger(tmp_path / "journal", "test")
    monkeypatch.setattr(os, "fsync", failing)
    ways = (
        lambda: book.append(b"one"),
        lambda: files.replace(tmp_path / "a", b"new"),
        lambda: files.sync_folder(tmp_path),
    )
    for way in ways:

        async def task(way: object = way) -> None:
            with contextlib.suppress(Exception):  # just what must not help
                await asyncio.to_thread(way)  # type: ignore[arg-type]

        async def main(task: object = task) -> None:
            running = asyncio.create_task(task())  # type: ignore[operator]
            await asyncio.sleep(60)
            await running

        with pytest.raises(SystemExit) as ended:
            asyncio.run(main())
        assert ended.value.code == files.DISK_LOST
    assert "did not keep what was written" in caplog.text
    assert not (tmp_path / "a").exists(), "what is not on the disk has no name"
    book.close()


def test_a_full_or_read_only_disk_has_lost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, words in ((28, "no room"), (30, "Read-only")):

        def refusing(_fd: int, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refusing)
        with pytest.raises(HostFault, match=words):
            files.replace(tmp_path / "a", b"new")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reserve of half a disk of two megabytes."""
    monkeypatch.setattr(reserve, "BYTES", 1 << 20)
    monkeypatch.setattr(reserve, "BEGIN_BYTES", 1 << 18)
    monkeypatch.setattr(reserve, "SCARCE_BYTES", 1 << 16)


# invariant: D1
@pytest.mark.usefixtures("small")
def test_what_must_be_written_has_room_on_a_full_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "3m") as disk:
        kept = Reserve(disk)
        assert kept.problem == ""
        book = Ledger(disk / "journal", "test")
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)) == 4096:
                pass
        with pytest.raises(HostFault, match="no room"):
            book.append(b"p" * 300_000)
        kept.write(lambda: book.append(b"p" * 300_000))
        assert "was given up for a plan" in kept.problem
        kept.keep()
        assert kept.problem, "as long as there is no room, it is not made again: it would take what the plan needs"
        with pytest.raises(HostFault, match="no room"):
            kept.write(lambda: book.append(b"p" * 1_000_000))
        grown(disk, "8m")
        kept.keep()
        assert kept.problem == ""
        assert (disk / reserve.NAME).stat().st_blocks * 512 >= reserve.BYTES, "of real blocks, not a hole"
        book.close()


@pytest.mark.usefixtures("small")
def test_what_has_just_had_room_leaves_room_to_begin_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "3m") as disk:
        kept = Reserve(disk)
        free = os.statvfs(disk)
        (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - reserve.SCARCE_BYTES // 2))
        kept.write(lambda: (disk / "plan").write_bytes(b"p"))
        assert kept.problem


@pytest.mark.usefixtures("small")
def test_what_is_begun_takes_its_part_once_and_leaves_a_plan_the_rest(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "3m") as disk:
        kept, free = Reserve(disk), os.statvfs(disk)
        kept.begin()
        assert kept.problem == "", "there is room without it"
        (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize))
        for number in range(3):
            kept.begin()
            with contextlib.suppress(OSError):
                (disk / f"instance-{number}").write_bytes(bytes(reserve.BEGIN_BYTES))
        assert "in part" in Reserve(disk).problem, "an agent that starts leaves it so"
        kept.write(lambda: files.replace(disk / "plan", bytes(1000)))
        grown(disk, "8m")
        kept.keep()
        assert kept.problem == ""


@pytest.mark.usefixtures("small")
def test_a_disk_without_room_for_a_reserve_says_so(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        assert "could not be kept" in Reserve(disk).problem
        assert list(disk.iterdir()) == []


# invariants: D1, P3
def test_a_disk_that_takes_no_change_is_read_and_written_to_once_it_does(tmp_path: Path) -> None:
    def remounted(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)

    with small_disk(tmp_path / "disk", "8m") as disk:
        for name in ("good", "bad"):
            (disk / name).mkdir()
            book = Ledger(disk / name / "journal", "test")
            book.append(b"one")
            book.close()
        (disk / "new").mkdir()
        (disk / "bad/journal").write_bytes((disk / "bad/journal").read_bytes().replace(b"one", b"two"))
        remounted("ro")
        good, bad, new = (Ledger(disk / name / "journal", "test") for name in ("good", "bad", "new"))
        assert (good.recovered, bad.recovered, new.recovered) == ((b"one",), (), ())
        for book in (good, bad, new):
            assert "takes no change" in book.broken
            with pytest.raises(HostFault, match="Read-only"):
                book.rewrite([b"more"])
        remounted("rw")
        for book in (good, bad, new):
            book.rewrite([b"more"])
            assert book.append(b"and more") == book.next_number - 1
            book.close()
            again = Ledger(book.path, "test")
            assert (again.recovered, again.broken) == ((b"more", b"and more"), "")
            again.close()
