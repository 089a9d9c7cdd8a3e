"""Expansion: from a stream graph and its releases to what each host holds of it: rings, workloads, swaps. Pure.

What it makes of one vertex depends on that vertex, its releases and its neighbours' places only, so that nobody's workload changes
its digest for a reason that does not concern it (R2): a swap adds green beside blue and leaves blue byte-identical.

A part is left out, with a reason, when its host has not enrolled or nothing can bring it its input; the rest goes on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from types import MappingProxyType

from halftrack_controller import inlets, placement
from halftrack_controller.snapshot import Reason
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.plan import Holding
from halftrack_model.release import Release, StateSchemas, no_way_back
from halftrack_model.resources import effective
from halftrack_model.swap import Seat, SwapSpec
from halftrack_model.workload import Judge, JudgedPair, Kind, Member, RingSpec, Runs, Workload

NO_STATE = StateSchemas("", ())
_ALONE = {Role.SOURCE: Runs.SOURCE, Role.SINGLE: Runs.MEMBER, Role.SINK: Runs.SINK}


@dataclass(frozen=True, slots=True)
class Occupant:
    """A release at a vertex, and the number that the vertex gave it."""

    release: Release
    generation: int


@dataclass(frozen=True, slots=True)
class Deployed:
    """What a vertex runs. `green` is None unless a pair is being swapped; then `swap_id` and `abort` describe the swap."""

    blue: Occupant
    green: Occupant | None = None
    swap_id: str = ""
    abort: bool = False

    @property
    def occupants(self) -> tuple[Occupant, ...]:
        """Blue, and green if there is one."""
        return (self.blue,) if self.green is None else (self.blue, self.green)


@dataclass(frozen=True, slots=True)
class Parts:
    """What one host holds of one graph."""

    rings: tuple[RingSpec, ...] = ()
    workloads: tuple[Workload, ...] = ()
    swaps: tuple[SwapSpec, ...] = ()
    holdings: tuple[Holding, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A host's part in a service: it runs it, perhaps in place of another, or is ready to (`idle`)."""

    idle: bool = False
    replaces: str = ""


HERE = Place()


@dataclass(frozen=True, slots=True)
class Expansion:
    """The parts by host, and why some are missing."""

    parts: Mapping[str, Parts]
    reasons: tuple[Reason, ...]


def expanded(
    graph: StreamGraph,
    deployed: Mapping[str, Deployed],
    enrolled: frozenset[str],
    made: Mapping[str, RingSpec] = MappingProxyType({}),
    places: Mapping[str, Place] = MappingProxyType({}),
) -> Expansion:
    """The whole graph, each vertex after those that feed it. `made` are rings that are there already: an inlet's keeps its size.

    A service's `places` are chosen by who knows which hosts are lost (`services`).
    """
    draft = _Draft(graph, deployed, enrolled, made, places)
    for vertex in _upstream_first(graph):
        if vertex.name in deployed:
            draft.add(vertex)
    return draft.finished()


def receiver(ring: RingSpec, from_host: str) -> Workload:
    """What writes the replica of `ring` from the host that serves it."""
    return Workload(
        name=placement.receiver_name(ring.name, from_host),
        kind=Kind.VERTEX,
        runs=Runs.BRIDGE_RECEIVER,
        artifact="",
        entry="",
        argv=(),
        params={},
        reads_ring=ring.name,
        writes_ring=ring.name,
        from_host=from_host,
        version="",
        state=NO_STATE,
        member=ring.member,
    )


def bridge_server() -> Workload:
    """What serves a host's rings and snapshots to its peers. The same on every host, for ever."""
    return _built_in(placement.BRIDGE, Kind.SERVICE, Runs.BRIDGE_SERVER, "")


def _built_in(name: str, kind: Kind, runs: Runs, writes_ring: str) -> Workload:
    return Workload(name, kind, runs, "", "", (), {}, "", writes_ring, "", "", NO_STATE, None)


def _of_vertex(vertex: Vertex, name: str, runs: Runs, writes_ring: str) -> Workload:
    """What is built in and runs for one vertex: it may be still for as long as that one."""
    return replace(_built_in(name, Kind.VERTEX, runs, writes_ring), hang_after_ms=vertex.hang_after_ms)


def _upstream_first(graph: StreamGraph) -> Iterable[Vertex]:
    placed: dict[str, Vertex] = {}
    waiting = sorted(graph.vertices, key=lambda vertex: vertex.name)
    while waiting:
        ready = [vertex for vertex in waiting if all(name in placed for name in graph.inputs(vertex.name))]
        assert ready, "a graph is validated, so free of cycles, before it is stored"  # noqa: S101
        placed.update((vertex.name, vertex) for vertex in ready)
        waiting = [vertex for vertex in waiting if vertex.name not in placed]
    return placed.values()


@dataclass(slots=True)
class _Draft:
    """The parts while they are being collected; only `expanded` sees it."""

    graph: StreamGraph
    deployed: Mapping[str, Deployed]
    enrolled: frozenset[str]
    made: Mapping[str, RingSpec]
    places: Mapping[str, Place]
    rings: dict[str, dict[str, RingSpec]] = field(default_factory=dict)  # host -> ring name -> ring
    workloads: dict[str, dict[str, Workload]] = field(default_factory=dict)
    swaps: dict[str, list[SwapSpec]] = field(default_factory=dict)
    holdings: dict[str, list[Holding]] = field(default_factory=dict)
    reasons: list[Reason] = field(default_factory=list)

    def finished(self) -> Expansion:
        parts = {
            host: Parts(
                tuple(ring for _, ring in sorted(self.rings.get(host, {}).items())),
                tuple(workload for _, workload in sorted(self.workloads[host].items())),
                tuple(self.swaps.get(host, ())),
                tuple(self.holdings.get(host, ())),
            )
            for host in sorted(self.workloads)
        }
        return Expansion(parts, tuple(self.reasons))

    def add(self, vertex: Vertex) -> None:
        if vertex.role is Role.PAIR:
            self._add_pair(vertex)
        elif vertex.role is Role.SERVICE:
            self._add_service(vertex)
        else:
            self._add_alone(vertex)

    def _add_alone(self, vertex: Vertex) -> None:
        """A vertex of one instance: it writes its ring itself, and a newer release takes the place of the older."""
        graph, host, occupant = self.graph.name, vertex.hosts[0], self.deployed[vertex.name].blue
        if not self._fed(vertex, host):
            return
        writes, member = "", None
        if vertex.role is not Role.SINK:
            ring = self._ring(vertex, placement.ring_name(graph, vertex.name), None)
            self._put_ring(host, ring)
            writes = ring.name
        if vertex.role is Role.SINGLE:
            version = occupant.release.version
            member = Member(graph, vertex.name, placement.SINGLE_MEMBER, version, occupant.generation)
        name = placement.workload_name(graph, vertex.name)
        self._hold(host, vertex, self._released(vertex, occupant, name, _ALONE[vertex.role], writes, member))
        if vertex.feeds:  # of the sockets only, so that no release of the source touches it
            keeper = _of_vertex(vertex, placement.keeper_name(graph, vertex.name), Runs.KEEPER, "")
            self._put(host, replace(keeper, feeds=vertex.feeds, keeps_for=name))

    def _add_service(self, vertex: Vertex) -> None:
        """One instance on each of its places; a newer release takes the place of the older."""
        name = placement.workload_name(self.graph.name, vertex.name)
        for host in vertex.hosts:
            place = self.places.get(host)
            if self._there(vertex, host) and place is not None:
                workload = self._released(vertex, self.deployed[vertex.name].blue, name, Runs.COMMAND, "", None)
                self._hold(host, vertex, replace(workload, kind=Kind.SERVICE), place)

    def _add_pair(self, vertex: Vertex) -> None:
        deployed, graph = self.deployed[vertex.name], self.graph.name
        leader = placement.merge_host(self.graph, vertex)
        fed = {host: self._fed(vertex, host) for host in vertex.hosts}
        if deployed.green is not None and not all(fed.values()):
            missing = ", ".join(host for host, holds in sorted(fed.items()) if not holds)
            text = (
                f"the swap needs both members, and {missing} has none: {deployed.blue.release.version} stays in force"
            )
            self._say("", vertex, text)
            deployed = Deployed(deployed.blue)
        for member, host in placement.seats(self.graph, vertex):
            for occupant in deployed.occupants if fed[host] else ():
                self._add_member(vertex, member, host, leader, occupant)
        if leader not in self.enrolled or not any(fed.values()):
            return
        merged = self._ring(vertex, placement.ring_name(graph, vertex.name), None)
        self._put_ring(leader, merged)
        self._put(leader, _of_vertex(vertex, placement.merge_name(graph, vertex.name), Runs.MERGE, merged.name))
        if deployed.green is not None:
            swap = self._swap(vertex, deployed, deployed.green)
            self._add_judge(vertex, swap, deployed.green)
            for host in dict.fromkeys(swap.hosts):
                self.swaps.setdefault(host, []).append(swap)

    def _add_member(self, vertex: Vertex, name: str, host: str, leader: str, occupant: Occupant) -> None:
        graph, version = self.graph.name, occupant.release.version
        member = Member(graph, vertex.name, name, version, occupant.generation)
        ring = self._ring(vertex, placement.member_ring_name(graph, vertex.name, name, version), member)
        self._put_ring(host, ring)
        workload = placement.member_name(graph, vertex.name, name, version)
        self._hold(host, vertex, self._released(vertex, occupant, workload, Runs.MEMBER, ring.name, member))
        if host != leader and leader in self.enrolled:
            self._put_ring(leader, ring)
            self._put(leader, receiver(ring, host))

    def _add_judge(self, vertex: Vertex, swap: SwapSpec, green: Occupant) -> None:
        """What holds the greens that are to be cut to against their blues, beside the merge, if their release asks for that."""
        verdict = swap.strategy.verdict
        if verdict is None or not verdict.needs_judge:
            return
        graph = self.graph.name
        seats = swap.seats[: swap.strategy.surge]  # under surge 1 the first cut is to the first seat's
        rings = [
            tuple(placement.member_ring_name(graph, vertex.name, m.member, m.version) for m in (seat.blue, seat.green))
            for seat in seats
        ]
        judge = Judge(tuple(JudgedPair(*pair) for pair in rings), verdict, swap.strategy.lag_frames)
        name = placement.judge_name(graph, vertex.name, green.release.version)
        released = self._released(vertex, green, name, Runs.JUDGE, "", swap.green)
        self._put(swap.leader, replace(released, params={}, state=NO_STATE, judge=judge, reach=()))

    def _swap(self, vertex: Vertex, deployed: Deployed, green: Occupant) -> SwapSpec:
        graph = self.graph.name
        seats = tuple(self._seat(vertex, member, host, deployed.blue, green) for member, host in self._seats(vertex))
        return SwapSpec(
            swap_id=deployed.swap_id,
            graph=graph,
            vertex=vertex.name,
            leader=seats[0].host,
            seats=seats,
            input_ring=placement.input_ring_name(self.graph, vertex),
            merged_ring=placement.ring_name(graph, vertex.name),
            strategy=green.release.strategy,
            abort=deployed.abort,
            one_way=no_way_back(deployed.blue.release, green.release) is not None,
        )

    def _seats(self, vertex: Vertex) -> tuple[tuple[str, str], ...]:
        return placement.seats(self.graph, vertex)

    def _seat(self, vertex: Vertex, member: str, host: str, blue: Occupant, green: Occupant) -> Seat:
        graph, old, new = self.graph.name, blue.release.version, green.release.version
        return Seat(
            host=host,
            blue=Member(graph, vertex.name, member, old, blue.generation),
            green=Member(graph, vertex.name, member, new, green.generation),
            blue_workload=placement.member_name(graph, vertex.name, member, old),
            green_workload=placement.member_name(graph, vertex.name, member, new),
        )

    def _fed(self, vertex: Vertex, host: str) -> bool:
        """Can the vertex run on `host`: is the host there, and its one input, if need be as a replica (which is then added)?"""
        if not self._there(vertex, host):
            return False
        if vertex.role is Role.SOURCE:
            return True
        if self.graph.has_inlet(vertex.name):
            at = placement.inlet_host(self.graph, vertex)
            if not self._joined(vertex, at):
                return False
            return self._brought(vertex, "inlet", at, placement.inlet_ring_name(self.graph.name, vertex.name), host)
        return self._brings(vertex, self.graph.inputs(vertex.name)[0], host)

    def _joined(self, vertex: Vertex, host: str) -> bool:
        """Can the vertex's inlet run on `host`? It is then added, with all that it reads."""
        ring = inlets.ring_of(self.graph, vertex)
        ring = self.made.get(ring.name, ring) if self.graph.live else ring
        if ring.name in self.rings.get(host, {}):
            return True
        if not self._there(vertex, host):
            return False
        edges = self._to_be_had(vertex, host)
        if not edges:
            return False
        self._put_ring(host, ring)
        name = placement.inlet_name(self.graph.name, vertex.name)
        inlet = inlets.inlet_of(self.graph, vertex, edges)
        self._put(host, replace(_of_vertex(vertex, name, Runs.INLET, ring.name), inlet=inlet))
        for edge in (edge for edge in edges if edge.spool is not None):
            name, reads, limits = inlets.spool_of(self.graph, edge)
            self._put(host, replace(_of_vertex(vertex, name, Runs.SPOOL, ""), reads_ring=reads, spool=limits))
        return True

    def _to_be_had(self, vertex: Vertex, host: str) -> list[Edge]:
        """The inputs that can be had on `host`, by whole generations: a newer one comes once all of it is there, the oldest is needed."""
        found: list[Edge] = []
        by_age = sorted(self.graph.into(vertex.name), key=lambda edge: edge.generation)
        for number, (_, group) in enumerate(groupby(by_age, key=lambda edge: edge.generation)):
            edges = list(group)
            brought = [self._brings(vertex, edge.source, host) for edge in edges]
            if all(brought):  # asked of each, so that everything that lacks is said
                found += edges
            elif number == 0:
                return []
        return found

    def _there(self, vertex: Vertex, host: str) -> bool:
        if host not in self.enrolled:
            self._say(host, vertex, f"{host} has not enrolled: run `halftrack host token {host}` and enrol its agent")
        return host in self.enrolled

    def _brings(self, vertex: Vertex, source: str, host: str) -> bool:
        """Is the stream of `source` to be had on `host`?"""
        home = placement.home(self.graph, self.graph.vertex(source))
        return self._brought(vertex, f"input {source}", home, placement.ring_name(self.graph.name, source), host)

    def _brought(self, vertex: Vertex, what: str, home: str, name: str, host: str) -> bool:
        ring = self.rings.get(home, {}).get(name)
        if ring is None:
            self._say(host, vertex, f"its {what} does not run on {home}, so {vertex.name} waits for it")
            return False
        if host != home:
            self._put_ring(host, ring)
            self._put(host, receiver(ring, home))
        return True

    def _released(
        self, vertex: Vertex, occupant: Occupant, name: str, runs: Runs, writes: str, member: Member | None
    ) -> Workload:
        release = occupant.release
        return Workload(
            name=name,
            kind=Kind.VERTEX,
            runs=runs,
            artifact=release.artifact.digest,
            entry=release.entry,
            argv=release.command,
            params=dict(sorted({**release.params, **vertex.params}.items())),
            reads_ring=placement.input_ring_name(self.graph, vertex),
            writes_ring=writes,
            from_host="",
            version=release.version,
            state=release.state,
            member=member,
            feeds=vertex.feeds,
            resources=effective(vertex.resources, release.resources),
            reach=vertex.reach,
            hang_after_ms=vertex.hang_after_ms,
            host_network=vertex.host_network,
            checks=release.health,
            unpacked=release.unpack,
        )

    def _ring(self, vertex: Vertex, name: str, member: Member | None) -> RingSpec:
        """The vertex's ring; what its consumers want kept is kept where they read, not in a member's own."""
        kept_ms = 0 if member else max((edge.retain_ms for edge in self.graph.out_of(vertex.name)), default=0)
        return RingSpec(name, vertex.ring_bytes, vertex.ring_slots, member, kept_ms)

    def _put_ring(self, host: str, ring: RingSpec) -> None:
        self.rings.setdefault(host, {})[ring.name] = ring

    def _put(self, host: str, workload: Workload) -> None:
        self.workloads.setdefault(host, {})[workload.name] = workload

    def _hold(self, host: str, vertex: Vertex, workload: Workload, place: Place = HERE) -> None:
        """Put it there, with what its vertex says of being cut off."""
        self._put(host, workload)
        if vertex.disconnect is not None or place != HERE:
            holding = Holding(workload.name, vertex.disconnect, place.idle, place.replaces)
            self.holdings.setdefault(host, []).append(holding)

    def _say(self, host: str, vertex: Vertex, text: str) -> None:
        self.reasons.append(Reason(host, f"{self.graph.name}/{vertex.name}", text))
