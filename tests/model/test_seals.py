"""A seal counts for one kind of document, one payload and one key, and nothing is opened on less than the threshold."""

import hashlib
import hmac

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from halftrack_model.errors import Untrusted
from halftrack_model.seals import PLAN, RELEASE, Seal, Sealed, key_id_of, opened, signing_input

KINDS = st.sampled_from([PLAN, RELEASE, "halftrack.v1.bundle", ""]) | st.text(max_size=8)
KEYS = [b"key-%d" % n for n in range(4)]
TRUSTED = {key_id_of(key): key for key in KEYS[:3]}


def _sign(key: bytes, message: bytes) -> bytes:
    """A symmetric stand-in for Ed25519: these tests are about what is signed and counted, not about the arithmetic."""
    return hmac.digest(key, message, hashlib.sha256)


def _verify(key: bytes, signature: bytes, message: bytes) -> bool:
    return hmac.compare_digest(_sign(key, message), signature)


def _sealed(kind: str, payload: bytes, *keys: bytes) -> Sealed:
    message = signing_input(kind, payload)
    return Sealed(kind, payload, tuple(Seal(key_id_of(key), _sign(key, message)) for key in keys))


@given(st.binary(max_size=64), st.sets(st.sampled_from(KEYS), max_size=4), st.integers(1, 3))
def test_it_opens_exactly_when_enough_trusted_keys_have_sealed_it(
    payload: bytes, keys: set[bytes], threshold: int
) -> None:
    # invariant: P1
    sealed = _sealed(PLAN, payload, *sorted(keys))
    enough = len(keys & set(KEYS[:3])) >= threshold
    if enough:
        assert opened(sealed, PLAN, TRUSTED, _verify, threshold) == payload
    else:
        with pytest.raises(Untrusted) as refusal:
            opened(sealed, PLAN, TRUSTED, _verify, threshold)
        assert refusal.value.reason == ("bad-signature" if keys & set(KEYS[:3]) else "unknown-key")


@given(KINDS, st.binary(max_size=24), KINDS, st.binary(max_size=24))
def test_no_two_documents_sign_the_same_bytes(kind: str, payload: bytes, other_kind: str, other_payload: bytes) -> None:
    assume((kind, payload) != (other_kind, other_payload))
    assert signing_input(kind, payload) != signing_input(other_kind, other_payload)


@given(st.binary(max_size=24))
def test_a_seal_for_one_kind_is_none_for_another(payload: bytes) -> None:
    # invariant: P1
    genuine = _sealed(RELEASE, payload, KEYS[0])
    with pytest.raises(Untrusted) as refusal:
        opened(genuine, PLAN, TRUSTED, _verify)
    assert refusal.value.reason == "wrong-kind"
    relabelled = Sealed(PLAN, payload, genuine.seals)
    with pytest.raises(Untrusted) as refusal:
        opened(relabelled, PLAN, TRUSTED, _verify)
    assert refusal.value.reason == "bad-signature"


@given(st.binary(min_size=1, max_size=24), st.data())
def test_a_flipped_bit_anywhere_is_seen(payload: bytes, data: st.DataObject) -> None:
    # invariant: D1
    sealed = _sealed(PLAN, payload, KEYS[0])
    position = data.draw(st.integers(0, len(payload) * 8 - 1))
    flipped = bytearray(payload)
    flipped[position // 8] ^= 1 << position % 8
    with pytest.raises(Untrusted, match="0 genuine seals"):
        opened(Sealed(PLAN, bytes(flipped), sealed.seals), PLAN, TRUSTED, _verify)


def test_one_key_that_seals_twice_is_one_key() -> None:
    # invariant: P1
    once = _sealed(PLAN, b"payload", KEYS[0])
    twice = Sealed(PLAN, b"payload", once.seals * 2)
    with pytest.raises(Untrusted, match=r"1 genuine seals on this .*, 2 needed"):
        opened(twice, PLAN, TRUSTED, _verify, threshold=2)


def test_the_refusal_names_who_sealed_it() -> None:
    stranger = KEYS[3]
    with pytest.raises(Untrusted, match=key_id_of(stranger)):
        opened(_sealed(PLAN, b"payload", stranger), PLAN, TRUSTED, _verify)
    with pytest.raises(Untrusted, match="sealed by nobody"):
        opened(Sealed(PLAN, b"payload", ()), PLAN, TRUSTED, _verify)


@given(st.text(max_size=10), st.binary(max_size=10))
def test_the_signed_bytes_are_dsse(kind: str, payload: bytes) -> None:
    name = kind.encode()
    expected = b" ".join([b"DSSEv1", str(len(name)).encode(), name, str(len(payload)).encode(), payload])
    assert signing_input(kind, payload) == expected
