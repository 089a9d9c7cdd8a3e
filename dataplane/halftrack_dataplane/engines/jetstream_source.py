"""A source from NATS JetStream: every message of a stream once and in order, whatever dies in between.

Owns where a stream is gone on with after a break, and what of it is lost. The ring says how far the stream has come: frame n is message
number n + `first_message` of the JetStream stream, so a new process begins with the message that follows on the ring's last frame, and no place is kept
anywhere else. It reads by a consumer that lives as long as a connection, acknowledges nothing and so takes nothing away from others.

A message that is not there any more (it was deleted, or has expired) is a declared gap, counted. What was gone before the ring's first frame is
not: the stream begins behind it. A message by which a sink of ours has declared a loss is a gap of one, however much was lost there.

Params: `servers` (nats://127.0.0.1:4222, comma-separated), `js_stream`, `first_message` (1; a negative number goes on behind a stream that
was made anew), `credentials_path`.
"""

import json
import random
import time
import uuid
from collections.abc import Mapping, Sequence

from halftrack_dataplane.engines.nats_link import NOT_FOUND, Answer, Link, ServerError
from halftrack_dataplane.engines.nats_messages import GAP, TIMESTAMP, delivered
from halftrack_dataplane.engines.retry import Retry
from halftrack_dataplane.engines.settings import Settings, wrong
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Away, Param

FIRST_BATCH, MOST = 8, 256  # messages asked for at once: few, while nobody knows how large they are
BATCH_BYTES = 8 << 20
PULL_S = 1.0  # a request that brings nothing ends then, so that silence can be told from a server that hangs
PATIENCE_S = 2.0  # beyond that
IDLE_S = 30.0  # a consumer whose reader is gone, or held up by a full ring, is removed by the server then


class JetStreamSource:
    """See the module. Subclass it to change `payload`, or name it as it is."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        settings = self._settings = Settings(params)
        self._js_stream = settings.text("js_stream")
        self._first_message = settings.whole("first_message", 1, -(1 << 62))
        self._link: Link | None = None
        self._retry = Retry()
        self._last = ""
        self._subject = ""  # where messages are asked for
        self._inbox = ""
        self._next = 0  # the frame that we have not yet fetched
        self._ahead: list[Frame] = []  # a gap that came before the first message
        self._deliveries = 0
        self._asked = 0  # messages that the running request may still bring
        self._request = 0
        self._quiet_from = 0.0
        self._largest = BATCH_BYTES // FIRST_BATCH
        self._counts = {"fetched": 0, "removed": 0, "connections": 0}

    def fetch(self, next_seq: int, wait_s: float) -> Sequence[Frame]:
        """What follows on frame `next_seq` - 1."""
        if next_seq != self._next:
            self._lose_link()  # a new ring, or one whose writer did not take all: what is on its way is not what is wanted
        link = self._connected(next_seq)
        try:
            if not self._ahead and self._asked <= 0:
                self._ask(link)
            frames, self._ahead = self._ahead or self._taken(link.answers(wait_s)), []
        except Away as error:
            self._last = str(error)
            self._lose_link()
            raise
        if frames:
            self._retry = Retry()
        return frames

    def counters(self) -> dict[str, int]:
        """For the status."""
        return dict(self._counts)

    def payload(self, data: bytes, headers: Mapping[str, str]) -> bytes:
        """The frame's bytes; the same each time."""
        return data

    def close(self) -> None:
        """Let the connection go."""
        self._lose_link()

    # ------------------------------------------------------------------------------------------------------ the connection

    def _connected(self, next_seq: int) -> Link:
        if self._link is None:
            now = time.monotonic()
            if now < self._retry.due_s:
                raise Away(f"{self._last or 'JetStream is away'}; trying again")
            self._retry = self._retry.failed(now, random.random())  # noqa: S311 - jitter, no secret
            try:
                self._link = Link.open(self._settings)
                self._counts["connections"] += 1
                self._begin(self._link, next_seq)
            except ServerError as error:
                self._lose_link()
                self._last = f"JetStream stream {self._js_stream!r}: {error}"
                raise Away(self._last) from None
            except BaseException as error:
                self._last = str(error)
                self._lose_link()
                raise
        return self._link

    def _lose_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _begin(self, link: Link, next_seq: int) -> None:
        """A consumer that begins with frame `next_seq`, or with the oldest after it that is still there."""
        wanted = next_seq + self._first_message
        begins = self._oldest(link, wanted)
        self._inbox = f"_HALFTRACK.{uuid.uuid4().hex}"
        link.listen(self._inbox)
        config = {
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": max(begins, 1),
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "inactive_threshold": int(IDLE_S * 1e9),
        }
        asked = {"stream_name": self._js_stream, "config": config}
        name = link.ask(f"$JS.API.CONSUMER.CREATE.{self._js_stream}", asked)["name"]
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._js_stream}.{name}"
        self._deliveries = self._asked = 0
        self._next = next_seq
        self._ahead = []
        if begins > wanted:
            self._ahead = [self._gap(begins - self._first_message, 0)]

    def _oldest(self, link: Link, wanted: int) -> int:
        """The number of the message to begin with."""
        try:
            info = link.ask(f"$JS.API.STREAM.INFO.{self._js_stream}", {})
        except ServerError as error:
            if error.code not in NOT_FOUND:
                raise
            raise Away(f"there is no JetStream stream {self._js_stream!r} yet") from None
        if (retention := info["config"].get("retention", "limits")) != "limits":
            raise wrong(
                f"JetStream stream {self._js_stream!r} drops what has been acknowledged (retention {retention!r}), so nothing could be read again: "
                "give it retention 'limits', or a stream of its own that mirrors it"
            )
        first, last = int(info["state"]["first_seq"]), int(info["state"]["last_seq"])
        if wanted > last + 1:
            raise wrong(
                f"JetStream stream {self._js_stream!r} ends with message {last}, and the ring has all before message {wanted}: it was made anew, or "
                f"lost its end. To go on with its first message, set first_message to {first - (wanted - self._first_message)}"
            )
        return max(wanted, first, 1)

    # -------------------------------------------------------------------------------------------------------- the messages

    def _ask(self, link: Link) -> None:
        self._asked = max(1, min(MOST, BATCH_BYTES // self._largest))
        self._request += 1
        self._quiet_from = time.monotonic()
        body = {"batch": self._asked, "expires": int(PULL_S * 1e9)}
        link.publish([(self._subject, json.dumps(body).encode(), f"{self._inbox}.{self._request}", {})])

    def _taken(self, answers: Sequence[Answer]) -> list[Frame]:
        frames: list[Frame] = []
        for answer in answers:
            if (found := delivered(answer.reply)) is None:
                if answer.token == str(self._request):
                    self._told(answer)
                continue
            self._quiet_from = time.monotonic()
            self._deliveries += 1
            if found.delivery != self._deliveries:  # one was lost on its way: all from there on is asked for again
                self._lose_link()
                break
            self._asked -= 1
            frames += self._frames(found.js_seq, found.timestamp_ns, answer)
        if self._asked > 0 and time.monotonic() - self._quiet_from > PULL_S + PATIENCE_S:
            raise Away(f"JetStream stream {self._js_stream!r} answers nothing")
        return frames

    def _told(self, answer: Answer) -> None:
        """A request has ended before it brought all: there was no more, or something has happened to its consumer."""
        self._asked = 0
        if (status := answer.headers.get("Status", "")) not in ("404", "408"):
            said = answer.headers.get("Description", "no description")
            raise Away(f"JetStream stream {self._js_stream!r} ends our consumer: {said} ({status})")

    def _frames(self, js_seq: int, timestamp_ns: int, answer: Answer) -> list[Frame]:
        seq = js_seq - self._first_message
        frames = [self._gap(seq, timestamp_ns)] if seq > self._next else []
        own = answer.headers.get(TIMESTAMP, "")
        stamp_ns = int(own) if own.isdecimal() else timestamp_ns
        if GAP in answer.headers:  # a sink of ours has declared a loss here, and it stays one
            frames.append(Frame(seq, 0, stamp_ns, b"", 1))
        else:
            frames.append(Frame(seq, 0, stamp_ns, self.payload(answer.data, answer.headers)))
        self._next = seq + 1
        self._largest = max(len(answer.data), self._largest * 7 // 8, 1)
        self._counts["fetched"] += 1
        return frames

    def _gap(self, end: int, timestamp_ns: int) -> Frame:
        gap = Frame(self._next, 0, timestamp_ns, b"", end - self._next)
        self._counts["removed"] += gap.gap
        self._next = end
        return gap
