"""Enrolment: how a host gets a name in a galaxy, with keys that it made itself.

Owns the order of things: keys first and on the disk, then the request, then what came back, `trust.json` last. An enrolment that is
interrupted anywhere is simply run again: the same key asks with the same token. The token's CA is the only root that is believed.
"""

import ssl
from pathlib import Path

import grpc
import zmq
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from halftrack_agent import files, identity
from halftrack_agent.identity import Membership
from halftrack_model.errors import HostFault, Refused, Untrusted
from halftrack_proto import codec, status
from halftrack_proto.channel import CLIENT_OPTIONS
from halftrack_proto.messages import EnrolReply, EnrolRequest, Token
from halftrack_proto.v1 import enrolment_pb2_grpc

TIMEOUT_S = 20.0


async def enrol(folder: Path, token: Token) -> Membership:
    """Make this host a member of the token's galaxy.

    One that already is asks all the same: its controller may have lost it, or have let another key take its place. Without a
    link, what it is it stays.
    """
    files.sweep(files.make_folder(folder))
    known = _known(folder, token)
    key, curve_public = _own_key(folder / "key.pem"), _own_curve_key(folder / "curve.key")
    try:
        reply = await _asked(token, EnrolRequest(token.secret, token.host, _request_for(key, token.host), curve_public))
    except HostFault as error:
        if known is None or error.reason != status.UNREACHABLE:
            raise
        return known
    _check(reply, token, key)
    member = Membership(
        reply.galaxy,
        reply.host,
        reply.session_endpoint,
        curve_public,
        reply.plan_keys,
        reply.release_keys,
        reply.release_threshold,
        token.endpoint,
    )
    files.replace(folder / "cert.pem", _pem(reply.certificate_der))
    files.replace(folder / "ca.pem", _pem(reply.ca_der))
    identity.put_membership(folder, member)
    return member


def _known(folder: Path, token: Token) -> Membership | None:
    """Whom this host belongs to; Refused when the token is for somebody else. What cannot be read binds nobody."""
    if not identity.enrolled(folder):
        return None
    try:
        member = identity.membership(folder)
    except HostFault:
        return None
    if (member.galaxy, member.host) != (token.galaxy, token.host):
        raise Refused(
            "already-enrolled",
            f"this host is {member.host} of galaxy {member.galaxy}; the token is for {token.host} of {token.galaxy}. Use another "
            f"state folder, or remove {folder} to give up the old identity",
        )
    return member


def _own_key(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        fresh = ec.generate_private_key(ec.SECP256R1())
        files.replace(
            path,
            fresh.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
    return identity.own_key(path)


def _own_curve_key(path: Path) -> str:
    """Make the secret when there is none; returns the public key that belongs to it."""
    if not path.exists():
        _, secret = zmq.curve_keypair()
        files.replace(path, secret)
    return identity.own_curve_key(path)


def _request_for(key: ec.EllipticCurvePrivateKey, host: str) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


async def _asked(token: Token, request: EnrolRequest) -> EnrolReply:
    credentials = grpc.ssl_channel_credentials(root_certificates=_pem(token.ca_der))
    async with grpc.aio.secure_channel(token.endpoint, credentials, options=CLIENT_OPTIONS) as channel:
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        try:
            message = await stub.Enrol(codec.enrol_request_message(request), timeout=TIMEOUT_S, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise status.error_of(error) from None
    return codec.enrol_reply_of(message)


def _check(reply: EnrolReply, token: Token, key: ec.EllipticCurvePrivateKey) -> None:
    """The answer came from who holds the CA's key; that it fits what was asked is checked all the same, before it is kept."""
    if (reply.galaxy, reply.host) != (token.galaxy, token.host):
        raise Untrusted(
            "wrong-answer", f"asked as {token.host} of {token.galaxy}, answered for {reply.host} of {reply.galaxy}"
        )
    certificate, ca = (x509.load_der_x509_certificate(der) for der in (reply.certificate_der, reply.ca_der))
    if certificate.public_key() != key.public_key():
        raise Untrusted("wrong-answer", "the certificate that came back is for another key")
    if (
        ca.public_key() != x509.load_der_x509_certificate(token.ca_der).public_key()
    ):  # it may have been made anew meanwhile
        raise Untrusted("wrong-answer", f"the token is of another galaxy {token.galaxy}: its CA has another key")
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise Untrusted("wrong-answer", f"the certificate that came back is not the galaxy's ({error})") from None
    if not reply.plan_keys or not reply.release_keys or reply.release_threshold < 1:
        raise Untrusted("wrong-answer", "the answer names no keys that may seal plans and releases")


def _pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode("ascii")
