"""A controller whose disk did not keep what was written ends, whoever was waiting for the store, and the next one reads what the disk has."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from halftrack_controller.store import Store
from halftrack_controller.store_faults import DISK_LOST, DiskLost, faults
from halftrack_controller.store_thread import StoreThread
from halftrack_model.errors import HostFault


def failed(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code  # as the module sets it
    return error


# invariant: D1
def test_a_sync_that_failed_ends_the_program_from_the_stores_thread(tmp_path: Path) -> None:
    def lost(_store: Store) -> None:
        with faults():
            raise failed(sqlite3.SQLITE_IOERR_FSYNC)

    async def main() -> None:
        store = await StoreThread.open(tmp_path, "milkyway")
        waiting = asyncio.create_task(store.do(lost))
        await asyncio.gather(waiting, return_exceptions=True)  # a call that keeps its troubles to itself
        await asyncio.sleep(60)

    with pytest.raises(SystemExit) as ended:
        asyncio.run(main())
    assert ended.value.code == DISK_LOST


def test_other_troubles_are_told_and_end_nothing() -> None:
    for code, reason in ((sqlite3.SQLITE_FULL, "disk-full"), (sqlite3.SQLITE_IOERR_READ, "store-failed")):
        with pytest.raises(HostFault) as told, faults():
            raise failed(code)
        assert told.value.reason == reason
    with pytest.raises(DiskLost), faults():
        raise failed(sqlite3.SQLITE_IOERR_DIR_FSYNC)


# invariant: D1
def test_a_store_that_cannot_have_its_log_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that fails while SQLite goes over to a write-ahead log is no error of its: it keeps the mode that it had, and says which."""
    connect = sqlite3.connect
    (tmp_path / "store.db").touch()
    monkeypatch.setattr(sqlite3, "connect", lambda _path, **options: connect(":memory:", **options))
    with pytest.raises(DiskLost):
        Store.open(tmp_path, "milkyway")
    monkeypatch.undo()
    Store.open(tmp_path, "milkyway").close()
