"""Renewing this host's certificate: asks when `renewal` says so, on the port that only the server authenticates (C2).

Owns the certificate in use: what it is in `cert.pem`, what sessions that begin from now on show, and where it is renewed. A session under
way is not disturbed by a fresh certificate. What cannot be written is used all the same, and asked for again by the next agent.
"""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc

from halftrack_agent import clock, files, identity, renewal
from halftrack_agent.identity import Identity, own_key, public_der
from halftrack_model.errors import HalftrackError, HostFault, Untrusted
from halftrack_model.ids import digest_of
from halftrack_model.renewals import NONCE_BYTES_MAX, Renewal, statement
from halftrack_proto import renewal_codec, status
from halftrack_proto.channel import CLIENT_OPTIONS
from halftrack_proto.messages import Welcome
from halftrack_proto.renewal import RenewReply, RenewRequest
from halftrack_proto.v1 import enrolment_pb2_grpc

CALL_S = 30.0  # with its own connection, beside a session: a line of 9,600 baud takes ten seconds for as much
LOOK_S = 60.0  # the event loop's clock stands still while the machine sleeps, the boot-time clock does not

log = logging.getLogger("halftrack.agent.renewal")


class Renewing:
    """The identity of this host as it stands; `run` keeps its certificate fresh, for ever. `must` does a write that must succeed on a full disk."""

    def __init__(
        self, identity: Identity, must: Callable[[Callable[[], object]], object] = lambda work: work()
    ) -> None:
        self._identity, self._must = identity, must
        self._random = random.Random()  # noqa: S311 - jitter, not a secret
        self._state = renewal.begun(self._random.randint)
        self._stirred = asyncio.Event()
        self._refused = self._unwritten = ""

    @property
    def identity(self) -> Identity:
        """What the next session shows."""
        return self._identity

    @property
    def problems(self) -> tuple[str, ...]:
        """What stands in the way of a fresh certificate, other than the link."""
        return tuple(filter(None, (self._refused, self._unwritten)))

    def welcomed(self, said: Welcome) -> None:
        """A session has begun."""
        self._refused = ""
        if said.enrolment_endpoint:
            self._learn(said.enrolment_endpoint)
        left_ms, life_ms = said.certificate_left_s * 1000, said.certificate_life_s * 1000
        self._state = renewal.welcomed(self._state, left_ms, life_ms, clock.boot_ms())
        self._stirred.set()

    def unanswered(self) -> None:
        """A session came to nothing."""
        self._state = renewal.unanswered(self._state)
        self._stirred.set()

    async def run(self) -> None:
        """Wait until it is time, ask, and again."""
        while True:
            self._stirred.clear()
            due_ms, now_ms = renewal.due_ms(self._state), clock.boot_ms()
            if due_ms is not None and due_ms <= now_ms and self._identity.member.enrolment_endpoint:
                await self._renew()
                continue
            wait_s = LOOK_S if due_ms is None else min(LOOK_S, max(0, due_ms - now_ms) / 1000 + 0.001)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s if self._identity.member.enrolment_endpoint else LOOK_S):
                    await self._stirred.wait()

    async def _renew(self) -> None:
        try:
            reply = await asked(self._identity)
        except HalftrackError as error:
            self._state = renewal.failed(self._state, clock.boot_ms(), self._random.randint)
            if error.reason == status.UNREACHABLE:
                log.info("the certificate is not renewed now: %s", error.message)
                return
            text = f"this host's certificate is not renewed: {error.message}"
            if text != self._refused:
                log.warning("%s (%s)", text, error.reason)
            self._refused = text
            return
        self._refused = ""
        self._take(reply)
        life_ms = reply.certificate_life_s * 1000
        self._state = renewal.renewed(self._state, life_ms, clock.boot_ms(), self._random.randint)
        log.info("the certificate is renewed, for %d h", life_ms // 3_600_000)

    def _take(self, reply: RenewReply) -> None:
        """Use it, and keep it. The CA's certificate is kept, too, when it is another one for the same key."""
        identity = self._identity
        cert_pem, ca_pem = _pem(reply.certificate_der), _pem(reply.ca_der)
        self._identity = replace(identity, cert_pem=cert_pem, ca_pem=ca_pem)
        self._write("cert.pem", cert_pem)
        if ca_pem != identity.ca_pem:
            self._write("ca.pem", ca_pem)
        if reply.enrolment_endpoint:
            self._learn(reply.enrolment_endpoint)

    def _learn(self, endpoint: str) -> None:
        member = self._identity.member
        if endpoint != member.enrolment_endpoint:
            member = replace(member, enrolment_endpoint=endpoint)
            self._identity = replace(self._identity, member=member)
            self._put(lambda: identity.put_membership(self._identity.folder, member))

    def _write(self, name: str, data: bytes) -> None:
        self._put(lambda: files.replace(self._identity.folder / name, data))

    def _put(self, work: Callable[[], object]) -> None:
        try:
            self._must(work)
            self._unwritten = ""
        except HostFault as error:
            self._unwritten = f"the renewed identity is not on the disk: {error.message}"
            log.warning("%s", self._unwritten)


async def asked(identity: Identity) -> RenewReply:
    """A fresh certificate, checked; Untrusted when the controller refuses, or what comes is not what it should be."""
    member, ca_digest = identity.member, _ca_digest(identity)
    credentials = grpc.ssl_channel_credentials(root_certificates=identity.ca_pem)
    async with grpc.aio.secure_channel(member.enrolment_endpoint, credentials, options=CLIENT_OPTIONS) as channel:
        stub: Any = enrolment_pb2_grpc.EnrolmentStub(channel)
        try:
            wish = renewal_codec.challenge_request_message(member.host)
            nonce = renewal_codec.challenge_reply_of(await stub.Challenge(wish, timeout=CALL_S))
            proof = renewal_codec.renew_request_message(_proof(identity, ca_digest, nonce))
            reply = renewal_codec.renew_reply_of(await stub.Renew(proof, timeout=CALL_S))
        except grpc.aio.AioRpcError as error:
            raise status.error_of(error) from None
    _check(reply, identity)
    return reply


def _ca_digest(identity: Identity) -> str:
    """The galaxy's CA by its key. Looked at before anything is asked: TLS would only say that nobody answers."""
    from cryptography import x509  # heavy, and seldom needed

    try:
        return digest_of(public_der(x509.load_pem_x509_certificate(identity.ca_pem).public_key()))
    except Exception:  # noqa: BLE001 - whatever has become of the file; the library raises many kinds for bad ASN.1
        text = f"{identity.folder / 'ca.pem'} holds no certificate of ours; enrol this host again"
        raise HostFault("identity-damaged", text) from None


def _proof(identity: Identity, ca_digest: str, nonce: bytes) -> RenewRequest:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if len(nonce) > NONCE_BYTES_MAX:
        raise Untrusted("wrong-answer", f"a challenge of {len(nonce)} bytes; at most {NONCE_BYTES_MAX} are signed")
    member, key = identity.member, own_key(identity.key_path)
    message = statement(Renewal(member.galaxy, member.host, ca_digest, nonce))
    return RenewRequest(member.host, nonce, public_der(key.public_key()), key.sign(message, ec.ECDSA(hashes.SHA256())))


def _check(reply: RenewReply, identity: Identity) -> None:
    """It came from who holds the galaxy's key; that it is for our key, and the CA the same, is checked before it is kept."""
    from cryptography import x509

    try:
        certificate, ca = (x509.load_der_x509_certificate(der) for der in (reply.certificate_der, reply.ca_der))
        certificate.verify_directly_issued_by(ca)
        ca.verify_directly_issued_by(ca)
        known = public_der(x509.load_pem_x509_certificate(identity.ca_pem).public_key())
        ours = public_der(own_key(identity.key_path).public_key())
        right = (public_der(certificate.public_key()), public_der(ca.public_key())) == (ours, known)
    except Exception:  # noqa: BLE001 - foreign bytes, as above
        right = False
    if not right:
        raise Untrusted("wrong-answer", "the certificate that came is not this galaxy's, or not for this host's key")


def _pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode("ascii")
