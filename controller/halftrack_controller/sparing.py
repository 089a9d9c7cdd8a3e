"""Hosts for which no graph has work now: which of them get a plan of their agent alone, which are emptied, and why others keep what they have. Pure."""

from collections.abc import Collection, Iterable

from halftrack_controller import agents
from halftrack_controller.expansion import Expansion, bridge_server
from halftrack_controller.snapshot import Reason, Snapshot
from halftrack_model.rewiring import carried
from halftrack_model.workload import Workload


def spare(snapshot: Snapshot, environment: str, working: Collection[str]) -> frozenset[str]:
    """Hosts that have enrolled there and have nothing to run now."""
    mine, held = set(snapshot.machines.enrolled(environment)).difference(working), snapshot.held
    return frozenset(name for name in mine if name not in held or held[name].plan.environment == environment)


def bare(snapshot: Snapshot, hosts: Iterable[str], orders: agents.Orders) -> frozenset[str]:
    """Of those, the ones that have never had anything to run, and whose agent has its turn, or has had it."""
    return frozenset(
        host
        for host in hosts
        if (snapshot.held[host].plan.bare if host in snapshot.held else bool(orders.versions.get(host)))
    )


def emptied(snapshot: Snapshot, hosts: Iterable[str], expansions: Iterable[Expansion]) -> frozenset[str]:
    """Of those, the ones whose work is all ordered elsewhere now, or no vertex of its graph any more, which runs elsewhere; or its graph was deleted.

    What cannot be placed now stays, and what can be on no host that has enrolled.
    """
    has = {host: mine for host in hosts if (mine := {_vertex_of(workload) for workload in own(snapshot, host)})}
    if not has:
        return frozenset()  # as in nearly all steps
    elsewhere = {_vertex_of(w) for each in expansions for part in each.parts.values() for w in part.workloads}
    graphs = {graph for graph, _ in elsewhere}

    def gone(host: str, graph: str, vertex: str) -> bool:
        environment = snapshot.held[host].plan.environment
        if (environment, graph) in snapshot.deleted:
            return True
        stored = snapshot.graph(environment, graph)
        named = stored is not None and any(each.name == vertex for each in carried(stored).vertices)
        return graph in graphs and (not named or (graph, vertex) in elsewhere)

    return frozenset(host for host, mine in has.items() if all(gone(host, *each) for each in mine))


def _vertex_of(workload: Workload) -> tuple[str, str]:
    graph, vertex = workload.name.split(".")[:2]
    return graph, vertex.partition("@")[0]


def own(snapshot: Snapshot, host: str) -> Iterable[Workload]:
    """What graphs have a host run, by the plan that it holds."""
    held = snapshot.held.get(host)
    return () if held is None else (w for w in held.plan.workloads if w.name != bridge_server().name)


def idle(snapshot: Snapshot, working: Collection[str]) -> Iterable[Reason]:
    """Why hosts that are not among the `working` do nothing, or nothing new."""
    for name in sorted(set(snapshot.hosts) - set(working)):
        if any(own(snapshot, name)):
            text = (
                f"nothing is left for {name} to run; it keeps what it has, because a missing order never means delete"
            )
        elif not snapshot.hosts[name].enrolled:
            text = f"{name} has not enrolled: run `halftrack host token {name}` and enrol its agent"
        else:
            continue  # a spare host waits for nothing
        yield Reason(name, name, text)
