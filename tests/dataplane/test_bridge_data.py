"""Frames between hosts, in bytes: the plain decoder says what they mean, and the one in C, which receivers use, agrees on everything."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halftrack_dataplane import bridge_data as plain
from halftrack_dataplane import bridge_inlet as native

seqs = st.integers(0, 2**62 - 2**20)


@st.composite
def batches(draw: st.DrawFn) -> plain.Data:
    """Frames that could be sent."""
    records = draw(
        st.lists(
            st.builds(
                plain.Record,
                st.integers(1, 5),
                st.integers(0, 20),
                st.integers(0, 2**64 - 1),
                st.integers(-(2**63), 2**63 - 1),
            ),
            min_size=1,
            max_size=6,
        )
    )
    size = sum(record.count * record.length for record in records)
    body = draw(st.binary(min_size=size, max_size=size))
    return plain.Data(draw(seqs), tuple(records), body)


gaps = st.builds(plain.Gap, seqs, st.integers(1, 2**20))


def verdict(decode: object, parts: list[bytes]) -> object:
    """What a decoder makes of `parts`: the message, or which kind of error."""
    try:
        return decode(parts)  # type: ignore[operator]
    except plain.OtherVersion as error:
        return ("other version", error.version)
    except plain.WireError:
        return "refused"


@given(message=batches() | gaps, late=st.booleans())
def test_what_is_said_is_understood_by_both(message: plain.Data | plain.Gap, late: bool) -> None:
    parts = plain.encode(message, late=late)
    assert plain.decode(parts) == native.decode(parts) == message


@given(batches())
def test_a_payload_that_was_overwritten_is_void(batch: plain.Data) -> None:
    parts = plain.encode(plain.Data(batch.first, batch.records, None))
    assert len(parts) == 3
    for decode in (plain.decode, native.decode):
        message = decode(parts)
        assert isinstance(message, plain.Data)
        assert message.body is None
        assert message.records == batch.records


@given(message=batches() | gaps, late=st.booleans(), data=st.data())
def test_any_damage_is_judged_alike(message: plain.Data | plain.Gap, late: bool, data: st.DataObject) -> None:
    """Bytes changed, cut or added, parts lost or added: refused by both, or understood alike."""
    parts = [bytearray(part) for part in plain.encode(message, late=late)]
    for _ in range(data.draw(st.integers(1, 3))):
        part = parts[data.draw(st.integers(0, len(parts) - 1))]
        match data.draw(st.sampled_from(["change", "cut", "add"])):
            case "change" if part:
                at = data.draw(st.integers(0, len(part) - 1))
                part[at] = data.draw(st.integers(0, 255))
            case "cut" if part:
                del part[data.draw(st.integers(0, len(part) - 1)) :]
            case _:
                part += data.draw(st.binary(max_size=30))
    if data.draw(st.booleans()):
        parts.append(bytearray(data.draw(st.binary(max_size=2))))
    damaged = [bytes(part) for part in parts]
    assert verdict(plain.decode, damaged) == verdict(native.decode, damaged)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """Headers of the right shape, with numbers at the bounds and beyond."""
    edges = [0, 1, 63, 64, 65, 2**16 - 1, 2**16, 2**26, 2**26 + 1, 2**31, 2**32 - 1]
    small, large = st.sampled_from(edges), st.sampled_from([*edges, 2**32, 2**62 - 1, 2**62, 2**63, 2**64 - 1])
    records = [draw(st.tuples(small, small, large, st.just(0))) for _ in range(draw(st.integers(0, 4)))]
    said = draw(st.sampled_from([len(records), *edges]))
    kind, zero = draw(st.integers(0, 4)), draw(st.sampled_from([0, 0, 0, 1]))
    fixed = plain._HEADER.pack(plain.MAGIC, plain.VERSION, kind, zero, said, 0, draw(large), draw(large))
    return b"".join([fixed, *[plain._RECORD.pack(*record) for record in records]])


@given(header=headers(), rest=st.lists(st.binary(max_size=70), max_size=3))
@example(
    header=plain._HEADER.pack(plain.MAGIC, 2, 1, 0, 1, 0, 0, 0) + plain._RECORD.pack(2**32 - 1, 2**32 - 1, 0, 0),
    rest=[],
)
def test_numbers_that_would_wrap_are_judged_alike(header: bytes, rest: list[bytes]) -> None:
    parts = [header, *rest]
    assert verdict(plain.decode, parts) == verdict(native.decode, parts)


@given(st.binary(max_size=120), st.lists(st.binary(max_size=9), max_size=2))
def test_noise_behind_the_magic_is_judged_alike(noise: bytes, rest: list[bytes]) -> None:
    parts = [plain.MAGIC + noise, *rest]
    assert verdict(plain.decode, parts) == verdict(native.decode, parts)
    with contextlib.suppress(plain.WireError):
        plain.decode(parts)


def test_the_bounds_are_the_same() -> None:
    record = plain.Record(64, 0, 0, 0)
    full = plain.Data(0, (record,) * plain.BATCH_RECORDS, b"")
    more = plain.Data(0, (record,) * (plain.BATCH_RECORDS + 1), b"")
    frames = plain.Data(0, (plain.Record(plain.BATCH_FRAMES + 1, 0, 0, 0),), b"")
    for decode in (plain.decode, native.decode):
        assert decode(plain.encode(full)) == full
        for message in (more, frames):
            with pytest.raises(plain.WireError):
                decode(plain.encode(message))


@given(batches(), st.integers(-3, 3).filter(bool), st.booleans())
def test_records_that_do_not_add_up_to_their_payload_are_refused(batch: plain.Data, off: int, late: bool) -> None:
    """Header and payload agree on a length that the records contradict: they would be read beyond it."""
    assert batch.body is not None
    payload = (batch.body + b"xxx")[: max(len(batch.body) + off, 0)]
    header = plain.encode(batch, late=True)[0]
    said = header[:24] + len(payload).to_bytes(8, "little") + header[32:]
    said = said[:6] + bytes([plain.LATE if late else plain.DATA]) + said[7:]
    parts = [said, payload, plain.WHOLE] if late else [said + payload]
    if len(payload) == len(batch.body):
        return  # there was nothing to take off
    for decode in (plain.decode, native.decode):
        with pytest.raises(plain.WireError):
            decode(parts)


def test_another_version_is_named() -> None:
    header = plain.MAGIC + (3).to_bytes(2, "little") + bytes(200)
    for decode in (plain.decode, native.decode):
        with pytest.raises(plain.OtherVersion, match=r"version 3 .* version 2"):
            decode([header])
