"""An event loop whose time passes only while everybody waits, and then at once: what is to happen in an hour is seen in a moment, and the same each time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Selector(selectors.SelectSelector):
    passed_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed_s += timeout or 0.0
        return super().select(0)


class GivenTime(asyncio.SelectorEventLoop):
    """For what waits on nothing but time."""

    def __init__(self, began_s: float) -> None:
        self._began_s, self._eyes = began_s, _Selector()
        super().__init__(self._eyes)

    def time(self) -> float:
        return self._began_s + self._eyes.passed_s

    def live(self, work: Coroutine[Any, Any, Any], seconds: float) -> None:
        """Run `work` for so long, and then end it."""
        task = self.create_task(work)
        try:
            self.run_until_complete(asyncio.wait([task], timeout=seconds))
            if task.done():
                task.result()
        finally:
            task.cancel()
            self.run_until_complete(asyncio.gather(task, return_exceptions=True))
            self.close()
