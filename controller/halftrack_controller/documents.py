"""What operators declare: is it right for this galaxy, and what would it change? Pure; the store writes it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from halftrack_controller import inlets, live, placement, standing
from halftrack_controller.snapshot import Environment, Host, Snapshot
from halftrack_model import bandwidth, edits
from halftrack_model.errors import InvalidInput
from halftrack_model.feed import Feed, clashes
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.graph_rules import state_misfit
from halftrack_model.ids import checked_name
from halftrack_model.rewiring import asked, carried
from halftrack_proto import messages as said

Declared = Environment | Host | StreamGraph
MAX_DOCUMENTS = 2000  # of one apply: a site's worth; more is a loop gone wrong, and would not fit one message anyway
MAX_LABELS = 64


def declared(document: said.Document) -> Declared:
    """A document that came over the wire as what it declares."""
    match document:
        case said.EnvironmentDocument():
            return Environment(document.name, document.labels, document.track, document.agent)
        case said.HostDocument():
            where = (document.bridge, document.agent, "", document.bandwidth, document.site)
            return Host(document.name, document.environment, document.labels, *where)
        case StreamGraph():
            return asked(document)  # how far hosts are with it is for nobody to declare


def checked(snapshot: Snapshot, documents: Sequence[Declared]) -> None:
    """InvalidInput that names every problem at once, unless all documents can be applied together."""
    if found := tuple(problems(snapshot, documents)):
        raise InvalidInput("bad-documents", "\n".join([*found, "nothing was applied"]))


def problems(snapshot: Snapshot, documents: Sequence[Declared]) -> Iterator[str]:
    """Everything that is wrong, each in a sentence."""
    if len(documents) > MAX_DOCUMENTS:
        yield f"{len(documents)} documents at once; at most {MAX_DOCUMENTS} are taken"
        return
    names = [label_of(document) for document in documents]
    yield from (f"{name} is declared twice" for name in sorted(set(names)) if names.count(name) > 1)
    after = merged(snapshot, documents)
    for document, name in zip(documents, names, strict=True):
        yield from (f"{name}: {problem}" for problem in _problems(snapshot, after, document))


def permitted(snapshot: Snapshot, documents: Iterable[Declared], operator: str) -> None:
    """Refused when a graph would change whose editors do not include the operator."""
    for document in documents:
        if isinstance(document, StreamGraph) and _action(snapshot, document) == "changed":
            record = snapshot.records.get((document.environment, document.name))
            if record is not None:
                live.permitted(record, operator)


def checked_live(snapshot: Snapshot, graph: StreamGraph) -> None:
    """InvalidInput that names every problem, unless a graph that was edited while it runs can be as it now is."""
    found = tuple(_graph_problems(snapshot, graph))
    if found:
        raise InvalidInput("bad-edit", "\n".join([*found, "nothing was changed"]))


def placed(text: str, where: Mapping[str, str]) -> str:
    """The controller's words of `checked` for who wrote the documents: each line led by where the document stands.

    `where` is by `label_of`. The controller sees no files, and an author with twenty of them looks for a line.
    """
    return "\n".join(_placed_line(line, where) for line in text.splitlines())


def _placed_line(line: str, where: Mapping[str, str]) -> str:
    label = line.partition(":")[0]
    return f"{where[label]}: {line}" if label in where else line


def label_of(document: Declared) -> str:
    """How the sentences about a document begin."""
    return f"{kind_of(document)} {name_of(document)}"


def changes(snapshot: Snapshot, documents: Iterable[Declared]) -> tuple[said.DocumentChange, ...]:
    """What applying each document does, in the order given."""
    return tuple(
        said.DocumentChange(kind_of(document), name_of(document), _action(snapshot, document)) for document in documents
    )


def merged(snapshot: Snapshot, documents: Iterable[Declared]) -> Snapshot:
    """The snapshot as it would be. What is not declared stays as it is (R3)."""
    environments, hosts, deleted = dict(snapshot.environments), dict(snapshot.hosts), set(snapshot.deleted)
    graphs = {(graph.environment, graph.name): graph for graph in snapshot.graphs}
    for document in documents:
        match document:
            case Environment():
                environments[document.name] = document
            case Host():
                hosts[document.name] = _with_key(snapshot, document)
            case StreamGraph():
                key = (document.environment, document.name)
                graphs[key] = live.kept(snapshot, snapshot.records.get(key), document)
                deleted.discard(key)
    return replace(
        snapshot,
        environments={name: environments[name] for name in sorted(environments)},
        hosts={name: hosts[name] for name in sorted(hosts)},
        graphs=tuple(graphs[key] for key in sorted(graphs)),
        deleted=frozenset(deleted),
    )


def kind_of(document: Declared) -> str:
    """The word for what a document declares."""
    match document:
        case Environment():
            return "environment"
        case Host():
            return "host"
        case StreamGraph():
            return "service" if document.is_service else "graph"


def name_of(document: Declared) -> str:
    """Its name; a graph's is only unique in its environment."""
    return f"{document.environment}/{document.name}" if isinstance(document, StreamGraph) else document.name


def _action(snapshot: Snapshot, document: Declared) -> str:
    present: Declared | None
    match document:
        case Environment():
            present = snapshot.environments.get(document.name)
        case Host():
            present = snapshot.hosts.get(document.name)
            document = _with_key(snapshot, document)
        case StreamGraph():
            known = snapshot.graph(document.environment, document.name)
            present = None if known is None else asked(known)
            if live.changes_nothing(snapshot.records.get((document.environment, document.name)), document):
                return "unchanged"
    if present is None:
        return "created"
    return "unchanged" if present == document else "changed"


def _with_key(snapshot: Snapshot, host: Host) -> Host:
    """A manifest never says a host's key: enrolment does."""
    known = snapshot.hosts.get(host.name)
    return replace(host, curve_public=known.curve_public if known else "")


def _problems(before: Snapshot, after: Snapshot, document: Declared) -> Iterator[str]:
    yield from _name_problems(document.name, kind_of(document))
    match document:
        case Environment():
            yield from _name_problems(document.track, "track")
            yield from _label_problems(document.labels)
        case Host():
            yield from _host_problems(before, after, document)
        case StreamGraph():
            drift = live.drift_problem(before.records.get((document.environment, document.name)), document)
            yield from () if drift is None else (drift,)
            yield from _graph_problems(after, document)
            yield from _ring_problems(before, document)
            if not placement.problems(document):  # what follows needs every name to mean one vertex
                yield from _address_problems(after, document)
                yield from _state_problems(after, document)
                yield from _place_problems(before, document)
                yield from _live_problems(before, document)


def _host_problems(before: Snapshot, after: Snapshot, host: Host) -> Iterator[str]:
    if host.environment not in after.environments:
        yield f"there is no environment {host.environment!r}: declare it as well"
    known = before.hosts.get(host.name)
    if known is not None and known.environment != host.environment:
        yield f"it belongs to {known.environment!r}, and a host does not move: give the new one its own name"
    for what, address in (("bridge", host.bridge), ("agent", host.agent)):
        if not _is_address(address):
            yield f"{what} {address!r} is no address: write host:port, as other hosts reach it"
    yield from bandwidth.faults(host.bandwidth)
    if host.site:
        yield from _name_problems(host.site, "site")
    yield from _label_problems(host.labels)


def _graph_problems(after: Snapshot, graph: StreamGraph) -> Iterator[str]:
    if graph.environment not in after.environments:
        yield f"there is no environment {graph.environment!r}: declare it as well"
    for vertex in graph.vertices:
        yield from _name_problems(vertex.name, "vertex")
        yield from _name_problems(vertex.product, "product")
        for host in vertex.hosts:
            if host not in after.hosts or after.hosts[host].environment != graph.environment:
                yield f"vertex {vertex.name!r}: {graph.environment} has no host {host!r}"
    yield from placement.problems(graph)


def _address_problems(after: Snapshot, graph: StreamGraph) -> Iterator[str]:
    """Of its sources' sockets, beside those of other graphs on the same hosts."""
    others = [each for each in after.graphs if (each.environment, each.name) != (graph.environment, graph.name)]
    for host in sorted({vertex.hosts[0] for vertex in graph.vertices if vertex.feeds}):
        theirs = [(f"{name_of(each)}/{owner}", found) for each in others for owner, found in _bound(each, host)]
        mine = [(f"vertex {owner!r}", found) for owner, found in _bound(graph, host)]
        own = {owner for owner, _ in mine}
        yield from (f"{owner}: {text}" for owner, text in clashes((*theirs, *mine)) if owner in own)


def _bound(graph: StreamGraph, host: str) -> Iterator[tuple[str, Feed]]:
    return ((vertex.name, each) for vertex in graph.vertices if vertex.hosts[:1] == (host,) for each in vertex.feeds)


def _ring_problems(before: Snapshot, graph: StreamGraph) -> Iterator[str]:
    """A ring keeps its size for as long as its stream lives: saying another would change nothing, and look as if it had."""
    known = before.graph(graph.environment, graph.name)
    at_work = (
        {vertex.name: vertex for vertex in known.vertices if _at_work(before, graph, vertex.name)} if known else {}
    )
    for vertex in graph.vertices:
        old = at_work.get(vertex.name, vertex)
        if (old.ring_bytes, old.ring_slots) != (vertex.ring_bytes, vertex.ring_slots):
            yield (
                f"vertex {vertex.name!r}: its ring has {old.ring_bytes} bytes and {old.ring_slots} slots, and keeps them while its "
                "stream runs: leave them, or give the vertex another name, which begins a new stream"
            )


def _place_problems(before: Snapshot, graph: StreamGraph) -> Iterator[str]:
    """A stream is where its ring is, and whoever reads it keeps its place in it by number: neither moves while it runs."""
    known = before.graph(graph.environment, graph.name)
    if known is not None and known.is_service != graph.is_service:
        yield f"{name_of(graph)} is a {kind_of(known)} already, and stays one: give this {kind_of(graph)} another name"
        return
    for vertex in graph.vertices if known is not None and not graph.is_service else ():
        if known is None or not _at_work(before, graph, vertex.name):
            continue
        old = next((each for each in carried(known).vertices if each.name == vertex.name), None)
        if old is None:  # it was there before, and is to begin again
            continue
        homes = [placement.home(of, each) for of, each in ((known, old), (graph, vertex))]
        if old.role is not Role.SINK and homes[0] != homes[1]:
            yield (
                f"vertex {vertex.name!r}: its stream is written on {homes[0]}, and would be on {homes[1]}: leave its hosts and its first consumer, "
                "or give it another name, which begins a new stream"
            )
        if known.into(vertex.name) and graph.into(vertex.name) and not (known.live or graph.live):
            yield from _input_problems(known, old, graph, vertex)


def _live_problems(before: Snapshot, graph: StreamGraph) -> Iterator[str]:
    """Of a graph in which what a running vertex reads can change."""
    record = before.records.get((graph.environment, graph.name))
    if record is not None and (record.live.live or graph.live) and not edits.same(graph, record.declared):
        yield from live.rewiring_problems(before, record, graph)


def _input_problems(known: StreamGraph, old: Vertex, graph: StreamGraph, vertex: Vertex) -> Iterator[str]:
    pairs = ((known, old), (graph, vertex))
    joins = [(placement.input_ring_name(of, each), of.inputs(each.name), each.join) for of, each in pairs]
    if joins[0] != joins[1]:
        yield (
            f"vertex {vertex.name!r}: it reads {', '.join(joins[0][1])} and keeps its place there, so its inputs and how they are joined "
            "stay while its stream runs: leave them, or give the vertex another name, which begins a new stream"
        )
    elif known.has_inlet(old.name):
        hosts = [placement.inlet_host(*pair) for pair in pairs]
        if hosts[0] != hosts[1]:
            yield f"vertex {vertex.name!r}: its inlet writes on {hosts[0]}, and would on {hosts[1]}: leave the placement of its edges"
        sizes = [(ring.capacity_bytes, ring.slots) for ring in (inlets.ring_of(*pair) for pair in pairs)]
        if sizes[0] != sizes[1]:
            yield (
                f"vertex {vertex.name!r}: the ring of its inlet has {sizes[0][0]} bytes and {sizes[0][1]} slots, and keeps them "
                "while its stream runs: leave the credit of its edges, or give the vertex another name"
            )


def _state_problems(after: Snapshot, graph: StreamGraph) -> Iterator[str]:
    """Of the releases in force, and where there is none yet of those that would be the first."""
    for vertex in graph.vertices:
        release = standing.release_of(after, graph, vertex)
        if release is not None and (misfit := state_misfit(graph, vertex, release)):
            yield misfit


def _at_work(snapshot: Snapshot, graph: StreamGraph, vertex: str) -> bool:
    where = snapshot, graph.environment, graph.name, vertex
    return standing.in_force(*where) is not None or standing.moving(*where) is not None


def _name_problems(name: str, what: str) -> Iterator[str]:
    try:
        checked_name(name, what)
    except InvalidInput as error:
        yield error.message


def _label_problems(labels: object) -> Iterator[str]:
    assert isinstance(labels, dict)  # noqa: S101 - both the codec and the manifests make dicts
    if len(labels) > MAX_LABELS or any(len(key) > 63 or len(value) > 255 for key, value in labels.items()):
        yield f"at most {MAX_LABELS} labels, their names up to 63 characters and values up to 255"


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536)
