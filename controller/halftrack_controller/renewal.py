"""Renewal: a host whose key has enrolled gets a fresh certificate for it, whatever has become of the one before (C2).

The port that only the server authenticates takes it, since an expired certificate opens no other. Instead of a certificate the host
signs a challenge (`halftrack_model.renewals`), and the store says whether its key is the one that speaks for the host. Nothing is
remembered of a challenge: it carries its own time and our mark, so that asking for many costs us nothing.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from halftrack_controller import ca
from halftrack_model.errors import InvalidInput, Untrusted
from halftrack_model.renewals import NONCE_BYTES_MAX, Renewal, statement
from halftrack_proto.renewal import RenewRequest

CHALLENGE_MS = 60_000  # a signature over a link that takes a minute for a few hundred bytes is no use anyway
KEY_BYTES_MAX = 256  # a P-256 key takes 91, its signature at most 72
RANDOM_BYTES = 16
_TIME_BYTES, _MARK_BYTES = 8, 32
_NONCE_BYTES = RANDOM_BYTES + _TIME_BYTES + _MARK_BYTES
assert _NONCE_BYTES <= NONCE_BYTES_MAX  # noqa: S101 - relation of constants


@dataclass(frozen=True, slots=True)
class Challenges:
    """Makes challenges and knows its own again. `secret` is of this process: what an earlier one gave out counts no more."""

    secret: bytes = field(repr=False)

    def made(self, host: str, random: bytes, now_ms: int) -> bytes:
        """A challenge for `host`, with `RANDOM_BYTES` of randomness, at a time of our monotonic clock."""
        begin = random + now_ms.to_bytes(_TIME_BYTES, "big")
        return begin + self._mark(host, begin)

    def check(self, host: str, nonce: bytes, now_ms: int) -> None:
        """Untrusted unless the challenge is ours, for this host, and not too old."""
        begin, mark = nonce[:-_MARK_BYTES], nonce[-_MARK_BYTES:]
        ours = len(nonce) == _NONCE_BYTES and hmac.compare_digest(mark, self._mark(host, begin))
        if not ours or not 0 <= now_ms - int.from_bytes(begin[RANDOM_BYTES:], "big") <= CHALLENGE_MS:
            raise Untrusted("bad-challenge", f"this is no challenge that {host} has got here lately: ask for another")

    def _mark(self, host: str, begin: bytes) -> bytes:
        return hmac.digest(self.secret, begin + host.encode(), hashlib.sha256)


def key_of(asked: RenewRequest) -> ec.EllipticCurvePublicKey:
    """The key that wants a certificate; nothing is proved yet."""
    if max(len(asked.public_key_der), len(asked.signature)) > KEY_BYTES_MAX:
        raise InvalidInput("bad-key", f"a key and a signature of at most {KEY_BYTES_MAX} bytes are read")
    try:
        key = serialization.load_der_public_key(asked.public_key_der)
    except Exception as error:  # noqa: BLE001 - foreign bytes; the library raises many kinds for bad ASN.1
        raise InvalidInput("bad-key", f"not a public key: {type(error).__name__}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInput("bad-key", "a host's key is on an elliptic curve (P-256)")
    return key


def check_proof(asked: RenewRequest, key: ec.EllipticCurvePublicKey, galaxy: str, ca_key: object) -> None:
    """Untrusted unless whoever asks holds the key, and means this galaxy, this host and this challenge."""
    message = statement(Renewal(galaxy, asked.host, ca.key_digest(ca_key), asked.nonce))
    try:
        key.verify(asked.signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Untrusted("bad-proof", f"the challenge is not signed by the key that is shown for {asked.host}") from None
