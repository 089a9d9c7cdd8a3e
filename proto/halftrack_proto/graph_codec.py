"""Graphs that run, as operators ask for them and edit them: a part of the codec, and a file of its own for its length only."""

from collections.abc import Mapping
from dataclasses import dataclass

from halftrack_model import canonical
from halftrack_model.edits import (
    Edit,
    GraphChange,
    GraphRecord,
    Insert,
    Remove,
    Replace,
    Reroute,
    SetPolicy,
    Split,
    Tap,
)
from halftrack_model.graph import StreamGraph, Vertex
from halftrack_proto import codec, operator_codec
from halftrack_proto.gauges import RingRow
from halftrack_proto.graph_messages import (
    DeleteRequest,
    Deletion,
    EdgeReader,
    GraphPart,
    GraphQuery,
    GraphView,
    HostEnding,
    InputStanding,
    VertexStanding,
)
from halftrack_proto.v1 import operator_pb2

_CANONICAL: Mapping[str, type[Insert | Replace | Reroute | Split | SetPolicy]] = {
    "insert_canonical": Insert,
    "replace_canonical": Replace,
    "reroute_canonical": Reroute,
    "split_canonical": Split,
    "set_policy_canonical": SetPolicy,
}


_FIELDS = {kind: field for field, kind in _CANONICAL.items()}


@dataclass(frozen=True, slots=True)
class EditRequest:
    """An edit, and the revision that its author saw."""

    graph: GraphQuery
    revision: int
    edit: Edit


@dataclass(frozen=True, slots=True)
class SettleRequest:
    """Drift is to be adopted, or else reverted."""

    graph: GraphQuery
    revision: int
    adopt: bool


def edit_request_message(value: EditRequest) -> operator_pb2.EditGraphRequest:
    """An edit."""
    graph = operator_codec.graph_query_message(value.graph)
    match value.edit:
        case Tap(source, vertex):
            tap = operator_pb2.Tap(source=source, vertex_canonical=canonical.encode(vertex))
            return operator_pb2.EditGraphRequest(graph=graph, revision=value.revision, tap=tap)
        case Remove(vertex):
            return operator_pb2.EditGraphRequest(graph=graph, revision=value.revision, remove=vertex)
        case edit:
            message = operator_pb2.EditGraphRequest(graph=graph, revision=value.revision)
            setattr(message, _FIELDS[type(edit)], canonical.encode(edit))
            return message


def edit_request_of(message: operator_pb2.EditGraphRequest) -> EditRequest:
    """An edit; InvalidInput when it is none that we know."""
    return EditRequest(operator_codec.graph_query_of(message.graph), message.revision, _edit_of(message))


def settle_request_message(value: SettleRequest) -> operator_pb2.SettleGraphRequest:
    """What becomes of drift."""
    return operator_pb2.SettleGraphRequest(
        graph=operator_codec.graph_query_message(value.graph), revision=value.revision, adopt=value.adopt
    )


def settle_request_of(message: operator_pb2.SettleGraphRequest) -> SettleRequest:
    """What becomes of drift."""
    return SettleRequest(operator_codec.graph_query_of(message.graph), message.revision, message.adopt)


def delete_request_message(value: DeleteRequest) -> operator_pb2.DeleteGraphRequest:
    """What shall end."""
    return operator_pb2.DeleteGraphRequest(graph=operator_codec.graph_query_message(value.graph), dry_run=value.dry_run)


def delete_request_of(message: operator_pb2.DeleteGraphRequest) -> DeleteRequest:
    """What shall end."""
    return DeleteRequest(operator_codec.graph_query_of(message.graph), message.dry_run)


def deletion_message(value: Deletion) -> operator_pb2.DeleteGraphReply:
    """What ends."""
    hosts = [operator_pb2.HostEnding(**codec.fields(each)) for each in value.hosts]
    return operator_pb2.DeleteGraphReply(environment=value.environment, name=value.name, hosts=hosts)


def deletion_of(message: operator_pb2.DeleteGraphReply) -> Deletion:
    """What ends."""
    return Deletion(message.environment, message.name, tuple(codec.made(HostEnding, each) for each in message.hosts))


def live_graph_message(value: GraphRecord) -> operator_pb2.LiveGraphReply:
    """A graph as it stands."""
    return operator_pb2.LiveGraphReply(
        environment=value.environment,
        name=value.name,
        revision=value.revision,
        declared_canonical=canonical.encode(value.declared),
        live_canonical=canonical.encode(value.live),
        changes=[operator_pb2.GraphChange(**codec.fields(change)) for change in value.changes],
    )


def live_graph_of(message: operator_pb2.LiveGraphReply) -> GraphRecord:
    """A graph as it stands."""
    return GraphRecord(
        message.environment,
        message.name,
        message.revision,
        canonical.decode(StreamGraph, message.declared_canonical),
        canonical.decode(StreamGraph, message.live_canonical),
        tuple(codec.made(GraphChange, change) for change in message.changes),
    )


def graph_view_message(value: GraphView) -> operator_pb2.ShowGraphReply:
    """A graph with all that is known of it."""
    return operator_pb2.ShowGraphReply(
        graph_canonical=canonical.encode(value.graph),
        vertices=[operator_pb2.VertexStanding(**codec.fields(each)) for each in value.vertices],
        parts=[operator_pb2.GraphPart(**codec.fields(each)) for each in value.parts],
        rings=[operator_pb2.RingRow(**codec.fields(each)) for each in value.rings],
        inputs=[operator_pb2.InputStanding(**codec.fields(each)) for each in value.inputs],
        readers=[operator_pb2.EdgeReader(**codec.fields(each)) for each in value.readers],
    )


def graph_view_of(message: operator_pb2.ShowGraphReply) -> GraphView:
    """A graph with all that is known of it."""
    return GraphView(
        graph=canonical.decode(StreamGraph, message.graph_canonical),
        vertices=tuple(codec.made(VertexStanding, each) for each in message.vertices),
        parts=tuple(codec.made(GraphPart, each) for each in message.parts),
        rings=tuple(codec.made(RingRow, each) for each in message.rings),
        inputs=tuple(codec.made(InputStanding, each) for each in message.inputs),
        readers=tuple(codec.made(EdgeReader, each) for each in message.readers),
    )


def _edit_of(message: operator_pb2.EditGraphRequest) -> Edit:
    match message.WhichOneof("edit"):
        case "tap":
            return Tap(message.tap.source, canonical.decode(Vertex, message.tap.vertex_canonical))
        case "remove":
            return Remove(message.remove)
        case str(field):
            return canonical.decode(_CANONICAL[field], getattr(message, field))
    raise codec.unknown_value("this edit is none that this version knows")
