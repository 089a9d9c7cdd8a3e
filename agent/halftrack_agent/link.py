"""The link: one standing session with the controller over mutual TLS, and the way artifacts come.

Owns connecting, its pauses, and what has been said in the present session. It never decides anything about plans: what comes goes
to the loop. Losing it changes nothing on this host; everything here is said again in the next session, by level: the outbox, the
observed state, the answers to plans.
"""

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from halftrack_agent import clock, nearing, together
from halftrack_agent.backoff import Backoff
from halftrack_agent.bringing import nothing_offered
from halftrack_agent.identity import Identity
from halftrack_agent.outbox import Outbox
from halftrack_agent.pacing import LEAST_PIECE_BYTES, PIECE_BYTES, Patience
from halftrack_model import pulse
from halftrack_model.errors import HalftrackError, HostFault, InvalidInput, Refused
from halftrack_model.observed import Observed
from halftrack_model.seals import Sealed
from halftrack_proto import artifact_codec, codec, listening, parts_codec, status
from halftrack_proto.artifact_messages import OfferReply, OfferRequest
from halftrack_proto.channel import CLIENT_OPTIONS
from halftrack_proto.gauges import FlowGauge, RingGauge, TransferGauge
from halftrack_proto.messages import (
    Accepted,
    AgentSays,
    Alive,
    ControllerSays,
    Declined,
    FetchRequest,
    Heartbeat,
    Hello,
    PlanPush,
    ReconnectAfter,
    ReportBatch,
    ReportsAcked,
    WantObserved,
    Welcome,
)
from halftrack_proto.shown import WantFrames
from halftrack_proto.sightings import LookFor, Sees
from halftrack_proto.v1 import artifacts_pb2_grpc, session_pb2_grpc

HEARTBEAT_MS = 1_000  # until the controller's Welcome says otherwise
HEARTBEAT_BOUNDS_MS = (100, 60_000)
WELCOME_S = 3.0  # of silence, while a connection is made and its keys are, until the first answer
WELCOME_MAX_S = 60.0  # for all of it: 3.5 kB one way and 2.7 the other, so that a line of 9,600 baud takes 6.5 s
_CONNECTING = (
    "grpc.min_reconnect_backoff_ms",
    int(WELCOME_MAX_S * 1000),
)  # what it calls its patience with a connection
SLOWER = 4  # a link that fell silent under pieces of an artifact gets them so much smaller
REPORTS_AT_ONCE = 100
OBSERVED_EVERY_S = 0.1  # a host that changes quickly is told in at most ten states a second
EARLY = 0.125  # of the time after which a word must be said: it may be sooner, to go out while the agent is awake for something else
ANSWERS_MAX = 16  # answers to plans that could not be said yet; the last one is what matters
LAST_WORDS_S = 0.2
OFFER_S = 120.0  # a controller may have to pack the parcel first, after others; a large one takes it seconds
RECONNECT_MAX_MS = 600_000  # nobody sends us away for longer than ten minutes

log = logging.getLogger("halftrack.agent.link")


@dataclass(frozen=True, slots=True)
class Ends:
    """What the link needs from the rest of the agent."""

    hello: Callable[[], Hello]
    observed: Callable[[], Observed]
    gauges: Callable[[], tuple[RingGauge, ...]]
    plan: Callable[[Sealed], None]
    outbox: Outbox
    show: Callable[[WantFrames, grpc.aio.Channel], None] = lambda _wish, _channel: None
    flows: Callable[[], tuple[FlowGauge, ...]] = tuple
    welcomed: Callable[[Welcome], None] = lambda _said: None
    unanswered: Callable[[], None] = lambda: None  # a session came to nothing; the link, or what we show, is no good
    transfers: Callable[[], tuple[TransferGauge, ...]] = tuple
    piece_bytes: Callable[[], int] = lambda: PIECE_BYTES
    at_once_bytes: Callable[[], int] = lambda: 0
    look_for: Callable[[tuple[str, ...]], None] = lambda _hosts: None
    sees: Callable[[], tuple[str, ...]] = tuple


class _SentAway(Exception):  # noqa: N818 - the controller's wish, not an error
    """The controller has ended the session and said when to come back."""

    def __init__(self, after_ms: int) -> None:
        super().__init__()
        self.after_ms = after_ms


class Link:
    """The agent's side of the session. `run` never returns; cancel it to hang up. Each session shows the identity as it is then."""

    def __init__(self, identity: Callable[[], Identity], ends: Ends) -> None:
        self._identity, self._ends = identity, ends
        self._answers: deque[Accepted | Declined] = deque(maxlen=ANSWERS_MAX)
        self._stirred, self._news = asyncio.Event(), False
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        self._channel: grpc.aio.Channel | None = None
        self._welcomed_ms = 0
        self._heard_ms = 0
        self._heartbeat_ms, self._takes_parts = HEARTBEAT_MS, False
        self._joining = parts_codec.from_controller()
        self._digest = self._said_digest = ""
        self._said_report = 0
        self._said_sees: tuple[str, ...] = ()
        self._fetches, self._piece_bytes = 0, PIECE_BYTES
        # Of the present session: the newest revision that the controller has for us, as far as it has told, and the newest that we have refused.
        self._newest = self._refused = 0
        self.up = False

    def in_step(self, held: int) -> bool:
        """Is there nothing newer than revision `held` at the controller, that we have not refused?"""
        return self.up and max(held, self._refused) >= self._newest

    def answer(self, answer: Accepted | Declined) -> None:
        """Say how a plan was taken, now or in the next session."""
        self._answers.append(answer)
        if isinstance(answer, Declined):
            self._refused = max(
                self._refused, answer.revision or self._newest
            )  # 0: what it was sent last, as the controller takes it
        self.stir()

    def stir(self) -> None:
        """Something has changed that may have to be said."""
        self._news = True
        self._stirred.set()

    async def run(self) -> None:
        """Sessions, one after the other, for ever."""
        backoff = Backoff()
        while True:
            self._welcomed_ms, after_ms = 0, 0
            told: HalftrackError | None = None
            try:
                await self._session()
            except _SentAway as away:
                after_ms = away.after_ms
            except grpc.aio.AioRpcError as error:
                told = status.error_of(error)
                log.info("no session: %s", told.message)
            except HalftrackError as error:
                told = error
                log.warning("the session was ended: %s", error.message)
            if not self._welcomed_ms and told is not None and not isinstance(told, Refused):
                self._ends.unanswered()
            lasted_ms = clock.boot_ms() - self._welcomed_ms if self._welcomed_ms else 0
            backoff, pause_ms = backoff.failed(lasted_ms, self._random.randint)
            await asyncio.sleep((after_ms + pause_ms) / 1000)

    async def chunks(self, digest: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
        """An artifact's bytes from `offset` on (`artifacts.Source`); HostFault `unreachable` while there is no session."""
        more, size = True, 0
        while more:
            begun, most = offset, self._ends.at_once_bytes()
            async with aclosing(self._some(digest, offset, most)) as some:  # type: ignore[type-var]
                async for said, data in some:
                    offset, size = offset + len(data), said or size
                    yield said, data
            more = most > 0 and begun < offset < size

    async def _some(self, digest: str, offset: int, most: int) -> AsyncIterator[tuple[int, bytes]]:
        pieces = min(self._ends.piece_bytes(), self._piece_bytes)
        request = artifact_codec.fetch_request_message(FetchRequest(digest, offset, pieces, most))
        call: Any = artifacts_pb2_grpc.ArtifactsStub(self._standing()).Fetch(request)
        patience = Patience()
        self._fetches += 1
        try:
            while True:
                began_ms = clock.boot_ms()
                async with asyncio.timeout(patience.left_ms / 1000):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return
                chunk = artifact_codec.fetch_chunk_of(message)
                self._heard_ms, waited_ms = clock.boot_ms(), clock.boot_ms() - began_ms
                if waited_ms < pulse.word_every_ms(self._heartbeat_ms):
                    self._piece_bytes = min(PIECE_BYTES, self._piece_bytes + LEAST_PIECE_BYTES)
                patience = patience.fed(len(chunk.data), waited_ms)
                yield chunk.total_bytes, chunk.data
        except TimeoutError:
            raise HostFault("too-slow", f"nearly nothing of {digest} comes; it goes on from there") from None
        except grpc.aio.AioRpcError as error:
            raise status.error_of(error) from None
        finally:
            self._fetches -= 1
            call.cancel()

    async def offer(self, digest: str, bases: tuple[str, ...]) -> OfferReply:
        """The cheapest way to an artifact (`bringing.Offer`); HostFault `unreachable` while there is no session."""
        request = artifact_codec.offer_request_message(OfferRequest(digest, bases))
        call: Any = artifacts_pb2_grpc.ArtifactsStub(self._standing()).Offer(request, timeout=OFFER_S)
        try:
            return artifact_codec.offer_reply_of(await call)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:  # it packs for others: the whole can be had meanwhile
                return OfferReply("", 0, "")
            return nothing_offered(status.error_of(error))

    def _standing(self) -> grpc.aio.Channel:
        if self._channel is None:
            raise HostFault(status.UNREACHABLE, "there is no session with the controller")
        return self._channel

    async def _session(self) -> None:
        identity = self._identity()
        credentials = grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.cert_pem)
        channel = grpc.aio.secure_channel(identity.member.endpoint, credentials, options=(*CLIENT_OPTIONS, _CONNECTING))
        try:
            await self._talk(channel)
        finally:
            self.up, self._channel = False, None
            self._ends.look_for(())  # there is nobody to tell
            # Not awaited for long: the other side of a cut link never says goodbye.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await channel.close(None)

    async def _talk(self, channel: grpc.aio.Channel) -> None:
        call: Any = session_pb2_grpc.SessionStub(channel).Connect()
        hello = self._ends.hello()
        self._said_digest, self._said_report, self._said_sees = hello.observed_digest, 0, ()
        self._newest = self._refused = 0
        self._heartbeat_ms, self._heard_ms, self._takes_parts = HEARTBEAT_MS, clock.boot_ms(), False
        self._joining = parts_codec.from_controller()
        tasks: list[asyncio.Task[None]] = []
        try:
            async with asyncio.timeout(WELCOME_MAX_S):
                self._hear(await self._first_word(call, hello), channel)
            loop = asyncio.get_running_loop()
            tasks = [loop.create_task(task) for task in (self._listen(call, channel), self._speak(call))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # Speaking fails as soon as the other side has ended the call; why it did so is the last thing to be heard.
            await asyncio.wait(tasks[:1], timeout=LAST_WORDS_S)
            for task in tasks:
                if task.done():
                    task.result()
        except (TimeoutError, listening.Silent):
            raise HalftrackError(status.UNREACHABLE, "the controller does not answer") from None
        finally:
            call.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _first_word(self, call: Any, hello: Hello) -> Any:
        """The answer to our hello. A thin line is given time for as long as it brings anything; one that brings nothing is given up as soon as ever."""
        port, began_ms = int(self._identity().member.endpoint.rpartition(":")[2]), clock.boot_ms()

        async def answer() -> Any:
            await _say(call, hello, in_parts=False)
            return await call.read()

        return await listening.word(
            answer(),
            int(WELCOME_S * 1000) // pulse.BEATS,
            clock.boot_ms,
            lambda: nearing.heard_ms(port, began_ms, clock.boot_ms()),
        )

    async def _listen(self, call: Any, channel: grpc.aio.Channel) -> None:
        while True:
            try:
                message = await listening.word(call.read(), self._heartbeat_ms, clock.boot_ms, lambda: self._heard_ms)
            except listening.Silent as silent:
                if self._fetches:
                    self._piece_bytes = max(LEAST_PIECE_BYTES, self._piece_bytes // SLOWER)
                text = f"nothing heard from the controller for {silent.silent_ms} ms"
                raise HalftrackError(status.UNREACHABLE, text) from None
            self._hear(message, channel)

    def _hear(self, message: Any, channel: grpc.aio.Channel) -> None:
        if message is grpc.aio.EOF:
            raise HalftrackError("session-ended", "the controller has hung up")
        self._heard_ms = clock.boot_ms()
        whole = self._joining.whole(message)
        if whole is None:
            return
        try:
            self._take(codec.controller_of(whole), channel)
        except InvalidInput as error:  # a newer controller may say more than we know
            log.warning("not understood: %s", error.message)

    def _take(self, said: ControllerSays, channel: grpc.aio.Channel) -> None:
        match said:
            case Welcome():
                low, high = HEARTBEAT_BOUNDS_MS
                self._heartbeat_ms, self._takes_parts = min(max(said.heartbeat_ms, low), high), said.takes_parts
                self._ends.outbox.welcomed(said.reports_upto)
                self._newest = max(self._newest, said.revision)
                self._welcomed_ms, self._channel, self.up = self._heard_ms, channel, True
                self._ends.welcomed(said)
                log.info("in session with the controller at %s", self._identity().member.endpoint)
            case PlanPush():
                self._newest = max(self._newest, said.revision)
                self._ends.plan(said.sealed)
            case ReportsAcked():
                self._ends.outbox.acknowledged(said.upto)
            case WantObserved():
                self._said_digest = ""
            case LookFor():
                self._ends.look_for(said.hosts)
            case WantFrames():
                self._ends.show(said, channel)
            case Alive():
                return  # heard, which is all that it says: nothing new is to be said for it
            case ReconnectAfter():
                log.info("sent away for %d ms: %s", said.ms, said.reason)
                raise _SentAway(min(max(0, said.ms), RECONNECT_MAX_MS))
        self.stir()

    async def _speak(self, call: Any) -> None:
        """Say what is new, and often enough that we are there."""
        loop = asyncio.get_running_loop()
        beat_s = self._heartbeat_ms / 1000
        word_s = pulse.word_every_ms(self._heartbeat_ms) / 1000 if self._takes_parts else beat_s
        whole_s = loop.time()  # the Hello has just said all that a heartbeat would
        word_due_s, self._news = _due_s(whole_s, word_s), True
        while True:
            turned_s, said = loop.time(), False
            due = turned_s >= word_due_s
            beat = turned_s >= (whole_s + beat_s * (1 - EARLY) if due else _due_s(whole_s, beat_s))
            if self._news or beat:
                self._news = False
                said = await self._say_news(call)
            if beat:
                whole_s = loop.time()
                await self._say(call, self._heartbeat())
            elif due and not said:
                await self._say(call, Alive())
            if beat or due or said:
                word_due_s = _due_s(loop.time(), word_s)
            await self._stirs(turned_s, min(word_due_s, _due_s(whole_s, beat_s)))

    async def _stirs(self, turned_s: float, due_s: float) -> None:
        """Until `due_s`, or until something may have to be said, but not at once after the last turn."""
        loop = asyncio.get_running_loop()
        if not self._news:
            self._stirred.clear()
            timer = loop.call_at(due_s, self._stirred.set)
            try:
                await self._stirred.wait()
            finally:
                timer.cancel()
        if self._news:
            await asyncio.sleep(min(due_s, turned_s + OBSERVED_EVERY_S) - loop.time())

    async def _say_news(self, call: Any) -> bool:
        """Answers, the state and reports, as far as they have not been said in this session."""
        news = False
        while self._answers:
            await self._say(call, self._answers[0])
            self._answers.popleft()  # only now: an answer that could not be said is said in the next session
            news = True
        observed = self._ends.observed()
        digest = self._digest = observed.digest()
        if digest != self._said_digest:
            await self._say(call, observed)
            self._said_digest, news = digest, True
        if (sees := self._ends.sees()) != self._said_sees:
            await self._say(call, Sees(sees))
            self._said_sees, news = sees, True
        while reports := self._ends.outbox.pending(self._said_report, REPORTS_AT_ONCE):
            await self._say(call, ReportBatch(reports))
            self._said_report, news = reports[-1].number, True
        return news

    async def _say(self, call: Any, said: AgentSays) -> None:
        await _say(call, said, in_parts=self._takes_parts)

    def _heartbeat(self) -> Heartbeat:
        ends = self._ends
        return Heartbeat(self._digest, ends.gauges(), ends.flows(), ends.transfers(), clock.boot_ms())


def _due_s(said_s: float, every_s: float) -> float:
    """When to say something again, after `every_s` at the latest."""
    return together.after(said_s, every_s, EARLY, 0)


async def _say(call: Any, said: AgentSays, *, in_parts: bool) -> None:
    message = codec.agent_message(said)
    try:
        for part in parts_codec.cut(message) if in_parts else [message]:
            await call.write(part)
    except asyncio.InvalidStateError:  # gRPC's way to say that the call has ended meanwhile
        raise HalftrackError("session-ended", "the session has ended") from None
