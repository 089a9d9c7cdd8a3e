"""Who this host is and whom it obeys: the files below `STATE/identity`, written by enrolment, read at every start.

key.pem     the host's key for TLS; made here, never leaves
curve.key   the host's CurveZMQ secret (Z85, one line); made here, never leaves
cert.pem    the host's certificate
ca.pem      the galaxy's CA
trust.json  all that is public, with a sum: written last, so its presence means that enrolment is complete
kept        a copy of all but the certificate (`keepsake`)
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from halftrack_agent import files
from halftrack_agent.inbox import Trust
from halftrack_model import canonical, seals
from halftrack_model.errors import HalftrackError, HostFault, Refused

if TYPE_CHECKING:  # heavy, and `status` does without
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey


KEPT = "kept"
NONE = b"none"  # in place of a certificate that is not there: gRPC refuses what is no certificate, and aborts the process for nothing at all


@dataclass(frozen=True, slots=True)
class Membership:
    """The content of `trust.json`. Keys are raw Ed25519 public keys by key id."""

    galaxy: str
    host: str
    endpoint: str  # of the controller's session port, host:port
    curve_public: str
    plan_keys: Mapping[str, bytes]
    release_keys: Mapping[str, bytes]
    release_threshold: int
    enrolment_endpoint: str = canonical.added(
        ""
    )  # where the certificate is renewed, host:port; who enrolled earlier learns it


@dataclass(frozen=True, slots=True)
class Identity:
    """An enrolled host. The secrets stay in their files; TLS needs the bytes of its own."""

    folder: Path
    member: Membership
    key_pem: bytes = field(repr=False)
    cert_pem: bytes
    ca_pem: bytes

    @property
    def key_path(self) -> Path:
        """Where the key for TLS lies: only the agent reads it."""
        return self.folder / "key.pem"

    @property
    def kept_path(self) -> Path:
        """Where the copy of both keys lies."""
        return self.folder / KEPT

    @property
    def curve_secret_path(self) -> Path:
        """Where data-plane processes read the host's CurveZMQ secret."""
        return self.folder / "curve.key"

    def trust(self) -> Trust:
        """What the inbox verifies plans with."""
        member = self.member
        return Trust(
            member.galaxy, member.host, member.plan_keys, member.release_keys, member.release_threshold, genuine
        )


def enrolled(folder: Path) -> bool:
    """Has enrolment come to its end here? HostFault when we may not look."""
    try:
        return (folder / "trust.json").exists()
    except OSError as error:
        raise HostFault("identity-unreadable", f"{folder}: {error.strerror}; run this as the agent's user") from None


def load(folder: Path) -> Identity:
    """The identity in `folder`; Refused when there is none, HostFault when it cannot be read."""
    if not enrolled(folder):
        raise Refused(
            "not-enrolled",
            f"this host belongs to no galaxy yet ({folder} has no trust.json): get a token with `halftrack host token HOST`, "
            "then run `halftrack-agent enrol --state DIR --token TOKEN`",
        )
    member = membership(folder)
    own_key(folder / "key.pem")  # both looked at here: TLS and ZeroMQ would fail later, and not say which file it is
    if own_curve_key(folder / "curve.key") != member.curve_public:
        raise HostFault("identity-damaged", f"{folder}: curve.key is not the key that enrolled; enrol this host again")
    try:
        key, ca = ((folder / name).read_bytes() for name in ("key.pem", "ca.pem"))
    except OSError as error:
        raise HostFault("identity-damaged", f"{folder} cannot be read ({error}); enrol this host again") from error
    cert = b""
    with contextlib.suppress(OSError):  # lost, or damaged: the key gets a fresh one, as for one that is over
        cert = (folder / "cert.pem").read_bytes()
    return Identity(folder, member, key, cert or NONE, ca or NONE)


def membership(folder: Path) -> Membership:
    """Whom an enrolled host obeys; HostFault when that cannot be read."""
    try:
        member = canonical.decode(Membership, files.unsummed((folder / "trust.json").read_bytes()))
    except (OSError, HalftrackError) as error:
        raise HostFault("identity-damaged", f"{folder} cannot be read ({error}); enrol this host again") from error
    named = (*member.plan_keys.items(), *member.release_keys.items())
    if not 1 <= member.release_threshold <= len(member.release_keys) or any(
        seals.key_id_of(key) != key_id for key_id, key in named
    ):  # a key's name is its digest, so this finds any damage of one
        raise HostFault("identity-damaged", f"{folder}: trust.json is damaged; enrol this host again")
    return member


def put_membership(folder: Path, member: Membership) -> None:
    """Write it down. In the form that it has: who enrolled with a version that knew of no sum may come back to that one."""
    path, line = folder / "trust.json", canonical.encode(member)
    plain = path.exists() and b"\n" not in path.read_bytes()
    files.replace(path, line if plain else files.summed(line))


def is_authority(pem: bytes) -> bool:
    """Is this a CA's certificate, and whole?"""
    from cryptography import x509

    try:
        ca = x509.load_pem_x509_certificate(pem)
        ca.verify_directly_issued_by(ca)
    except Exception:  # noqa: BLE001 - whatever has become of the file; the library raises many kinds for bad ASN.1
        return False
    return True


def own_key(path: Path) -> "EllipticCurvePrivateKey":
    """The host's key for TLS."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey):
        raise HostFault("identity-damaged", f"{path} holds no key of ours; move it away and enrol again")
    return key


def public_der(key: object) -> bytes:
    """A public key of ours or of our galaxy as it travels (SubjectPublicKeyInfo); ValueError for another kind of key."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError("not a key on an elliptic curve")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def own_curve_key(path: Path) -> str:
    """The public half of the host's CurveZMQ key."""
    import zmq

    try:
        return zmq.curve_public(path.read_bytes()).decode("ascii")
    except (OSError, ValueError, zmq.ZMQError):
        raise HostFault("identity-damaged", f"{path} holds no key of ours; move it away and enrol again") from None


def genuine(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Is this an Ed25519 signature of `message` by that key? (`seals.Verify`)"""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
