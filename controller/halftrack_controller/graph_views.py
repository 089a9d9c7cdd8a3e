"""One graph as an operator is shown it: what is declared, what shall run where, and what hosts have told. Pure; decides nothing.

What no visible host has told is unknown, never bad (O1).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from halftrack_controller import graph_readers, placement, standing
from halftrack_controller.snapshot import Snapshot
from halftrack_model import rewiring
from halftrack_model.graph import StreamGraph, Vertex
from halftrack_model.observed import Health, InstanceObserved
from halftrack_model.workload import Workload
from halftrack_proto.gauges import FlowRow, RingRow
from halftrack_proto.graph_messages import NOT_STARTED, GraphPart, GraphQuery, GraphView, InputStanding, VertexStanding


def graph_view(
    snapshot: Snapshot, query: GraphQuery, rings: Iterable[RingRow], flows: Iterable[FlowRow] = ()
) -> GraphView:
    """The graph with everything that is known of it. `rings` and `flows` are those of all hosts that are connected now."""
    graph = standing.graph_meant(snapshot, query)
    hosts = {host.name for host in snapshot.hosts.values() if host.environment == graph.environment}
    parts = tuple(_parts(snapshot, graph))
    mine = tuple(row for row in rings if row.host in hosts and row.ring.partition("/")[0] == graph.name)
    return GraphView(
        graph=graph,
        vertices=tuple(_standing(snapshot, graph, vertex.name) for vertex in graph.vertices),
        parts=parts,
        rings=mine,
        readers=graph_readers.readers(graph, parts, mine, tuple(flow for flow in flows if flow.host in hosts)),
        inputs=tuple(_inputs(snapshot, graph)),
    )


def _standing(snapshot: Snapshot, graph: StreamGraph, vertex: str) -> VertexStanding:
    key = (graph.environment, graph.name, vertex)
    force, rollout = standing.in_force(snapshot, *key), standing.moving(snapshot, *key)
    version = force.version if force else ""
    if rollout is None:
        return VertexStanding(vertex, version, "", "", "")
    swap = standing.held_swap(snapshot, rollout.rollout_id)
    record = standing.record(snapshot, swap) if swap else None
    told = f"seat {record.leg + 1} {record.phase.value}" if record else ""
    return VertexStanding(vertex, version, rollout.to_version, rollout.phase.value, told)


def _inputs(snapshot: Snapshot, graph: StreamGraph) -> Iterator[InputStanding]:
    """Of the vertices whose inputs an edit has changed."""
    going = {each.vertex: each for each in rewiring.going(graph)}
    for vertex in graph.vertices:
        owner, newest = standing.owner(snapshot, graph, vertex), rewiring.newest(graph, vertex.name)
        if vertex.name in going:
            force = owner.generation if owner else going[vertex.name].old[0]
            waits = "" if force == newest else _waits(snapshot, graph, vertex)
            yield InputStanding(vertex.name, newest, force, owner.first if owner else -1, waits)
        elif owner is not None and owner.generation == newest:
            yield InputStanding(vertex.name, newest, newest, owner.first, "")


def _waits(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex) -> str:
    """Why a vertex has not gone over, as far as that can be seen from here."""
    host = placement.inlet_host(graph, vertex)
    if silence := standing.silence(snapshot, host):
        return f"{silence}; it goes over by itself"
    plans = tuple(standing.plans_of(snapshot, graph.environment))
    if any(swap.graph == graph.name for plan in plans for swap in plan.swaps):
        return "a swap of the graph is under way: hosts are told of the edit once it has ended"
    planned = {workload.writes_ring for plan in plans for workload in plan.workloads}
    for name in graph.inputs(vertex.name):
        if placement.ring_name(graph.name, name) not in planned:
            return f"{name} does not run yet: see `halftrack explain {graph.name}/{name}`"
    return f"{host} has not told yet that the new inputs have caught up"


def _parts(snapshot: Snapshot, graph: StreamGraph) -> Iterator[GraphPart]:
    for plan in standing.plans_of(snapshot, graph.environment):
        for workload in plan.workloads:
            name, _, rest = workload.name.partition(".")
            if name == graph.name and rest:
                part = _part(snapshot, plan.host, rest.partition(".")[0], workload)
                idle = plan.holding(workload.name).idle and part.phase == NOT_STARTED
                yield replace(part, detail="another host runs it") if idle else part


def _part(snapshot: Snapshot, host: str, vertex: str, workload: Workload) -> GraphPart:
    seen, silence = _instance(snapshot, host, workload), standing.silence(snapshot, host)
    return GraphPart(
        vertex=vertex,
        host=host,
        workload=workload.name,
        runs=workload.runs.value,
        version=workload.version,
        phase=seen.phase if seen else "" if silence else NOT_STARTED,
        health=(seen.health if seen else Health.UNKNOWN).value,
        detail=seen.detail if seen else silence,
        hangs=seen.hangs if seen else 0,
    )


def _instance(snapshot: Snapshot, host: str, workload: Workload) -> InstanceObserved | None:
    """What the host shows of it in the form that its newest plan gives it; nothing while the host is not seen."""
    observed = standing.seen(snapshot, host).observed
    if observed is None or not standing.visible(snapshot, host):
        return None
    rows = observed.instances
    return next((row for row in rows if row.workload == workload.name and row.digest == workload.digest()), None)
