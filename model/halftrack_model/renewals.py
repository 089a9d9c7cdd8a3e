"""What a host signs to renew its certificate, so that the signature is of no use anywhere else. Pure.

The nonce is the controller's, made for that host, and good for a minute: that binds it to one time. The galaxy's name and the digest of
its CA's key bind it to one galaxy, also among two of the same name; the host's name to one host; the kind, as with seals, to
this one purpose. A server that could pass it on to the real one has a certificate of the galaxy's CA for itself: it is the galaxy.
"""

from dataclasses import dataclass

from halftrack_model import canonical
from halftrack_model.seals import signing_input

RENEWAL = "halftrack.v1.renewal"
NONCE_BYTES_MAX = 128


@dataclass(frozen=True, slots=True)
class Renewal:
    """A host's wish for a fresh certificate."""

    galaxy: str
    host: str
    ca_key_digest: str  # content address of the CA's public key (SubjectPublicKeyInfo, DER)
    nonce: bytes


def statement(renewal: Renewal) -> bytes:
    """The bytes that the host's enrolment key signs, and the controller verifies."""
    return signing_input(RENEWAL, canonical.encode(renewal))
