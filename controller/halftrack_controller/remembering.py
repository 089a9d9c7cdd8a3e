"""What plans were made from, so that a step plans again only what has changed since the last one. Pure: it is told what to keep, and gives it back.

A graph's expansion is the same for as long as its `basis` is: everything that the planner reads for it, and nothing that grows by itself. Ages
are in it as what is made of them (seen or not, lost or not, and the words that people are told), so that silence alone changes it only when its words do.
What is remembered is never needed: without it, the same comes of the same snapshot.
"""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from halftrack_controller import services, standing
from halftrack_controller.expansion import Expansion
from halftrack_controller.quantities import rough_age_text
from halftrack_controller.snapshot import NEVER_SEEN, Held, Host, Published, Rollout, Seen, Snapshot
from halftrack_model.disconnect import Disconnect, Reconcile
from halftrack_model.graph import StreamGraph
from halftrack_model.plan import Plan

Basis = tuple[object, ...]
Made = Callable[[], Expansion]
Fact = tuple[Seen, Host | None, Held | None, Disconnect, Basis]  # what is made of a host, and from which rows


@dataclass(frozen=True, slots=True)
class Rows:
    """The very rows that are read for a graph. While the same ones stand nothing can have changed, ages included."""

    environment: str
    name: str
    graph: StreamGraph | None
    deleted: bool
    releases: Mapping[tuple[str, str], Published]
    rollouts: tuple[Rollout, ...]
    plans: tuple[Plan, ...]
    hosts: tuple[str, ...]
    machines: tuple[Host | None, ...]
    seen: tuple[Seen, ...]
    fresh: bool  # all of `seen`: else it depends on the other hosts, too, whether it is the controller that is cut off

    @staticmethod
    def of(snapshot: Snapshot, environment: str, name: str, before: "Rows | None") -> "Rows":
        """As they stand. Which hosts they are of is known if the graph and its plans stand as before."""
        graph, plans = snapshot.graph(environment, name), snapshot.plans.of_graph(environment, name)
        same = before is not None and before.graph is graph and before.plans == plans
        hosts = before.hosts if before is not None and same else _hosts(graph, plans)
        seen = tuple(snapshot.seen.get(host, NEVER_SEEN) for host in hosts)
        return Rows(
            environment,
            name,
            graph,
            (environment, name) in snapshot.deleted,
            snapshot.releases,
            snapshot.history.of_graph(environment, name),
            plans,
            hosts,
            tuple(snapshot.hosts.get(host) for host in hosts),
            seen,
            all(standing.fresh(each) for each in seen),
        )

    def stand(self, snapshot: Snapshot) -> bool:
        """Do they still? (That equal ones are worth no more than others keeps it cheap.)"""
        where = (self.environment, self.name)
        return (
            self.fresh
            and self.releases is snapshot.releases
            and self.graph is snapshot.graph(*where)
            and self.deleted == (where in snapshot.deleted)
            and self.rollouts == snapshot.history.of_graph(*where)
            and self.plans == snapshot.plans.of_graph(*where)
            and all(seen is snapshot.seen.get(host) for host, seen in zip(self.hosts, self.seen, strict=True))
            and all(known is snapshot.hosts.get(host) for host, known in zip(self.hosts, self.machines, strict=True))
        )


@dataclass(slots=True)
class Memory:
    """Of one planner: the last expansion of each graph and the last plan of each host, each with what it was made from."""

    graphs: dict[tuple[str, str], tuple[Rows, Basis, Expansion]] = field(default_factory=dict)
    plans: dict[str, tuple[Basis, Plan]] = field(default_factory=dict)
    whole: dict[str, tuple[Basis, Mapping[str, Plan]]] = field(default_factory=dict)
    facts: dict[tuple[str, str], dict[str, Fact]] = field(default_factory=dict)  # of each graph's hosts
    doubts: tuple[Snapshot, dict[str, bool]] | None = None  # by environment: is so little seen that it is blind?

    def expansion(self, snapshot: Snapshot, environment: str, name: str, make: Made) -> Expansion:
        """The one of last time, if nothing that it was made from has changed."""
        known = self.graphs.get((environment, name))
        if known is not None and known[0].stand(snapshot):
            return known[2]
        rows = Rows.of(snapshot, environment, name, known[0] if known is not None else None)
        found = self._basis(snapshot, rows)
        made = known[2] if known is not None and found and known[1] == found else make()
        self.graphs[environment, name] = (rows, found, made)
        return made

    def _basis(self, snapshot: Snapshot, rows: Rows) -> Basis:
        """All that the expansion of a graph depends on; empty where that changes at every moment, so that it is not worth remembering."""
        service = rows.graph.vertices[0] if rows.graph is not None and rows.graph.is_service else None
        declared = service.disconnect or services.NOTHING if service is not None else services.NOTHING
        paired = declared.reconcile is Reconcile.LONGEST_RUNNING
        if paired and any(holding.replaces for plan in rows.plans for holding in plan.holdings):
            return ()  # who has run longer decides who stays
        facts = self._facts(snapshot, rows, declared)
        blind = any(fact[-1] for fact in facts) and self._blind(snapshot, rows.environment)
        return (rows.graph, rows.deleted, snapshot.releases, rows.rollouts, blind, *facts)

    def _facts(self, snapshot: Snapshot, rows: Rows, declared: Disconnect) -> list[Basis]:
        """What is read of each of its hosts: the same for as long as the very same rows of it stand."""
        held, before = snapshot.held, self.facts.get((rows.environment, rows.name), {})
        facts: dict[str, Fact] = {}
        for host, seen, machine in zip(rows.hosts, rows.seen, rows.machines, strict=True):
            plan, known = held.get(host), before.get(host)
            same = known is not None and known[0] is seen and known[1] is machine
            if known is None or not same or known[2] is not plan or known[3] is not declared:
                known = (seen, machine, plan, declared, _of_host(snapshot, host, declared))
            facts[host] = known
        self.facts[rows.environment, rows.name] = facts
        return [fact[-1] for fact in facts.values()]

    def _blind(self, snapshot: Snapshot, environment: str) -> bool:
        """Worked out once for a snapshot."""
        if self.doubts is None or self.doubts[0] is not snapshot:
            self.doubts = (snapshot, {})
        found = self.doubts[1]
        if environment not in found:
            found[environment] = services.blind(snapshot, environment)
        return found[environment]

    def plan(self, host: str, made_from: Basis, make: Callable[[], Plan]) -> Plan:
        """The plan of last time, if all is equal that it was made from."""
        known = self.plans.get(host)
        if known is None or known[0] != made_from:
            known = self.plans[host] = (made_from, make())
        return known[1]

    def all_plans(
        self, environment: str, made_from: Basis, make: Callable[[], Mapping[str, Plan]]
    ) -> Mapping[str, Plan]:
        """The same, for all plans of an environment."""
        known = self.whole.get(environment)
        if known is None or known[0] != made_from:
            known = self.whole[environment] = (made_from, make())
        return known[1]

    def keep(self, graphs: AbstractSet[tuple[str, str]], hosts: Mapping[str, Plan]) -> None:
        """Forget all others."""
        if self.graphs.keys() - graphs:
            self.graphs = {key: known for key, known in self.graphs.items() if key in graphs}
            self.facts = {key: known for key, known in self.facts.items() if key in graphs}
        if len(self.plans) > len(hosts):
            self.plans = {host: known for host, known in self.plans.items() if host in hosts}


def _hosts(graph: StreamGraph | None, plans: tuple[Plan, ...]) -> tuple[str, ...]:
    """All that are named."""
    hosts = {plan.host: None for plan in plans}
    for plan in plans:
        hosts |= dict.fromkeys(host for swap in plan.swaps for host in swap.hosts)
    if graph is not None:
        for vertex in (*graph.vertices, *graph.leaving.vertices):
            hosts |= dict.fromkeys(vertex.hosts)
    return tuple(hosts)


def _of_host(snapshot: Snapshot, host: str, declared: Disconnect) -> Basis:
    """What is read of a host. The last entry: is it lost?"""
    seen = snapshot.seen.get(host, NEVER_SEEN)
    known = (
        host,
        snapshot.hosts.get(host),
        snapshot.held.get(host),
        seen.observed,
        seen.refusal,
        seen.accepted_revision,
    )
    if standing.fresh(seen):
        return (*known, False)
    texts = (standing.silence(snapshot, host), rough_age_text(seen.silent_ms), standing.sighted_by(snapshot, host))
    late = seen.silent_ms >= declared.lost_after_ms
    return (*known, seen.connected, *texts, late, services.is_lost(snapshot, host, declared))
