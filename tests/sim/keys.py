"""Real Ed25519 keys and seals for tests, and the check as the agent's shell does it."""

from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from halftrack_agent.inbox import Trust
from halftrack_model.seals import Seal, Sealed, key_id_of, signing_input

PLAN = Ed25519PrivateKey.from_private_bytes(b"plan" * 8)
RELEASE = Ed25519PrivateKey.from_private_bytes(b"rels" * 8)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"evil" * 8)


def public(key: Ed25519PrivateKey) -> bytes:
    """The raw public key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sealed(kind: str, payload: bytes, *signers: Ed25519PrivateKey) -> Sealed:
    """`payload`, sealed by each of `signers`."""
    message = signing_input(kind, payload)
    return Sealed(kind, payload, tuple(Seal(key_id_of(public(key)), key.sign(message)) for key in signers))


@cache
def genuine(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Did the key's owner sign the message? Remembered, because a simulation asks the same thing thousands of times."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def trust_of(host: str, galaxy: str = "sim") -> Trust:
    """Whom `host` obeys."""
    plan, release = public(PLAN), public(RELEASE)
    return Trust(galaxy, host, {key_id_of(plan): plan}, {key_id_of(release): release}, 1, genuine)
