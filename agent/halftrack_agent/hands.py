"""The hands of the agent: each action of the core becomes one call of whoever owns that part of the host.

Owns nothing but the table of who does what, and the transfers under way. Never decides, never retries by itself: the core says again
what is still wanted. A HostFault of the journal passes through, so that the loop can forget the step; whatever else fails is noted
for Observed.problems until it works.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from halftrack_agent import clock, events
from halftrack_agent.backoff import Backoff
from halftrack_agent.drivers.exec import ExecDriver
from halftrack_agent.events import Action
from halftrack_agent.journal import Journal
from halftrack_agent.outbox import Outbox
from halftrack_agent.peers import Peers
from halftrack_agent.reserve import Reserve
from halftrack_agent.rings import Rings
from halftrack_agent.spools import Spools
from halftrack_model.errors import HalftrackError, Refused
from halftrack_proto.messages import Accepted, Declined

log = logging.getLogger("halftrack.agent")

MAX_TROUBLES = 64  # a plan names that many things that can fail at once only when the host itself is broken
GOES_ON_MS = 10_000  # most of what stands in an artifact's way does so at once
# Said again by the core for as long as they are levels, so they are no sign that anything has changed.
QUIET = (events.TellPeer, events.AnswerPeer, events.Fetch)


@dataclass
class _Transfer:
    task: asyncio.Task[None] | None
    backoff: Backoff
    not_before_ms: int
    begun_ms: int = 0


class Hands:
    """Carries out actions, in the order in which they are given."""

    def __init__(
        self,
        journal: Journal,
        outbox: Outbox,
        driver: ExecDriver,
        rings: Rings,
        spools: Spools,
        peers: Peers,
        bring: Callable[[str, int], Awaitable[None]],
        answer: Callable[[Accepted | Declined], None],
        woken: Callable[[], None],
        reserve: Reserve,
    ) -> None:
        self._reserve = reserve
        self._journal, self._outbox, self._driver, self._rings, self._spools = journal, outbox, driver, rings, spools
        self._peers, self._bring_in, self._answer, self._woken = peers, bring, answer, woken
        self._transfers: dict[str, _Transfer] = {}
        self._troubles: dict[str, str] = {}
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be done lately, in words for the site's owner."""
        return tuple(self._troubles[key] for key in sorted(self._troubles))

    @property
    def fetching(self) -> bool:
        """Is an artifact on its way?"""
        return any(transfer.task is not None for transfer in self._transfers.values())

    def carry_out(self, action: Action) -> None:
        """Do it, or begin it. Raises what the journal raises: then nothing that follows may be done."""
        if isinstance(action, events.JournalPlan | events.JournalSwap | events.ForgetSwap):
            self._reserve.write(lambda: self._journal.append(action))
            return
        key = _key(action)
        try:
            self._do(action)
        except Refused as error:  # the world has moved on since the look: the next one tells
            log.info("%s: %s", key, error.message)
        except HalftrackError as error:
            self._note(key, error.message)
        else:
            if not isinstance(action, events.Fetch) or self._goes_on(action.digest):
                self._troubles.pop(key, None)

    def keep_house(self) -> None:
        """What is to be done every so often."""
        self._reserve.keep()

    def clear(self, wanted: Collection[str]) -> None:
        """A new plan is in force, which names these artifacts: what the old one could not have, and what only it wanted, does not matter any more."""
        self._troubles.clear()
        for digest in self._transfers.keys() - set(wanted):
            if (task := self._transfers[digest].task) is None:
                del self._transfers[digest]
            else:
                task.cancel()  # the link is for what is wanted now

    async def close(self) -> None:
        """Break off transfers; they go on where they were."""
        tasks = [transfer.task for transfer in self._transfers.values() if transfer.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _do(self, action: Action) -> None:
        match action:
            case events.CreateRing(ring):
                self._rings.create(ring)
            case events.RemoveRing(name):
                self._rings.remove(name)
            case events.RemoveSpool(name):
                log.info("remove spool %s: the plan in force has none of that name", name)
                self._spools.remove(name)
            case events.ProposeCut(ring, epoch, generation, fence, label):
                self._rings.propose_cut(ring, epoch, generation, fence, label)
            case events.WithdrawCut(ring, epoch):
                self._rings.withdraw_cut(ring, epoch)
            case events.Fetch(digest, size_bytes):
                self._fetch(digest, size_bytes)
            case events.Start(workload):
                log.info("start %s", workload.name)
                self._reserve.begin()
                self._driver.start(workload)
            case events.Reorder(workload):
                log.info("new orders for %s", workload.name)
                self._driver.reorder(workload)
            case events.Stop(name, reason):
                log.info("stop %s: %s", name, reason)
                self._driver.stop(name)
            case events.Kill():
                self._kill(action)
            case events.Forget(name):
                self._driver.forget(name)
            case _:
                self._tell(action)

    def _kill(self, action: events.Kill) -> None:
        log.warning("kill %s: %s", action.workload, action.reason)
        if action.again:
            self._rings.hold(action.workload)
        self._driver.kill(action.workload)

    def _tell(self, action: Action) -> None:
        match action:
            case events.AckPlan(revision):
                try:
                    self._reserve.write(lambda: self._journal.raise_floor(revision))
                finally:  # the plan itself is durable: only the memory for a damaged journal is not
                    self._answer(Accepted(revision))
            case events.NackPlan(revision, reason, message):
                log.warning("plan refused (%s): %s", reason, message)
                self._answer(Declined(revision, reason, message))
            case events.TellPeer(host, record):
                self._peers.tell(host, record)
            case events.AnswerPeer(host, seat):
                self._peers.answer(host, seat)
            case events.Emit(happened, subject, detail):
                log.info("%s %s %s", happened.value, subject, detail)
                self._outbox.add(happened, subject, detail, clock.wall_ms())

    def _fetch(self, digest: str, size_bytes: int) -> None:
        transfer = self._transfers.setdefault(digest, _Transfer(None, Backoff(), 0))
        if transfer.task is None and clock.boot_ms() >= transfer.not_before_ms:
            transfer.begun_ms = clock.boot_ms()
            work = self._bring(transfer, digest, size_bytes)
            transfer.task = asyncio.get_running_loop().create_task(work)

    def _goes_on(self, digest: str) -> bool:
        """Is the trouble of the attempt before over? That one has begun says nothing."""
        transfer = self._transfers[digest]
        return transfer.task is not None and clock.boot_ms() - transfer.begun_ms >= GOES_ON_MS

    async def _bring(self, transfer: _Transfer, digest: str, size_bytes: int) -> None:
        key = f"fetch {digest}"
        try:
            await self._bring_in(digest, size_bytes)
        except Exception as error:  # noqa: BLE001 - a host without a descriptor or thread left as well: or it would be tried again at once, and unheard
            transfer.backoff, pause_ms = transfer.backoff.failed(0, self._random.randint)
            transfer.not_before_ms = clock.boot_ms() + pause_ms
            self._note(key, error.message if isinstance(error, HalftrackError) else f"{digest}: {error}")
        else:
            log.info("artifact %s is complete", digest)
            self._transfers.pop(digest, None)
            self._troubles.pop(key, None)
        finally:
            transfer.task = None
            self._woken()

    def _note(self, key: str, text: str) -> None:
        if self._troubles.get(key) != text:
            log.warning("%s: %s", key, text)
        if key in self._troubles or len(self._troubles) < MAX_TROUBLES:
            self._troubles[key] = text


def _key(action: Action) -> str:
    """A name for what is attempted, the same for every attempt."""
    match action:
        case events.CreateRing(ring):
            return f"ring {ring.name}"
        case events.Start(workload):
            return f"start {workload.name}"
        case events.Reorder(workload):
            return f"orders {workload.name}"
        case events.Fetch(digest, _):
            return f"fetch {digest}"
        case events.RemoveRing(name):
            return f"ring {name}"
        case events.RemoveSpool(name):
            return f"spool {name}"
    return type(action).__name__
