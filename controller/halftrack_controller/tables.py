"""Rows that are looked up by more than one key. What is worked out from them is worked out once, for as long as the very same rows stand. Pure.

A galaxy's rollouts are all that it has ever had, and its plans as many as its hosts: a step that went through all of them for each of its graphs would
take the longer the older and the larger the galaxy is. Who makes a `Snapshot` hands the same table over again until a row of it has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from halftrack_controller.snapshot import Held, Host, Published, Rollout
    from halftrack_model.graph import StreamGraph
    from halftrack_model.plan import Plan
    from halftrack_model.swap import SwapSpec
    from halftrack_model.workload import RingSpec


class Rollouts(tuple["Rollout", ...]):
    """All rollouts, oldest first."""

    @cached_property
    def _by_vertex(self) -> Mapping[tuple[str, str, str], tuple[Rollout, ...]]:
        return _grouped(((rollout.environment, rollout.graph, rollout.vertex), rollout) for rollout in self)

    @cached_property
    def _by_graph(self) -> Mapping[tuple[str, str], tuple[Rollout, ...]]:
        return _grouped(((rollout.environment, rollout.graph), rollout) for rollout in self)

    @cached_property
    def unsettled(self) -> tuple[Rollout, ...]:
        """Those that something may still become of: all but those in force, or that were."""
        return tuple(rollout for rollout in self if rollout.phase.value != "succeeded")

    @cached_property
    def _unsettled_by_vertex(self) -> Mapping[tuple[str, str, str], tuple[Rollout, ...]]:
        return _grouped(((rollout.environment, rollout.graph, rollout.vertex), rollout) for rollout in self.unsettled)

    @cached_property
    def _in_force(self) -> Mapping[tuple[str, str, str], Rollout]:
        found: dict[tuple[str, str, str], Rollout] = {}
        for rollout in self:
            key = (rollout.environment, rollout.graph, rollout.vertex)
            if rollout.phase.value == "succeeded" and (
                key not in found or rollout.to_generation > found[key].to_generation
            ):
                found[key] = rollout
        return found

    def in_force(self, environment: str, graph: str, vertex: str) -> Rollout | None:
        """The one of the highest generation that has succeeded."""
        return self._in_force.get((environment, graph, vertex))

    def unsettled_of(self, environment: str, graph: str, vertex: str) -> tuple[Rollout, ...]:
        """Those of a vertex that something may still become of."""
        return self._unsettled_by_vertex.get((environment, graph, vertex), ())

    def of_vertex(self, environment: str, graph: str, vertex: str) -> tuple[Rollout, ...]:
        """All that this vertex has had, oldest first."""
        return self._by_vertex.get((environment, graph, vertex), ())

    def of_graph(self, environment: str, graph: str) -> tuple[Rollout, ...]:
        """All that this graph has had, oldest first."""
        return self._by_graph.get((environment, graph), ())


class Releases(dict[tuple[str, str], "Published"]):
    """All releases, by product and version. Not to be changed once it is made."""

    @cached_property
    def _by_content(self) -> Mapping[tuple[str, str, str], tuple[tuple[str, str], ...]]:
        releases = ((key, published.release) for key, published in self.items())
        return _grouped(((each.artifact.digest, each.entry, each.version), key) for key, each in releases)

    def of_content(self, artifact: str, entry: str, version: str) -> tuple[tuple[str, str], ...]:
        """Product and version of those that vouch for such a workload."""
        return self._by_content.get((artifact, entry, version), ())


class Graphs(tuple["StreamGraph", ...]):
    """All graphs."""

    @cached_property
    def _by_name(self) -> Mapping[tuple[str, str], StreamGraph]:
        return {(graph.environment, graph.name): graph for graph in reversed(self)}

    @cached_property
    def _names(self) -> Mapping[str, tuple[str, ...]]:
        return _grouped((graph.environment, graph.name) for graph in self)

    def named(self, environment: str, name: str) -> StreamGraph | None:
        """That one."""
        return self._by_name.get((environment, name))

    def names(self, environment: str) -> tuple[str, ...]:
        """Of those of an environment."""
        return self._names.get(environment, ())


class Plans(dict[str, "Held"]):
    """The newest plan of each host. Not to be changed once it is made."""

    @cached_property
    def _by_environment(self) -> Mapping[str, tuple[Plan, ...]]:
        return _grouped((held.plan.environment, held.plan) for _, held in sorted(self.items()))

    @cached_property
    def _by_graph(self) -> Mapping[tuple[str, str], tuple[Plan, ...]]:
        found: list[tuple[tuple[str, str], Plan]] = []
        for plans in self._by_environment.values():
            for plan in plans:
                named = [w.name.partition(".")[0] for w in plan.workloads] + [swap.graph for swap in plan.swaps]
                found += (((plan.environment, graph), plan) for graph in dict.fromkeys(named))
        return _grouped(found)

    @cached_property
    def _swaps(self) -> Mapping[str, SwapSpec]:
        found: dict[str, SwapSpec] = {}
        for _, held in sorted(self.items()):
            for swap in held.plan.swaps:
                found.setdefault(swap.swap_id, swap)
        return found

    @cached_property
    def _rings(self) -> Mapping[str, Mapping[str, RingSpec]]:
        by_environment = self._by_environment.items()
        return {name: {ring.name: ring for plan in plans for ring in plan.rings} for name, plans in by_environment}

    def of_environment(self, environment: str) -> tuple[Plan, ...]:
        """In the order of their hosts."""
        return self._by_environment.get(environment, ())

    def of_graph(self, environment: str, graph: str) -> tuple[Plan, ...]:
        """Those that name something of this graph, and perhaps more, in the order of their hosts."""
        return self._by_graph.get((environment, graph), ())

    def graphs_of_swaps(self, environment: str) -> frozenset[str]:
        """The graphs in which hosts have a swap."""
        return frozenset(swap.graph for plan in self.of_environment(environment) for swap in plan.swaps)

    @cached_property
    def _graphs(self) -> Mapping[str, tuple[str, ...]]:
        """A workload that stands for itself, as the bridges' server does, is of no graph."""
        named = {
            (plan.environment, w.name.partition(".")[0])
            for plans in self._by_environment.values()
            for plan in plans
            for w in plan.workloads
            if "." in w.name
        }
        return _grouped(sorted(named))

    def graphs(self, environment: str) -> tuple[str, ...]:
        """Those of which hosts run something."""
        return self._graphs.get(environment, ())

    def swap(self, swap_id: str) -> SwapSpec | None:
        """As the hosts were told it, from any plan."""
        return self._swaps.get(swap_id)

    def rings(self, environment: str) -> Mapping[str, RingSpec]:
        """Those that there are, by name."""
        return self._rings.get(environment, MappingProxyType({}))


class Hosts(dict[str, "Host"]):
    """All hosts, by name. Not to be changed once it is made."""

    @cached_property
    def _enrolled(self) -> Mapping[str, tuple[str, ...]]:
        return _grouped((host.environment, host.name) for host in self.values() if host.enrolled)

    @cached_property
    def _by_site(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        return _grouped(((host.environment, host.site), name) for name, host in sorted(self.items()))

    def enrolled(self, environment: str) -> tuple[str, ...]:
        """Those of an environment that have enrolled."""
        return self._enrolled.get(environment, ())

    def of_site(self, environment: str, site: str) -> tuple[str, ...]:
        """Those of a site, in order."""
        return self._by_site.get((environment, site), ())


K = TypeVar("K")
V = TypeVar("V")


def _grouped(pairs: Iterable[tuple[K, V]]) -> Mapping[K, tuple[V, ...]]:
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return {key: tuple(values) for key, values in found.items()}
