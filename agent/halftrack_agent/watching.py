"""Looks for those hosts of the site that the controller has lost sight of, and says which of them answer.

Owns when they are asked, and what that came to. Only who is a sibling of the plan is asked, only while the controller wants to know: a site whose hosts
are all connected costs nothing. An answer is evidence that a host can be reached, and nothing else: never of health (O1).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

EVERY_S = 3.0
JITTER = 0.2  # of that: those who look for the same host do not stay in step
MISSES = 2  # questions without an answer, after which it is not seen any more: one is lost now and then
MOST = 31  # hosts at once: all the others of a site's group


@dataclass(frozen=True, slots=True)
class Looked:
    """What asking a host has come to. `misses`: in a row, since its last answer or ever."""

    seen: bool = False
    misses: int = 0


def looked(before: Looked, *, answered: bool) -> Looked:
    """After a question."""
    if answered:
        return Looked(True, 0)
    misses = min(before.misses + 1, MISSES)
    return Looked(before.seen and misses < MISSES, misses)


Found = Mapping[str, Looked]
"""By host, of all that are looked for."""


def looking(before: Found, hosts: Iterable[str]) -> Found:
    """For these, from now on, and no others; what is known of them stands."""
    return {host: before.get(host, Looked()) for host in sorted(set(hosts))[:MOST]}


def noted(before: Found, answers: Mapping[str, bool]) -> Found:
    """After they were asked. Who is not looked for any more is nobody's concern."""
    return {h: looked(each, answered=answers[h]) if h in answers else each for h, each in before.items()}


def seen(found: Found) -> tuple[str, ...]:
    """Who of them has answered lately."""
    return tuple(sorted(host for host, each in found.items() if each.seen))


class Watching:
    """`answers` asks a host, and knows who is a sibling; `changed` is called when other hosts are seen than before."""

    def __init__(
        self,
        answers: Callable[[str], Awaitable[bool]],
        changed: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._answers, self._changed, self._sleep = answers, changed, sleep
        self._found: Found = {}
        self._wanted = asyncio.Event()
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    @property
    def sees(self) -> tuple[str, ...]:
        """Who of those looked for has answered lately."""
        return seen(self._found)

    def look_for(self, hosts: Iterable[str]) -> None:
        """These, from now on, and no others."""
        self._found = looking(self._found, hosts)
        if self._found:
            self._wanted.set()
        else:
            self._wanted.clear()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._wanted.wait()
            hosts = tuple(self._found)
            answers = await asyncio.gather(*(self._answers(host) for host in hosts))
            self._note(dict(zip(hosts, answers, strict=True)))
            await self._sleep(EVERY_S * self._random.uniform(1 - JITTER, 1 + JITTER))

    def _note(self, answers: Mapping[str, bool]) -> None:
        before = self.sees
        self._found = noted(self._found, answers)
        if self.sees != before:
            self._changed()
