"""One graph as an operator is shown it: what is declared, what shall run where, and what hosts have told. Pure; decides nothing.

What no visible host has told is unknown, never bad (O1).
"""

from collections.abc import Iterable, Iterator

from halftrack_controller import standing
from halftrack_controller.snapshot import Snapshot
from halftrack_model.graph import StreamGraph
from halftrack_model.observed import Health, InstanceObserved
from halftrack_model.workload import Workload
from halftrack_proto import messages as said
from halftrack_proto.graph_messages import NOT_STARTED, GraphPart, GraphQuery, GraphView, VertexStanding


def graph_view(snapshot: Snapshot, query: GraphQuery, rings: Iterable[said.RingRow]) -> GraphView:
    """The graph with everything that is known of it. `rings` are those of all hosts that are connected now."""
    graph = standing.graph_meant(snapshot, query)
    hosts = {host.name for host in snapshot.hosts.values() if host.environment == graph.environment}
    return GraphView(
        graph=graph,
        vertices=tuple(_standing(snapshot, graph, vertex.name) for vertex in graph.vertices),
        parts=tuple(_parts(snapshot, graph)),
        rings=tuple(row for row in rings if row.host in hosts and row.ring.partition("/")[0] == graph.name),
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


def _parts(snapshot: Snapshot, graph: StreamGraph) -> Iterator[GraphPart]:
    for plan in standing.plans_of(snapshot, graph.environment):
        for workload in plan.workloads:
            name, _, rest = workload.name.partition(".")
            if name == graph.name and rest:
                yield _part(snapshot, plan.host, rest.partition(".")[0], workload)


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
    )


def _instance(snapshot: Snapshot, host: str, workload: Workload) -> InstanceObserved | None:
    """What the host shows of it in the form that its newest plan gives it; nothing while the host is not seen."""
    observed = standing.seen(snapshot, host).observed
    if observed is None or not standing.visible(snapshot, host):
        return None
    rows = observed.instances
    return next((row for row in rows if row.workload == workload.name and row.digest == workload.digest()), None)
