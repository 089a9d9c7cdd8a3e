"""The bridge's language: what is said is understood, and nothing else is."""

import contextlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane import bridge_wire as wire
from halftrack_dataplane.bridge_data import OtherVersion

sessions = st.binary(min_size=1, max_size=32)
numbers = st.integers(0, 2**62 - 1)
names = st.text(max_size=100)


messages = st.one_of(
    st.builds(wire.Hello, sessions, names, st.integers(-1, 2**62 - 1), st.integers(1, wire.MAX_CREDIT)),
    st.builds(wire.Credit, sessions, st.integers(1, wire.MAX_CREDIT)),
    st.builds(wire.Heartbeat, sessions),
    st.builds(wire.Refusal, sessions, names),
    st.builds(wire.SnapshotWanted, names, names, st.lists(names, max_size=5).map(tuple), numbers),
    st.builds(wire.SnapshotIs, names, st.integers(0, 1 << 20)),
    st.builds(wire.SnapshotGet, names, names, numbers),
    st.builds(wire.SnapshotPart, names, numbers, st.binary(max_size=50)),
)


@given(messages)
def test_what_is_said_is_understood(message: wire.Message) -> None:
    assert wire.decode(wire.encode(message)) == message


@given(st.lists(st.binary(max_size=200), max_size=3))
def test_noise_is_refused(parts: list[bytes]) -> None:
    with contextlib.suppress(wire.WireError):
        message = wire.decode(parts)
        assert wire.decode(wire.encode(message)) == message, "what is not refused is a message"


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@given(
    kind=st.sampled_from(["hello", "gap", "credit", "beat", "refusal", "snap?", "snap", "part?", "part"]),
    fields=st.lists(anything, max_size=6),
    body=st.none() | st.binary(max_size=20),
)
def test_well_formed_nonsense_is_refused_or_has_the_right_types(
    kind: str, fields: list[Any], body: bytes | None
) -> None:
    parts = [msgpack.packb([wire.VERSION, kind, *fields]), *([] if body is None else [body])]
    try:
        message = wire.decode(parts)
    except wire.WireError:
        return
    assert wire.decode(wire.encode(message)) == message


def test_bounds() -> None:
    with pytest.raises(wire.WireError):
        wire.decode([b"\x91" * (wire.MAX_HEADER_BYTES + 1)])
    with pytest.raises(wire.WireError):
        wire.decode([])


def test_another_version_is_named_and_can_be_answered() -> None:
    with pytest.raises(OtherVersion, match="upgrade the host with the older one") as caught:
        wire.decode([msgpack.packb([1, "hello", b"mine", "s/source", 0, 1])])
    assert (caught.value.version, caught.value.session) == (1, b"mine")
    assert msgpack.unpackb(wire.refusal_in(1, b"mine", "no")[0]) == [1, "refusal", b"mine", "no"]
