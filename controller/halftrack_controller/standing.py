"""Standing: what is in force, what is moving, and what we know of hosts; read from a Snapshot. Pure, decides nothing.

A rollout is *in flight* from the moment that a plan with its workloads exists, because from then on hosts may act on it, until the
hosts have told how it ended. An aborted or refused swap is still in flight: the hosts must first have taken it back.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from halftrack_controller import placement
from halftrack_controller.quantities import rough_age_text
from halftrack_controller.snapshot import NEVER_SEEN, Rollout, RolloutPhase, Seen, Snapshot
from halftrack_model.errors import Refused
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.observed import Owner
from halftrack_model.plan import Plan
from halftrack_model.release import Release
from halftrack_model.rewiring import carried
from halftrack_model.swap import Phase, SwapRecord, SwapSpec
from halftrack_model.versions import Version
from halftrack_proto.graph_messages import GraphQuery

# A host confirms what it knows with each heartbeat (seconds apart). A link may be given up and made anew before its word is merely old.
FRESH_MS = 15_000
SIGHTED_MS = 15_000  # what a sibling has said of a host stands for as long, too


@dataclass(frozen=True, slots=True)
class InForce:
    """The release of a vertex that last succeeded."""

    version: str
    generation: int


def in_force(snapshot: Snapshot, environment: str, graph: str, vertex: str) -> InForce | None:
    """What the vertex runs when nothing moves; None before its first release has succeeded."""
    last = snapshot.history.in_force(environment, graph, vertex)
    return None if last is None else InForce(last.to_version, last.to_generation)


def moving(snapshot: Snapshot, environment: str, graph: str, vertex: str) -> Rollout | None:
    """The rollout that hosts may be acting on at this vertex, or that they shall begin with now."""
    mine = snapshot.history.unsettled_of(environment, graph, vertex)
    return next((r for r in reversed(mine) if r.phase is RolloutPhase.RUNNING or in_flight(snapshot, r)), None)


def in_flight(snapshot: Snapshot, rollout: Rollout) -> bool:
    """May hosts be acting on it?"""
    if rollout.phase in (RolloutPhase.RUNNING, RolloutPhase.PAUSED):
        return any(plan_carries(plan, rollout) for plan in snapshot.plans.of_graph(rollout.environment, rollout.graph))
    if rollout.phase in (RolloutPhase.ABORTED, RolloutPhase.FAILED):
        swap = held_swap(snapshot, rollout.rollout_id)
        return swap is not None and not taken_back(snapshot, swap)
    return False


def plan_carries(plan: Plan, rollout: Rollout) -> bool:
    """Does the plan run what `rollout` brings?"""
    if any(swap.swap_id == rollout.rollout_id for swap in plan.swaps):
        return True
    graph, vertex, version = rollout.graph, rollout.vertex, rollout.to_version
    single = placement.workload_name(graph, vertex)
    members = {placement.member_name(graph, vertex, member, version) for member in placement.MEMBERS}
    return any(w.name in members or (w.name == single and w.version == version) for w in plan.workloads)


def plans_of(snapshot: Snapshot, environment: str) -> tuple[Plan, ...]:
    """The newest plans made for the hosts of an environment."""
    return snapshot.plans.of_environment(environment)


def held_swap(snapshot: Snapshot, swap_id: str) -> SwapSpec | None:
    """The swap as the hosts were told it, from any plan."""
    return snapshot.plans.swap(swap_id)


def record(snapshot: Snapshot, swap: SwapSpec) -> SwapRecord | None:
    """The leader's record as last observed. Old, perhaps, but what it has decided stays decided."""
    observed = seen(snapshot, swap.leader).observed
    return next((r for r in observed.swaps if r.swap_id == swap.swap_id), None) if observed else None


def waits(snapshot: Snapshot, swap: SwapSpec) -> str:
    """The evidence that its leader waits for, as last observed; empty when there is none, or nothing to wait for."""
    observed = seen(snapshot, swap.leader).observed
    return next((each.text for each in observed.waits if each.swap_id == swap.swap_id), "") if observed else ""


def taken_back(snapshot: Snapshot, swap: SwapSpec) -> bool:
    """Has the leader told that the swap is undone, or never begun with it?

    It never began when it refuses the newest plan and the plan that it does run knows no such swap: then no host will ever move.
    (A swap that ended as DONE is not taken back: it stays in the plans until its rollout is recorded as succeeded.)
    """
    known = record(snapshot, swap)
    if known is not None:
        return known.phase is Phase.UNDONE
    at_leader = seen(snapshot, swap.leader)
    refused = refuses_newest(snapshot, swap.leader)
    return refused and at_leader.observed is not None and at_leader.observed.revision == at_leader.accepted_revision


def refuses_newest(snapshot: Snapshot, host: str) -> bool:
    """Has the host refused the newest plan made for it?"""
    held, refusal = snapshot.held.get(host), seen(snapshot, host).refusal
    return held is not None and refusal is not None and refusal.revision == held.plan.revision


def seen(snapshot: Snapshot, host: str) -> Seen:
    """What is known of a host's present; nothing for one that the galaxy does not know."""
    return snapshot.seen.get(host, NEVER_SEEN)


def visible(snapshot: Snapshot, host: str) -> bool:
    """Is what we know of it still new enough to decide by? If not, it is unknown: never bad (O1)."""
    return fresh(seen(snapshot, host))


def fresh(known: Seen) -> bool:
    """As `visible`, of what is known of a host."""
    return known.connected and known.observed is not None and 0 <= known.observed_age_ms <= FRESH_MS


def silence(snapshot: Snapshot, host: str) -> str:
    """Why a host's state is unknown, with its age, for people; empty while it is known."""
    if visible(snapshot, host):
        return ""
    if host not in snapshot.hosts:
        return f"{host} is not registered"
    if not snapshot.hosts[host].enrolled:
        return f"{host} has not enrolled"
    known = seen(snapshot, host)
    if known.last_seen_age_ms < 0:
        return f"{host} has never been seen"
    if known.observed is None:
        return f"{host} has not yet told its state"
    age_ms = max(known.last_seen_age_ms, known.observed_age_ms)
    return f"{host} was last seen {rough_age_text(age_ms)} ago"


def sighted_by(snapshot: Snapshot, host: str) -> str:
    """Which other host of its site sees it now, while we do not; empty: none does, or none can tell. Evidence of reachability, never of health (O1)."""
    known = seen(snapshot, host)
    fresh = known.sighting.by and 0 <= known.sighting.age_ms <= SIGHTED_MS
    return known.sighting.by if fresh and not known.connected else ""


def any_visible(snapshot: Snapshot, hosts: Iterable[str]) -> bool:
    """Is anything known of any of them?"""
    return any(visible(snapshot, host) for host in hosts)


def silences(snapshot: Snapshot, hosts: Iterable[str]) -> str:
    """All that is unknown of `hosts`, in one sentence without its end; empty when all are known."""
    return " and ".join(text for host in hosts if (text := silence(snapshot, host)))


def checked_environment(snapshot: Snapshot, name: str) -> str:
    """`name`, if there is such an environment; empty means all of them."""
    if name and name not in snapshot.environments:
        raise Refused("unknown-environment", f"no environment {name!r}: apply its manifest first")
    return name


def graph_meant(snapshot: Snapshot, query: GraphQuery) -> StreamGraph:
    """The graph that is meant; Refused when there is none, or more than one."""
    environment = environment_meant(snapshot, query, {(graph.environment, graph.name) for graph in snapshot.graphs})
    return next(graph for graph in snapshot.graphs if (graph.environment, graph.name) == (environment, query.graph))


def environment_meant(snapshot: Snapshot, query: GraphQuery, known: Iterable[tuple[str, str]]) -> str:
    """Where the graph that is meant is, of those that are `known` by environment and name; Refused when it is none of them, or more than one."""
    checked_environment(snapshot, query.environment)
    everywhere = sorted(known)
    found = [where for where, name in everywhere if name == query.graph and query.environment in ("", where)]
    if not found:
        there = ", ".join(f"{where}/{name}" for where, name in everywhere) or "none: apply one"
        raise Refused("unknown-graph", f"no graph {query.graph!r}; there is {there}")
    if len(found) > 1:
        raise Refused(
            "ambiguous-graph",
            f"a graph {query.graph!r} runs in {', '.join(found)}: say which with --environment",
        )
    return found[0]


def at_work(snapshot: Snapshot, graph: StreamGraph) -> frozenset[str]:
    """The vertices of a graph that hosts run, or shall run now; also those that leave it."""
    vertices = (*graph.vertices, *graph.leaving.vertices)
    where = snapshot, graph.environment, graph.name
    return frozenset(v.name for v in vertices if in_force(*where, v.name) or moving(*where, v.name))


def owner(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex) -> Owner | None:
    """Which of its inputs the vertex's inlet passes, as its host has last told. Old, perhaps; but an inlet never goes back."""
    if not graph.live or not graph.inputs(vertex.name):
        return None
    observed = seen(snapshot, placement.inlet_host(graph, vertex)).observed
    ring = placement.inlet_ring_name(graph.name, vertex.name)
    return next((each for each in observed.owners if each.ring == ring), None) if observed else None


def counting(snapshot: Snapshot, graph: StreamGraph) -> frozenset[str]:
    """The vertices that keep a state, by their word or their release's, and so count their outputs themselves."""
    found = set()
    for vertex in graph.vertices:
        release = release_of(snapshot, graph, vertex)
        if vertex.role.transforms and (vertex.state or (release is not None and release.state.writes)):
            found.add(vertex.name)
    return frozenset(found)


def release_of(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex) -> Release | None:
    """The release in force at the vertex, else the newest of its product, which would be its first; None when there is none."""
    force = in_force(snapshot, graph.environment, graph.name, vertex.name)
    mine = [known.release for (product, _), known in sorted(snapshot.releases.items()) if product == vertex.product]
    newest = max(mine, key=lambda release: Version.parse(release.version), default=None)
    return next((each for each in mine if force and each.version == force.version), newest)


def vertex_of(snapshot: Snapshot, rollout: Rollout) -> tuple[StreamGraph, Vertex] | None:
    """The graph and vertex that the rollout is for, while hosts carry them."""
    stored = snapshot.graph(rollout.environment, rollout.graph)
    graph = carried(stored) if stored else None
    vertex = next((v for v in graph.vertices if v.name == rollout.vertex), None) if graph else None
    return None if graph is None or vertex is None else (graph, vertex)


def leaves(snapshot: Snapshot, rollout: Rollout) -> bool:
    """Has an edit taken the vertex out of its graph, which is live?"""
    graph = snapshot.graph(rollout.environment, rollout.graph)
    return graph is not None and graph.live and all(vertex.name != rollout.vertex for vertex in graph.vertices)


def hands_over(rollout: Rollout, vertex: Vertex) -> bool:
    """Does another release go on from the state of the one in force?"""
    return vertex.role.transforms and bool(rollout.from_version)


def is_swap(rollout: Rollout, vertex: Vertex) -> bool:
    """Does it take a pair from one release to another, rather than install it or replace a single instance?"""
    return vertex.role is Role.PAIR and bool(rollout.from_version)


def input_slots(graph: StreamGraph, vertex: Vertex) -> int | None:
    """Frames that the vertex's input ring holds; None when it has no input."""
    return min((graph.vertex(name).ring_slots for name in graph.inputs(vertex.name)), default=None)
