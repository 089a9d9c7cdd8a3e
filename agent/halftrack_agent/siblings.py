"""The other hosts of the site, as this one asks them: lines to them, what they said, and who is left alone for a while, and why.

Owns the lines, which stand while artifacts are on their way and no longer. What is done about what they say is `sharing`'s; what they send is the
store's to verify.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import zmq
import zmq.asyncio

from halftrack_agent import clock
from halftrack_agent.backoff import Backoff, Rule
from halftrack_agent.pacing import Patience
from halftrack_agent.sharing import PIECE_BYTES, Answer, Heard, Stands, Wish, said
from halftrack_model import canonical
from halftrack_model.errors import HalftrackError, HostFault, InvalidInput, Untrusted
from halftrack_model.ids import digest_of
from halftrack_model.plan import Peer

ASK_EVERY_S = 1.0
ANSWER_S = 2.0  # to a question; within a site, and from an agent whose loop is busy
PIECE_S = 15.0  # for bytes: others are served as well
LAZY = Rule(base_ms=2_000, cap_ms=600_000)
FALSE = Rule(base_ms=600_000, cap_ms=6 * 3_600_000)  # for who sends what it is not, or so slowly that it might as well
BUSY, TOO_LONG = "sibling-busy", "too-long"
NOT_GIVEN = frozenset({BUSY, TOO_LONG, "sibling-silent", "sibling-gone", "no-sibling", "too-slow", "transfer-ended"})
"""What a sibling is to blame for; whatever else goes wrong, this host is."""
NOTHING = digest_of(b"")
WISH, ANSWER = b"wish", b"answer"

Reach = Callable[[Peer], zmq.asyncio.Socket]


class Line:
    """A connection to one sibling; several may ask on it at once."""

    def __init__(self, socket: zmq.asyncio.Socket) -> None:
        self._socket, self._next, self._closed = socket, 0, False
        self._open: dict[int, asyncio.Future[tuple[Answer, bytes]]] = {}
        self._hears = asyncio.get_running_loop().create_task(self._hear())

    async def ask(self, digest: str, offset: int, count: int, within_s: float) -> tuple[Answer, bytes]:
        """The answer. HostFault when there is none in time."""
        self._next += 1
        wish = Wish(self._next, digest, offset, count)
        coming = self._open[wish.number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(within_s):
                await self._socket.send_multipart([WISH, canonical.encode(wish)])
                answer, data = await coming
                return answer, data
        except TimeoutError:
            raise HostFault("sibling-silent", f"no answer within {within_s:g} s") from None
        except zmq.ZMQError as error:
            raise HostFault("sibling-silent", f"no way to it: {error.strerror}") from None
        except asyncio.CancelledError:  # what waits for a socket that is closed is cancelled by it
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            raise HostFault("no-sibling", "it is no host of this site any more") from None
        finally:
            del self._open[wish.number]

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        for coming in self._open.values():
            coming.cancel()
        self._hears.cancel()
        self._socket.close(0)

    async def _hear(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            with contextlib.suppress(InvalidInput):  # whoever asked hears nothing, and takes it for silence
                if len(frames) == 3 and frames[0] == ANSWER:
                    answer = canonical.decode(Answer, frames[1])
                    coming = self._open.get(answer.number)
                    if coming is not None and not coming.done():
                        coming.set_result((answer, frames[2]))


@dataclass
class _Doubt:
    """A sibling that did not do what it should have. It is asked again after `until_ms`, and forgiven when it has done it."""

    backoff: Backoff
    until_ms: int
    text: str


@dataclass
class Asked:
    """What siblings have said of one artifact."""

    heard: dict[str, Heard | None] = field(default_factory=dict)
    took: set[str] = field(default_factory=set)  # who has sent bytes of it
    busy: set[str] = field(default_factory=set)  # who had it, and when asked for bytes had no time
    news: asyncio.Event = field(default_factory=asyncio.Event)


class OpenClock:
    """Milliseconds in which this host could have brought something from the controller, as far as somebody looked."""

    def __init__(self, could: Callable[[], bool], now_ms: Callable[[], int] = clock.boot_ms) -> None:
        self._could, self._now_ms = could, now_ms
        self._gone_ms, self._looked_ms = 0, now_ms()

    def __call__(self) -> int:
        before_ms, self._looked_ms = self._looked_ms, self._now_ms()
        if self._could():
            self._gone_ms += max(0, self._looked_ms - before_ms)
        return self._gone_ms


class Siblings:
    """Whom the plan names as such."""

    def __init__(
        self, reach: Reach, patience_clock: Callable[[], int], now_ms: Callable[[], int] = clock.boot_ms
    ) -> None:
        self._reach, self._clock, self._now_ms = reach, patience_clock, now_ms
        self._peers: Mapping[str, Peer] = {}
        self._lines: dict[str, Line] = {}
        self._doubts: dict[str, _Doubt] = {}
        self._users = 0
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    def __bool__(self) -> bool:
        return bool(self._peers)

    @property
    def problems(self) -> tuple[str, ...]:
        """Who is left alone now, in words for the site's owner."""
        now_ms = self._now_ms()
        return tuple(doubt.text for _, doubt in sorted(self._doubts.items()) if doubt.text and now_ms < doubt.until_ms)

    def use(self, peers: Mapping[str, Peer]) -> None:
        """These, from now on."""
        for host in [host for host, peer in self._peers.items() if peers.get(host) != peer]:
            self._doubts.pop(host, None)
            self._hang_up(host)
        self._peers = peers

    @contextlib.asynccontextmanager
    async def asking(self, digest: str) -> AsyncIterator[Asked]:
        """While inside, all of them are asked how they stand with it, again and again."""
        asked = Asked(dict.fromkeys(self._peers))
        self._users += 1
        task = asyncio.get_running_loop().create_task(self._keep_asking(digest, asked))
        try:
            yield asked
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._used()

    async def answers(self, host: str) -> bool:
        """Does it answer? Asked about the artifact of no bytes: an answer of any kind will do."""
        self._users += 1
        try:
            await self._line(host).ask(NOTHING, 0, 0, ANSWER_S)
        except HostFault:
            return False
        finally:
            self._used()
        return True

    async def pieces(self, host: str, digest: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
        """The artifact's bytes from `offset` on, from that sibling (`artifacts.Source`)."""
        patience, size = Patience(), offset + 1
        while offset < size:
            began_ms = self._now_ms()
            answer, data = await self._line(host).ask(digest, offset, PIECE_BYTES, PIECE_S)
            if answer.stands is Stands.BUSY:
                raise HostFault(BUSY, f"{host} serves others")
            if answer.stands is not Stands.HAS or not data:
                raise HostFault("sibling-gone", f"{host} gives no more of {digest}: {answer.stands.value}")
            patience = patience.fed(len(data), self._now_ms() - began_ms)
            if not patience.left_ms:
                raise HostFault("too-slow", f"nearly nothing of {digest} comes from {host}")
            offset, size = offset + len(data), answer.size_bytes
            yield size, data

    def failed(self, host: str, asked: Asked, error: HalftrackError, digest: str) -> None:
        """Taking it from there came to nothing: leave it alone for a while. Who sends what it is not, longer, and that is told."""
        if error.reason == BUSY:
            busy = Answer(0, Stands.BUSY, 0, 0)
            asked.heard[host] = said(asked.heard.get(host), busy, self._clock())
            asked.busy.add(host)
            return
        false = isinstance(error, Untrusted)
        rule = FALSE if false or error.reason == TOO_LONG else LAZY
        names = sorted({host, *(asked.took if false else ())} & self._peers.keys())
        for name in names:
            doubt = self._doubts.get(name)
            backoff = doubt.backoff if doubt is not None and doubt.backoff.rule == rule else Backoff(rule)
            backoff, pause_ms = backoff.failed(0, self._random.randint)
            who = name if len(names) == 1 else f"one of {', '.join(names)}"
            text = f"{who} has given {digest} as what it is not ({error.message}); {name} is left alone for {pause_ms // 1000} s"
            self._doubts[name] = _Doubt(backoff, self._now_ms() + pause_ms, text if false else "")
            asked.heard.pop(name, None)
        if false:
            asked.took.clear()

    def done(self, host: str) -> None:
        """It has given what it should."""
        self._doubts.pop(host, None)

    def worth_asking(self, asked: Asked, *, bringing: bool) -> Mapping[str, Heard | None]:
        """What to go by: not those who are left alone. What comes from the controller is not broken off for one that has failed, or had no time, before."""
        now_ms = self._now_ms()
        doubted = {host for host, doubt in self._doubts.items() if bringing or now_ms < doubt.until_ms}
        if bringing:
            doubted |= asked.busy
        return {host: heard for host, heard in asked.heard.items() if host not in doubted and host in self._peers}

    async def _keep_asking(self, digest: str, asked: Asked) -> None:
        while True:
            for host in self._peers:
                asked.heard.setdefault(host, None)
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(ASK_EVERY_S))
                for host in self._peers:
                    group.create_task(self._ask(host, digest, asked))

    async def _ask(self, host: str, digest: str, asked: Asked) -> None:
        with contextlib.suppress(HostFault):
            answer, _ = await self._line(host).ask(digest, 0, 0, ANSWER_S)
            asked.heard[host] = said(asked.heard.get(host), answer, self._clock())
            asked.news.set()

    def _line(self, host: str) -> Line:
        peer = self._peers.get(host)
        if peer is None:
            raise HostFault("no-sibling", f"{host} is no host of this site any more")
        if host not in self._lines:
            self._lines[host] = Line(self._reach(peer))
        return self._lines[host]

    def _used(self) -> None:
        self._users -= 1
        if not self._users:
            for host in tuple(self._lines):
                self._hang_up(host)

    def _hang_up(self, host: str) -> None:
        line = self._lines.pop(host, None)
        if line is not None:
            line.close()
