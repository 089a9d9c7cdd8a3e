"""Ending a graph: who may, when, and what ends by it. Pure.

Only a word of a person takes work away from hosts (R3). It is kept in the store like a declaration, so that a host which is away for weeks hears it when it is back.
"""

from halftrack_controller import live, standing
from halftrack_controller.snapshot import Snapshot
from halftrack_model.errors import Refused
from halftrack_model.plan import Plan
from halftrack_proto.graph_messages import Deletion, GraphQuery, HostEnding


def ending(snapshot: Snapshot, query: GraphQuery, operator: str) -> Deletion:
    """What ends with the graph that is meant; Refused when there is none, when it is not this operator's to end, or in the middle of a swap."""
    environment = standing.environment_meant(snapshot, query, _known(snapshot))
    record = snapshot.records.get((environment, query.graph))
    if record is not None:
        live.permitted(record, operator)
    for rollout in snapshot.history.of_graph(environment, query.graph):
        if (
            rollout.from_version
            and standing.held_swap(snapshot, rollout.rollout_id)
            and standing.in_flight(snapshot, rollout)
        ):
            raise Refused(
                "swap-under-way",
                f"{rollout.vertex} is going from {rollout.from_version} to {rollout.to_version} ({rollout.rollout_id}, {rollout.phase.value}), and hosts "
                "finish that, or undo it: let it end, or abort it, before you delete its graph; nothing was changed",
            )
    plans = snapshot.plans.of_graph(environment, query.graph)
    hosts = (_on(snapshot, plan, query.graph) for plan in plans)
    return Deletion(environment, query.graph, tuple(each for each in hosts if each.workloads))


def _known(snapshot: Snapshot) -> set[tuple[str, str]]:
    """All graphs, and those that only hosts know of any more."""
    run = {(name, graph) for name in snapshot.environments for graph in snapshot.plans.graphs(name)}
    return {(graph.environment, graph.name) for graph in snapshot.graphs} | (run - snapshot.deleted)


def _on(snapshot: Snapshot, plan: Plan, graph: str) -> HostEnding:
    known = standing.seen(snapshot, plan.host)
    names = tuple(w.name for w in plan.workloads if w.name.startswith(f"{graph}."))
    return HostEnding(plan.host, names, 0 if known.connected else known.last_seen_age_ms)
