"""What a Kafka sink and a Kafka source have in common: how brokers are reached, what their errors mean, where a partition begins and ends.

Owns the client's settings. Secrets are in a file of librdkafka's own properties, which nobody else reads and which is read again for each
connection; never in a param.

Params: `servers` (127.0.0.1:9092, comma-separated), `topic`, `partition` (0), `config_path`.
"""

import stat
from pathlib import Path
from typing import Any

from halftrack_dataplane.engines.settings import Settings, extra, wrong
from halftrack_dataplane.sdk import Away

ANSWER_S = 10.0  # for a transaction, or anything else that a broker is asked; its replicas may be slow
ID, TIMESTAMP, GAP = "Halftrack-Id", "Halftrack-Timestamp-Ns", "Halftrack-Gap"
_CLIENT = {
    "socket.timeout.ms": 3000,  # a broker that hangs is left after it
    "reconnect.backoff.max.ms": 5000,
    "log_level": 2,  # what it says of broken connections comes to us as errors, and from us into the status
}
# What the promises stand on, so nobody else may set it.
_OURS = ("bootstrap.servers", "transactional.id", "enable.idempotence", "acks", "isolation.level", "group.id", "enable.auto.commit",
         "auto.offset.reset", "enable.partition.eof", "max.in.flight", "message.send.max.retries", "retries")  # fmt: skip
_REFUSED = ("TOPIC_AUTHORIZATION_FAILED", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED", "MSG_SIZE_TOO_LARGE",
            "TOPIC_EXCEPTION", "UNSUPPORTED_VERSION", "INVALID_TRANSACTION_TIMEOUT")  # fmt: skip


class Brokers:
    """The way to one partition."""

    def __init__(self, settings: Settings) -> None:
        self.kafka: Any = extra("confluent_kafka", "confluent-kafka", "kafka")
        self.topic = settings.text("topic")
        self.partition = settings.whole("partition", 0, 0, (1 << 31) - 1)
        self._servers = settings.text("servers", "127.0.0.1:9092")
        self._config_path = settings.text("config_path", "-")
        self.complaint = ""  # the newest error of the client's own threads

    @property
    def name(self) -> str:
        """For messages."""
        return f"partition {self.partition} of Kafka topic {self.topic!r}"

    def producer(self, **own: Any) -> Any:
        """A producer; it has not connected yet."""
        return self._made(self.kafka.Producer, own)

    def consumer(self, **own: Any) -> Any:
        """A consumer of one partition, outside of any group; it has not connected yet."""
        fixed = {"group.id": "halftrack-has-no-group", "enable.auto.commit": False, "isolation.level": "read_committed"}
        return self._made(self.kafka.Consumer, fixed | own)

    def _made(self, kind: Any, own: dict[str, Any]) -> Any:
        config = _CLIENT | self._file() | {"bootstrap.servers": self._servers, "error_cb": self._failed} | own
        self.complaint = ""
        try:
            return kind(config)
        except self.kafka.KafkaException as error:
            raise wrong(f"the Kafka client refuses its settings: {error.args[0].str()}") from None

    def _failed(self, error: Any) -> None:
        self.complaint = error.str()

    def _file(self) -> dict[str, Any]:
        """librdkafka's properties, `name=value` a line."""
        if self._config_path == "-":
            return {}
        path = Path(self._config_path)
        try:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise wrong(f"{path} may hold secrets and can be read by others: chmod 600 {path}")
            lines = path.read_text().splitlines()
        except OSError as error:
            raise Away(f"the Kafka settings in {path} cannot be read: {error.strerror}") from None
        found = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if not equals or name.strip() in _OURS:
                said = "has no =" if not equals else f"sets {name.strip()}, on which it depends that frames come once"
                raise wrong(f"{path}, line {number}: it {said}")
            found[name.strip()] = value.strip()
        return found

    def ends(self, consumer: Any) -> tuple[int, int]:
        """The first offset that is there, and the one after the last that is committed."""
        try:
            low, high = consumer.get_watermark_offsets(self.at(), timeout=ANSWER_S, cached=False)
        except self.kafka.KafkaException as error:
            raise self.judged(error) from None
        return int(low), int(high)

    def at(self, offset: int = -1) -> Any:
        """The partition, at an offset."""
        return self.kafka.TopicPartition(self.topic, self.partition, offset)

    def judged(self, error: Any) -> Exception:
        """What an error of the client is for the runner; all but what a person has to change goes by."""
        reason = error.args[0]
        text = f"{self.name}: {reason.str()}{f' ({self.complaint})' if self.complaint else ''}"
        if reason.code() in [getattr(self.kafka.KafkaError, name) for name in _REFUSED]:
            return wrong(text)
        return Away(text)


def own_headers(message: Any) -> dict[str, str]:
    """A message's headers that are text."""
    return {name: value.decode("utf-8", "replace") for name, value in message.headers() or () if value is not None}
