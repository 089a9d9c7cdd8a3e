"""The controller: its real planner and rollout core over an in-memory snapshot, in a loop that may be dead for a while.

The store's rows survive a crash; what is known of the hosts' present does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from halftrack_controller import deleting, planner, rollout
from halftrack_controller.remembering import Memory
from halftrack_controller.snapshot import (
    Environment,
    Generation,
    Held,
    Host,
    Published,
    Refusal,
    Rollout,
    RolloutChange,
    RolloutPhase,
    Seen,
    Snapshot,
)
from halftrack_controller.tables import Graphs, Hosts, Plans, Rollouts
from halftrack_model import canonical, seals
from halftrack_model.errors import Refused
from halftrack_model.graph import StreamGraph
from halftrack_model.observed import Observed
from halftrack_model.plan import Plan
from halftrack_model.release import Release
from halftrack_model.seals import Sealed
from halftrack_model.swap import Phase
from halftrack_proto.graph_messages import GraphQuery
from tests.sim import keys, messages

if TYPE_CHECKING:
    from tests.sim.world import World

TURN_MS = 250
DOUBT_EVERY = 50  # turns between two looks at whether the planner's memory is right
CONNECTED_MS = 2_000
RETRY_DECLINED_MS = 30_000  # as the session's
GALAXY, ENVIRONMENT = "sim", "tank"


@dataclass(slots=True)
class Known:
    """Of one host."""

    accepted: int = 0
    refusal: Refusal | None = None
    observed: Observed | None = None
    heard_ms: int = -1
    sent: int = 0  # the revision that it has yet to answer
    refused_ms: int = 0


class SimController:
    """One controller over all hosts."""

    name = "controller"

    def __init__(self, world: World, hosts: list[str], graphs: list[StreamGraph]) -> None:
        self.world, self.story = world, world.story
        self.graphs = Graphs(graphs)
        self.hosts = Hosts({h: Host(h, ENVIRONMENT, {}, f"{h}:7450", f"{h}:7451", "k" * 40) for h in sorted(hosts)})
        self.releases: Mapping[tuple[str, str], Published] = {}
        self.rollouts: dict[str, Rollout] = {}
        self.generations: list[Generation] = []
        self.held: dict[str, Held] = {}
        self.sent: dict[str, list[Sealed]] = {}  # all plans ever, for whoever wants to replay one
        self.known = {host: Known() for host in self.hosts}
        self.alive = True
        self._changed = True
        self._memory, self._turns = Memory(), 0
        self.stale = {*self.hosts}  # hosts of which something new is known
        self._rollouts, self._plans, self._generations = Rollouts(), Plans(), tuple[Generation, ...]()
        self._artifacts = frozenset[str]()
        self.deleted = frozenset[tuple[str, str]]()
        self._planned: dict[str, Plan] = {}  # what was compared with what is held, last

    # ---- the store --------------------------------------------------------------------------------------------------

    def publish(self, release: Release) -> None:
        """A release that was sealed elsewhere."""
        sealed = keys.sealed(seals.RELEASE, canonical.encode(release), keys.RELEASE)
        published = Published(release, sealed, self._now_ms())
        self.releases = {**self.releases, (release.product, release.version): published}
        self._artifacts |= {release.artifact.digest}
        self.story.tell(self.name, f"{release.product} {release.version} is published")
        self._record(rollout.started(self.snapshot(), release, self._now_ms()))

    def abort(self, rollout_id: str) -> None:
        """The operator's wish."""
        try:
            self._record(rollout.aborted(self.snapshot(), rollout_id))
        except Refused as error:
            self.story.tell(self.name, f"abort refused: {error.message}")

    def delete(self, name: str) -> None:
        """The operator ends a graph."""
        ends = deleting.ending(self.snapshot(), GraphQuery(ENVIRONMENT, name), "operator")
        self.graphs = Graphs(graph for graph in self.graphs if graph.name != ends.name)
        self.deleted |= {(ends.environment, ends.name)}
        self._changed = True
        self.story.tell(
            self.name, f"{name} is deleted; it ends on {', '.join(each.host for each in ends.hosts) or 'no host'}"
        )

    def declare(self, graph: StreamGraph) -> None:
        """A graph that was deleted is there again."""
        self.deleted -= {(graph.environment, graph.name)}
        self.graphs = Graphs(sorted((*self.graphs, graph), key=lambda each: each.name))
        self._changed = True
        self.story.tell(self.name, f"{graph.name} is declared again")
        self._record(rollout.begun_again(self.snapshot(), graph, self._now_ms()))

    def snapshot(self) -> Snapshot:
        """Everything, now."""
        return Snapshot(
            galaxy=GALAXY,
            environments={ENVIRONMENT: Environment(ENVIRONMENT, {}, "stable")},
            hosts=self.hosts,
            graphs=self.graphs,
            releases=self.releases,
            artifacts=self._artifacts,
            rollouts=self._rollouts,
            generations=self._generations,
            held=self._plans,
            seen=self.seen_all(),
            deleted=self.deleted,
        )

    def seen_all(self) -> Mapping[str, Seen]:
        """What is known of each host's present."""
        return {host: self._seen(known) for host, known in self.known.items()}

    def _now_ms(self) -> int:
        return self.world.now_ms

    def _seen(self, known: Known) -> Seen:
        age_ms = -1 if known.heard_ms < 0 else self.world.now_ms - known.heard_ms
        connected = 0 <= age_ms <= CONNECTED_MS
        return Seen(connected, age_ms, known.observed, age_ms, known.accepted, known.refusal)

    def _record(self, changes: tuple[RolloutChange, ...]) -> None:
        for change in changes:
            new = change.rollout
            old = self.rollouts.get(new.rollout_id)
            self.rollouts[new.rollout_id] = new
            self._changed = True
            if old is None:
                row = Generation(new.environment, new.graph, new.vertex, new.to_generation, new.product, new.to_version)
                self.generations.append(row)
            self._rollouts, self._generations = Rollouts(self.rollouts.values()), tuple(self.generations)
            if old is None or old.phase is not new.phase:
                self._verdict(new)
                self.story.tell(self.name, f"rollout {new.rollout_id} is {new.phase.value}: {new.reason}")

    def _verdict(self, new: Rollout) -> None:
        ends = {RolloutPhase.SUCCEEDED: Phase.DONE, RolloutPhase.FAILED: Phase.UNDONE}
        if new.from_generation and new.phase in ends:  # a first install is no swap
            refused = any(known.refusal is not None for known in self.known.values())
            self.world.watch.judged(new.rollout_id, ends[new.phase], refused)

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Advance rollouts, make plans, push what is new."""
        if not self.alive or not self._changed:
            return
        self._changed = False
        if changes := rollout.advance(snapshot := self.snapshot(), self._now_ms()):
            self._record(changes)
            snapshot = self.snapshot()
        planning = planner.plan(snapshot, self._now_ms(), self._memory)
        self._turns += 1
        if self._turns % DOUBT_EVERY == 0:
            anew = planner.plan(snapshot, self._now_ms())
            assert planning == anew, "what the planner remembers is not what it would plan"
        news = [(host, plan) for host, plan in planning.plans.items() if self._planned.get(host) is not plan]
        self._planned.update(news)
        for host, plan in sorted(news):
            held = self.held.get(host)
            if held is not None and planner.same_but_revision(held.plan, plan):
                continue
            numbered = replace(plan, revision=held.plan.revision + 1 if held else 1)
            sealed = keys.sealed(seals.PLAN, canonical.encode(numbered), keys.PLAN)
            self.held[host] = Held(numbered, sealed)
            self._plans = Plans(self.held)
            self.sent.setdefault(host, []).append(sealed)
            self.known[host].refusal = None
            self.stale.add(host)
            self.world.watch.planned(numbered, sealed)
            self.story.tell(
                self.name, f"plans revision {numbered.revision} for {host}, swaps {[s.swap_id for s in plan.swaps]}"
            )
            self._push(host)

    def _push(self, host: str) -> None:
        held = self.held.get(host)
        if held is not None and self.alive:
            self.known[host].sent = held.plan.revision
            self.world.net.send(self.name, host, messages.Push(held.sealed))

    def receive(self, host: str, message: object) -> None:
        """From a host."""
        if not self.alive:
            return
        known, held = self.known[host], self.held.get(host)
        known.heard_ms = self.world.now_ms
        self._changed = True
        match message:
            case messages.Accepted(revision):
                known.accepted, known.sent = max(known.accepted, revision), 0
            case messages.Declined(revision, reason, text):
                if (
                    revision or known.sent
                ):  # else nothing of ours is unanswered: it is about something that we never sent
                    known.refusal = Refusal(revision or known.sent, reason, text)
                    known.sent, known.refused_ms = 0, self.world.now_ms
            case messages.Heartbeat(observed):
                known.observed = observed
                refused = (
                    held is not None and known.refusal is not None and known.refusal.revision == held.plan.revision
                )
                refused = refused and self.world.now_ms - known.refused_ms < RETRY_DECLINED_MS
                if held is not None and observed.revision < held.plan.revision and not refused:
                    self._push(host)

    def crash(self, back_in_ms: int) -> None:
        """Die, and forget what was only in memory."""
        self.alive = False
        self.story.tell(self.name, "is killed")
        self.world.timeline.after(back_in_ms, self._boot)

    def _boot(self) -> None:
        self.alive, self._changed = True, True
        self.known = {host: Known(known.accepted, known.refusal) for host, known in self.known.items()}
        self.story.tell(self.name, "is back")
