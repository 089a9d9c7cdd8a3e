"""One running agent: its parts, made in the order in which they need each other, and let go in the opposite one.

Owns the wiring. Decides nothing, and starts nothing before it has found what an earlier agent left running (R2).
"""

import asyncio
import importlib.metadata
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from halftrack_agent import abilities, clock, core, files, launching, retention
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.bringing import Bringing, Site
from halftrack_agent.contact import ContactKeeper
from halftrack_agent.cutoff import ContactSeen
from halftrack_agent.drivers import procfs, rooms
from halftrack_agent.drivers.cgroups import Cgroups
from halftrack_agent.drivers.exec import ExecDriver
from halftrack_agent.drivers.launch import Launcher
from halftrack_agent.drivers.probes import Where
from halftrack_agent.drivers.starting import Inherited
from halftrack_agent.hands import Hands
from halftrack_agent.health import FEW_FRAMES
from halftrack_agent.identity import Identity
from halftrack_agent.inbox import TrustedPlan
from halftrack_agent.journal import Journal
from halftrack_agent.limiter import Limiter
from halftrack_agent.link import Ends, Link
from halftrack_agent.loop import Loop
from halftrack_agent.notes import Notes
from halftrack_agent.outbox import Outbox
from halftrack_agent.peers import Heard, Peers
from halftrack_agent.places import Places
from halftrack_agent.posted import Posted
from halftrack_agent.probing import Prober, StreamLook
from halftrack_agent.renewing import Renewing
from halftrack_agent.reserve import Reserve
from halftrack_agent.rings import Rings
from halftrack_agent.serving import Serving
from halftrack_agent.showing import Showing
from halftrack_agent.siblings import OpenClock, Siblings
from halftrack_agent.sight import Sight
from halftrack_agent.spools import Spools
from halftrack_agent.state import AgentState
from halftrack_agent.updating import NO_TRIAL, Around, Trialling, Updating
from halftrack_agent.wallclock import WallClock
from halftrack_agent.watching import Watching
from halftrack_dataplane.frames import reader_name
from halftrack_model import canonical
from halftrack_model.errors import HalftrackError
from halftrack_model.observed import Observed
from halftrack_model.probes import Probe, ProbeKind
from halftrack_model.seals import Sealed
from halftrack_model.workload import Workload
from halftrack_proto.gauges import TransferGauge
from halftrack_proto.messages import Hello, Welcome

log = logging.getLogger("halftrack.agent")


@dataclass(frozen=True, slots=True)
class Listening:
    """Where other hosts reach this one."""

    address: str
    agent_port: int
    bridge_port: int


class Agent:
    """All parts of one agent; an async context. Workloads run on when it ends."""

    def __init__(
        self,
        places: Places,
        identity: Identity,
        listening: Listening,
        cgroup: str,
        turned: Callable[[], None] = lambda: None,
        trial: Trialling = NO_TRIAL,
    ) -> None:
        self._places, self._identity, self._listening = places, identity, listening
        self._inherited = Inherited(procfs.children() if trial.own.argv else ())
        self._waiting_plan: Sealed | None = None
        self._findings: tuple[str, ...] = ()
        self._trouble = ""
        files.make_folder(places.run)
        for folder in (places.state, places.identity):
            files.sweep(folder)
        self._notes = Notes(places, sums=not launching.on_trial(places, trial.own))
        self._journal = Journal(places.state, self._notes.floor)
        self._outbox = Outbox(places.state, identity.member.host)
        self._reserve = Reserve(places.state)
        self._store = ArtifactStore(places.artifacts, self._notes.retained)
        self._limiter, self._rings = Limiter(), Rings(places.rings)
        self._beat, self._posted = turned, Posted(places)
        alone = abilities.own_network()
        bridge = f"{listening.address}:{listening.bridge_port}"
        self._launcher = Launcher(places, identity, self._store, bridge, own_network=not alone)
        self._driver = ExecDriver(rooms.of(places), Cgroups(cgroup), self._launcher, self._wake, self._died)
        secret, public = identity.curve_secret_path.read_bytes().strip(), identity.member.curve_public.encode()
        self._peers = Peers(secret, public, self._heard)
        spools = Spools(places.spools)
        self._prober = Prober(places.probes, self._where, self._stream_look, self._wake)
        self._sight = Sight(
            self._driver, self._rings, spools, self._store, places.status, places.counted, self._prober.follow
        )
        state = self._recovered()
        self._contact = self._made_contact(obeys=state.plan is not None)
        self._wall = WallClock(self._notes.clock)
        kept = (self._journal, self._notes, self._outbox, self._store)
        self._findings += tuple(filter(None, (alone, *(text for each in kept for text in each.findings))))
        self._notes.settled(sums=self._notes.sums)
        self._showing, self._renewing = Showing(self._rings.path_of), Renewing(identity, self._reserve.write)
        self._link = self._made_link()
        self._siblings, self._bringing = self._made_bringing()
        self._watching = Watching(self._siblings.answers, self._link.stir)
        self._hands = Hands(
            self._journal,
            self._outbox,
            self._driver,
            self._rings,
            spools,
            self._peers,
            self._bringing.bring,
            self._link.answer,
            self._wake,
            self._reserve,
        )
        self._updating = self._made_updating(trial)
        self._loop = self._made_loop(state)

    def _made_contact(self, *, obeys: bool) -> ContactKeeper:
        notes, room, keeps = self._notes, self._reserve.begin, files.takes_changes(self._places.state)
        return ContactKeeper(notes.contact, notes.beat, obeys=obeys, room=room, keeps=keeps)

    def _made_bringing(self) -> tuple[Siblings, Bringing]:
        link, limiter = self._link, self._limiter
        open_ms = OpenClock(lambda: link.up and limiter.limit != 0)
        siblings = Siblings(self._peers.reach, open_ms)
        site = Site(self._identity.member.host, siblings, lambda: link.up, open_ms)
        bringing = Bringing(self._store, limiter, link.offer, link.chunks, site)
        self._peers.answer_by(Serving(self._store, bringing.standing).answer)
        return siblings, bringing

    def _made_loop(self, state: AgentState) -> Loop:
        return Loop(
            state,
            self._sight,
            self._hands,
            self._rings,
            self._outbox,
            self._plan_in_force,
            self._link.stir,
            self._problems,
            self._stands,
            self._turned,
            self._updating.seen,
        )

    def _made_updating(self, trial: Trialling) -> Updating:
        return Updating(
            self._places,
            trial,
            self._store,
            self._outbox,
            Around(self._driver.pids, lambda: self._loop.calm, self._stays, self._reserve.write, self._notes),
        )

    def _made_link(self) -> Link:
        ends = Ends(
            self._hello,
            self.observed,
            self._rings.gauges,
            self._plan_came,
            self._outbox,
            self._showing.show,
            self._sight.flows,
            self._welcomed,
            self._renewing.unanswered,
            self._transfers,
            lambda: self._limiter.piece_bytes,
            lambda: self._limiter.at_once_bytes,
            self._look_for,
            lambda: self._watching.sees,
        )
        return Link(lambda: self._renewing.identity, ends)

    async def __aenter__(self) -> Self:
        """Listen, and adopt what runs."""
        try:
            port = self._peers.open(self._listening.address, self._listening.agent_port)
            adopted = await self._driver.adopt()
            self._updating.adopted()
        except BaseException:
            await self._close()
            raise
        member = self._identity.member
        log.info("agent of %s/%s, listening on port %d for other agents", member.galaxy, member.host, port)
        if adopted:
            log.info("adopted: %s", ", ".join(adopted))
        for finding in self._findings:
            log.warning("%s", finding)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of everything."""
        await self._close()

    def observed(self) -> Observed:
        """The host as the controller shall know it."""
        return self._loop.observed()

    async def run_until(self, stop: asyncio.Event) -> None:
        """Run until asked to stop. Whatever a part raises ends the agent: the next one finds all that is on the disk."""
        if stop.is_set():
            return
        loop = asyncio.get_running_loop()
        parts: list[asyncio.Task[object]] = [
            loop.create_task(work)
            for work in (
                self._loop.run(),
                self._link.run(),
                self._renewing.run(),
                self._updating.run(),
                self._watching.run(),
                self._peers.serve(),
                stop.wait(),
            )
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)

    async def _close(self) -> None:
        await self._showing.close()
        await self._prober.close()
        await self._hands.close()
        await self._peers.close()
        await self._driver.close()
        self._rings.close()
        self._outbox.close()
        self._journal.close()

    def _recovered(self) -> AgentState:
        """The core's state from the journal. A plan that is not (or no longer) for us to obey leaves it without one (P1)."""
        trust = self._identity.trust()
        seed, now_ms = int.from_bytes(os.urandom(4), "big"), clock.boot_ms()
        try:
            state = core.recovered(trust, self._journal.entries, seed, now_ms, self._journal.floor)
            if state.plan is not None:
                self._journal.obeyed(state.plan.plan.revision)
            return state
        except HalftrackError as error:
            self._findings += (
                f"the journal's plan is not obeyed ({error.message}); running workloads go on without one",
            )
            return core.recovered(trust, (), seed, now_ms, self._journal.floor)

    def _plan_in_force(self, trusted: TrustedPlan) -> None:
        """Everybody who uses the plan's peers learns about them, before anything of the plan is begun."""
        plan = trusted.plan
        peers = {peer.host: peer for peer in plan.peers}
        admitted = canonical.encode({host: peer.curve_public for host, peer in peers.items()})
        try:
            files.replace(self._places.peers, admitted, durable=False)
            self._trouble = ""
        except HalftrackError as error:
            self._trouble = error.message  # the bridge goes on admitting the peers of the plan before
        self._launcher.use(peers, plan.workloads)
        self._prober.use(plan.workloads)
        siblings = {peer.host: peer for peer in plan.siblings}
        self._peers.use(peers, siblings)
        self._siblings.use(siblings)
        self._limiter.use(plan.bandwidth)
        instances = self._loop.state.instances.values()  # none before the first look, though some may run
        running = {each.workload.artifact for each in instances if each.workload.artifact}
        self._updating.use(plan)
        artifacts = retention.artifacts_of(plan, self._updating.keeps)
        self._bringing.use(frozenset().union(*artifacts.values()))
        self._store.retain(artifacts, running or None, retention.archives_of(plan))
        log.info("plan %d is in force", plan.revision)

    def _stands(self, held: int) -> ContactSeen:
        """How this host, which holds that revision, stands with its controller."""
        return self._contact.look(in_step=self._link.in_step(held))

    def _where(self, workload: Workload, probe: Probe, relay: Path) -> Where | None:
        """Where a probe finds a running instance."""
        pid = self._driver.pids().get(workload.name)
        if pid is None:
            return None
        if probe.kind is not ProbeKind.EXEC:  # nothing is run beside it
            return Where(pid, relay)
        words, environment = self._launcher.words(workload, probe.command), self._launcher.environment(workload)
        return Where(pid, relay, self._driver.groups(workload.name), words, environment)

    def _stream_look(self, workload: Workload) -> StreamLook | None:
        """What the rings say of who reads them; None while it reads none."""
        rings = self._rings.seen()
        found = [
            (rings[name], rings[name].lags.get(reader_name(workload.name)))
            for name in workload.read_rings
            if name in rings
        ]
        lags = [(ring, lag) for ring, lag in found if lag is not None]
        if not lags:
            return None
        ring, lag = max(lags, key=lambda each: each[1])
        return StreamLook(lag, max(FEW_FRAMES, (ring.head - ring.tail) // 2), self._sight.missing(workload.name))

    # What parts that are made before the loop call it for.

    def _wake(self) -> None:
        self._loop.wake()

    def _heard(self, word: Heard) -> None:
        self._loop.heard(word)

    def _plan_came(self, sealed: Sealed) -> None:
        """While a new version of the agent is on trial, plans wait: the version before must be able to read all that is on the disk."""
        if self._updating.on_trial:
            self._waiting_plan = sealed
        else:
            self._loop.plan_came(sealed)

    def _stays(self) -> None:
        if self._waiting_plan is not None:
            self._loop.plan_came(self._waiting_plan)
            self._waiting_plan = None

    def _transfers(self) -> tuple[TransferGauge, ...]:
        return self._bringing.gauges()

    def _look_for(self, hosts: tuple[str, ...]) -> None:
        self._watching.look_for(hosts)

    def _died(self, _pid: int) -> None:
        self._rings.reap()
        self._loop.wake()

    def _welcomed(self, said: Welcome) -> None:
        self._renewing.welcomed(said)
        self._wall.told(said.now_ms)

    def _problems(self) -> tuple[str, ...]:
        own = tuple(filter(None, (self._trouble, self._reserve.problem)))
        first = (self._journal, self._renewing, self._wall, self._peers, self._siblings, self._updating)
        then = (self._driver, self._rings, self._sight, self._outbox)
        words = [[text for each in some for text in each.problems] for some in (first, then)]
        return (*own, *words[0], *self._findings, *words[1])

    def _hello(self) -> Hello:
        plan = self._loop.state.plan
        return Hello(
            host=self._identity.member.host,
            boot_id=clock.boot_id(),
            agent_version=importlib.metadata.version("halftrack"),
            revision=0 if plan is None else plan.plan.revision,
            observed_digest=self._loop.observed().digest(),
            outbox_first=self._outbox.first,
            outbox_next=self._outbox.next,
            takes_parts=True,
        )

    def _turned(self) -> None:
        """The loop has looked. What is to be done every so often is done then: to wake up once more for it would cost more than it does."""
        self._beat()
        if self._posted.due(clock.boot_ms()):
            self._posted.post(self._loop.observed(), self._bringing.gauges())
            self._wall.keep()
            self._inherited.reap()
            self._driver.keep_logs()
