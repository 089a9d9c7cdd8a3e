"""A source from Kafka: every committed message of one partition once and in order, whatever dies in between.

Owns where the partition is gone on with after a break, and what an offset without a message means. Frame n is offset n + `first_offset`, so the ring's
end says where to go on, and no consumer group and no committed offset is needed.

Offsets are not dense: the ends of transactions take one each, and so does what was aborted or compacted away. That is no loss, and yet frames
must keep their numbers when they are fetched again; so such an offset becomes a frame that says "none here", which vertices do not get to
see. What retention has removed before it was fetched is a declared gap, counted; a message by which a sink of ours has declared a loss is a gap of one.

Params: those of `kafka_link`, `first_offset` (0; a negative number goes on behind a partition that was made anew).
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from halftrack_dataplane.engines.kafka_link import GAP, TIMESTAMP, Brokers, own_headers
from halftrack_dataplane.engines.retry import Retry
from halftrack_dataplane.engines.settings import Settings, wrong
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.parts import NONE
from halftrack_dataplane.sdk import Away, Param

MOST = 256  # frames of one fetch
QUEUED_KB = 8 << 10  # fetched ahead by the client itself


class KafkaSource:
    """See the module. Subclass it to change `payload`, or name it as it is."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        settings = Settings(params)
        self._brokers = Brokers(settings)
        self._first_offset = settings.whole("first_offset", 0, -(1 << 62))
        self._consumer: Any = None
        self._retry = Retry()
        self._last = ""
        self._next = 0  # the frame that we have not yet fetched
        self._given = 0  # the frame that we have not yet handed on
        self._ahead: Iterator[Frame] = iter(())
        self._counts = {"fetched": 0, "none": 0, "removed": 0, "connections": 0}

    def fetch(self, next_seq: int, wait_s: float) -> Sequence[Frame]:
        """What follows on frame `next_seq` - 1."""
        if next_seq != self._given:
            self.close()  # a new ring, or one whose writer did not take all: what is on its way is not what is wanted
        try:
            consumer = self._connected(next_seq)
            if not (frames := self._handed()):
                messages = consumer.consume(MOST, wait_s)
                if not messages and self._brokers.complaint:
                    raise self._complained()
                self._ahead = self._frames(messages)
                frames = self._handed()
        except Away as error:
            self._last = str(error)
            raise
        if frames:
            self._retry = Retry()
            self._given = frames[-1].seq + max(frames[-1].gap, 1)
        return frames

    def counters(self) -> dict[str, int]:
        """For the status."""
        return dict(self._counts)

    def payload(self, value: bytes, key: bytes | None, headers: Mapping[str, str]) -> bytes:
        """The frame's bytes; the same each time. A message without a value has none."""
        return value

    def close(self) -> None:
        """Let the connection go."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def _complained(self) -> Away:
        """The client goes on by itself; what it has complained of is told once for each time."""
        text, self._brokers.complaint = self._brokers.complaint, ""
        return Away(f"{self._brokers.name}: {text}")

    def _handed(self) -> list[Frame]:
        """The next of what is here."""
        try:
            return list(islice(self._ahead, MOST))
        except Away:  # in the middle of messages that nobody brings again: the next connection does
            self.close()
            raise

    # ------------------------------------------------------------------------------------------------------ the connection

    def _connected(self, next_seq: int) -> Any:
        if self._consumer is None:
            now = time.monotonic()
            if now < self._retry.due_s:
                raise Away(f"{self._last or 'Kafka is away'}; trying again")
            self._retry = self._retry.failed(now, random.random())  # noqa: S311 - jitter, no secret
            own = {"auto.offset.reset": "error", "queued.max.messages.kbytes": QUEUED_KB}
            try:
                self._consumer = self._brokers.consumer(**own)
                self._counts["connections"] += 1
                self._begin(self._consumer, next_seq)
            except BaseException:
                self.close()
                raise
        return self._consumer

    def _begin(self, consumer: Any, next_seq: int) -> None:
        wanted = next_seq + self._first_offset
        low, high = self._held()
        if wanted > high:
            raise wrong(
                f"{self._brokers.name} ends with offset {high - 1}, and the ring has all before offset {wanted}: it was made anew, or lost its end. "
                f"To go on with its first message, set first_offset to {low - next_seq}"
            )
        self._next = self._given = next_seq
        begins = max(wanted, low)
        self._ahead = iter(()) if begins == wanted else iter([self._gap(begins - self._first_offset, 0)])
        consumer.assign([self._brokers.at(begins)])

    def _held(self) -> tuple[int, int]:
        """Where the partition begins and ends, with what is not committed yet: a broker that is behind with that has lost nothing."""
        looker = self._brokers.consumer(**{"isolation.level": "read_uncommitted"})
        try:
            return self._brokers.ends(looker)
        finally:
            looker.close()

    # -------------------------------------------------------------------------------------------------------- the messages

    def _frames(self, messages: Sequence[Any]) -> Iterator[Frame]:
        """The frames of messages, and of what lies between them: lazily, since a compacted partition has holes of any length."""
        for message in messages:
            if (
                error := message.error()
            ) is not None:  # also when our place was removed: the next connection says how much
                raise self._brokers.judged(self._brokers.kafka.KafkaException(error))
            seq, timestamp_ns = message.offset() - self._first_offset, message.timestamp()[1] * 1_000_000
            if seq > self._next:
                yield from self._hole(seq, timestamp_ns)
            headers = own_headers(message)
            own = headers.get(TIMESTAMP, "")
            stamp_ns = int(own) if own.isdecimal() else max(timestamp_ns, 0)
            lost = GAP in headers  # a sink of ours has declared a loss here, and it stays one
            data = b"" if lost else self.payload(message.value() or b"", message.key(), headers)
            self._next = seq + 1
            self._counts["fetched"] += 1
            yield Frame(seq, 0, stamp_ns, data, int(lost))

    def _hole(self, end: int, timestamp_ns: int) -> Iterator[Frame]:
        """What has no message up to frame `end`: removed as far as the partition has been cut since, never a message beyond."""
        low = self._brokers.ends(self._consumer)[0] - self._first_offset
        if low > self._next:
            yield self._gap(min(low, end), timestamp_ns)
        for seq in range(self._next, end):
            self._next = seq + 1
            self._counts["none"] += 1
            yield Frame(seq, 0, max(timestamp_ns, 0), NONE)

    def _gap(self, end: int, timestamp_ns: int) -> Frame:
        gap = Frame(self._next, 0, max(timestamp_ns, 0), b"", end - self._next)
        self._counts["removed"] += gap.gap
        self._next = end
        return gap
