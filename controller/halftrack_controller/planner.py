"""The planner: from one snapshot to the plan that each host shall have, and why others get none. Pure and deterministic.

The rules, in the order in which they bind:

1. A swap that hosts may be acting on is never dropped or altered, except that `abort` may be set: while it lasts, its whole graph is
   taken from the plans that the hosts already have. A newer release, or an edited graph, waits for its end.
2. A graph is deployed whole: before its first deployment, every vertex must have a release in force or on its way, since a stream that
   begins before its consumers are there loses its beginning.
3. Nothing is ever taken away because something is missing (R3): a host for which no work is left keeps the plan that it has, and what no graph
   speaks of stays in the plans that have it. Somebody has to say that a graph shall end (`snapshot.deleted`).
4. What cannot be placed is left out with a reason; the rest goes on (O2).
5. A service that is replaced elsewhere stays in its host's plan, as one that is idle there: an order to stop must be said (`services`).
6. A host that runs nothing, of an environment that says which version agents shall be, gets a plan of that only; one for which nothing is left to
   run gets the plan that it has, with that version in it.
7. What an edit has taken out of a live graph is planned on, until hosts have told that they need it no more (`rewiring`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from halftrack_controller import agents, services, sparing, standing
from halftrack_controller.expansion import Deployed, Expansion, Occupant, Parts, bridge_server, expanded
from halftrack_controller.neighbours import Wiring, peers_of, siblings_of
from halftrack_controller.remembering import Memory
from halftrack_controller.snapshot import Planning, Published, Reason, Rollout, RolloutPhase, Snapshot
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.plan import Peer, Plan
from halftrack_model.release import no_way_back, replay_refusal, state_refusal
from halftrack_model.rewiring import carried
from halftrack_model.seals import Sealed
from halftrack_model.workload import Workload

UNDOING = (RolloutPhase.ABORTED, RolloutPhase.FAILED)


def plan(snapshot: Snapshot, now_ms: int, memory: Memory | None = None) -> Planning:
    """A plan (revision 0) for each host that shall have one, and the reasons why things are as they are.

    With the memory of the last time, only what has changed since is worked out again; the same comes of it.

    `now_ms` is taken so that time-dependent rules (windows, soaks) need no other signature; no rule of today reads it.
    """
    del now_ms
    memory = memory or Memory()
    plans: dict[str, Plan] = {}
    working = set[str]()
    reasons: list[Reason] = []
    graphs: set[tuple[str, str]] = set()
    for environment in sorted(snapshot.environments):
        names = _graph_names(snapshot, environment)
        graphs |= {(environment, name) for name in names}
        expansions = tuple(_remembered(memory, snapshot, environment, name) for name in names)
        for expansion in expansions:
            reasons += expansion.reasons
        hosts = {host for expansion in expansions for host in expansion.parts}
        working |= hosts
        spare = sparing.spare(snapshot, environment, hosts)
        orders = agents.ordered(snapshot, environment, hosts | spare)
        reasons += orders.reasons
        bare = sparing.bare(snapshot, spare, orders)
        emptied = sparing.emptied(snapshot, spare, expansions)
        plans.update(_environment_plans(memory, snapshot, environment, expansions, orders, bare, emptied))
        plans.update(_kept(snapshot, spare - emptied, orders))
        working |= emptied
    memory.keep(graphs, plans)
    reasons += sparing.idle(snapshot, working)
    reasons += _waiting_rollouts(snapshot)
    return Planning(plans, tuple(dict.fromkeys(reasons)))


def same_but_revision(left: Plan, right: Plan) -> bool:
    """Do two plans order the same? Then the host needs no new one (R1)."""
    return left is right or replace(left, revision=right.revision) == right


def _graph_names(snapshot: Snapshot, environment: str) -> list[str]:
    """The environment's graphs, and those that only a swap in flight or hosts' plans still remember."""
    plans = snapshot.plans
    return sorted({*snapshot.graph_names(environment), *plans.graphs_of_swaps(environment), *plans.graphs(environment)})


# ------------------------------------------------------------------------------------------------------------ one graph


def _remembered(memory: Memory, snapshot: Snapshot, environment: str, name: str) -> Expansion:
    return memory.expansion(snapshot, environment, name, lambda: _graph_expansion(snapshot, environment, name))


def _graph_expansion(snapshot: Snapshot, environment: str, name: str) -> Expansion:
    frozen = _swaps_in_flight(snapshot, environment, name)
    if frozen:
        text = "a swap is under way, so the graph stays as the hosts know it until they have told its end"
        reasons = [Reason("", f"{name}/{_vertex(snapshot, swap)}", text, True) for swap in sorted(frozen)]
        return Expansion(_as_held(snapshot, environment, name, frozen), tuple(reasons))
    if (environment, name) in snapshot.deleted:
        return Expansion({}, ())
    stored = snapshot.graph(environment, name)
    if stored is None:
        return _unknown(snapshot, environment, name)
    graph = carried(stored)
    reasons = []
    deployed: dict[str, Deployed] = {}
    for vertex in graph.vertices:
        state = _deployed(snapshot, graph, vertex, reasons)
        if state is not None:
            deployed[vertex.name] = state
    missing = [vertex for vertex in graph.vertices if vertex.name not in deployed]
    reasons += [_no_release(snapshot, graph, vertex) for vertex in missing]
    if missing and not _was_deployed(snapshot, graph):
        return Expansion({}, tuple(reasons))
    enrolled = frozenset(snapshot.machines.enrolled(environment))
    made = snapshot.plans.rings(environment)
    places, why = services.placed(snapshot, graph, graph.vertices[0]) if graph.is_service else ({}, ())
    expansion = expanded(graph, deployed, enrolled, made, places)
    return Expansion(expansion.parts, (*reasons, *why, *expansion.reasons))


def _swaps_in_flight(snapshot: Snapshot, environment: str, graph: str) -> dict[str, bool]:
    """Swaps of the graph that all their hosts have been told of and not told the end of: id -> shall it be undone?

    One that not all hosts were told of has not begun (the leader waits for the other's word), so it may be planned afresh.
    """
    return {
        rollout.rollout_id: rollout.phase in UNDOING
        for rollout in snapshot.history.of_graph(environment, graph)
        if standing.in_flight(snapshot, rollout) and _told_everybody(snapshot, rollout.rollout_id)
    }


def _told_everybody(snapshot: Snapshot, swap_id: str) -> bool:
    swap = standing.held_swap(snapshot, swap_id)
    return swap is not None and all(
        host in snapshot.held and any(known.swap_id == swap_id for known in snapshot.held[host].plan.swaps)
        for host in swap.hosts
    )


def _unknown(snapshot: Snapshot, environment: str, graph: str) -> Expansion:
    """Nobody has said that it shall end: the store may be an older copy, or have lost it (R3)."""
    parts = _as_held(snapshot, environment, graph, {})
    text = f"no graph {environment}/{graph} is known here, and hosts run on what they have of it: apply its manifest, or `halftrack delete` it"
    return Expansion(parts, (Reason("", graph, text),) if parts else ())


def _as_held(snapshot: Snapshot, environment: str, graph: str, swaps: Mapping[str, bool]) -> dict[str, Parts]:
    """The graph as the hosts' plans have it; only `abort` of these swaps may differ."""
    parts: dict[str, Parts] = {}
    for plan in snapshot.plans.of_graph(environment, graph):
        workloads = tuple(w for w in plan.workloads if w.name.startswith(f"{graph}."))
        if workloads:
            rings = tuple(ring for ring in plan.rings if ring.name.startswith(f"{graph}/"))
            mine = tuple(
                replace(swap, abort=swap.abort or swaps.get(swap.swap_id, False))
                for swap in plan.swaps
                if swap.graph == graph
            )
            names = {workload.name for workload in workloads}
            holdings = tuple(each for each in plan.holdings if each.workload in names)
            parts[plan.host] = Parts(rings, workloads, mine, holdings)
    return parts


def _vertex(snapshot: Snapshot, swap_id: str) -> str:
    swap = standing.held_swap(snapshot, swap_id)
    return swap.vertex if swap is not None else swap_id


def _deployed(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex, reasons: list[Reason]) -> Deployed | None:
    """What the vertex shall run now; None while it has no release."""
    key = (graph.environment, graph.name, vertex.name)
    force, rollout = standing.in_force(snapshot, *key), standing.moving(snapshot, *key)
    blue = (
        _occupant(snapshot, vertex, force.version, force.generation) if force else _still_read(snapshot, graph, vertex)
    )
    if rollout is None or rollout.phase in UNDOING:
        return Deployed(blue) if blue else None
    green = _occupant(snapshot, vertex, rollout.to_version, rollout.to_generation)
    if green is None:
        reasons.append(_about(graph, vertex, f"{vertex.product} {rollout.to_version} is not among the releases"))
        return Deployed(blue) if blue else None
    if refusal := replay_refusal(green.release, standing.input_slots(graph, vertex)):
        reasons.append(_about(graph, vertex, refusal))
        return Deployed(blue) if blue else None
    if blue is None or vertex.role is not Role.PAIR:
        return Deployed(green)
    if refusal := state_refusal(blue.release, green.release):
        reasons.append(_about(graph, vertex, f"{blue.release.version} stays in force: {refusal}"))
        return Deployed(blue)
    if lost := no_way_back(blue.release, green.release):
        reasons.append(_about(graph, vertex, f"once {green.release.version} counts, it cannot be aborted: {lost}"))
    return Deployed(blue, green, rollout.rollout_id)


def _still_read(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex) -> Occupant | None:
    """What a vertex of a live graph runs whose first release has failed: an inlet may read it by now, so it goes by an edit only."""
    last = max(
        snapshot.rollouts_of(graph.environment, graph.name, vertex.name), key=lambda r: r.to_generation, default=None
    )
    if not graph.live or last is None or last.phase not in UNDOING:
        return None
    planned = any(standing.plan_carries(plan, last) for plan in snapshot.plans.of_graph(graph.environment, graph.name))
    return _occupant(snapshot, vertex, last.to_version, last.to_generation) if planned else None


def _occupant(snapshot: Snapshot, vertex: Vertex, version: str, generation: int) -> Occupant | None:
    published = snapshot.releases.get((vertex.product, version))
    return None if published is None else Occupant(published.release, generation)


def _was_deployed(snapshot: Snapshot, graph: StreamGraph) -> bool:
    """Do hosts run some of it already, with a release in force? Then it goes on with what it has."""
    key = (graph.environment, graph.name)
    prefix = f"{graph.name}."
    runs = any(w.name.startswith(prefix) for plan in snapshot.plans.of_graph(*key) for w in plan.workloads)
    return runs and any(standing.in_force(snapshot, *key, vertex.name) is not None for vertex in graph.vertices)


def _no_release(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex) -> Reason:
    product = vertex.product
    if any(name == product for name, _ in snapshot.releases):
        return _about(graph, vertex, f"no release of {product} is in force or on its way: see its rollouts")
    return _about(graph, vertex, f"{product} has no release: publish one with `halftrack release publish`")


def _about(graph: StreamGraph, vertex: Vertex, text: str) -> Reason:
    return Reason("", f"{graph.name}/{vertex.name}", text)


# ------------------------------------------------------------------------------------------------------- one environment


def _kept(snapshot: Snapshot, spare: Iterable[str], orders: agents.Orders) -> Iterable[tuple[str, Plan]]:
    """Of those, the ones that keep the plan that they have while their agent shall be another."""
    for host in sorted(spare):
        held, version = snapshot.held.get(host), orders.versions.get(host, "")
        if version and held is not None and not held.plan.bare and version != held.plan.agent:
            seals = _seals(snapshot, held.plan.workloads, orders.release(snapshot, host))
            yield host, replace(held.plan, revision=0, releases=seals, agent=version)


def _environment_plans(
    memory: Memory,
    snapshot: Snapshot,
    environment: str,
    expansions: tuple[Expansion, ...],
    orders: agents.Orders,
    bare: frozenset[str],
    emptied: frozenset[str],
) -> Mapping[str, Plan]:
    made_from = (expansions, snapshot.hosts, snapshot.held, snapshot.releases, orders.versions, bare, emptied)
    return memory.all_plans(
        environment, made_from, lambda: dict(_plans(memory, snapshot, environment, expansions, orders, bare, emptied))
    )


def _plans(
    memory: Memory,
    snapshot: Snapshot,
    environment: str,
    expansions: Iterable[Expansion],
    orders: agents.Orders,
    bare: frozenset[str],
    emptied: frozenset[str],
) -> Iterable[tuple[str, Plan]]:
    parts: dict[str, tuple[Parts, ...]] = dict.fromkeys(bare | emptied, ())
    for expansion in expansions:
        for host, part in expansion.parts.items():
            parts[host] = (*parts.get(host, ()), part)
    wiring = Wiring.of(parts)
    for host in sorted(parts):
        known = snapshot.hosts.get(host)
        rest = _Rest(
            peers=peers_of(snapshot, host, sorted(wiring.peers[host])),
            linked=bool(wiring.peers[host]),
            siblings=siblings_of(snapshot, host, parts),
            bandwidth=known.bandwidth if known is not None else (),
            agent=orders.versions.get(host, ""),
            agent_release=orders.release(snapshot, host),
            decommission=host in emptied,
        )
        made_from = (environment, parts[host], rest, snapshot.releases)
        yield host, memory.plan(host, made_from, partial(_plan, snapshot, environment, host, parts[host], rest))


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a host's plan says beside its parts of graphs."""

    peers: tuple[Peer, ...]
    linked: bool
    siblings: tuple[Peer, ...]
    bandwidth: tuple[BandwidthWindow, ...]
    agent: str
    agent_release: Published | None
    decommission: bool


def _plan(snapshot: Snapshot, environment: str, host: str, parts: tuple[Parts, ...], rest: _Rest) -> Plan:
    workloads = [w for part in parts for w in part.workloads]
    if rest.linked:
        workloads.append(bridge_server())
    return Plan(
        galaxy=snapshot.galaxy,
        environment=environment,
        host=host,
        revision=0,
        releases=_seals(snapshot, workloads, rest.agent_release),
        rings=tuple(sorted((r for part in parts for r in part.rings), key=lambda ring: ring.name)),
        workloads=tuple(sorted(workloads, key=lambda workload: workload.name)),
        swaps=tuple(sorted((s for part in parts for s in part.swaps), key=lambda swap: swap.swap_id)),
        peers=rest.peers,
        decommission=rest.decommission,
        bandwidth=rest.bandwidth,
        holdings=tuple(sorted((h for part in parts for h in part.holdings), key=lambda h: h.workload)),
        siblings=rest.siblings,
        agent=rest.agent,
    )


def _seals(snapshot: Snapshot, workloads: Iterable[Workload], agent: Published | None) -> tuple[Sealed, ...]:
    """The sealed releases that vouch for the workloads and the agent, each once, in the order of product and version."""
    run = {(w.artifact, w.entry, w.version) for w in workloads if w.artifact}
    found = {key for content in run for key in snapshot.published.of_content(*content)}
    if agent is not None:
        found.add((agent.release.product, agent.release.version))
    return tuple(snapshot.releases[key].sealed for key in sorted(found))


# ------------------------------------------------------------------------------------------------------------ why not


def _waiting_rollouts(snapshot: Snapshot) -> Iterable[Reason]:
    """Rollouts that do not move, in their own words."""
    waiting = (RolloutPhase.PENDING, RolloutPhase.WAITING_APPROVAL, RolloutPhase.PAUSED)
    return [_waits(rollout) for rollout in snapshot.history.unsettled if rollout.phase in waiting]


def _waits(rollout: Rollout) -> Reason:
    text = f"{rollout.product} {rollout.to_version} is {rollout.phase.value}"
    text = f"{text}: {rollout.reason}" if rollout.reason else text
    return Reason("", f"{rollout.graph}/{rollout.vertex}", text, rollout.phase is RolloutPhase.PENDING)
