"""The one thread that the store lives on: everything else hands it functions and awaits their results, in order."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from halftrack_controller.store import Store
from halftrack_controller.store_faults import DiskLost

T = TypeVar("T")


class StoreThread:
    """A way into the store from an event loop."""

    def __init__(self, executor: ThreadPoolExecutor, store: Store) -> None:
        self._executor = executor
        self._store = store

    @classmethod
    async def open(cls, state: Path, galaxy: str) -> "StoreThread":
        """Open the store on a thread of its own."""
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        try:
            store = await asyncio.get_running_loop().run_in_executor(executor, Store.open, state, galaxy)
        except BaseException:
            executor.shutdown(wait=False)
            raise
        return cls(executor, store)

    async def do(self, work: Callable[[Store], T]) -> T:
        """What `work` makes of the store. Work is done whole even when the one who waits is cancelled."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, work, self._store)
        except DiskLost as lost:
            loop.call_soon(_end, lost)  # whoever waits here may be a call that keeps its troubles to itself
            raise

    async def close(self) -> None:
        """Finish what was handed over, then close."""
        await self.do(Store.close)
        self._executor.shutdown()


def _end(lost: DiskLost) -> None:
    raise lost
