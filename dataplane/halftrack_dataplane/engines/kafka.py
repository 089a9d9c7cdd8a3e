"""A sink into Kafka: every frame once and in order, for whoever reads committed messages, whatever dies in between.

Owns the messages' form and where the stream goes on after a break. An idempotent producer alone keeps its own retries apart, but nothing beyond
its process; so frames go in transactions, under an id that the stream has to itself. Whoever begins under that id has the broker end what
its predecessor left open, and refuse whatever of it is still on its way; only then is the newest committed message read, which says where the
stream goes on. One partition takes one stream and nothing else, since there is no order beyond a partition.

A message's value is the frame's. Its headers: `Halftrack-Id` STREAM:EPOCH:SEQUENCE, `Halftrack-Timestamp-Ns`, and for a declared gap, which
has no bytes, `Halftrack-Gap`, the number of sequences that are lost.

Params: those of `kafka_link`, `stream` (the topic's name), `begin_seq` (what an empty partition begins with), `window_frames`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from halftrack_dataplane.engines.in_flight import end_of
from halftrack_dataplane.engines.kafka_link import ANSWER_S, GAP, ID, TIMESTAMP, Brokers, own_headers
from halftrack_dataplane.engines.nats_messages import GAP as NATS_GAP
from halftrack_dataplane.engines.nats_messages import MSG_ID, numbered
from halftrack_dataplane.engines.settings import wrong
from halftrack_dataplane.engines.transactional import TransactionalSink
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Away, Param

FIRST_LOOK = (
    64  # offsets before the end, where the newest message is looked for; what aborts leave there is seldom longer
)
OPEN_S = 30  # a transaction whose producer has vanished is ended by the broker then; until then nobody reads beyond it


class KafkaSink(TransactionalSink):
    """See the module. Subclass it to change the `key` or the further `headers` of a message, or name it as it is."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        named = {"stream": params["topic"]} if "topic" in params and "stream" not in params else {}
        super().__init__({**params, **named}, data_dir)
        self._brokers = Brokers(self.settings)
        self._begin_seq = self.settings.whole("begin_seq", -1, -1)
        self._producer: Any = None

    def key(self, frame: Frame) -> bytes | None:
        """The message's key; it does not choose the partition."""
        return None

    def headers(self, frame: Frame) -> dict[str, str]:
        """More headers for a message; ours have precedence."""
        return {}

    def open(self) -> int:
        """Have the broker end what another life has left open, then look where the stream ends."""
        who = f"halftrack:{self._brokers.topic}:{self._brokers.partition}:{self.stream}"
        own = {"transactional.id": who, "transaction.timeout.ms": OPEN_S * 1000, "linger.ms": 5}
        self._producer = self._brokers.producer(**own)
        try:
            self._producer.init_transactions(ANSWER_S)
            self._found(self._producer.list_topics(self._brokers.topic, ANSWER_S))
        except self._brokers.kafka.KafkaException as error:
            raise self._brokers.judged(error) from None
        own = {"enable.partition.eof": True, "auto.offset.reset": "error", "fetch.wait.max.ms": 10}
        consumer = self._brokers.consumer(**own)
        try:
            return self._position(consumer)
        finally:
            consumer.close()

    def store(self, frames: Sequence[Frame], first: int, following: int) -> None:
        """One transaction. Nobody else can have moved the stream on: whoever did has taken our id away."""
        producer = self._producer
        try:
            producer.begin_transaction()
            for frame in frames:
                own = {ID: f"{self.stream}:{frame.epoch}:{frame.seq}", TIMESTAMP: str(frame.timestamp_ns)}
                if frame.gap:
                    own[GAP] = str(frame.gap)
                self._produce(bytes(frame.payload), self.key(frame), self.headers(frame) | own)
            producer.commit_transaction(ANSWER_S)
        except self._brokers.kafka.KafkaException as error:
            raise self._brokers.judged(error) from None

    def _produce(self, value: bytes, key: bytes | None, headers: dict[str, str]) -> None:
        deadline = time.monotonic() + ANSWER_S
        words = {"partition": self._brokers.partition, "key": key, "headers": headers}
        while True:
            try:
                self._producer.produce(self._brokers.topic, value, **words)
            except BufferError:  # the client's own queue is full
                if time.monotonic() > deadline:
                    raise Away(f"{self._brokers.name} takes nothing: {self._brokers.complaint}") from None
                self._producer.poll(0.05)
            else:
                return

    def close(self) -> None:
        """What is in an open transaction is never seen by anybody."""
        if self._producer is not None:
            self._producer.purge()
            self._producer = None

    # ------------------------------------------------------------------------------------------------ where the stream goes on

    def _found(self, metadata: Any) -> None:
        topic = metadata.topics[self._brokers.topic]
        if topic.error is not None:
            raise self._brokers.kafka.KafkaException(topic.error)
        if self._brokers.partition not in topic.partitions:
            raise wrong(f"there is no {self._brokers.name}: it has {len(topic.partitions)}, from 0 on")

    def _position(self, consumer: Any) -> int:
        low, high = self._brokers.ends(consumer)
        look = FIRST_LOOK
        while high > low:
            begins = max(low, high - look)
            if (newest := self._newest(consumer, begins)) is not None:
                return self._following(newest)
            if begins == low:
                break
            look *= 8
        if high == 0 or self._begin_seq >= 0:
            return max(self._begin_seq, 0)
        raise wrong(
            f"{self._brokers.name} has had {high} messages and has none now, so nothing says which frame comes next: say so by the param "
            "begin_seq, and keep messages for longer than the sink may be away (retention.ms)"
        )

    def _newest(self, consumer: Any, begins: int) -> Any:
        """The last committed message from an offset on; None if there is none."""
        kafka = self._brokers.kafka
        consumer.assign([self._brokers.at(begins)])
        found, deadline = None, time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            for message in consumer.consume(FIRST_LOOK, 0.02):
                if (error := message.error()) is None:
                    found = message
                elif error.code() == kafka.KafkaError._PARTITION_EOF:
                    return found
                else:
                    raise self._brokers.judged(kafka.KafkaException(error))
        raise Away(f"the end of {self._brokers.name} cannot be read: {self._brokers.complaint or 'no answer'}")

    def _following(self, message: Any) -> int:
        own = own_headers(message)
        found = numbered({MSG_ID: own.get(ID, ""), NATS_GAP: own.get(GAP, "0")})
        if found is None or found.stream != self.stream:
            said = "a message of nobody's" if found is None else f"a message of {found.stream!r}"
            raise wrong(f"{self._brokers.name} ends with {said}: give each stream a partition of its own")
        return end_of(Frame(found.seq, found.epoch, 0, b"", found.gap))
