"""A controller without sockets for tests of its deciding core: rows in memory, the loop's order of calls, hosts told by hand."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from halftrack_controller import deleting, planner, rollout
from halftrack_controller.remembering import Memory
from halftrack_controller.snapshot import (
    NEVER_SEEN,
    Environment,
    Generation,
    Held,
    Host,
    Planning,
    Published,
    Refusal,
    Rollout,
    RolloutChange,
    Seen,
    Snapshot,
)
from halftrack_model import canonical, seals
from halftrack_model.edits import GraphRecord
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.ids import digest_of
from halftrack_model.observed import Health, InstanceObserved, Observed
from halftrack_model.plan import Plan
from halftrack_model.release import Approval, Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import Seal, Sealed
from halftrack_model.swap import Phase, SwapRecord
from halftrack_model.workload import Runs, Workload
from halftrack_proto.graph_messages import Deletion, GraphQuery

NOW_MS = 1_000_000
CURVE = "k" * 40


def host(name: str, environment: str = "tank", enrolled: bool = True) -> Host:
    number = sum(name.encode()) % 250
    address = f"10.0.0.{number}"
    return Host(name, environment, {}, f"{address}:7450", f"{address}:7451", CURVE if enrolled else "")


def spectra(environment: str = "tank", a: str = "tank-a", b: str = "tank-b", name: str = "spectra") -> StreamGraph:
    """The demo's graph: source → spectrometer (a pair) → sink; all but one member on host `a`."""
    return StreamGraph(
        name,
        environment,
        (
            Vertex("source", Role.SOURCE, "spectra-source", (a,), {"rate": 32}, 1 << 28, 16384),
            Vertex("spectrometer", Role.PAIR, "spectrometer", (a, b), {}, 1 << 24, 4096),
            Vertex("sink", Role.SINK, "spectra-sink", (a,), {}, 0, 0),
        ),
        (Edge("source", "spectrometer"), Edge("spectrometer", "sink")),
    )


def release(
    product: str, version: str, writes: str = "s/1", reads: tuple[str, ...] = ("s/1",), manual: bool = False
) -> Release:
    approval = Approval.MANUAL if manual else Approval.AUTOMATIC
    artifact = Artifact(digest_of(f"{product} {version}".encode()), 1000)
    state = StateSchemas(writes, reads)
    return Release(product, version, artifact, "main:Main", {"k": 1}, state, SwapStrategy(approval=approval))


@dataclass
class World:
    """All that a store would hold."""

    environments: dict[str, Environment] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    graphs: list[StreamGraph] = field(default_factory=list)
    releases: dict[tuple[str, str], Published] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    generations: list[Generation] = field(default_factory=list)
    held: dict[str, Held] = field(default_factory=dict)
    seen: dict[str, Seen] = field(default_factory=dict)
    past: list[dict[str, Plan]] = field(default_factory=list)  # every set of plans there ever was
    planning: Planning = field(default_factory=lambda: Planning({}, ()))
    memory: Memory = field(default_factory=Memory)
    deleted: set[tuple[str, str]] = field(default_factory=set)

    def snapshot(self) -> Snapshot:
        return Snapshot(
            galaxy="north",
            environments=dict(sorted(self.environments.items())),
            hosts=dict(sorted(self.hosts.items())),
            graphs=tuple(sorted(self.graphs, key=lambda graph: (graph.environment, graph.name))),
            releases=dict(sorted(self.releases.items())),
            artifacts=frozenset(p.release.artifact.digest for p in self.releases.values()),
            rollouts=tuple(self.rollouts.values()),
            generations=tuple(self.generations),
            held=dict(sorted(self.held.items())),
            seen={name: self.seen.get(name, NEVER_SEEN) for name in sorted(self.hosts)},
            records={
                (each.environment, each.name): GraphRecord(each.environment, each.name, 1, each, each, ())
                for each in self.graphs
            },
            deleted=frozenset(self.deleted),
        )

    # ------------------------------------------------------------------------------------------------- what people do

    def publish(self, new: Release) -> None:
        sealed = Sealed(seals.RELEASE, canonical.encode(new), (Seal("release-key", b"genuine"),))
        self.releases[(new.product, new.version)] = Published(new, sealed, NOW_MS)
        self.record(rollout.started(self.snapshot(), new, NOW_MS))

    def declare(self, graph: StreamGraph) -> None:
        """By a manifest; as the service does, with rollouts where the graph was deleted before."""
        key = (graph.environment, graph.name)
        again = key in self.deleted
        self.deleted.discard(key)
        self.graphs = [*(each for each in self.graphs if (each.environment, each.name) != key), graph]
        if again:
            self.record(rollout.begun_again(self.snapshot(), graph, NOW_MS))

    def delete(self, name: str, environment: str = "", operator: str = "anna") -> Deletion:
        ends = deleting.ending(self.snapshot(), GraphQuery(environment, name), operator)
        self.graphs = [each for each in self.graphs if (each.environment, each.name) != (ends.environment, ends.name)]
        self.deleted.add((ends.environment, ends.name))
        return ends

    def record(self, changes: Iterable[RolloutChange]) -> None:
        for change in changes:
            moved = change.rollout
            if moved.rollout_id not in self.rollouts:
                key = (moved.environment, moved.graph, moved.vertex)
                self.generations.append(Generation(*key, moved.to_generation, moved.product, moved.to_version))
            self.rollouts[moved.rollout_id] = moved

    # ---------------------------------------------------------------------------------------------- what the loop does

    def settle(self) -> list[str]:
        """Advance and plan until nothing changes, as the loop does; what happened, a line each."""
        said: list[str] = []
        for _ in range(20):
            before = dict(self.rollouts)
            changes = rollout.advance(self.snapshot(), NOW_MS)
            self.record(changes)
            said += [_rollout_line(before.get(c.rollout.rollout_id), c.rollout) for c in changes]
            planned = self._plan()
            said += planned
            if not changes and not planned:
                return said
        raise AssertionError("the controller never comes to rest: " + "; ".join(said[-6:]))

    def _plan(self) -> list[str]:
        self.planning = planner.plan(self.snapshot(), NOW_MS, self.memory)
        assert self.planning == planner.plan(self.snapshot(), NOW_MS), "what is remembered changes nothing"
        said = []
        for name, plan in self.planning.plans.items():
            old = self.held[name].plan if name in self.held else None
            if old is not None and planner.same_but_revision(old, plan):
                continue
            new = replace(plan, revision=1 if old is None else old.revision + 1)
            self.held[name] = Held(new, Sealed(seals.PLAN, canonical.encode(new), (Seal("plan-key", b"genuine"),)))
            said += _plan_lines(old, new)
        if said:
            self.past.append({name: held.plan for name, held in self.held.items()})
        return said

    # -------------------------------------------------------------------------------------------------- what hosts tell

    def accept(self, name: str, health: Health = Health.HEALTHY) -> None:
        """The host accepts its newest plan; what it wants runs (members of a green only once the swap says so)."""
        plan = self.held[name].plan
        greens = {seat.green_workload for swap in plan.swaps for seat in swap.seats}
        rows = tuple(
            InstanceObserved(w.name, w.digest(), "running", health, 0, "")
            for w in plan.workloads
            if w.name not in greens
        )
        swaps = self._swaps_known(name)
        kept = tuple(record for record in swaps if any(spec.swap_id == record.swap_id for spec in plan.swaps))
        self.seen[name] = Seen(True, 0, Observed(name, plan.revision, rows, kept, ()), 0, plan.revision, None)

    def refuse(self, name: str, reason: str, message: str) -> None:
        known = self.seen.get(name, NEVER_SEEN)
        refusal = Refusal(self.held[name].plan.revision, reason, message)
        self.seen[name] = replace(known, connected=True, last_seen_age_ms=0, refusal=refusal)

    def tell_swap(self, swap_id: str, phase: Phase, leg: int = 0, reason: str = "") -> None:
        """The leader shows its record."""
        spec = next(spec for held in self.held.values() for spec in held.plan.swaps if spec.swap_id == swap_id)
        known = self.seen[spec.leader]
        assert known.observed is not None
        others = tuple(record for record in known.observed.swaps if record.swap_id != swap_id)
        new = SwapRecord(swap_id, len(others) + 1, leg, phase, 1, -1, 0, 0, 0, 0, reason)
        self.seen[spec.leader] = replace(known, observed=replace(known.observed, swaps=(*others, new)))

    def silent(self, name: str, age_ms: int) -> None:
        known = self.seen.get(name, NEVER_SEEN)
        self.seen[name] = replace(known, connected=False, last_seen_age_ms=age_ms, observed_age_ms=age_ms)

    def back(self, name: str) -> None:
        known = self.seen.get(name, NEVER_SEEN)
        self.seen[name] = replace(known, connected=True, last_seen_age_ms=0, observed_age_ms=0)

    def shows(self, name: str, workload: str, phase: str, health: Health, restarts: int, detail: str) -> None:
        """One instance looks different from now on."""
        known = self.seen[name]
        assert known.observed is not None
        rows = tuple(
            replace(row, phase=phase, health=health, restarts=restarts, detail=detail)
            if row.workload == workload
            else row
            for row in known.observed.instances
        )
        self.seen[name] = replace(known, observed=replace(known.observed, instances=rows))

    def _swaps_known(self, name: str) -> tuple[SwapRecord, ...]:
        observed = self.seen.get(name, NEVER_SEEN).observed
        return observed.swaps if observed else ()


def tank(enrolled: tuple[str, ...] = ("tank-a", "tank-b")) -> World:
    """The demo's environment, nothing published yet."""
    world = World()
    world.environments["tank"] = Environment("tank", {}, "stable")
    for name in ("tank-a", "tank-b"):
        world.hosts[name] = host(name, enrolled=name in enrolled)
    world.graphs.append(spectra())
    return world


def deployed(version: str = "1.0.0") -> World:
    """The demo's environment with everything running."""
    world = tank()
    for product in ("spectra-source", "spectra-sink"):
        world.publish(release(product, "1.0.0"))
    world.publish(release("spectrometer", version))
    world.settle()
    for name in ("tank-a", "tank-b"):
        world.accept(name)
    world.settle()
    return world


def _rollout_line(old: Rollout | None, new: Rollout) -> str:
    was = "new" if old is None else old.phase.value
    moved = was if was == new.phase.value else f"{was} → {new.phase.value}"
    return f"rollout {new.rollout_id} ({new.product} {new.to_version}) {moved}: {new.reason or '-'}"


def _plan_lines(old: Plan | None, new: Plan) -> list[str]:
    head = f"{new.host} plan {new.revision}"
    lines = []
    old_work = {w.name: w for w in old.workloads} if old else {}
    new_work = {w.name: w for w in new.workloads}
    lines += [f"{head}: - {name}" for name in sorted(set(old_work) - set(new_work))]
    for name, workload in sorted(new_work.items()):
        if name not in old_work:
            lines.append(f"{head}: + {name}{_wires(workload)}")
        elif old_work[name] != workload:
            lines.append(f"{head}: ~ {name}")
    old_swaps = {swap.swap_id: swap for swap in old.swaps} if old else {}
    new_swaps = {swap.swap_id: swap for swap in new.swaps}
    lines += [f"{head}: swap {name} ends" for name in sorted(set(old_swaps) - set(new_swaps))]
    for name, swap in sorted(new_swaps.items()):
        if old_swaps.get(name) != swap:
            how = (
                "must be undone" if swap.abort else f"{swap.blue.version} → {swap.green.version}, led by {swap.leader}"
            )
            lines.append(f"{head}: swap {name} {how}")
    return lines or [f"{head}: only its peers, rings or seals change"]


def _wires(workload: Workload) -> str:
    reads, writes = workload.reads_ring, workload.writes_ring
    if workload.runs is Runs.BRIDGE_RECEIVER:
        return f" (replica of {reads})"
    if workload.inlet is not None:
        joined = f" {workload.inlet.join} of " if workload.inlet.join else " "
        reads = joined.lstrip() + " + ".join(f"{each.ring} {each.policy}" for each in workload.inlet.inputs)
    return f" ({reads or '·'} → {writes or '·'})" if reads or writes else ""
