"""The only file that knows both messages and the model. Translates, checks form, decides nothing.

For each thing that travels there are two functions: `x_message(value)` makes the message, `x_of(message)` the value; the
domain types that the model lacks are in `halftrack_proto.messages`, and the operator's plain requests and lists, in which no
type of the model travels, are translated in `operator_codec`. Reading is strict: bytes that should be canonical are
decoded strictly, a union without a member and an unknown enum value are refused with InvalidInput.

Fields bear the same names on both sides, so most translations are `fields` one way and `made` the other; only what
differs is spelled out. A round trip of every type by hypothesis holds that to be true (tests/proto/test_codec.py).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from halftrack_model import canonical
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import StreamGraph
from halftrack_model.observed import Health, Observed
from halftrack_model.plan import Plan
from halftrack_model.release import Release
from halftrack_model.report import Report
from halftrack_model.seals import Seal, Sealed
from halftrack_model.swap import SwapRecord
from halftrack_proto import messages as said
from halftrack_proto import shown_codec
from halftrack_proto.gauges import FlowGauge, RingGauge, TransferGauge
from halftrack_proto.shown import WantFrames
from halftrack_proto.sightings import LookFor, Sees
from halftrack_proto.v1 import common_pb2, enrolment_pb2, operator_pb2, session_pb2

T = TypeVar("T")


def fields(value: Any, *but: str) -> dict[str, Any]:
    """The value's fields by name, ready for a message's constructor, without those in `but`."""
    pairs = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value) if field.name not in but)
    return {name: dict(item) if isinstance(item, Mapping) else item for name, item in pairs}


def made(kind: type[T], message: Message, **given: Any) -> T:
    """A `kind` with `given`, and every other field from the message's field of that name."""
    names = [field.name for field in dataclasses.fields(cast(Any, kind)) if field.name not in given]
    return kind(**{name: _plain(getattr(message, name)) for name in names}, **given)


def _plain(item: Any) -> Any:
    """Containers of protobuf as our own; scalars as they are."""
    if isinstance(item, (str, bytes, int)):
        return item
    return dict(item) if hasattr(item, "keys") else tuple(item)


def _maybe(kind: type[T], data: bytes) -> T | None:
    return canonical.decode(kind, data) if data else None


def _bytes(value: object | None) -> bytes:
    return b"" if value is None else canonical.encode(value)


def unknown_value(text: str) -> InvalidInput:
    """The error for a value of an enumeration that this version does not know."""
    return InvalidInput("bad-field", text)


def _empty_union(what: str) -> InvalidInput:
    return InvalidInput("empty-message", f"{what} says nothing that this version knows")


# --------------------------------------------------------------------------------------------------------------- sealed


def sealed_message(sealed: Sealed) -> common_pb2.Sealed:
    """A sealed document as it travels."""
    seals = [common_pb2.Seal(key_id=seal.key_id, signature=seal.signature) for seal in sealed.seals]
    return common_pb2.Sealed(kind=sealed.kind, payload=sealed.payload, seals=seals)


def sealed_of(message: common_pb2.Sealed) -> Sealed:
    """A sealed document, unverified."""
    return Sealed(message.kind, message.payload, tuple(Seal(seal.key_id, seal.signature) for seal in message.seals))


# -------------------------------------------------------------------------------------------------------------- session


def agent_message(value: said.AgentSays) -> session_pb2.AgentMessage:
    """What an agent says."""
    match value:
        case said.Hello():
            return session_pb2.AgentMessage(hello=session_pb2.Hello(**fields(value)))
        case said.Accepted():
            return session_pb2.AgentMessage(accepted=session_pb2.Accepted(revision=value.revision))
        case said.Declined():
            return session_pb2.AgentMessage(refused=session_pb2.Refused(**fields(value)))
        case said.Heartbeat():
            rings = [session_pb2.RingGauge(**fields(ring)) for ring in value.rings]
            flows = [session_pb2.FlowGauge(**fields(flow)) for flow in value.flows]
            moving = [session_pb2.TransferGauge(**fields(each)) for each in value.transfers]
            beat = session_pb2.Heartbeat(
                observed_digest=value.observed_digest,
                rings=rings,
                flows=flows,
                transfers=moving,
                boot_ms=value.boot_ms,
            )
            return session_pb2.AgentMessage(heartbeat=beat)
        case Observed():
            state = session_pb2.ObservedState(observed_canonical=canonical.encode(value))
            return session_pb2.AgentMessage(observed=state)
        case said.Alive():
            return session_pb2.AgentMessage(alive=session_pb2.Alive())
        case Sees():
            return session_pb2.AgentMessage(sees=session_pb2.Sees(hosts=value.hosts))
        case said.ReportBatch():
            batch = session_pb2.Reports(report_canonical=[canonical.encode(report) for report in value.reports])
            return session_pb2.AgentMessage(reports=batch)


def agent_of(message: session_pb2.AgentMessage) -> said.AgentSays:
    """What an agent has said; InvalidInput when it is nothing we know."""
    match message.WhichOneof("message"):
        case "hello":
            return made(said.Hello, message.hello)
        case "accepted":
            return said.Accepted(message.accepted.revision)
        case "refused":
            return made(said.Declined, message.refused)
        case "heartbeat":
            rings = tuple(made(RingGauge, ring) for ring in message.heartbeat.rings)
            flows = tuple(made(FlowGauge, flow) for flow in message.heartbeat.flows)
            moving = tuple(made(TransferGauge, each) for each in message.heartbeat.transfers)
            beat = message.heartbeat
            return said.Heartbeat(beat.observed_digest, rings, flows, moving, beat.boot_ms)
        case "observed":
            return canonical.decode(Observed, message.observed.observed_canonical)
        case "alive":
            return said.Alive()
        case "sees":
            return Sees(tuple(message.sees.hosts))
        case "reports":
            return said.ReportBatch(tuple(canonical.decode(Report, data) for data in message.reports.report_canonical))
    raise _empty_union("the agent's message")


def controller_message(value: said.ControllerSays) -> session_pb2.ControllerMessage:
    """What a controller says."""
    match value:
        case said.Welcome():
            return session_pb2.ControllerMessage(welcome=session_pb2.Welcome(**fields(value)))
        case said.PlanPush():
            push = session_pb2.PlanPush(sealed=sealed_message(value.sealed), revision=value.revision)
            return session_pb2.ControllerMessage(plan=push)
        case said.ReportsAcked():
            return session_pb2.ControllerMessage(reports_acked=session_pb2.ReportsAcked(upto=value.upto))
        case said.Alive():
            return session_pb2.ControllerMessage(alive=session_pb2.Alive())
        case said.WantObserved():
            return session_pb2.ControllerMessage(want_observed=session_pb2.WantObserved())
        case said.ReconnectAfter():
            return session_pb2.ControllerMessage(reconnect_after=session_pb2.ReconnectAfter(**fields(value)))
        case WantFrames():
            return session_pb2.ControllerMessage(want_frames=shown_codec.want_frames_message(value))
        case LookFor():
            return session_pb2.ControllerMessage(look_for=session_pb2.LookFor(hosts=value.hosts))


def controller_of(message: session_pb2.ControllerMessage) -> said.ControllerSays:
    """What a controller has said; InvalidInput when it is nothing we know."""
    match message.WhichOneof("message"):
        case "welcome":
            return made(said.Welcome, message.welcome)
        case "plan":
            return said.PlanPush(sealed_of(message.plan.sealed), message.plan.revision)
        case "reports_acked":
            return said.ReportsAcked(message.reports_acked.upto)
        case "alive":
            return said.Alive()
        case "want_observed":
            return said.WantObserved()
        case "reconnect_after":
            return made(said.ReconnectAfter, message.reconnect_after)
        case "want_frames":
            return shown_codec.want_frames_of(message.want_frames)
        case "look_for":
            return LookFor(tuple(message.look_for.hosts))
    raise _empty_union("the controller's message")


# ------------------------------------------------------------------------------------------------------------ enrolment


def enrol_request_message(value: said.EnrolRequest) -> enrolment_pb2.EnrolRequest:
    """A host asks to belong."""
    return enrolment_pb2.EnrolRequest(**fields(value))


def enrol_request_of(message: enrolment_pb2.EnrolRequest) -> said.EnrolRequest:
    """A host has asked to belong."""
    return made(said.EnrolRequest, message)


def enrol_reply_message(value: said.EnrolReply) -> enrolment_pb2.EnrolReply:
    """What a host gets for its token."""
    return enrolment_pb2.EnrolReply(**fields(value))


def enrol_reply_of(message: enrolment_pb2.EnrolReply) -> said.EnrolReply:
    """What a host has got for its token."""
    return made(said.EnrolReply, message)


# ------------------------------------------------------------------------------------------------------------- operators


def document_message(value: said.Document) -> operator_pb2.Document:
    """One document of a manifest."""
    match value:
        case said.EnvironmentDocument():
            return operator_pb2.Document(environment=operator_pb2.EnvironmentDocument(**fields(value)))
        case said.HostDocument():
            windows = [operator_pb2.BandwidthWindow(**fields(window)) for window in value.bandwidth]
            host = operator_pb2.HostDocument(**fields(value, "bandwidth"), bandwidth=windows)
            return operator_pb2.Document(host=host)
        case StreamGraph():
            return operator_pb2.Document(graph_canonical=canonical.encode(value))


def document_of(message: operator_pb2.Document) -> said.Document:
    """One document of a manifest; its content is yet to be judged."""
    match message.WhichOneof("document"):
        case "environment":
            return made(said.EnvironmentDocument, message.environment)
        case "host":
            windows = tuple(made(BandwidthWindow, window) for window in message.host.bandwidth)
            return made(said.HostDocument, message.host, bandwidth=windows)
        case "graph_canonical":
            return canonical.decode(StreamGraph, message.graph_canonical)
    raise _empty_union("the document")


def apply_reply_message(changes: tuple[said.DocumentChange, ...]) -> operator_pb2.ApplyReply:
    """What applying has done."""
    return operator_pb2.ApplyReply(changes=[operator_pb2.DocumentChange(**fields(change)) for change in changes])


def apply_reply_of(message: operator_pb2.ApplyReply) -> tuple[said.DocumentChange, ...]:
    """What applying has done."""
    return tuple(made(said.DocumentChange, change) for change in message.changes)


def rollout_message(value: said.RolloutEntry) -> operator_pb2.RolloutEntry:
    """A rollout as it stands."""
    return operator_pb2.RolloutEntry(**fields(value, "swap"), swap_canonical=_bytes(value.swap))


def rollout_of(message: operator_pb2.RolloutEntry) -> said.RolloutEntry:
    """A rollout as it stands."""
    return made(said.RolloutEntry, message, swap=_maybe(SwapRecord, message.swap_canonical))


def why_message(value: said.Why) -> operator_pb2.Reason:
    """A reason in prose."""
    return operator_pb2.Reason(**fields(value))


def why_of(message: operator_pb2.Reason) -> said.Why:
    """A reason in prose."""
    return made(said.Why, message)


def _host_change_message(value: said.HostChange) -> operator_pb2.HostChange:
    return operator_pb2.HostChange(
        **fields(value, "held", "next"), held_canonical=_bytes(value.held), next_canonical=_bytes(value.next)
    )


def _host_change_of(message: operator_pb2.HostChange) -> said.HostChange:
    held, coming = _maybe(Plan, message.held_canonical), canonical.decode(Plan, message.next_canonical)
    return made(said.HostChange, message, held=held, next=coming)


def plan_reply_message(value: said.PlanReply) -> operator_pb2.PlanReply:
    """What applying would do."""
    return operator_pb2.PlanReply(
        changes=[operator_pb2.DocumentChange(**fields(change)) for change in value.changes],
        hosts=[_host_change_message(host) for host in value.hosts],
        rollouts=[rollout_message(rollout) for rollout in value.rollouts],
        reasons=[why_message(reason) for reason in value.reasons],
    )


def plan_reply_of(message: operator_pb2.PlanReply) -> said.PlanReply:
    """What applying would do."""
    return said.PlanReply(
        changes=tuple(made(said.DocumentChange, change) for change in message.changes),
        hosts=tuple(_host_change_of(host) for host in message.hosts),
        rollouts=tuple(rollout_of(rollout) for rollout in message.rollouts),
        reasons=tuple(why_of(reason) for reason in message.reasons),
    )


def publish_request_message(sealed: Sealed) -> operator_pb2.PublishReleaseRequest:
    """A release to be published."""
    return operator_pb2.PublishReleaseRequest(release=sealed_message(sealed))


def publish_request_of(message: operator_pb2.PublishReleaseRequest) -> Sealed:
    """A release to be published, unverified."""
    return sealed_of(message.release)


def publish_reply_message(value: said.PublishReply) -> operator_pb2.PublishReleaseReply:
    """The release is durable."""
    return operator_pb2.PublishReleaseReply(**fields(value))


def publish_reply_of(message: operator_pb2.PublishReleaseReply) -> said.PublishReply:
    """The release is durable."""
    return made(said.PublishReply, message)


def release_message(value: said.ReleaseEntry) -> operator_pb2.ReleaseEntry:
    """A published release."""
    return operator_pb2.ReleaseEntry(**fields(value, "release"), release_canonical=canonical.encode(value.release))


def release_of(message: operator_pb2.ReleaseEntry) -> said.ReleaseEntry:
    """A published release."""
    return made(said.ReleaseEntry, message, release=canonical.decode(Release, message.release_canonical))


def host_message(value: said.HostEntry) -> operator_pb2.HostEntry:
    """A host in a list."""
    return operator_pb2.HostEntry(**fields(value, "health"), health=value.health.value)


def host_of(message: operator_pb2.HostEntry) -> said.HostEntry:
    """A host in a list."""
    if message.health not in {health.value for health in Health}:
        raise unknown_value(f"{message.health!r} is not a health")
    return made(said.HostEntry, message, health=Health(message.health))


def host_detail_message(value: said.HostDetail) -> operator_pb2.ShowHostReply:
    """A host in full."""
    return operator_pb2.ShowHostReply(
        entry=host_message(value.entry),
        plan_canonical=_bytes(value.plan),
        observed_canonical=_bytes(value.observed),
        report_canonical=[canonical.encode(report) for report in value.reports],
        transfers=[session_pb2.TransferGauge(**fields(each)) for each in value.transfers],
    )


def host_detail_of(message: operator_pb2.ShowHostReply) -> said.HostDetail:
    """A host in full."""
    return said.HostDetail(
        entry=host_of(message.entry),
        plan=_maybe(Plan, message.plan_canonical),
        observed=_maybe(Observed, message.observed_canonical),
        reports=tuple(canonical.decode(Report, data) for data in message.report_canonical),
        transfers=tuple(made(TransferGauge, each) for each in message.transfers),
    )
