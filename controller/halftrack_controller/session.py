"""Sessions with hosts: who is connected, which plan each gets next, what they say about themselves.

A host is who its certificate says, and only the key that enrolled last speaks for it. The newest plan is sent, one at a time
(`pushing`), and never one that the host has. What a host says is durable here before it is acknowledged; when the store
cannot take it, the session ends with a time to come back, and the agent, which has kept everything, says it again.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from halftrack_controller import hearing
from halftrack_controller.callers import HOST, Caller, Context, answered, current_caller
from halftrack_controller.lookouts import Lookouts
from halftrack_controller.news import News
from halftrack_controller.pushing import Pushing
from halftrack_controller.sights import Sight, age_ms, rate, row
from halftrack_controller.snapshot import Sighting
from halftrack_controller.store_rows import Presence
from halftrack_controller.store_thread import StoreThread
from halftrack_controller.terms import Terms
from halftrack_model import pulse
from halftrack_model.errors import HostFault, InvalidInput, Refused, Untrusted
from halftrack_model.observed import Observed
from halftrack_model.seals import Sealed
from halftrack_proto import codec, parts_codec
from halftrack_proto import messages as said
from halftrack_proto.gauges import FlowRow, RingRow, TransferGauge
from halftrack_proto.shown import WantFrames
from halftrack_proto.sightings import LookFor, Sees
from halftrack_proto.v1 import session_pb2_grpc

log = logging.getLogger("halftrack.session")

HELLO_S = 10.0  # an agent speaks first, at once
HEARTBEAT_MS = 2000  # a half-open link is noticed within two; each word wakes an idle agent
RETRY_DECLINED_S = 30.0  # a refused plan is offered again: the disk that was full may have room
AWAY_MS = 5000  # for sessions that we end: long enough for the reason to pass, short against any outage
LAST_WORDS_S = 1.0  # for a host that is sent away to hang up: of a call that is over, gRPC may drop the last words
MAX_SESSIONS = 2000
MAX_GAUGES = 512
QUEUED = 64  # messages to one host; the largest source, plans, is one at a time

_end = said.ReconnectAfter


@dataclass
class Session:
    """One connection of one host."""

    caller: Caller
    pushing: Pushing
    queue: asyncio.Queue[said.ControllerSays] = field(default_factory=lambda: asyncio.Queue(QUEUED))
    declined: tuple[said.PlanPush, float] | None = None  # what was refused, and when by the monotonic clock
    last_push: said.PlanPush | None = None
    takes_parts: bool = False
    alive_ms: int = 0  # when it was last told that we are there, by the monotonic clock; 0: not yet

    def alive(self) -> None:
        """Say that we are there."""
        self.alive_ms = _now_ms()
        self.say(said.Alive())

    def say(self, message: said.ControllerSays) -> None:
        """Send soon. A host that does not read is as good as gone: its session ends."""
        try:
            self.queue.put_nowait(message)
        except asyncio.QueueFull:
            while not self.queue.empty():
                self.queue.get_nowait()
            self.queue.put_nowait(_end(AWAY_MS, "you do not read what is sent"))

    def push(self, step: tuple[Pushing, said.PlanPush | None]) -> None:
        """Take a step of `pushing`."""
        self.pushing, push = step
        if push is not None:
            self.last_push = push
            self.say(push)


class Sessions:
    """All sessions, and the bell that wakes the loop."""

    def __init__(self, heartbeat_ms: int = HEARTBEAT_MS) -> None:
        self.heartbeat_ms = heartbeat_ms
        self._live: dict[str, Session] = {}
        self._sights: dict[str, Sight] = {}
        self._lookouts = Lookouts()
        self._bell = asyncio.Event()
        self._closing = False
        self._since_s = time.monotonic()

    @property
    def listening_ms(self) -> int:
        """For how long hosts could have come to us: of one that has not, nothing longer can be said."""
        return age_ms(time.monotonic(), self._since_s)

    def wake(self) -> None:
        """Something has changed that the loop should look at."""
        self._bell.set()

    async def changed(self, patience_s: float) -> None:
        """Return at a change, or after `patience_s`."""
        try:
            async with asyncio.timeout(patience_s):
                await self._bell.wait()
        except TimeoutError:
            return
        self._bell.clear()

    def offer(self, host: str, revision: int, sealed: Sealed) -> None:
        """A plan is durable: send it when the host is here and has no newer one."""
        if session := self._live.get(host):
            session.declined = None
            session.push(session.pushing.offered(said.PlanPush(sealed, revision)))

    def ask(self, host: str, wish: WantFrames) -> bool:
        """Pass a wish on; False when the host is not here."""
        session = self._live.get(host)
        if session is not None:
            session.say(wish)
        return session is not None

    def connected(self, host: str) -> bool:
        """Is the host here?"""
        return host in self._live

    def presence(self) -> Mapping[str, Presence]:
        """How long ago each host was seen and confirmed its state."""
        now = time.monotonic()
        return {
            host: Presence(
                connected=host in self._live,
                last_seen_age_ms=age_ms(now, sight.last_seen_s),
                confirmed_age_ms=-1 if sight.confirmed_s is None else age_ms(now, sight.confirmed_s),
                up_ms=-1 if sight.boot_ms <= 0 else sight.boot_ms + age_ms(now, sight.gauges_s),
            )
            for host, sight in self._sights.items()
        }

    def look_for(self, wanted: Mapping[str, Iterable[str]]) -> None:
        """Let each host that is here look for those of its site, and for no others."""
        for host, session in self._live.items():
            hosts = sorted(wanted.get(host, ()))
            if self._lookouts.ask(host, hosts):
                session.say(LookFor(tuple(hosts)))

    def saw(self, session: Session, hosts: Iterable[str]) -> None:
        """What a host sees of those that it looks for. Nothing that an earlier session of it says late: no word of this one would put it right."""
        if self._live.get(session.caller.name) is not session:
            return
        self._lookouts.said(session.caller.name, hosts, time.monotonic())
        self.wake()

    def sightings(self) -> Mapping[str, Sighting]:
        """What is said of hosts that are away."""
        return self._lookouts.sightings({h: s.last_seen_s for h, s in self._sights.items()}, time.monotonic())

    def ring_rows(self) -> tuple[RingRow, ...]:
        """The rings of connected hosts as of their last heartbeats, with rates over the last two."""
        now = time.monotonic()
        return tuple(
            row(host, g, rate(sight, g), age_ms(now, sight.gauges_s))
            for host, sight in sorted(self._sights.items())
            if host in self._live
            for g in sight.gauges
        )

    def flow_rows(self) -> tuple[FlowRow, ...]:
        """What processes on connected hosts have counted of their inputs."""
        return tuple(
            FlowRow(host, each.workload, each.input, each.counts)
            for host, sight in sorted(self._sights.items())
            if host in self._live
            for each in sight.flows
        )

    def transfers(self, host: str) -> tuple[TransferGauge, ...]:
        """Artifacts on their way to a connected host."""
        return self._sights[host].transfers if host in self._live else ()

    def begin(self, session: Session) -> Sight:
        """A host is here. Its session before, if one lingers, is over: the newer connection is the live one."""
        host = session.caller.name
        if self._closing or (len(self._live) >= MAX_SESSIONS and host not in self._live):
            raise Refused("too-busy", "this controller takes no further session now: come back later")
        if older := self._live.pop(host, None):
            older.say(_end(AWAY_MS, "this host has connected again"))
        self._live[host] = session
        sight = self._sights.setdefault(host, Sight(time.monotonic()))
        self._lookouts.gone(host, sight.last_seen_s)
        self._lookouts.back(host)
        sight.last_seen_s, sight.confirmed_s = time.monotonic(), None
        self.wake()
        return sight

    def sight(self, session: Session) -> Sight:
        """What is known of the presence of a session's host."""
        return self._sights[session.caller.name]

    def end(self, session: Session) -> None:
        """The session is over; a newer one of the same host is left alone."""
        if self._live.get(session.caller.name) is session:
            del self._live[session.caller.name]
            self._lookouts.gone(session.caller.name, self.sight(session).last_seen_s)
            self.wake()

    def expel_others(self, host: str, key_digest: str) -> None:
        """End the host's session unless it is held with this key."""
        session = self._live.get(host)
        if session is not None and session.caller.key_digest != key_digest:
            session.say(_end(AWAY_MS, "another key has enrolled for this host"))

    def close(self) -> None:
        """Ask every agent to come back, spread over some seconds so that they do not all come at once."""
        self._closing = True
        for number, session in enumerate(self._live.values()):
            session.say(_end(500 + number % 50 * 100, "this controller is restarting"))


class SessionService(session_pb2_grpc.SessionServicer):
    """`Session`: one task that reads, one that writes, one that beats, for each host."""

    def __init__(self, galaxy: str, sessions: Sessions, store: StoreThread, news: News, terms: Terms) -> None:
        self._galaxy, self._sessions, self._store, self._news = galaxy, sessions, store, news
        self._terms = terms

    async def Connect(  # type: ignore[override]  # noqa: N802 - gRPC's name; the stub's type is the blocking one
        self, requests: object, context: Context
    ) -> None:
        """The whole conversation."""
        session = await answered(context, lambda: self._greeted(context))
        host = session.caller.name
        log.info("host=%s connected, holding revision %d", host, session.pushing.held)
        self._news.tell("host", host, "connected")
        tasks = [
            asyncio.create_task(work)
            for work in (self._read(session, context), _write(session, context), self._beat(session))
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await answered(context, lambda: _first(done))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._sessions.end(session)
            log.info("host=%s disconnected", host)
            self._news.tell("host", host, "disconnected")
        if tasks[1] in done:  # nothing that it says is heard any more
            await asyncio.sleep(LAST_WORDS_S)

    async def _greeted(self, context: Context) -> Session:
        """The session that the first message begins, once we know who speaks."""
        caller = await current_caller(context, self._galaxy, (HOST,), self._store)
        hello = await hearing.first_word(context, HELLO_S)
        if not isinstance(hello, said.Hello):
            raise InvalidInput("no-hello", "the first message of a session is Hello")
        if hello.host != caller.name:
            raise Untrusted("wrong-host", f"the certificate is {caller.name!r}'s, the hello {hello.host!r}'s")
        upto = await self._store.do(lambda store: store.reports_upto(caller.name))
        await self._store.do(lambda store: store.host_holds(caller.name, hello.revision))
        session = Session(caller, Pushing(hello.revision), takes_parts=hello.takes_parts)
        stored = await self._store.do(lambda store: store.seen(caller.name))
        await self._store.do(lambda store: store.shown(caller.name, caller.ends_ms))
        sight = self._sessions.begin(session)
        sight.digest = stored.observed.digest() if stored.observed else ""
        try:  # only after `begin`: a plan made in between is then offered by the loop, or found here, and at worst both
            newest = await self._store.do(lambda store: store.newest_plan(caller.name))
        except BaseException:
            self._sessions.end(session)
            raise
        wall_ms, revision = time.time_ns() // 1_000_000, newest[0] if newest else 0
        session.say(self._terms.welcome(self._sessions.heartbeat_ms, upto, caller.ends_ms, wall_ms, revision))
        self._confirm(session, sight, hello.observed_digest)
        if newest:
            session.push(session.pushing.offered(said.PlanPush(newest[1], newest[0])))
        return session

    async def _read(self, session: Session, context: Context) -> None:
        host, heartbeat_ms = session.caller.name, self._sessions.heartbeat_ms
        while (message := await hearing.next_word(context, heartbeat_ms, host)) is not None:
            sight = self._sessions.sight(session)
            sight.last_seen_s = time.monotonic()
            if pulse.answers(heartbeat_ms, session.alive_ms, _now_ms()):
                session.alive()
            try:
                await self._heard(session, sight, message)
            except HostFault as error:
                log.error(
                    "host=%s: what it says cannot be kept: %s: %s", session.caller.name, error.reason, error.message
                )
                session.say(_end(AWAY_MS, error.reason))

    async def _heard(self, session: Session, sight: Sight, message: said.AgentSays) -> None:
        host = session.caller.name
        match message:
            case said.Heartbeat():
                self._confirm(session, sight, message.observed_digest)
                sight.before, sight.before_s = sight.gauges, sight.gauges_s
                sight.gauges, sight.gauges_s = message.rings[:MAX_GAUGES], time.monotonic()
                sight.flows, sight.boot_ms = message.flows[:MAX_GAUGES], message.boot_ms
                sight.transfers = message.transfers[:MAX_GAUGES]
            case Observed():
                await self._observed(session, sight, message)
            case said.Accepted():
                await self._store.do(lambda store: store.host_holds(host, message.revision))
                log.info("host=%s accepted revision %d", host, message.revision)
                session.push(session.pushing.accepted(message.revision))
                self._sessions.wake()
            case said.Declined():
                await self._declined(session, message)
            case said.ReportBatch():
                await self._reports(session, message)
            case said.Alive():
                pass
            case Sees():
                self._sessions.saw(session, message.hosts)
            case said.Hello():
                raise InvalidInput("second-hello", "Hello begins a session and is not said again")

    def _confirm(self, session: Session, sight: Sight, digest: str) -> None:
        """The host's state is the one we have, or we ask for it."""
        if digest and digest == sight.digest:
            if sight.confirmed_s is None:
                self._sessions.wake()
            sight.confirmed_s = time.monotonic()
        else:
            session.say(said.WantObserved())

    async def _observed(self, session: Session, sight: Sight, observed: Observed) -> None:
        host = session.caller.name
        if observed.host != host:
            raise Untrusted("wrong-host", f"{host} describes {observed.host!r}, for which it does not speak")
        known = (await self._store.do(lambda store: store.seen(host))).observed
        await self._store.do(lambda store: store.observe(observed, time.time_ns() // 1_000_000))
        for problem in sorted({*observed.problems} - {*(known.problems if known else ())}):
            log.warning("host=%s says: %s", host, problem)
        sight.digest, sight.confirmed_s = observed.digest(), time.monotonic()
        self._news.tell("host", host, "its state has changed")
        self._sessions.wake()

    async def _declined(self, session: Session, declined: said.Declined) -> None:
        host = session.caller.name
        revision = declined.revision or session.pushing.sent
        log.warning("host=%s refuses revision %d: %s: %s", host, revision, declined.reason, declined.message)
        await self._store.do(lambda store: store.host_declines(host, revision, declined.reason, declined.message))
        if session.last_push is not None and revision == session.last_push.revision:
            session.declined = (session.last_push, time.monotonic())
        session.push(session.pushing.declined(revision))
        self._news.tell("host", host, f"refuses revision {revision}: {declined.reason}")
        self._sessions.wake()

    async def _reports(self, session: Session, batch: said.ReportBatch) -> None:
        host, now_ms = session.caller.name, time.time_ns() // 1_000_000
        fresh = await self._store.do(lambda store: store.consume(host, batch.reports, now_ms))
        upto = await self._store.do(lambda store: store.reports_upto(host))
        session.say(said.ReportsAcked(upto))
        for report in fresh:
            log.info(
                "host=%s report %d %s %s: %s", host, report.number, report.happened.value, report.subject, report.detail
            )
            self._news.tell("report", host, f"{report.happened.value} {report.subject}: {report.detail}")
        if fresh:
            self._sessions.wake()

    async def _beat(self, session: Session) -> None:
        began_ms, silent_ms = _now_ms(), pulse.unasked_ms(self._sessions.heartbeat_ms)
        while True:
            due_ms = max(began_ms, session.alive_ms) + silent_ms
            await asyncio.sleep(max(0, due_ms - _now_ms()) / 1000)
            if _now_ms() >= max(began_ms, session.alive_ms) + silent_ms:
                session.alive()
            if session.declined and time.monotonic() - session.declined[1] > RETRY_DECLINED_S:
                push, session.declined = session.declined[0], None
                session.push(session.pushing.offered(push))


async def _write(session: Session, context: Context) -> None:
    """Send what is queued, in order, until the session is to end."""
    while True:
        message = await session.queue.get()
        whole = codec.controller_message(message)
        for part in parts_codec.cut(whole) if session.takes_parts else [whole]:
            await context.write(part)
        if isinstance(message, said.ReconnectAfter):
            return


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


async def _first(done: set[asyncio.Task[None]]) -> None:
    """The outcome of whichever task ended the session."""
    for task in done:
        task.result()
