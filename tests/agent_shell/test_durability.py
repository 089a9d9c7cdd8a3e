"""What is called durable has been synced, its name too, before anybody relies on it; and what cannot be is refused in words.

A power cut cannot be had in a test, so the system calls are watched instead: which file was synced, and what was renamed when.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from halftrack_agent import files
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.ledger import Ledger
from halftrack_agent.lock import StateLock
from halftrack_model.errors import HostFault
from halftrack_model.ids import digest_of
from tests.agent_shell.test_ledger import files_no_longer_than


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What reached the kernel, in order: `sync NAME`, `rename NAME`; names are relative to the test's folder."""
    made: list[str] = []
    fsync, rename = os.fsync, os.rename

    def name(path: str) -> str:
        return os.path.relpath(path, tmp_path)

    def watched_fsync(fd: int) -> None:
        made.append(f"sync {name(os.readlink(f'/proc/self/fd/{fd}'))}")
        fsync(fd)

    def watched_rename(source: str, target: str, **options: int) -> None:
        made.append(f"rename {name(os.fspath(target))}")
        rename(source, target, **options)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    return made


# invariants: P3, D1
def test_a_replaced_file_and_its_name_are_synced_in_that_order(tmp_path: Path, calls: list[str]) -> None:
    files.replace(tmp_path / "a", b"new")
    assert calls == ["sync .a.new", "rename a", "sync ."]


# invariants: P3, D1
def test_a_ledger_and_its_name_are_synced_before_it_takes_entries(tmp_path: Path, calls: list[str]) -> None:
    book = Ledger(files.make_folder(tmp_path / "state") / "journal", "test")
    assert calls == ["sync .", "sync state/journal", "sync state"]
    calls.clear()
    book.append(b"one")
    assert calls == ["sync state/journal"], "an entry is on the disk when `append` returns"
    book.close()


# invariant: D1
def test_an_artifact_is_whole_on_the_disk_before_it_has_its_name(tmp_path: Path, calls: list[str]) -> None:
    data = b"program"

    async def source(_digest: str, _offset: int) -> AsyncIterator[tuple[int, bytes]]:
        yield len(data), data

    store = ArtifactStore(tmp_path / "store")
    calls.clear()
    asyncio.run(store.fetch(digest_of(data), len(data), source))
    name = digest_of(data).removeprefix("sha256:")
    assert calls == [f"sync store/{name}.part", f"rename store/{name}", "sync store"]


# invariants: P3, D1
def test_a_ledger_that_lost_its_place_takes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rewritten file had its name already when the disk failed: appending to the old one would acknowledge what nobody finds."""
    book = Ledger(tmp_path / "journal", "test")
    book.append(b"one")

    def broken(_folder: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_folder", broken)
        with pytest.raises(HostFault, match="Input/output"):
            book.rewrite([b"one"])
    with pytest.raises(HostFault, match="written anew"):
        book.append(b"two")
    book.close()
    again = Ledger(tmp_path / "journal", "test")
    assert again.recovered == (b"one",)
    again.close()


def test_a_rewrite_without_room_leaves_the_ledger_in_its_place(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "journal", "test")
    book.append(b"one")
    with files_no_longer_than(20), pytest.raises(HostFault, match="no room"):
        book.rewrite([b"one"])
    assert book.append(b"two") == 2
    book.close()


def test_an_agent_starts_on_a_full_disk(tmp_path: Path) -> None:
    StateLock(tmp_path).close()
    with files_no_longer_than(0):
        StateLock(tmp_path).close()


def test_a_state_folder_that_cannot_be_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for state in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/halftrack")):
        with pytest.raises(HostFault, match=f"{tmp_path / 'file'}|/proc") as caught:
            StateLock(state)
        assert caught.value.reason == "disk-fault"
