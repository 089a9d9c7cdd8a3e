"""Whether a stream graph can be deployed: everything that is wrong with it, at once, each in a sentence that says what to write. Pure.

It judges a graph by itself; whether hosts exist is the controller's to say. What rates can be is `graph_rates`'.

An edge whose reader may miss frames, or takes those that come at the right time, is never read by two members each for itself: it has an
inlet (`StreamGraph.has_inlet`), whose ring both read. So nothing that two members would see differently needs to be forbidden here.
"""

from collections.abc import Iterator

from halftrack_model import disconnect, feed, graph_rates, reach, resources
from halftrack_model.graph import Edge, JoinBy, Partition, Place, Policy, Role, StreamGraph, Vertex
from halftrack_model.release import Release, command_fault
from halftrack_model.workload import MAX_HANG_AFTER_MS, MIN_HANG_AFTER_MS

MAX_VERTICES, MAX_EDGES = 256, 1024  # of one graph: what a person can still look through, and recursion can follow
MIN_RING_BYTES = 1 << 16
MAX_INPUTS = 32  # as many as an inlet of the data plane takes
MAX_PARTS = 4096  # of a partition, there too
MAX_RETAIN_MS = 10**11  # three years, as a ring
MAX_KEY_BYTES = 4096  # a key is a field of a frame, not the frame
HOSTS = {Role.SOURCE: (1,), Role.SINGLE: (1,), Role.PAIR: (1, 2), Role.SINK: (1,)}
MAX_SERVICE_HOSTS = 256


def problems(graph: StreamGraph) -> tuple[str, ...]:
    """Everything that is wrong with `graph`, each in a sentence; empty when it can be deployed."""
    sizes = (("vertices", len(graph.vertices), MAX_VERTICES), ("edges", len(graph.edges), MAX_EDGES))
    if large := [f"edges and vertices: {has} {what}; at most {most}" for what, has, most in sizes if has > most]:
        return tuple(large)
    names = [vertex.name for vertex in graph.vertices]
    found = [f"vertex {name!r} is defined twice" for name in sorted(set(names)) if names.count(name) > 1]
    for edge in graph.edges:
        found += [f"{edge}: no vertex {end!r}" for end in (edge.source, edge.target) if end not in names]
    if found:
        return tuple(found)  # what follows needs every name to mean one vertex
    for vertex in graph.vertices:
        found += [f"vertex {vertex.name!r}: {text}" for text in _of_vertex(graph, vertex)]
    seen: set[tuple[str, str]] = set()
    for edge in graph.edges:
        twice = (edge.source, edge.target) in seen
        seen.add((edge.source, edge.target))
        found += [f"{edge}: {text}" for text in _of_edge(graph, edge, twice)]
    if way := cycle(graph):
        return (*found, f"the edges form a cycle: {' → '.join(way)}")
    return (*found, *_overlaps(graph), *_bound_twice(graph), *graph_rates.problems(graph))


def state_misfit(graph: StreamGraph, vertex: Vertex, release: Release) -> str:
    """Why `release` is for another kind of vertex, or keeps another state than `vertex` says; empty when it fits.

    A graph in which no vertex speaks of state says nothing about any: graphs of before do not. Once one does, silence means none.
    """
    if misfit := _kind_misfit(vertex, release):
        return misfit
    if not vertex.role.transforms or not any(other.state for other in graph.vertices):
        return ""
    name, writes = f"{release.product} {release.version}", release.state.writes
    if vertex.state and not writes:
        return (
            f"vertex {vertex.name!r} keeps state {vertex.state!r}, and {name} writes none: publish a release that does"
        )
    if writes and not vertex.state:
        return f"vertex {vertex.name!r} keeps no state, and {name} writes {writes!r}: write state: {_schema(writes)} at the vertex"
    if vertex.state not in (writes, _schema(writes)):
        return f"vertex {vertex.name!r} keeps state {vertex.state!r}, and {name} writes {writes!r}: let them agree"
    return ""


def _kind_misfit(vertex: Vertex, release: Release) -> str:
    name, serves = f"{release.product} {release.version}", vertex.role is Role.SERVICE
    if serves and not release.command:
        return f"service {vertex.name!r} runs a command, and {name} has an entry for streams: publish a release with a `command`"
    if release.command and not serves:
        return f"vertex {vertex.name!r} reads or writes streams, and {name} is a command: publish a release with an `entry`, or declare a Service"
    if serves and (fault := command_fault(release, {**release.params, **vertex.params})):
        return f"service {vertex.name!r} cannot run {name}: {fault}"
    return ""


def _schema(writes: str) -> str:
    """The name of a schema without its version: `spectra/1` is of `spectra`."""
    return writes.rpartition("/")[0] or writes


# ------------------------------------------------------------------------------------------------------------- vertices


def _of_vertex(graph: StreamGraph, vertex: Vertex) -> Iterator[str]:
    yield from disconnect.faults(vertex.disconnect)
    yield from resources.faults(vertex.resources)
    yield from reach.faults(vertex.reach)
    yield from _of_service(graph, vertex) if vertex.role is Role.SERVICE else _of_step(graph, vertex)


def _of_step(graph: StreamGraph, vertex: Vertex) -> Iterator[str]:
    role, inputs = vertex.role, len(graph.into(vertex.name))
    wanted = HOSTS[role]
    if len(vertex.hosts) not in wanted:
        yield f"a {role.value} names {' or '.join(map(str, wanted))} host(s), this one {len(vertex.hosts)}"
    if len(set(vertex.hosts)) != len(vertex.hosts):
        yield "the members of a pair need different hosts; write the host once if both shall run there"
    if vertex.instances or vertex.host_network:
        yield f"a {role.value} has a network of its own, and as many instances as its role says: leave both out"
    if vertex.disconnect is not None and vertex.disconnect.replace:
        yield "disconnect: a stream is where its rings are, so nobody replaces its steps: leave replace out"
    if role is Role.SOURCE and inputs:
        yield "a source has no input"
    if role is not Role.SOURCE and not inputs:
        yield "needs at least one input, has 0"
    if inputs > MAX_INPUTS:
        yield f"has {inputs} inputs; at most {MAX_INPUTS} can be joined: put vertices in between"
    yield from _of_output(graph, vertex)
    yield from _of_join(vertex, inputs)
    yield from _of_state(vertex)
    if vertex.feeds and role is not Role.SOURCE:
        yield f"a {role.value} reads streams, not sockets: leave feeds out, or put a source before it"
    yield from feed.faults(vertex.feeds)
    yield from _of_bound(vertex)


def _of_output(graph: StreamGraph, vertex: Vertex) -> Iterator[str]:
    outputs = graph.out_of(vertex.name)
    if vertex.role is Role.SINK:
        if outputs:
            yield "a sink has no output"
        return
    if not outputs:
        yield "nobody consumes what it produces"
    if vertex.ring_bytes < MIN_RING_BYTES:
        yield f"its ring needs at least {MIN_RING_BYTES} bytes"
    if not _power_of_two(vertex.ring_slots):
        yield "its ring's slots must be a power of two from 2 on"


def _of_service(graph: StreamGraph, vertex: Vertex) -> Iterator[str]:
    if len(graph.vertices) > 1 or graph.edges or graph.live:
        yield "a service stands alone: declare it as one, and streams apart from it"
    if not 1 <= len(vertex.hosts) <= MAX_SERVICE_HOSTS or len(set(vertex.hosts)) != len(vertex.hosts):
        yield f"names {len(vertex.hosts)} hosts; write 1 to {MAX_SERVICE_HOSTS}, each once"
    if not 0 <= vertex.instances <= len(vertex.hosts):
        yield f"asks for {vertex.instances} instances on {len(vertex.hosts)} host(s), each of which runs one: name more hosts"
    if vertex.disconnect is not None and vertex.disconnect.replace and vertex.instances in (0, len(vertex.hosts)):
        yield "disconnect: every host runs it already, so nobody is left to replace one: ask for fewer instances than hosts, or leave replace out"
    if vertex.host_network and vertex.reach:
        yield "has its host's network, so it reaches what the host does: leave reach out"


def _of_join(vertex: Vertex, inputs: int) -> Iterator[str]:
    if vertex.join is None:
        if inputs > 1 and vertex.role is not Role.SOURCE:
            choices = " | ".join(by.value for by in JoinBy)
            yield f"has {inputs} inputs, so it must say how they become one: write join: {{by: {choices}}}"
        return
    if inputs < 2:
        yield f"has {inputs} input(s), so there is nothing to join: leave join out, or add an edge"
    by_time = vertex.join.by is JoinBy.TIME
    if by_time and vertex.join.width_ms < 1:
        yield "joins by time, so it must say how long a stretch of it is: write join: {by: time, width: 10ms}"
    if not by_time and vertex.join.width_ms:
        yield f"joins by {vertex.join.by.value}, which has no width: leave it out"
    if vertex.join.partial and vertex.join.by is not JoinBy.SEQUENCE:
        yield f"joins by {vertex.join.by.value}, where nothing is partial: leave partial out"


def _of_bound(vertex: Vertex) -> Iterator[str]:
    bound_ms = vertex.hang_after_ms
    if bound_ms and not MIN_HANG_AFTER_MS <= bound_ms <= MAX_HANG_AFTER_MS:
        yield (
            f"its hangAfter must be {MIN_HANG_AFTER_MS // 1000}s, which a busy machine may take from anybody, to "
            f"{MAX_HANG_AFTER_MS // 3_600_000}h, or 0 for never; not {bound_ms} ms"
        )


def _of_state(vertex: Vertex) -> Iterator[str]:
    if vertex.state and not vertex.role.transforms:
        yield f"a {vertex.role.value} keeps no state that snapshots hold: leave state out"


def _power_of_two(number: int) -> bool:
    return number > 1 and number & (number - 1) == 0


# ---------------------------------------------------------------------------------------------------------------- edges


def _of_edge(graph: StreamGraph, edge: Edge, twice: bool) -> Iterator[str]:
    if twice:
        yield "stands twice; say all that it takes in one edge"
    yield from _of_sample(graph, edge)
    if edge.partition is not None:
        yield from _of_partition(edge.partition)
    if edge.evict_after_ms and edge.policy is not Policy.LOSSLESS:
        yield f"reads {edge.policy.value}, so it holds up nobody and is never evicted: leave evictAfter out"
    if edge.credit_bytes and edge.credit_bytes < MIN_RING_BYTES:
        yield f"its credit is the buffer of its inlet, which needs at least {MIN_RING_BYTES} bytes"
    yield from _of_spool(graph, edge)
    if edge.placement is not None and not graph.has_inlet(edge.target):
        yield "places an inlet, and needs none: leave placement out"
    if edge.placement is not None and any(edge.placement is not other for other in _places(graph, edge)):
        yield f"another edge into {edge.target} places its one inlet elsewhere: let them agree"
    if edge.placement is Place.SOURCE and graph.live:
        yield "an inlet of a live graph stands with its vertex, so that it can stay there: leave placement out"


def _of_sample(graph: StreamGraph, edge: Edge) -> Iterator[str]:
    sample, join = edge.sample, graph.vertex(edge.target).join
    if edge.policy is Policy.SAMPLE and sample is None:
        yield "samples, so it must say which frames: write sample: {every: 10}, {rate: 100/s} or {latest: true}"
    if sample is None:
        return
    if edge.policy is not Policy.SAMPLE:
        yield f"says which frames to sample, and reads {edge.policy.value}: write policy: sample"
    if edge.partition is not None:
        yield "samples and takes parts, which one edge cannot: put a vertex in between, or do one of them"
    if sum((sample.every != 0, sample.rate_per_s != 0, sample.latest)) != 1:
        yield "must sample in one way: write sample: {every: 10}, {rate: 100/s} or {latest: true}"
    elif sample.every < 0 or sample.rate_per_s < 0:
        yield "cannot sample less than nothing"
    elif join is not None and join.by in (JoinBy.SEQUENCE, JoinBy.UNION) and not sample.every:
        yield f"picks frames by the time, and {edge.target} joins by {join.by.value}: sample every so many, or join by time or order"


def _of_spool(graph: StreamGraph, edge: Edge) -> Iterator[str]:
    spool = edge.spool
    if spool is None:
        return
    ring_bytes = graph.vertex(edge.source).ring_bytes
    if edge.policy is not Policy.LOSSLESS:
        yield f"reads {edge.policy.value}, so it has nothing to be kept for: leave spool out, or read lossless"
    if graph.live:
        yield "has a spool, which would not follow what a live graph reads next: leave spool out, or live"
    if edge.evict_after_ms:
        yield "has a spool, so its consumer holds up nobody: leave evictAfter out"
    if Place.SOURCE in _places(graph, edge):
        yield "has a spool, which lies with its consumer: write placement: target, or leave it out"
    if spool.size_bytes < 2 * ring_bytes:
        yield f"its spool must hold twice what the ring of {edge.source} does: write a size of at least {2 * ring_bytes} bytes"
    if not 0 <= spool.retain_ms <= MAX_RETAIN_MS:
        yield "its spool cannot keep that long what its consumer has had: write retain: 2h"


def _places(graph: StreamGraph, edge: Edge) -> list[Place]:
    return [other.placement for other in graph.into(edge.target) if other.placement is not None]


def _of_partition(partition: Partition) -> Iterator[str]:
    if partition.offset < 0 or not 1 <= partition.key_bytes <= MAX_KEY_BYTES:
        yield f"its key must be 1 to {MAX_KEY_BYTES} bytes from an offset of at least 0 on"
    if not 2 <= partition.of <= MAX_PARTS:
        yield f"is divided into {partition.of} parts; write of: 2 to {MAX_PARTS}"
        return
    outside = [part for part in partition.take if not 0 <= part < partition.of]
    if outside:
        yield f"takes part {outside[0]} of {partition.of}; parts count from 0 to {partition.of - 1}"
    if not partition.take or len(set(partition.take)) != len(partition.take):
        yield "must take at least one part, and each once"


# ------------------------------------------------------------------------------------------------------ the whole graph


def _bound_twice(graph: StreamGraph) -> Iterator[str]:
    """Two sources of one host that want one address."""
    sources = [vertex for vertex in graph.vertices if not any(feed.faults(vertex.feeds))]
    for host in sorted({vertex.hosts[0] for vertex in sources if vertex.hosts}):
        bound = [(vertex.name, each) for vertex in sources if vertex.hosts[:1] == (host,) for each in vertex.feeds]
        yield from (f"vertex {owner!r}: {text}" for owner, text in feed.clashes(bound))


def _overlaps(graph: StreamGraph) -> Iterator[str]:
    """A part of a stream that was sent two ways and meets itself in a union: it passes one of the two, and drops the other's work."""
    known: dict[str, _Parts] = {}
    for vertex in graph.vertices:
        if vertex.join is None or vertex.join.by is not JoinBy.UNION:
            continue
        inputs = [(edge.source, _carried(graph, edge, known)) for edge in graph.into(vertex.name)]
        for number, (one, its) in enumerate(inputs):
            for other, others in inputs[number + 1 :]:
                if (twice := _twice(its, others)) is not None:
                    yield (
                        f"vertex {vertex.name!r}: part {twice[1]} of {twice[0]} comes both from {one} and from {other}, "
                        "and a union passes only one of the two: let each part go one way"
                    )


_Key = tuple[str, int, int, int]  # whose stream, and how it is partitioned
_Parts = dict[_Key, dict[int, frozenset[str]]]  # the parts that can come, and to whom the edges that took them lead


def _twice(its: _Parts, others: _Parts) -> tuple[str, int] | None:
    """The stream and part that both bring, each by another edge. By one edge, they were handed the same work on purpose, or parted later."""
    doubled = [
        (key, part)
        for key in sorted(its.keys() & others.keys())
        for part in sorted(its[key].keys() & others[key].keys())
    ]
    return next(((key[0], part) for key, part in doubled if its[key][part] != others[key][part]), None)


def _carried(graph: StreamGraph, edge: Edge, known: dict[str, _Parts]) -> _Parts:
    """The parts that `edge` carries. `known` remembers each vertex's, since many ways may lead through it."""
    if edge.source not in known:
        arriving: _Parts = {}
        for before in graph.into(edge.source):
            for key, parts in _carried(graph, before, known).items():
                of_key = arriving.setdefault(key, {})
                of_key.update({part: of_key.get(part, frozenset()) | ways for part, ways in parts.items()})
        known[edge.source] = arriving
    found = dict(known[edge.source])
    if (cut := edge.partition) is not None:
        found[edge.source, cut.offset, cut.key_bytes, cut.of] = dict.fromkeys(cut.take, frozenset({edge.target}))
    return found


def cycle(graph: StreamGraph) -> list[str]:
    """One cycle, as the names along it, or nothing. Depth-first; graphs are small and validated before anything runs."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        for edge in graph.out_of(name):
            if found := search(edge.target, [*path, name]):
                return found
        done.add(name)
        return []

    for vertex in graph.vertices:
        if found := search(vertex.name, []):
            return found
    return []
