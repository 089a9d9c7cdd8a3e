"""`Operator` over gRPC: each method checks who calls, asks the controller, and shows the answer. Decides nothing."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from halftrack_controller import documents, reading, standing, views
from halftrack_controller.callers import OPERATOR, Context, Wire, answered, checked_caller
from halftrack_controller.documents import Declared
from halftrack_controller.galaxy import ControllerGalaxy
from halftrack_controller.graph_views import graph_view
from halftrack_controller.news import News
from halftrack_controller.service import Controller
from halftrack_controller.session import Sessions
from halftrack_controller.snapshot import Snapshot
from halftrack_controller.watching import Looks
from halftrack_model.edits import GraphRecord
from halftrack_model.errors import HalftrackError
from halftrack_proto import codec, manifests_codec, shown_codec
from halftrack_proto import graph_codec as graphs
from halftrack_proto import messages as said
from halftrack_proto import operator_codec as wire
from halftrack_proto.gauges import RingRow
from halftrack_proto.graph_messages import Deletion, GraphView
from halftrack_proto.shown import Shown
from halftrack_proto.status import code_of, metadata_of
from halftrack_proto.tokens import token_text
from halftrack_proto.v1 import operator_pb2_grpc

T = TypeVar("T")
REPORTS_SHOWN = 50


class OperatorService(operator_pb2_grpc.OperatorServicer):
    """The methods carry gRPC's names."""

    # ruff: noqa: N802

    def __init__(
        self,
        galaxy: ControllerGalaxy,
        controller: Controller,
        sessions: Sessions,
        news: News,
        enrolment: tuple[str, bytes],
        looks: Looks,
    ) -> None:
        self._galaxy, self._controller, self._sessions, self._news = galaxy, controller, sessions, news
        self._looks = looks
        self._enrolment_endpoint, self._ca_der = enrolment

    async def _answer(self, context: Context, work: Callable[[], Awaitable[T]]) -> T:
        return await self._answer_to(context, lambda _: work())

    async def _answer_to(self, context: Context, work: Callable[[str], Awaitable[T]]) -> T:
        """The same, for work that depends on who asks or is remembered under their name."""

        async def checked() -> T:
            return await work(checked_caller(context, self._galaxy.name, (OPERATOR,)).name)

        return await answered(context, checked)

    async def Apply(self, request: Wire, context: Context) -> Wire:
        """Register documents."""

        async def work(operator: str) -> tuple[said.DocumentChange, ...]:
            return await self._controller.apply(_declared(wire.apply_request_of(request)), operator)

        return codec.apply_reply_message(await self._answer_to(context, work))

    async def ApplyManifests(self, request: Wire, context: Context) -> Wire:
        """Register what manifests declare."""

        async def work() -> manifests_codec.Applied:
            caller = checked_caller(context, self._galaxy.name, (OPERATOR,))
            texts = manifests_codec.manifests_of(request)
            changes = await reading.applied(texts, lambda read: self._controller.apply(read, caller.name))
            return manifests_codec.Applied(
                tuple((change.kind, change.name, change.action) for change in changes), caller.ends_ms
            )

        return manifests_codec.applied_message(await answered(context, work))

    async def Plan(self, request: Wire, context: Context) -> Wire:
        """What applying would do."""

        async def work() -> said.PlanReply:
            return views.outlook_reply(*await self._controller.outlook(_declared(wire.plan_request_of(request))))

        return codec.plan_reply_message(await self._answer(context, work))

    async def PublishRelease(self, request: Wire, context: Context) -> Wire:
        """Publish a sealed release."""
        sealed = codec.publish_request_of(request)
        reply = await self._answer(context, lambda: self._controller.publish(sealed))
        return codec.publish_reply_message(reply)

    async def ListReleases(self, request: Wire, context: Context) -> Wire:
        """Published releases."""
        return wire.releases_message(views.release_entries(await self._look(context), wire.list_releases_of(request)))

    async def ListHosts(self, request: Wire, context: Context) -> Wire:
        """Hosts, of one environment or all."""
        environment = wire.list_hosts_of(request)

        async def work() -> list[said.HostEntry]:
            return views.host_entries(await self._controller.snapshot(), environment)

        return wire.hosts_message(await self._answer(context, work))

    async def ShowHost(self, request: Wire, context: Context) -> Wire:
        """One host in full."""
        name = wire.show_host_of(request)

        async def work() -> said.HostDetail:
            snapshot = await self._controller.snapshot()
            entry, held = views.host_entry(snapshot, name), snapshot.held.get(name)
            reports = await self._controller.reports(name, REPORTS_SHOWN)
            plan, observed = held.plan if held else None, snapshot.seen[name].observed
            return said.HostDetail(entry, plan, observed, reports, self._sessions.transfers(name))

        return codec.host_detail_message(await self._answer(context, work))

    async def CreateToken(self, request: Wire, context: Context) -> Wire:
        """A token for one host."""
        asked = wire.token_request_of(request)
        secret, expires_ms = await self._answer(context, lambda: self._controller.create_token(asked.host, asked.ttl_s))
        token = said.Token(self._galaxy.name, self._enrolment_endpoint, self._ca_der, asked.host, secret)
        return wire.token_reply_message(said.TokenReply(token_text(token), expires_ms))

    async def RolloutStatus(self, request: Wire, context: Context) -> Wire:
        """Rollouts as they stand."""
        query = wire.rollout_query_of(request)

        async def work() -> tuple[said.RolloutEntry, ...]:
            return views.rollout_entries(await self._controller.snapshot(), query.rollout_id, query.environment)

        return wire.rollouts_message(await self._answer(context, work))

    async def SteerRollout(self, request: Wire, context: Context) -> Wire:
        """Pause, resume, promote or abort."""

        async def work() -> said.RolloutEntry:
            asked = wire.steer_request_of(request)
            after = await self._controller.steer(asked.rollout_id, asked.steer)
            return views.rollout_entries(after, asked.rollout_id, "")[0]

        return wire.steer_reply_message(await self._answer(context, work))

    async def StreamTop(self, request: Wire, context: Context) -> Wire:
        """The rings of connected hosts."""
        environment = wire.stream_top_of(request)

        async def work() -> list[RingRow]:
            snapshot = await self._controller.snapshot()
            standing.checked_environment(snapshot, environment)
            mine = {host.name for host in snapshot.hosts.values() if environment in ("", host.environment)}
            return [row for row in self._sessions.ring_rows() if row.host in mine]

        return wire.ring_rows_message(await self._answer(context, work))

    async def LiveGraph(self, request: Wire, context: Context) -> Wire:
        """A graph as it stands."""

        async def work() -> GraphRecord:
            return await self._controller.live_graph(wire.graph_query_of(request))

        return graphs.live_graph_message(await self._answer(context, work))

    async def EditGraph(self, request: Wire, context: Context) -> Wire:
        """Change a graph that runs."""

        async def work(operator: str) -> GraphRecord:
            return await self._controller.edit_graph(graphs.edit_request_of(request), operator)

        return graphs.live_graph_message(await self._answer_to(context, work))

    async def SettleGraph(self, request: Wire, context: Context) -> Wire:
        """Adopt drift, or revert it."""

        async def work(operator: str) -> GraphRecord:
            return await self._controller.settle_graph(graphs.settle_request_of(request), operator)

        return graphs.live_graph_message(await self._answer_to(context, work))

    async def DeleteGraph(self, request: Wire, context: Context) -> Wire:
        """End a graph."""

        async def work(operator: str) -> Deletion:
            return await self._controller.delete_graph(graphs.delete_request_of(request), operator)

        return graphs.deletion_message(await self._answer_to(context, work))

    async def ShowGraph(self, request: Wire, context: Context) -> Wire:
        """One graph with what is known of it."""
        query = wire.graph_query_of(request)

        async def work() -> GraphView:
            return graph_view(
                await self._controller.snapshot(), query, self._sessions.ring_rows(), self._sessions.flow_rows()
            )

        return graphs.graph_view_message(await self._answer(context, work))

    async def Explain(self, request: Wire, context: Context) -> Wire:
        """Why something is as it is."""
        subject = wire.explain_of(request)
        return wire.whys_message(views.whys(await self._answer(context, lambda: self._controller.explained(subject))))

    async def WatchStream(self, request: Wire, context: Context) -> AsyncIterator[Wire]:
        """What a vertex produces, as its host shows it."""

        async def begin() -> AsyncIterator[Shown]:
            return self._looks.frames(await self._controller.snapshot(), shown_codec.watch_request_of(request))

        frames = await self._answer(context, begin)
        try:
            async for each in frames:
                yield shown_codec.shown_message(each)
        except HalftrackError as error:
            await context.abort(code_of(error), error.message, metadata_of(error))

    async def Watch(self, request: Wire, context: Context) -> AsyncIterator[Wire]:
        """Changes as they happen. The first word goes at once, so that the caller knows from when on it hears everything."""
        del request

        async def begin() -> AsyncIterator[said.Change]:
            return self._news.watch()

        changes = await self._answer(context, begin)
        try:
            await context.send_initial_metadata(())
            async for change in changes:
                yield wire.change_message(change)
        except HalftrackError as error:
            await context.abort(code_of(error), error.message, metadata_of(error))

    async def _look(self, context: Context) -> Snapshot:
        return await self._answer(context, self._controller.snapshot)


def _declared(request: Iterable[said.Document]) -> list[Declared]:
    return [documents.declared(document) for document in request]
