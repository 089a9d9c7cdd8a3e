"""The controller's one loop: read a snapshot, ask the core, commit, seal, store, send. And the ways in for operators and hosts.

Decides nothing itself: `rollout`, `planner` and `documents` do, and `deciding` puts them in order. Whatever changes the store
because of what is in it happens under one lock, so that no two decisions are made from the same snapshot.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from halftrack_controller import deciding, deleting, documents, explain, keys, live, planner, rollout, sites
from halftrack_controller.documents import Declared
from halftrack_controller.galaxy import ControllerGalaxy
from halftrack_controller.lookouts import with_sightings
from halftrack_controller.news import News
from halftrack_controller.remembering import Memory
from halftrack_controller.session import Sessions
from halftrack_controller.snapshot import Published, Reason, RolloutChange, Snapshot
from halftrack_controller.store import Store
from halftrack_controller.store_thread import StoreThread
from halftrack_controller.tokens import TokenRow, checked_ttl, hash_of, new_secret
from halftrack_controller.wallclock import WallClock
from halftrack_model import canonical, seals
from halftrack_model.edits import GraphChange, GraphRecord
from halftrack_model.errors import HalftrackError
from halftrack_model.plan import Plan
from halftrack_model.release import Release
from halftrack_model.report import Report
from halftrack_model.seals import Sealed
from halftrack_proto import messages as said
from halftrack_proto.graph_codec import EditRequest, SettleRequest
from halftrack_proto.graph_messages import DeleteRequest, Deletion, GraphQuery

log = logging.getLogger("halftrack.controller")

DEBOUNCE_S = 0.05  # what arrives together (both hosts of a swap) is decided together
TICK_S = 1.0  # ages grow without an event: deadlines and freshness are looked at this often

Verb = Callable[[Snapshot, str], tuple[RolloutChange, ...]]
VERBS: dict[said.Steer, Verb] = {
    said.Steer.PAUSE: rollout.paused,
    said.Steer.RESUME: rollout.resumed,
    said.Steer.PROMOTE: rollout.promoted,
    said.Steer.ABORT: rollout.aborted,
}


def wall_ms() -> int:
    """Our own clock: compared with nobody else's (C1)."""
    return time.time_ns() // 1_000_000


class Controller:
    """The galaxy's mind, between its store and its sessions."""

    def __init__(
        self,
        galaxy: ControllerGalaxy,
        store: StoreThread,
        sessions: Sessions,
        news: News,
        turned: Callable[[], None] = lambda: None,
    ) -> None:
        self._turned = turned  # called at each turn of the loop
        self._galaxy, self._store, self._sessions, self._news = galaxy, store, sessions, news
        self._deciding = asyncio.Lock()
        self._clock = WallClock(store)
        self._memory = Memory()

    # --------------------------------------------------------------------------------------------------------- the loop

    async def run(self) -> None:
        """Step at each change and each tick, for ever. A step that fails has changed nothing, is logged, and is tried again."""
        while True:
            self._turned()
            await self._sessions.changed(TICK_S)
            await asyncio.sleep(DEBOUNCE_S)
            await self._clock.look(wall_ms())
            try:
                await self.step()
            except HalftrackError as error:
                log.error("cannot decide now, running workloads are not touched: %s: %s", error.reason, error.message)
                await asyncio.sleep(TICK_S)
            except Exception:  # a fault in deciding must not end the sessions
                log.critical("a step of the controller has failed; nothing was changed by it", exc_info=True)
                await asyncio.sleep(TICK_S)

    async def step(self) -> None:
        """One decision: rollouts as they shall be, then the plans that follow."""
        async with self._deciding:
            now_ms, snapshot = wall_ms(), await self._settled(await self.snapshot())
            changes = rollout.advance(snapshot, now_ms)
            if changes:
                await self._store.do(lambda store: store.commit_rollouts(changes))
                self._tell_rollouts(deciding.moves(snapshot, changes))
                snapshot = await self.snapshot()
            planning = planner.plan(snapshot, now_ms, self._memory)
            await self._make(tuple(deciding.due(snapshot, planning.plans)), now_ms)
            self._sessions.look_for(sites.lookouts(snapshot))

    async def _settled(self, snapshot: Snapshot) -> Snapshot:
        """Edits that are in force everywhere, as hosts have told: what they took out is let go."""
        found = tuple(deciding.settled(snapshot))
        if not found:
            return snapshot
        await self._store.do(lambda store: store.settle_graphs([graph for graph, _ in found]))
        for graph, told in found:
            log.info("graph=%s/%s %s", graph.environment, graph.name, told)
            self._news.tell("documents", f"graph {graph.environment}/{graph.name}", told)
        return await self.snapshot()

    async def _make(self, plans: tuple[Plan, ...], now_ms: int) -> None:
        """Seal, make durable, and only then send."""
        if not plans:
            return
        made = [(plan, self._galaxy.plan_key.sealed(seals.PLAN, canonical.encode(plan))) for plan in plans]
        await self._store.do(lambda store: store.commit_plans(made, now_ms))
        for plan, sealed in made:
            log.info("plan host=%s revision=%d workloads=%d", plan.host, plan.revision, len(plan.workloads))
            self._news.tell("plan", plan.host, f"revision {plan.revision}")
            self._sessions.offer(plan.host, plan.revision, sealed)

    def _tell_rollouts(self, moved: Sequence[RolloutChange]) -> None:
        for change in moved:
            now = change.rollout
            log.info("rollout %s is %s: %s", now.rollout_id, now.phase.value, now.reason)
            self._news.tell(
                "rollout", now.rollout_id, f"{now.phase.value}: {now.reason}" if now.reason else now.phase.value
            )
        if moved:
            self._sessions.wake()  # what has moved may let another move

    # ---------------------------------------------------------------------------------------------------------- looking

    async def snapshot(self) -> Snapshot:
        """Everything as it stands."""
        now_ms, presence, listening_ms = wall_ms(), self._sessions.presence(), self._sessions.listening_ms
        snapshot = await self._store.do(lambda store: store.snapshot(now_ms, presence, listening_ms))
        return with_sightings(snapshot, self._sessions.sightings())

    async def reports(self, host: str, limit: int) -> tuple[Report, ...]:
        """The newest reports of a host."""
        return await self._store.do(lambda store: store.reports(host, limit))

    async def explained(self, subject: str) -> tuple[Reason, ...]:
        """Why it is as it is."""
        return explain.explained(await self.snapshot(), subject, wall_ms())

    async def outlook(
        self, declared: Sequence[Declared]
    ) -> tuple[Snapshot, tuple[said.DocumentChange, ...], deciding.Outlook]:
        """What applying would do: the snapshot before, the changes of documents, and what would follow."""
        snapshot, now_ms = await self.snapshot(), wall_ms()
        documents.checked(snapshot, declared)
        begins = deciding.declared_again(snapshot, declared, now_ms)
        after = deciding.with_rollouts(documents.merged(snapshot, declared), begins)
        return snapshot, documents.changes(snapshot, declared), deciding.outlook(after, now_ms)

    # --------------------------------------------------------------------------------------------------------- changing

    async def apply(self, declared: Sequence[Declared], operator: str) -> tuple[said.DocumentChange, ...]:
        """Register documents, all or none."""
        async with self._deciding:
            snapshot = await self.snapshot()
            documents.checked(snapshot, declared)
            changes = documents.changes(snapshot, declared)
            documents.permitted(snapshot, declared, operator)
            news = [
                document for document, change in zip(declared, changes, strict=True) if change.action != "unchanged"
            ]
            if news:
                after = {(graph.environment, graph.name): graph for graph in documents.merged(snapshot, news).graphs}
                now_ms = wall_ms()
                begins = deciding.declared_again(snapshot, news, now_ms)

                def write(store: Store) -> None:
                    with store.transaction():
                        store.apply(news, operator, now_ms, after)
                        store.commit_rollouts(begins)

                await self._store.do(write)
        for change in changes:
            if change.action != "unchanged":
                self._news.tell("documents", f"{change.kind} {change.name}", change.action)
        self._sessions.wake()
        return changes

    async def live_graph(self, query: GraphQuery) -> GraphRecord:
        """A graph as it stands: declared, live, and what has been done to it."""
        return live.record_of(await self.snapshot(), query)

    async def edit_graph(self, asked: EditRequest, operator: str) -> GraphRecord:
        """Change a graph that runs; refused when it is not at the revision that the operator saw."""
        async with self._deciding:
            snapshot = await self.snapshot()
            before = live.record_of(snapshot, asked.graph)
            live.permitted(before, operator)
            live.current(before, asked.revision)
            after, change = live.edited(snapshot, before, asked.edit, operator, wall_ms())
            documents.checked_live(snapshot, after)
            await self._store.do(lambda store: store.edit_graph(before, after, change))
        return await self._graph_changed(before, change)

    async def settle_graph(self, asked: SettleRequest, operator: str) -> GraphRecord:
        """Declare what is live, or make live again what was declared."""
        async with self._deciding:
            snapshot = await self.snapshot()
            before = live.record_of(snapshot, asked.graph)
            live.permitted(before, operator)
            live.current(before, asked.revision)
            change = live.settled(before, asked.adopt, operator, wall_ms())

            if asked.adopt:
                await self._store.do(lambda store: store.adopt_graph(before, change))
            else:
                after = live.reverted(snapshot, before)
                await self._store.do(lambda store: store.edit_graph(before, after, change))
        return await self._graph_changed(before, change)

    async def delete_graph(self, asked: DeleteRequest, operator: str) -> Deletion:
        """End a graph, or say what would end with it."""
        async with self._deciding:
            snapshot = await self.snapshot()
            ends = deleting.ending(snapshot, asked.graph, operator)
            if not asked.dry_run:
                await self._store.do(lambda store: store.delete_graph(ends.environment, ends.name, operator, wall_ms()))
        if not asked.dry_run:
            name = f"{ends.environment}/{ends.name}"
            log.info("graph=%s operator=%s: deleted", name, operator)
            self._news.tell("documents", f"graph {name}", f"{operator} deleted it")
            self._sessions.wake()
        return ends

    async def _graph_changed(self, before: GraphRecord, change: GraphChange) -> GraphRecord:
        name = f"{before.environment}/{before.name}"
        log.info("graph=%s revision=%d operator=%s: %s", name, change.revision, change.operator, change.what)
        self._news.tell("documents", f"graph {name}", f"revision {change.revision}: {change.operator} {change.what}")
        self._sessions.wake()
        return live.record_of(await self.snapshot(), GraphQuery(before.environment, before.name))

    async def publish(self, sealed: Sealed) -> said.PublishReply:
        """Verify a release, keep it for ever, and begin its rollouts: in one transaction."""
        galaxy = self._galaxy
        payload = seals.opened(sealed, seals.RELEASE, galaxy.release_keys, keys.verify, galaxy.release_threshold)
        release = canonical.decode(Release, payload)
        published = Published(release, sealed, wall_ms())
        async with self._deciding:
            snapshot = await self.snapshot()
            size = await self._store.do(lambda store: store.artifact_size(release.artifact.digest))
            if not deciding.publishable(snapshot, published, size):
                return said.PublishReply(release.product, release.version, True, ())
            changes = rollout.started(snapshot, release, published.published_ms)

            def write(store: Store) -> None:
                with store.transaction():
                    store.publish(published)
                    store.commit_rollouts(changes)

            await self._store.do(write)
        self._news.tell("release", release.product, f"{release.version} published")
        self._tell_rollouts(deciding.moves(snapshot, changes))
        self._sessions.wake()
        known = {before.rollout_id for before in snapshot.rollouts}
        new = tuple(change.rollout.rollout_id for change in changes if change.rollout.rollout_id not in known)
        return said.PublishReply(release.product, release.version, False, new)

    async def steer(self, rollout_id: str, steer: said.Steer) -> Snapshot:
        """An operator's verb on a rollout; everything as it stands afterwards."""
        async with self._deciding:
            snapshot = await self.snapshot()
            changes = VERBS[steer](snapshot, rollout_id)
            if changes:
                await self._store.do(lambda store: store.commit_rollouts(changes))
        self._tell_rollouts(deciding.moves(snapshot, changes))
        return await self.snapshot()

    async def create_token(self, host: str, ttl_s: int) -> tuple[str, int]:
        """A fresh secret with which `host` may enrol, and until when."""
        secret, expires_ms = new_secret(), wall_ms() + checked_ttl(ttl_s) * 1000
        row = TokenRow(hash_of(secret), host, expires_ms, "")
        await self._store.do(lambda store: store.add_token(row, wall_ms()))
        log.info("enrolment token made for host=%s, valid for %d s", host, ttl_s)
        return secret, expires_ms

    async def enrol(self, host: str, secret_hash: str, key_digest: str, curve_public: str, until_ms: int) -> None:
        """Let a key speak for a host, if its token says so; whoever spoke for it with another key is sent away."""
        await self._store.do(
            lambda store: store.enrol(secret_hash, host, key_digest, curve_public, wall_ms(), until_ms)
        )
        log.info("enrolled host=%s key=%s", host, key_digest)
        self._news.tell("host", host, "enrolled")
        self._sessions.expel_others(host, key_digest)
        self._sessions.wake()

    async def renew(self, host: str, key_digest: str, until_ms: int) -> None:
        """Note that a host gets a fresh certificate; Untrusted when its key does not speak for it any more."""
        await self._store.do(lambda store: store.renew(host, key_digest, until_ms))
        log.info("renewed the certificate of host=%s", host)
