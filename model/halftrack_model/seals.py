"""Seals: signatures over canonical bytes, and the rules by which a sealed document becomes a trusted payload.

What is signed is the pre-authentication encoding of DSSE (https://github.com/secure-systems-lab/dsse): kind and payload, each
with its length, so that a seal made for one kind of document can never be shown as another's. The arithmetic of Ed25519 is
not here (this package is standard library only): callers pass a `Verify`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from halftrack_model.errors import Untrusted
from halftrack_model.ids import digest_of

PLAN = "halftrack.v1.plan"
RELEASE = "halftrack.v1.release"

Verify = Callable[[bytes, bytes, bytes], bool]
"""`(public_key, signature, message) -> is it genuine`, never raising for bad input."""


@dataclass(frozen=True, slots=True)
class Seal:
    """One signature and the key that claims to have made it."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """A payload with its seals. Nobody may parse `payload` before `opened` has returned it."""

    kind: str
    payload: bytes
    seals: tuple[Seal, ...]


def key_id_of(public_key: bytes) -> str:
    """The name of a public key: the first 16 hexadecimal digits of its SHA-256."""
    return digest_of(public_key).removeprefix("sha256:")[:16]


def signing_input(kind: str, payload: bytes) -> bytes:
    """The bytes that a seal of `kind` signs."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(payload), payload)


def opened(sealed: Sealed, kind: str, keys: Mapping[str, bytes], verify: Verify, threshold: int = 1) -> bytes:
    """The payload, once at least `threshold` different keys of `keys` (key id -> public key) have sealed it as `kind`.

    Raises Untrusted: `wrong-kind`, `unknown-key` when no seal names a key we trust, `bad-signature` when too few are genuine.
    """
    if sealed.kind != kind:
        raise Untrusted("wrong-kind", f"expected a {kind}, got a {sealed.kind!r}")
    claimed = {seal.key_id: seal for seal in sealed.seals if seal.key_id in keys}
    if not claimed:
        names = ", ".join(seal.key_id for seal in sealed.seals) or "nobody"
        raise Untrusted("unknown-key", f"this {kind} is sealed by {names}, whom this galaxy does not trust with it")
    message = signing_input(kind, sealed.payload)
    genuine = {key_id for key_id, seal in claimed.items() if verify(keys[key_id], seal.signature, message)}
    if len(genuine) < max(1, threshold):
        raise Untrusted("bad-signature", f"{len(genuine)} genuine seals on this {kind}, {threshold} needed")
    return sealed.payload
