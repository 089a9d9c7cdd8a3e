"""The operator's side of the controller's API: typed calls, our own errors, nothing shown. Used by the CLI and by tests.

    with OperatorClient.from_config(Path("galaxy/operator")) as client:
        changes = client.apply(documents)

Every call has a deadline. An error that the controller raised is raised here again as the same type with the same reason;
no answer at all is HostFault("unreachable").
"""

import hashlib
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from halftrack_controller import galaxy, keys
from halftrack_controller.galaxy import OperatorGalaxy
from halftrack_controller.operator_link import DEADLINE_S, channel_to
from halftrack_controller.quantities import age_text
from halftrack_controller.snapshot import Environment, Host
from halftrack_model.edits import Edit, GraphRecord
from halftrack_model.errors import HalftrackError, HostFault
from halftrack_model.graph import StreamGraph
from halftrack_model.seals import Sealed
from halftrack_proto import artifact_codec, codec, shown_codec
from halftrack_proto import graph_codec as graphs
from halftrack_proto import messages as said
from halftrack_proto import operator_codec as wire
from halftrack_proto.channel import CHUNK_BYTES
from halftrack_proto.gauges import RingRow
from halftrack_proto.graph_codec import EditRequest, SettleRequest
from halftrack_proto.graph_messages import DeleteRequest, Deletion, GraphQuery, GraphView
from halftrack_proto.shown import Shown, WatchRequest
from halftrack_proto.status import UNREACHABLE, error_of
from halftrack_proto.v1 import artifacts_pb2_grpc, operator_pb2_grpc

T = TypeVar("T")
Declared = Environment | Host | StreamGraph


class OperatorClient:
    """One connection to one controller."""

    def __init__(self, operator: OperatorGalaxy, deadline_s: float = DEADLINE_S) -> None:
        self.galaxy = operator.galaxy
        self.endpoint = operator.endpoint
        self.release_key_path = operator.release_key_path
        self.ends_ms = operator.ends_ms  # of the operator's certificate; 0 when that is not known
        self._deadline_s = deadline_s
        identity = operator.identity
        self._channel = channel_to(operator.endpoint, operator.ca_pem, identity.key_pem, identity.certificate_pem)
        self._operator = operator_pb2_grpc.OperatorStub(self._channel)
        self._artifacts = artifacts_pb2_grpc.ArtifactsStub(self._channel)

    @classmethod
    def from_config(cls, path: Path, deadline_s: float = DEADLINE_S) -> Self:
        """The client for the operator folder (or its `config.json`) at `path`."""
        return cls(galaxy.load_operator(path), deadline_s)

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def apply(self, documents: Iterable[Declared]) -> tuple[said.DocumentChange, ...]:
        """Register the documents, all or none."""
        request = wire.apply_request_message(_documents(documents))
        return codec.apply_reply_of(self._call(self._operator.Apply, request))

    def plan(self, documents: Iterable[Declared] = ()) -> said.PlanReply:
        """What applying the documents would change; with none, what is pending as things stand."""
        request = wire.plan_request_message(_documents(documents))
        return codec.plan_reply_of(self._call(self._operator.Plan, request))

    def publish_release(self, sealed: Sealed) -> said.PublishReply:
        """Publish a sealed release; its artifact must be there (`put_artifact`). The same one again is no event."""
        request = codec.publish_request_message(sealed)
        return codec.publish_reply_of(self._call(self._operator.PublishRelease, request))

    def releases(self, product: str = "") -> tuple[said.ReleaseEntry, ...]:
        """Published releases, of one product or of all, oldest version first."""
        reply = self._call(self._operator.ListReleases, wire.list_releases_message(product))
        return wire.releases_of(reply)

    def hosts(self, environment: str = "") -> tuple[said.HostEntry, ...]:
        """The hosts of one environment or of all."""
        reply = self._call(self._operator.ListHosts, wire.list_hosts_message(environment))
        return wire.hosts_of(reply)

    def host(self, name: str) -> said.HostDetail:
        """One host in full."""
        return codec.host_detail_of(self._call(self._operator.ShowHost, wire.show_host_message(name)))

    def create_token(self, host: str, ttl_s: int) -> said.TokenReply:
        """A token with which that host, and no other, may enrol."""
        request = wire.token_request_message(said.TokenRequest(host, ttl_s))
        return wire.token_reply_of(self._call(self._operator.CreateToken, request))

    def rollouts(self, rollout_id: str = "", environment: str = "") -> tuple[said.RolloutEntry, ...]:
        """One rollout, or all of an environment, or all; oldest first."""
        request = wire.rollout_query_message(said.RolloutQuery(rollout_id, environment))
        reply = self._call(self._operator.RolloutStatus, request)
        return wire.rollouts_of(reply)

    def steer(self, rollout_id: str, steer: said.Steer) -> said.RolloutEntry:
        """Pause, resume, promote or abort a rollout; as it stands afterwards."""
        request = wire.steer_request_message(said.SteerRequest(rollout_id, steer))
        return wire.steer_reply_of(self._call(self._operator.SteerRollout, request))

    def stream_top(self, environment: str = "") -> tuple[RingRow, ...]:
        """The rings of connected hosts, as of their last heartbeats."""
        reply = self._call(self._operator.StreamTop, wire.stream_top_message(environment))
        return wire.ring_rows_of(reply)

    def live_graph(self, name: str, environment: str = "") -> GraphRecord:
        """A graph as it stands: what is declared, what is live, its revision and its history."""
        request = wire.graph_query_message(GraphQuery(environment, name))
        return graphs.live_graph_of(self._call(self._operator.LiveGraph, request))

    def edit_graph(self, record: GraphRecord, edit: Edit) -> GraphRecord:
        """Change a graph that runs, as it was when `record` was looked at; as it stands afterwards."""
        asked = EditRequest(GraphQuery(record.environment, record.name), record.revision, edit)
        return graphs.live_graph_of(self._call(self._operator.EditGraph, graphs.edit_request_message(asked)))

    def settle_graph(self, record: GraphRecord, adopt: bool) -> GraphRecord:
        """Declare what is live, or make live again what was declared; as it stands afterwards."""
        asked = SettleRequest(GraphQuery(record.environment, record.name), record.revision, adopt)
        return graphs.live_graph_of(self._call(self._operator.SettleGraph, graphs.settle_request_message(asked)))

    def delete_graph(self, name: str, environment: str = "", dry_run: bool = False) -> Deletion:
        """End a service or graph, or only say where it would."""
        asked = DeleteRequest(GraphQuery(environment, name), dry_run)
        return graphs.deletion_of(self._call(self._operator.DeleteGraph, graphs.delete_request_message(asked)))

    def graph(self, environment: str, name: str) -> GraphView:
        """One graph with what is known of it; an empty environment stands for the only one that has it."""
        return graphs.graph_view_of(
            self._call(self._operator.ShowGraph, wire.graph_query_message(GraphQuery(environment, name)))
        )

    def explain(self, subject: str) -> tuple[said.Why, ...]:
        """Why a host, rollout, product, graph or environment is as it is."""
        reply = self._call(self._operator.Explain, wire.explain_message(subject))
        return wire.whys_of(reply)

    def watch(self) -> Iterator[said.Change]:
        """Every change from when this returns, until the caller stops or the controller goes; no deadline."""
        call = self._operator.Watch(wire.watch_message())
        call.initial_metadata()  # the controller sends it once it has begun to listen for us

        def changes() -> Iterator[said.Change]:
            try:
                for message in call:
                    yield wire.change_of(message)
            except grpc.RpcError as error:
                raise self.told(error_of(error)) from None

        return changes()

    def watch_stream(self, asked: WatchRequest) -> Generator[Shown]:
        """What a vertex produces from now on, until the caller stops, the host ends it, or it is gone; no deadline."""
        call = self._operator.WatchStream(shown_codec.watch_request_message(asked))
        try:
            for message in call:
                yield shown_codec.shown_of(message)
        except grpc.RpcError as error:
            raise self.told(error_of(error)) from None
        finally:
            call.cancel()

    def put_artifact(self, path: Path) -> said.PutReply:
        """Send a file; it is durable, under the digest in the reply, when this returns. Again is no event."""
        try:
            with path.open("rb") as file:
                digest, size = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
        except OSError as error:
            raise HostFault("cannot-read", f"{path}: {error.strerror}") from None
        chunks = (artifact_codec.put_chunk_message(chunk) for chunk in _chunks(path, digest, size))
        patience_s = self._deadline_s + size / 1e6  # a thin link of 1 MB/s still gets through
        return artifact_codec.put_reply_of(self._call(self._artifacts.Put, chunks, patience_s))

    def load_release_key(self) -> keys.SealingKey:
        """The release key that lies in the operator's folder."""
        return keys.load_key(self.release_key_path)

    def told(self, error: HalftrackError) -> HalftrackError:
        """`error` in better words, if we have them: TLS does not say that a certificate is over, the controller just does not answer."""
        left_ms = self.ends_ms - time.time_ns() // 1_000_000
        if error.reason != UNREACHABLE or not self.ends_ms or left_ms > 0:
            return error
        ago = age_text(-left_ms)
        return HostFault("certificate-over", f"the operator's certificate is over since {ago}, by this machine's clock")

    def _call(self, method: Callable[..., T], request: Any, deadline_s: float | None = None) -> T:
        try:
            return method(request, timeout=deadline_s or self._deadline_s)
        except grpc.RpcError as error:
            raise self.told(error_of(error)) from None


def _documents(documents: Iterable[Declared]) -> Sequence[said.Document]:
    return [document_of(document) for document in documents]


def document_of(declared: Declared) -> said.Document:
    """What is sent for what a manifest declares."""
    match declared:
        case Environment():
            return said.EnvironmentDocument(declared.name, declared.labels, declared.track, declared.agent)
        case Host():  # the CurveZMQ key is not the manifest's to say
            where = (declared.bridge, declared.agent, declared.bandwidth, declared.site)
            return said.HostDocument(declared.name, declared.environment, declared.labels, *where)
        case StreamGraph():
            return declared


def _chunks(path: Path, digest: str, size: int) -> Iterator[said.PutChunk]:
    yield said.PutChunk(digest, size, b"")
    with path.open("rb") as file:
        for data in itertools.takewhile(bool, iter(lambda: file.read(CHUNK_BYTES), None)):
            yield said.PutChunk("", 0, data)
