"""The examples of docs/engines.md are run as they stand there, against what the other tests run against."""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.frames import Frame
from tests.engines import origins, places
from tests.engines.origins import fetched
from tests.engines.places import calmly

PAGE = Path(__file__).parents[2] / "docs/engines.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def _shown(module: str) -> Callable[..., Any]:
    """The class of the page's one example that is made from `module`."""
    (text,) = [text for text in EXAMPLES if f"halftrack_dataplane.engines.{module} import" in text]
    namespace: dict[str, Any] = {}
    exec(compile(text, PAGE.name, "exec"), namespace)  # noqa: S102 - our own page
    (name,) = re.findall(r"^class (\w+)", text, re.MULTILINE)
    made: Callable[..., Any] = namespace[name]
    return made


def _stored(place: places.Place, module: str) -> None:
    sink = _shown(module)(place.params, str(place.data))
    assert calmly(sink.next_seq) == 0
    sink.consume(Frame(0, 1, 1_500_000_000, struct.pack("<2f", 1.5, 2.5)))
    sink.consume(Frame(1, 1, 0, b"", 3))
    sink.flush()
    assert sink.next_seq() == 4
    sink.close()


def test_spectra_in_postgresql(tmp_path: Path) -> None:
    place = places.Postgres(tmp_path)
    try:
        import psycopg

        _stored(place, "postgres")
        with psycopg.connect(place.server.connect) as connection:
            found = connection.execute("SELECT seq, extract(epoch FROM at)::float, channels FROM spectra").fetchall()
        assert found == [(0, 1.5, [1.5, 2.5])]
    finally:
        place.end()


def test_spectra_in_kafka(tmp_path: Path) -> None:
    place = places.Kafka(tmp_path)
    try:
        _stored(place, "kafka")
        assert [(seq, gap) for seq, gap, _ in place.found()] == [(0, 0), (1, 3)]
    finally:
        place.end()


@pytest.mark.parametrize(
    ("kind", "module", "sent", "comes"),
    [
        ("jetstream", "jetstream_source", b'{"b": 1,"a":2}', b'{"a": 2, "b": 1}'),
        ("kafka", "kafka_source", b"x", bytes(16) + b"x"),
    ],
)
def test_readings(tmp_path: Path, kind: str, module: str, sent: bytes, comes: bytes) -> None:
    origin = origins.ORIGINS[kind](tmp_path)
    try:
        origin.publish([sent])
        source = _shown(module)(origin.params)
        assert bytes(fetched(source, 0, 1)[0].payload) == comes
        source.close()
    finally:
        origin.end()


def test_the_params_that_are_named_are_those_that_are_read() -> None:
    folder = PAGE.parents[1] / "dataplane/halftrack_dataplane/engines"
    read = set(
        re.findall(r'settings\.(?:text|whole|one_of)\(\s*"(\w+)"', "".join(p.read_text() for p in folder.glob("*.py")))
    )
    named = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    assert read <= named, f"docs/engines.md does not name {read - named}"
