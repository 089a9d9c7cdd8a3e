"""The operator's plain requests and lists: the part of the codec in which no type of the model travels.

As in `codec`: `x_message(value)` makes the message, `x_of(message)` the value. It is a file of its own for its length only.
"""

from collections.abc import Sequence

from halftrack_proto import codec
from halftrack_proto import messages as said
from halftrack_proto.gauges import RingRow
from halftrack_proto.graph_messages import GraphQuery
from halftrack_proto.v1 import operator_pb2

# ------------------------------------------------------------------------------------------------------------- requests


def apply_request_message(documents: Sequence[said.Document]) -> operator_pb2.ApplyRequest:
    """Documents to be registered."""
    return operator_pb2.ApplyRequest(documents=[codec.document_message(document) for document in documents])


def apply_request_of(message: operator_pb2.ApplyRequest) -> tuple[said.Document, ...]:
    """Documents to be registered."""
    return tuple(codec.document_of(document) for document in message.documents)


def plan_request_message(documents: Sequence[said.Document]) -> operator_pb2.PlanRequest:
    """Documents that might be registered."""
    return operator_pb2.PlanRequest(documents=[codec.document_message(document) for document in documents])


def plan_request_of(message: operator_pb2.PlanRequest) -> tuple[said.Document, ...]:
    """Documents that might be registered."""
    return tuple(codec.document_of(document) for document in message.documents)


def list_releases_message(product: str) -> operator_pb2.ListReleasesRequest:
    """Of which product; empty: all."""
    return operator_pb2.ListReleasesRequest(product=product)


def list_releases_of(message: operator_pb2.ListReleasesRequest) -> str:
    """Of which product; empty: all."""
    return message.product


def list_hosts_message(environment: str) -> operator_pb2.ListHostsRequest:
    """Of which environment; empty: all."""
    return operator_pb2.ListHostsRequest(environment=environment)


def list_hosts_of(message: operator_pb2.ListHostsRequest) -> str:
    """Of which environment; empty: all."""
    return message.environment


def show_host_message(host: str) -> operator_pb2.ShowHostRequest:
    """Which host."""
    return operator_pb2.ShowHostRequest(host=host)


def show_host_of(message: operator_pb2.ShowHostRequest) -> str:
    """Which host."""
    return message.host


def stream_top_message(environment: str) -> operator_pb2.StreamTopRequest:
    """Of which environment; empty: all."""
    return operator_pb2.StreamTopRequest(environment=environment)


def stream_top_of(message: operator_pb2.StreamTopRequest) -> str:
    """Of which environment; empty: all."""
    return message.environment


def graph_query_message(value: GraphQuery) -> operator_pb2.GraphQuery:
    """Which graph."""
    return operator_pb2.GraphQuery(**codec.fields(value))


def graph_query_of(message: operator_pb2.GraphQuery) -> GraphQuery:
    """Which graph."""
    return codec.made(GraphQuery, message)


def explain_message(subject: str) -> operator_pb2.ExplainRequest:
    """What is to be explained."""
    return operator_pb2.ExplainRequest(subject=subject)


def explain_of(message: operator_pb2.ExplainRequest) -> str:
    """What is to be explained."""
    return message.subject


def watch_message() -> operator_pb2.WatchRequest:
    """Everything that changes."""
    return operator_pb2.WatchRequest()


def token_request_message(value: said.TokenRequest) -> operator_pb2.CreateTokenRequest:
    """A wish for a token."""
    return operator_pb2.CreateTokenRequest(**codec.fields(value))


def token_request_of(message: operator_pb2.CreateTokenRequest) -> said.TokenRequest:
    """A wish for a token."""
    return codec.made(said.TokenRequest, message)


def rollout_query_message(value: said.RolloutQuery) -> operator_pb2.RolloutStatusRequest:
    """Which rollouts."""
    return operator_pb2.RolloutStatusRequest(**codec.fields(value))


def rollout_query_of(message: operator_pb2.RolloutStatusRequest) -> said.RolloutQuery:
    """Which rollouts."""
    return codec.made(said.RolloutQuery, message)


def steer_request_message(value: said.SteerRequest) -> operator_pb2.SteerRolloutRequest:
    """What to do to which rollout."""
    steer = operator_pb2.Steer.Value(f"STEER_{value.steer.name}")
    return operator_pb2.SteerRolloutRequest(rollout_id=value.rollout_id, steer=steer)


def steer_request_of(message: operator_pb2.SteerRolloutRequest) -> said.SteerRequest:
    """What to do to which rollout; InvalidInput when it is nothing we know."""
    for steer in said.Steer:
        if operator_pb2.Steer.Value(f"STEER_{steer.name}") == message.steer:
            return said.SteerRequest(message.rollout_id, steer)
    raise codec.unknown_value(f"{message.steer} is no way to steer a rollout")


# -------------------------------------------------------------------------------------------------------------- replies


def releases_message(entries: Sequence[said.ReleaseEntry]) -> operator_pb2.ListReleasesReply:
    """Published releases."""
    return operator_pb2.ListReleasesReply(releases=[codec.release_message(entry) for entry in entries])


def releases_of(message: operator_pb2.ListReleasesReply) -> tuple[said.ReleaseEntry, ...]:
    """Published releases."""
    return tuple(codec.release_of(entry) for entry in message.releases)


def hosts_message(entries: Sequence[said.HostEntry]) -> operator_pb2.ListHostsReply:
    """Hosts."""
    return operator_pb2.ListHostsReply(hosts=[codec.host_message(entry) for entry in entries])


def hosts_of(message: operator_pb2.ListHostsReply) -> tuple[said.HostEntry, ...]:
    """Hosts."""
    return tuple(codec.host_of(entry) for entry in message.hosts)


def rollouts_message(entries: Sequence[said.RolloutEntry]) -> operator_pb2.RolloutStatusReply:
    """Rollouts as they stand."""
    return operator_pb2.RolloutStatusReply(rollouts=[codec.rollout_message(entry) for entry in entries])


def rollouts_of(message: operator_pb2.RolloutStatusReply) -> tuple[said.RolloutEntry, ...]:
    """Rollouts as they stand."""
    return tuple(codec.rollout_of(entry) for entry in message.rollouts)


def steer_reply_message(entry: said.RolloutEntry) -> operator_pb2.SteerRolloutReply:
    """The rollout as it stands afterwards."""
    return operator_pb2.SteerRolloutReply(rollout=codec.rollout_message(entry))


def steer_reply_of(message: operator_pb2.SteerRolloutReply) -> said.RolloutEntry:
    """The rollout as it stands afterwards."""
    return codec.rollout_of(message.rollout)


def ring_rows_message(rows: Sequence[RingRow]) -> operator_pb2.StreamTopReply:
    """Rings."""
    return operator_pb2.StreamTopReply(rings=[operator_pb2.RingRow(**codec.fields(row)) for row in rows])


def ring_rows_of(message: operator_pb2.StreamTopReply) -> tuple[RingRow, ...]:
    """Rings."""
    return tuple(codec.made(RingRow, row) for row in message.rings)


def whys_message(reasons: Sequence[said.Why]) -> operator_pb2.ExplainReply:
    """Reasons in prose."""
    return operator_pb2.ExplainReply(reasons=[codec.why_message(reason) for reason in reasons])


def whys_of(message: operator_pb2.ExplainReply) -> tuple[said.Why, ...]:
    """Reasons in prose."""
    return tuple(codec.why_of(reason) for reason in message.reasons)


def token_reply_message(value: said.TokenReply) -> operator_pb2.CreateTokenReply:
    """A fresh token."""
    return operator_pb2.CreateTokenReply(**codec.fields(value))


def token_reply_of(message: operator_pb2.CreateTokenReply) -> said.TokenReply:
    """A fresh token."""
    return codec.made(said.TokenReply, message)


def change_message(value: said.Change) -> operator_pb2.Change:
    """Something has changed."""
    return operator_pb2.Change(**codec.fields(value))


def change_of(message: operator_pb2.Change) -> said.Change:
    """Something has changed."""
    return codec.made(said.Change, message)
