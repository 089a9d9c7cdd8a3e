"""Every type that travels survives the journey, and nothing else gets through."""

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_model import canonical
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.edits import GraphRecord, Remove, Tap
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import Vertex
from halftrack_model.observed import Health, InstanceObserved, Observed
from halftrack_model.plan import Plan
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.report import Report
from halftrack_model.seals import Seal, Sealed
from halftrack_proto import (
    artifact_codec,
    codec,
    gauges,
    graph_codec,
    graph_messages,
    messages,
    operator_codec,
    renewal,
    renewal_codec,
    shown_codec,
)
from halftrack_proto.artifact_messages import OfferReply, OfferRequest
from halftrack_proto.graph_codec import EditRequest, SettleRequest
from halftrack_proto.shown import MAX_BYTES_EACH, Shown, ShownFrame, WantFrames, WatchRequest
from halftrack_proto.sightings import LookFor, Sees
from halftrack_proto.tokens import token_of, token_text
from halftrack_proto.v1 import operator_pb2, session_pb2
from tests.model.shapes import graphs

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBER = st.integers(0, canonical.MAX_INT)

st.register_type_strategy(str, TEXT)
st.register_type_strategy(int, NUMBER)
st.register_type_strategy(bytes, st.binary(max_size=40))
SEALED = st.builds(Sealed, TEXT, st.binary(), st.lists(st.builds(Seal), max_size=2).map(tuple))
REPORT = st.builds(Report)
OBSERVED = st.builds(
    Observed, swaps=st.just(()), instances=st.lists(st.builds(InstanceObserved), max_size=2).map(tuple)
)
PLAN = st.builds(
    Plan,
    releases=st.lists(SEALED, max_size=1).map(tuple),
    rings=st.just(()),
    workloads=st.just(()),
    swaps=st.just(()),
    peers=st.just(()),
)
RELEASE = st.builds(
    Release,
    artifact=st.builds(Artifact),
    params=st.dictionaries(TEXT, st.one_of(TEXT, NUMBER, st.booleans()), max_size=2),
    state=st.builds(StateSchemas),
    strategy=st.builds(SwapStrategy),
)
ROLLOUT = st.builds(messages.RolloutEntry)
HOST = st.builds(messages.HostEntry)
TRANSFERS = st.lists(st.builds(gauges.TransferGauge), max_size=2).map(tuple)

AGENT_SAYS = st.one_of(
    st.builds(messages.Hello),
    st.builds(messages.Accepted),
    st.builds(messages.Declined),
    st.builds(
        messages.Heartbeat,
        rings=st.lists(st.builds(gauges.RingGauge), max_size=2).map(tuple),
        flows=st.lists(st.builds(gauges.FlowGauge), max_size=2).map(tuple),
        transfers=st.lists(st.builds(gauges.TransferGauge), max_size=2).map(tuple),
    ),
    OBSERVED,
    st.builds(messages.ReportBatch, st.lists(REPORT, max_size=3).map(tuple)),
    st.just(messages.Alive()),
    st.builds(Sees, st.lists(TEXT, max_size=3).map(tuple)),
)
CONTROLLER_SAYS = st.one_of(
    st.builds(messages.Welcome),
    st.builds(messages.PlanPush, SEALED, NUMBER),
    st.builds(messages.ReportsAcked),
    st.just(messages.Alive()),
    st.just(messages.WantObserved()),
    st.builds(LookFor, st.lists(TEXT, max_size=3).map(tuple)),
    st.builds(messages.ReconnectAfter),
    st.builds(WantFrames, bytes_each=st.integers(0, MAX_BYTES_EACH)),
)
WINDOWS = st.lists(st.builds(BandwidthWindow), max_size=2).map(tuple)
DOCUMENT = st.one_of(
    st.builds(messages.EnvironmentDocument), st.builds(messages.HostDocument, bandwidth=WINDOWS, site=st.text())
)
CHANGE = st.builds(messages.HostChange, held=st.none() | PLAN, next=PLAN)
PLAN_REPLY = st.builds(
    messages.PlanReply,
    hosts=st.lists(CHANGE, max_size=2).map(tuple),
    rollouts=st.lists(ROLLOUT, max_size=2).map(tuple),
)
THRESHOLD = st.integers(0, 2**31 - 1)

JOURNEYS: list[tuple[str, st.SearchStrategy[Any]]] = [
    ("sealed", SEALED),
    ("agent", AGENT_SAYS),
    ("controller", CONTROLLER_SAYS),
    ("enrol_request", st.builds(messages.EnrolRequest)),
    ("enrol_reply", st.builds(messages.EnrolReply, release_threshold=THRESHOLD)),
    ("document", DOCUMENT),
    ("apply_reply", st.lists(st.builds(messages.DocumentChange), max_size=3).map(tuple)),
    ("rollout", ROLLOUT),
    ("why", st.builds(messages.Why)),
    ("plan_reply", PLAN_REPLY),
    ("publish_reply", st.builds(messages.PublishReply)),
    ("release", st.builds(messages.ReleaseEntry, release=RELEASE)),
    ("host", HOST),
    ("host_detail", st.builds(messages.HostDetail, HOST, st.none() | PLAN, st.none() | OBSERVED, transfers=TRANSFERS)),
    ("publish_request", SEALED),
]
ARTIFACT_JOURNEYS: list[tuple[str, st.SearchStrategy[Any]]] = [
    ("offer_request", st.builds(OfferRequest, bases=st.lists(TEXT, max_size=3).map(tuple))),
    ("offer_reply", st.builds(OfferReply)),
    ("fetch_request", st.builds(messages.FetchRequest, chunk_bytes=NUMBER)),
    ("fetch_chunk", st.builds(messages.FetchChunk)),
    ("put_chunk", st.builds(messages.PutChunk)),
    ("put_reply", st.builds(messages.PutReply)),
]
OPERATOR_JOURNEYS: list[tuple[str, st.SearchStrategy[Any]]] = [
    ("apply_request", st.lists(DOCUMENT, max_size=3).map(tuple)),
    ("plan_request", st.lists(DOCUMENT, max_size=3).map(tuple)),
    ("list_releases", TEXT),
    ("list_hosts", TEXT),
    ("show_host", TEXT),
    ("stream_top", TEXT),
    ("explain", TEXT),
    ("graph_query", st.builds(graph_messages.GraphQuery)),
    ("token_request", st.builds(messages.TokenRequest)),
    ("rollout_query", st.builds(messages.RolloutQuery)),
    ("steer_request", st.builds(messages.SteerRequest)),
    ("releases", st.lists(st.builds(messages.ReleaseEntry, release=RELEASE), max_size=2).map(tuple)),
    ("hosts", st.lists(HOST, max_size=2).map(tuple)),
    ("rollouts", st.lists(ROLLOUT, max_size=2).map(tuple)),
    ("steer_reply", ROLLOUT),
    ("ring_rows", st.lists(st.builds(gauges.RingRow), max_size=2).map(tuple)),
    ("whys", st.lists(st.builds(messages.Why), max_size=2).map(tuple)),
    ("token_reply", st.builds(messages.TokenReply)),
    ("change", st.builds(messages.Change)),
]
EDIT = st.builds(Tap, TEXT, st.builds(Vertex)) | st.builds(Remove, TEXT)
GRAPH_JOURNEYS: list[tuple[str, st.SearchStrategy[Any]]] = [
    ("edit_request", st.builds(EditRequest, edit=EDIT)),
    ("settle_request", st.builds(SettleRequest)),
    ("live_graph", st.builds(GraphRecord)),
    ("delete_request", st.builds(graph_messages.DeleteRequest)),
    (
        "deletion",
        st.builds(graph_messages.Deletion, hosts=st.lists(st.builds(graph_messages.HostEnding), max_size=2).map(tuple)),
    ),
    (
        "graph_view",
        st.builds(
            graph_messages.GraphView,
            graph=graphs,
            vertices=st.lists(st.builds(graph_messages.VertexStanding), max_size=2).map(tuple),
            parts=st.lists(st.builds(graph_messages.GraphPart), max_size=2).map(tuple),
            rings=st.lists(st.builds(gauges.RingRow), max_size=2).map(tuple),
            readers=st.lists(st.builds(graph_messages.EdgeReader), max_size=2).map(tuple),
        ),
    ),
]
SHOWN_JOURNEYS: list[tuple[str, st.SearchStrategy[Any]]] = [
    ("want_frames", st.builds(WantFrames, bytes_each=st.integers(0, MAX_BYTES_EACH))),
    ("shown", st.builds(Shown, frames=st.lists(st.builds(ShownFrame), max_size=3).map(tuple))),
    ("watch_request", st.builds(WatchRequest)),
]
RENEWAL_JOURNEYS: list[tuple[str, st.SearchStrategy[Any]]] = [
    ("challenge_request", TEXT),
    ("challenge_reply", st.binary(max_size=40)),
    ("renew_request", st.builds(renewal.RenewRequest)),
    ("renew_reply", st.builds(renewal.RenewReply)),
]
JOURNEYS_OF = (
    (codec, JOURNEYS),
    (artifact_codec, ARTIFACT_JOURNEYS),
    (operator_codec, OPERATOR_JOURNEYS),
    (graph_codec, GRAPH_JOURNEYS),
    (shown_codec, SHOWN_JOURNEYS),
    (renewal_codec, RENEWAL_JOURNEYS),
)
EVERY = [(module, *journey) for module, journeys in JOURNEYS_OF for journey in journeys]


@pytest.mark.parametrize(("module", "name", "values"), EVERY, ids=[journey[1] for journey in EVERY])
def test_what_is_sent_is_what_arrives(module: ModuleType, name: str, values: st.SearchStrategy[Any]) -> None:
    """A round trip over the serialised bytes loses, adds and changes nothing."""
    to: Callable[[Any], Any] = getattr(module, f"{name}_message")
    back: Callable[[Any], Any] = getattr(module, f"{name}_of")

    @settings(max_examples=40)
    @given(values)
    def journey(value: Any) -> None:
        message = to(value)
        assert back(type(message).FromString(message.SerializeToString())) == value

    journey()


def test_every_translation_is_tried() -> None:
    """A pair of functions added to the codec without a journey above is noticed."""
    for module, journeys in JOURNEYS_OF:
        pairs = {name.removesuffix("_of") for name in dir(module) if name.endswith("_of") and name[0] != "_"}
        assert pairs == {name for name, _ in journeys}


@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused_as_a_whole(data: bytes) -> None:
    """Bytes that are not the canonical form of an observed state never become half of one."""
    message = session_pb2.AgentMessage(observed=session_pb2.ObservedState(observed_canonical=data))
    with pytest.raises(InvalidInput):
        codec.agent_of(message)


def test_messages_of_a_later_version_are_refused_by_name() -> None:
    """A union whose member we do not know is an error, never a default."""
    for call in (
        lambda: codec.agent_of(session_pb2.AgentMessage()),
        lambda: codec.controller_of(session_pb2.ControllerMessage()),
        lambda: codec.document_of(operator_pb2.Document()),
        lambda: operator_codec.steer_request_of(operator_pb2.SteerRolloutRequest()),
        lambda: operator_codec.steer_request_of(operator_pb2.SteerRolloutRequest(steer=99)),  # type: ignore[arg-type]
        lambda: codec.host_of(operator_pb2.HostEntry(health="splendid")),
    ):
        with pytest.raises(InvalidInput):
            call()


@given(st.builds(messages.Token), st.integers(0, 400))
def test_a_token_survives_copying_and_a_damaged_one_is_refused(token: messages.Token, at: int) -> None:
    """White space around it is forgiven; a lost character is not, and its secret is not repeated in the error."""
    text = token_text(token)
    assert token_of(f"  {text}\n") == token
    damaged = text[: at % len(text)]
    with pytest.raises(InvalidInput) as caught:
        token_of(damaged)
    assert not token.secret or len(token.secret) < 8 or token.secret not in caught.value.message


def test_health_has_three_values_on_the_wire_too() -> None:
    """O1 would be lost where a translation maps unknown to something else."""
    entry = messages.HostEntry("a", "e", {}, True, False, 5, 1, 1, "", "", (), Health.UNKNOWN)
    for health in Health:
        assert codec.host_of(codec.host_message(dataclasses.replace(entry, health=health))).health is health


def test_what_is_printed_of_a_message_holds_no_secret() -> None:
    """An error's text or a debugger's log may hold any of them."""
    told = (
        messages.Token("north", "c:7444", b"", "tank-a", "hush"),
        messages.EnrolRequest("hush", "tank-a", b"", "k" * 40),
        messages.TokenReply("hush", 5),
    )
    assert not [message for message in told if "hush" in repr(message)]
