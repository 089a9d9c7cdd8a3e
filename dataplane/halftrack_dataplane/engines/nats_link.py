"""One connection to a NATS server with JetStream, driven from the caller's own thread: between two calls nothing runs.

Owns the connection, from `open` to the first error; then it is of no more use, and its owner opens another when it sees fit. Never
reconnects by itself: whoever resends has to ask first what has arrived.
"""

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

from halftrack_dataplane.engines.settings import Settings, extra
from halftrack_dataplane.sdk import Away

T = TypeVar("T")

CONNECT_S = 1
OPEN_S = 2.0  # to be connected, with what a server wants to know of its clients
ANSWER_S = 2.0  # for any answer of the server; its disk may be slow, but no disk is that slow for long
NOT_FOUND = (10037, 10059)  # message, stream


class ServerError(Exception):
    """JetStream has refused something; `code` is its err_code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


class Answer(NamedTuple):
    """A message to one of our inboxes: the end of its subject, the subject that it asks us to answer to, its headers and bytes."""

    token: str
    reply: str
    headers: Mapping[str, str]
    data: bytes


class Link:
    """Made by `open`. Every method raises Away when the connection is, or has become, of no use."""

    def __init__(self, settings: Settings) -> None:
        self._errors = extra("nats.errors", "nats-py", "nats")
        self._servers = settings.text("servers", "nats://127.0.0.1:4222").split(",")
        self._credentials = settings.text("credentials_path", "-")
        self._loop = asyncio.new_event_loop()
        self._client: Any = extra("nats.aio.client", "nats-py", "nats").Client()
        self._heard: list[Answer] = []
        self._bell = asyncio.Event()
        self._error = ""
        self._unreached = 0

    @classmethod
    def open(cls, settings: Settings) -> "Link":
        """Connect."""
        link = cls(settings)
        try:
            link._run(link._connect(), OPEN_S)
        except Away:
            link.close()
            raise
        return link

    async def _connect(self) -> None:
        options: dict[str, Any] = {} if self._credentials == "-" else {"user_credentials": self._credentials}
        await self._client.connect(
            servers=self._servers,
            allow_reconnect=False,
            max_reconnect_attempts=0,
            connect_timeout=CONNECT_S,
            error_cb=self._failed,
            closed_cb=self._closed,
            **options,
        )

    async def _failed(self, error: Exception) -> None:
        self._error = str(error) or type(error).__name__
        self._bell.set()
        if self._client.is_connecting or not self._client.connected_url:
            self._unreached += 1
            if self._unreached >= len(self._servers):
                raise OSError(self._error)  # the client itself would go round for ever

    async def _closed(self) -> None:
        self._bell.set()

    @property
    def max_payload(self) -> int:
        """Bytes that a message may have, headers and all."""
        return int(self._client.max_payload)

    def ask(self, subject: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """An answer of JetStream's API; ServerError when it is an error."""
        message = self._run(self._client.request(subject, json.dumps(body).encode(), timeout=ANSWER_S), ANSWER_S)
        if message.headers and message.headers.get("Status") == "503":
            raise Away("the NATS server has no JetStream (yet)")
        return answer_of(message.data)

    def listen(self, inbox: str) -> None:
        """Hear what is sent to `inbox.*`."""
        self._run(self._listen(inbox), ANSWER_S)

    async def _listen(self, inbox: str) -> None:
        async def hear(message: Any) -> None:
            token = message.subject.rpartition(".")[2]
            self._heard.append(Answer(token, message.reply, message.headers or {}, message.data))
            self._bell.set()

        await self._client.subscribe(f"{inbox}.*", cb=hear)

    def publish(self, messages: list[tuple[str, bytes, str, dict[str, str]]]) -> None:
        """Send messages: subject, bytes, where to answer, headers."""
        self._run(self._publish(messages), ANSWER_S)

    async def _publish(self, messages: list[tuple[str, bytes, str, dict[str, str]]]) -> None:
        for subject, data, reply, headers in messages:
            await self._client.publish(subject, data, reply=reply, headers=headers or None)
        await asyncio.sleep(0)  # to the client's own task, which writes to the socket

    def answers(self, timeout_s: float) -> list[Answer]:
        """What was heard since, waiting for the first."""
        self._run(self._until_heard(timeout_s), timeout_s + ANSWER_S)
        heard, self._heard[:] = self._heard[:], []
        return heard

    async def _until_heard(self, timeout_s: float) -> None:
        self._bell.clear()
        if timeout_s <= 0:
            await asyncio.sleep(0)
        elif not self._heard:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._bell.wait()
            except TimeoutError:
                return

    def _run(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        if self._client.is_closed:
            work.close()
            raise self._away("the connection has ended")
        try:
            return self._loop.run_until_complete(_within(timeout_s, work))
        except (OSError, TimeoutError, self._errors.Error, asyncio.InvalidStateError) as error:
            raise self._away(str(error) or type(error).__name__) from None

    def _away(self, text: str) -> Away:
        return Away(f"no NATS server at {','.join(self._servers)}: {self._error or text}")

    def close(self) -> None:
        """Whatever state it is in."""
        try:
            self._loop.run_until_complete(_within(1.0, self._client.close()))
        except Exception as error:  # noqa: BLE001 - it is being thrown away, and its own state may be anything
            self._error = str(error)
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))  # for them to hear of it
        self._loop.close()


def answer_of(data: bytes) -> dict[str, Any]:
    """The object that JetStream answered; ServerError when it says that something went wrong."""
    try:
        tree = json.loads(data)
    except ValueError:
        raise Away("the answer of the NATS server is not JSON") from None
    if not isinstance(tree, dict):
        raise Away("the answer of the NATS server is not an object")
    if isinstance(error := tree.get("error"), dict):
        raise ServerError(int(error.get("err_code", 0)), str(error.get("description", "refused")))
    return tree


async def _within(timeout_s: float, work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(timeout_s):
        return await work
