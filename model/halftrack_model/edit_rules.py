"""What an edit makes of a graph, and what stands in its way. Pure.

It works on the graph as people write it, and what comes out is such a graph: how a running one gets there is `rewiring`'s to say, and
whether it can `rewiring_rules`'.
"""

from collections.abc import Iterator
from dataclasses import fields, replace

from halftrack_model.edits import Edit, Insert, Remove, Replace, Reroute, SetPolicy, Split, Tap
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import Edge, Join, JoinBy, Partition, Policy, Role, Sample, StreamGraph, Vertex
from halftrack_model.graph_rules import MAX_INPUTS, problems

UNION = Join(JoinBy.UNION)


def edited(graph: StreamGraph, edit: Edit) -> StreamGraph:
    """`graph` after `edit`; InvalidInput with everything that stands in the way, and then nothing has changed."""
    found = tuple(_refusals(graph, edit))
    if not found:
        after = _after(graph, edit)
        found = problems(after)
        if not found:
            return after
    raise InvalidInput("bad-edit", "\n".join([*found, "nothing was changed"]))


def told(edit: Edit) -> str:
    """The edit in words, for people who look at what happened to their graph."""
    match edit:
        case Tap(source, vertex):
            return f"tapped {source} with {vertex.name} ({_who(vertex)})"
        case Remove(vertex):
            return f"removed {vertex}"
        case Insert(source, target, vertex):
            return f"inserted {vertex.name} ({_who(vertex)}) between {source} and {target}"
        case Replace(vertex, by):
            return f"replaced {vertex} by {by.name} ({_who(by)})"
        case Reroute(source, target, other):
            return f"rerouted {target} from {source} to {other}"
        case Split(vertex, into, offset, key_bytes):
            return f"split {vertex} into {into} by the {key_bytes} bytes from {offset} on"
        case SetPolicy():
            return f"set {_policy_text(edit)} of {edit.source} → {edit.target}"


def part_name(vertex: str, number: int) -> str:
    """What part `number` of a vertex that was split is called."""
    return f"{vertex}-{number}"


def _who(vertex: Vertex) -> str:
    return f"{vertex.product} on {', '.join(vertex.hosts)}"


def _policy_text(edit: SetPolicy) -> str:
    said = (
        ("policy", edit.policy and edit.policy.value),
        ("every", edit.every),
        ("credit bytes", edit.credit_bytes),
        ("evict after ms", edit.evict_after_ms),
    )
    return ", ".join(f"{name} {value}" for name, value in said if value is not None)


# ------------------------------------------------------------------------------------------------------------- refusals


def _refusals(graph: StreamGraph, edit: Edit) -> Iterator[str]:
    match edit:
        case Tap(source, vertex):
            yield from _of_tap(graph, source, vertex)
        case Remove(name):
            yield from _unknown(graph, name) or _of_removal(graph, graph.vertex(name))
        case Insert(source, target, vertex):
            yield from _no_edge(graph, source, target)
            yield from _of_newcomer(graph, vertex)
        case Replace(name, by):
            yield from _unknown(graph, name) or _of_inner(graph.vertex(name), "replaced")
            yield from _of_newcomer(graph, by)
        case Reroute(source, target, other):
            yield from _no_edge(graph, source, target)
            yield from _unknown(graph, other) or _of_way(graph, source, target, graph.vertex(other))
        case Split(name):
            yield from _unknown(graph, name) or _of_split(graph, graph.vertex(name), edit)
        case SetPolicy(source, target):
            yield from _no_edge(graph, source, target)
            if all(each is None for each in (edit.policy, edit.every, edit.credit_bytes, edit.evict_after_ms)):
                yield "nothing of the edge is to be set: say its policy, every, credit or evict-after"


def _unknown(graph: StreamGraph, name: str) -> list[str]:
    names = sorted(vertex.name for vertex in graph.vertices)
    return [] if name in names else [f"there is no vertex {name!r}: {graph.name} has {', '.join(names)}"]


def _no_edge(graph: StreamGraph, source: str, target: str) -> Iterator[str]:
    if all((edge.source, edge.target) != (source, target) for edge in graph.edges):
        known = ", ".join(f"{edge.source}:{edge.target}" for edge in graph.edges)
        yield f"no edge leads from {source!r} to {target!r}: {graph.name} has {known}"


def _taken(graph: StreamGraph, name: str, what: str) -> Iterator[str]:
    if any(vertex.name == name for vertex in graph.vertices):
        yield f"there is a vertex {name!r} already: give {what} another name"


def _of_tap(graph: StreamGraph, source: str, vertex: Vertex) -> Iterator[str]:
    yield from _unknown(graph, source)
    if any(known.name == source and known.role is Role.SINK for known in graph.vertices):
        yield f"{source} is a sink: it produces nothing that could be tapped"
    yield from _taken(graph, vertex.name, "the tap")
    if vertex.role is not Role.SINK:
        yield f"a tap is a sink, and {vertex.name} is a {vertex.role.value}"


def _of_newcomer(graph: StreamGraph, vertex: Vertex) -> Iterator[str]:
    yield from _taken(graph, vertex.name, "the new one")
    if not vertex.role.transforms:
        yield f"{vertex.name} is a {vertex.role.value}, and only a single or a pair can stand between others"


def _of_inner(vertex: Vertex, done: str) -> Iterator[str]:
    if not vertex.role.transforms:
        yield f"{vertex.name} is a {vertex.role.value}: only a single or a pair, between others, can be {done}"


def _of_removal(graph: StreamGraph, vertex: Vertex) -> Iterator[str]:
    if vertex.role is Role.SINK:
        return
    if vertex.role is Role.SOURCE:
        yield f"{vertex.name} is a source, and others read what it produces: let them read another vertex first (`halftrack stream reroute`)"
        return
    inputs = graph.into(vertex.name)
    if len(inputs) != 1:
        yield f"{vertex.name} joins {len(inputs)} inputs, so none of them is what its readers would read: reroute each of these first"
        return
    for edge in graph.out_of(vertex.name):
        if any(other.source == inputs[0].source for other in graph.into(edge.target)):
            yield f"{edge.target} reads {inputs[0].source} as well, and would read it twice: reroute {vertex.name}:{edge.target} first"
        elif not _simple(inputs[0]) and not _simple(edge):
            yield f"{inputs[0]} and {edge} are both read in a way of their own, and one edge cannot say both: set the policy of one of them first"


def _of_way(graph: StreamGraph, source: str, target: str, other: Vertex) -> Iterator[str]:
    if other.role is Role.SINK:
        yield f"{other.name} is a sink: it produces nothing that could be read"
    if any(edge.source == other.name for edge in graph.into(target)):
        yield f"{target} reads {other.name} already"
    if other.name == target:
        yield f"{target} cannot read itself"
    if all(edge.target == target for edge in graph.out_of(source)):
        yield (
            f"nobody else reads {source}, and nobody would then: remove it (`halftrack stream remove`), or tap it first so that it feeds somebody"
        )


def _of_split(graph: StreamGraph, vertex: Vertex, edit: Split) -> Iterator[str]:
    yield from _of_inner(vertex, "split")
    if not 2 <= edit.into <= MAX_INPUTS:
        yield f"a vertex is split into 2 to {MAX_INPUTS}, not {edit.into}"
        return
    for number in range(edit.into):
        yield from _taken(graph, part_name(vertex.name, number), "the vertex that is there")
    inputs = graph.into(vertex.name)
    if len(inputs) != 1:
        yield f"{vertex.name} joins {len(inputs)} inputs, and what it joins has no key: put a vertex before it, and split that"
    if any(edge.partition is not None or edge.sample is not None for edge in inputs):
        yield f"{inputs[0]} takes a part or a sample already: a part of a part is not to be had"
    if vertex.state:
        yield f"{vertex.name} keeps a state ({vertex.state}), which would be in none of its parts"
    for edge in graph.out_of(vertex.name):
        join = graph.vertex(edge.target).join
        if join is not None and join.by is not JoinBy.UNION:
            yield (
                f"{edge.target} joins by {join.by.value}, and parts become one again by union only: put a vertex between "
                f"({vertex.name}:{edge.target}) first"
            )


# ---------------------------------------------------------------------------------------------------------- what it makes


def _after(graph: StreamGraph, edit: Edit) -> StreamGraph:
    match edit:
        case Tap(source, vertex):
            return replace(graph, vertices=(*graph.vertices, vertex), edges=(*graph.edges, Edge(source, vertex.name)))
        case Remove(name):
            return _removed(graph, name)
        case Insert(source, target, vertex):
            return _inserted(graph, source, target, vertex)
        case Replace(name, by):
            vertices = tuple(replace(by, join=v.join) if v.name == name else v for v in graph.vertices)
            return replace(graph, vertices=vertices, edges=tuple(_renamed(edge, name, by.name) for edge in graph.edges))
        case Reroute(source, target, other):
            return replace(graph, edges=tuple(_moved(edge, source, target, other) for edge in graph.edges))
        case Split():
            return _split(graph, edit)
        case SetPolicy(source, target):
            edges = tuple(_set(e, edit) if (e.source, e.target) == (source, target) else e for e in graph.edges)
            return replace(graph, edges=edges)


def _removed(graph: StreamGraph, name: str) -> StreamGraph:
    """Who reads it reads its one input; a sink has no readers."""
    (before, *_), edges = graph.into(name), []
    for edge in graph.edges:
        if edge.source == name:
            edges.append(replace(before, target=edge.target) if _simple(edge) else replace(edge, source=before.source))
        elif edge.target != name:
            edges.append(edge)
    return replace(graph, vertices=tuple(v for v in graph.vertices if v.name != name), edges=tuple(edges))


def _inserted(graph: StreamGraph, source: str, target: str, vertex: Vertex) -> StreamGraph:
    """The newcomer reads what the edge carried, as it was carried; from it on, everything passes. Nothing is replayed to it: it begins now."""
    edges: list[Edge] = []
    for edge in graph.edges:
        if (edge.source, edge.target) == (source, target):
            edges += [replace(edge, target=vertex.name, replay_ms=0), Edge(vertex.name, target)]
        else:
            edges.append(edge)
    return replace(graph, vertices=(*graph.vertices, vertex), edges=tuple(edges))


def _split(graph: StreamGraph, edit: Split) -> StreamGraph:
    """Each part produces what its keys come to: less than the whole, and nobody knows how much."""
    whole = graph.vertex(edit.vertex)
    parts = [
        replace(whole, name=part_name(whole.name, n), hosts=_hosts(whole, edit, n), rate=None) for n in range(edit.into)
    ]
    edges: list[Edge] = []
    for edge in graph.edges:
        if edge.target == whole.name:
            cuts = [Partition(edit.offset, edit.key_bytes, edit.into, (n,)) for n in range(edit.into)]
            edges += [
                replace(edge, target=part.name, partition=cut, replay_ms=0)
                for part, cut in zip(parts, cuts, strict=True)
            ]
        elif edge.source == whole.name:
            edges += [replace(edge, source=part.name) for part in parts]
        else:
            edges.append(edge)
    readers = {edge.target for edge in graph.out_of(whole.name)}
    vertices: list[Vertex] = []
    for vertex in graph.vertices:
        if vertex.name == whole.name:
            vertices += parts
        else:
            vertices.append(replace(vertex, join=UNION) if vertex.name in readers else vertex)
    return replace(graph, vertices=tuple(vertices), edges=tuple(edges))


def _hosts(whole: Vertex, edit: Split, number: int) -> tuple[str, ...]:
    return (edit.hosts[number % len(edit.hosts)],) if edit.hosts else whole.hosts


def _renamed(edge: Edge, name: str, new: str) -> Edge:
    if edge.target == name:
        return replace(edge, target=new, replay_ms=0)
    return replace(edge, source=new) if edge.source == name else edge


def _moved(edge: Edge, source: str, target: str, other: str) -> Edge:
    return replace(edge, source=other) if (edge.source, edge.target) == (source, target) else edge


def _set(edge: Edge, edit: SetPolicy) -> Edge:
    policy = edit.policy or (Policy.SAMPLE if edit.every else edge.policy)
    sample = edge.sample if edit.every is None else Sample(every=edit.every)
    return replace(
        edge,
        policy=policy,
        sample=sample if policy is Policy.SAMPLE else None,
        credit_bytes=edge.credit_bytes if edit.credit_bytes is None else edit.credit_bytes,
        evict_after_ms=edge.evict_after_ms if edit.evict_after_ms is None else edit.evict_after_ms,
    )


def _simple(edge: Edge) -> bool:
    """Does it say nothing but from where and to where?"""
    return all(
        getattr(edge, each.name) == each.default
        for each in fields(Edge)
        if each.name not in ("source", "target", "generation")
    )
