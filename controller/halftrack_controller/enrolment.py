"""Enrolment: a token becomes a certificate, and a certificate's key a fresh one. The only service that strangers reach.

Its steps are each repeatable: the token is bound to the first key that comes with it, and that key gets its certificate as
often as it asks while the token lives. Whoever enrols anew with a fresh token takes the host's place: the old key is out, and is told
so when it wants to renew. Renewal needs no token and no certificate (`renewal`).
"""

import os
import time

from halftrack_controller import ca
from halftrack_controller.callers import Context, Wire, answered
from halftrack_controller.galaxy import ControllerGalaxy
from halftrack_controller.renewal import RANDOM_BYTES, Challenges, check_proof, key_of
from halftrack_controller.service import Controller, wall_ms
from halftrack_controller.tokens import hash_of
from halftrack_model.errors import InvalidInput
from halftrack_model.ids import checked_name
from halftrack_proto import codec, renewal_codec
from halftrack_proto import messages as said
from halftrack_proto.renewal import RenewReply, RenewRequest
from halftrack_proto.v1 import enrolment_pb2_grpc

_Z85 = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServicer):
    """`Enrolment`, on its own port."""

    def __init__(self, galaxy: ControllerGalaxy, controller: Controller, session: str, enrolment: str) -> None:
        self._galaxy, self._controller = galaxy, controller
        self._session_endpoint, self._enrolment_endpoint = session, enrolment
        self._challenges = Challenges(os.urandom(32))

    async def Enrol(  # noqa: N802
        self, request: Wire, context: Context
    ) -> Wire:
        """A certificate and all keys to trust, for a token and a key."""
        asked = codec.enrol_request_of(request)
        return codec.enrol_reply_message(await answered(context, lambda: self._enrolled(asked)))

    async def Challenge(self, request: Wire, context: Context) -> Wire:  # noqa: N802
        """Something for a host to sign."""

        async def made() -> bytes:
            host = checked_name(renewal_codec.challenge_request_of(request), "host")
            return self._challenges.made(host, os.urandom(RANDOM_BYTES), _monotonic_ms())

        return renewal_codec.challenge_reply_message(await answered(context, made))

    async def Renew(self, request: Wire, context: Context) -> Wire:  # noqa: N802
        """A fresh certificate for a key that has enrolled."""
        asked = renewal_codec.renew_request_of(request)
        return renewal_codec.renew_reply_message(await answered(context, lambda: self._renewed(asked)))

    async def _enrolled(self, asked: said.EnrolRequest) -> said.EnrolReply:
        host = checked_name(asked.host, "host")
        if len(asked.curve_public) != 40 or not _Z85.issuperset(asked.curve_public):
            raise InvalidInput("bad-curve-key", "the CurveZMQ key must be 40 characters of Z85")
        key = ca.key_of_request(asked.csr_der)
        until_ms = self._until_ms()
        await self._controller.enrol(host, hash_of(asked.secret), ca.key_digest(key), asked.curve_public, until_ms)
        galaxy = self._galaxy
        return said.EnrolReply(
            galaxy=galaxy.name,
            host=host,
            certificate_der=ca.host_certificate(galaxy.authority, galaxy.name, host, key, until_ms),
            ca_der=ca.der(galaxy.authority.certificate),
            plan_keys=galaxy.plan_keys,
            release_keys=galaxy.release_keys,
            release_threshold=galaxy.release_threshold,
            session_endpoint=self._session_endpoint,
        )

    async def _renewed(self, asked: RenewRequest) -> RenewReply:
        host, galaxy = checked_name(asked.host, "host"), self._galaxy
        self._challenges.check(host, asked.nonce, _monotonic_ms())
        key = key_of(asked)
        check_proof(asked, key, galaxy.name, galaxy.authority.key.public_key())
        until_ms = self._until_ms()
        await self._controller.renew(host, ca.key_digest(key), until_ms)
        return RenewReply(
            certificate_der=ca.host_certificate(galaxy.authority, galaxy.name, host, key, until_ms),
            ca_der=ca.der(galaxy.authority.certificate),
            certificate_life_s=galaxy.host_certificate_s,
            enrolment_endpoint=self._enrolment_endpoint,
            now_ms=wall_ms(),
        )

    def _until_ms(self) -> int:
        """The end of a certificate that is made now."""
        return wall_ms() + self._galaxy.host_certificate_s * 1000


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
