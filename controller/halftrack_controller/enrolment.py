"""Enrolment: a token becomes a certificate. The only service that strangers reach; it believes nothing but the token.

Its steps are each repeatable: the token is bound to the first key that comes with it, and that key gets its certificate as
often as it asks while the token lives. Whoever enrols anew with a fresh token takes the host's place: the old key is out.
"""

from halftrack_controller import ca
from halftrack_controller.callers import Context, Wire, answered
from halftrack_controller.galaxy import ControllerGalaxy
from halftrack_controller.service import Controller
from halftrack_controller.tokens import hash_of
from halftrack_model.errors import InvalidInput
from halftrack_model.ids import checked_name
from halftrack_proto import codec
from halftrack_proto import messages as said
from halftrack_proto.v1 import enrolment_pb2_grpc

_Z85 = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#")


class EnrolmentService(enrolment_pb2_grpc.EnrolmentServicer):
    """`Enrolment`, on its own port."""

    def __init__(self, galaxy: ControllerGalaxy, controller: Controller, session_endpoint: str) -> None:
        self._galaxy, self._controller, self._endpoint = galaxy, controller, session_endpoint

    async def Enrol(  # noqa: N802
        self, request: Wire, context: Context
    ) -> Wire:
        """A certificate and all keys to trust, for a token and a key."""
        asked = codec.enrol_request_of(request)
        return codec.enrol_reply_message(await answered(context, lambda: self._enrolled(asked)))

    async def _enrolled(self, asked: said.EnrolRequest) -> said.EnrolReply:
        host = checked_name(asked.host, "host")
        if len(asked.curve_public) != 40 or not _Z85.issuperset(asked.curve_public):
            raise InvalidInput("bad-curve-key", "the CurveZMQ key must be 40 characters of Z85")
        csr = ca.checked_csr(asked.csr_der)
        digest = ca.key_digest(csr.public_key())
        await self._controller.enrol(host, hash_of(asked.secret), digest, asked.curve_public)
        galaxy = self._galaxy
        return said.EnrolReply(
            galaxy=galaxy.name,
            host=host,
            certificate_der=ca.host_certificate(galaxy.authority, galaxy.name, host, csr),
            ca_der=ca.der(galaxy.authority.certificate),
            plan_keys=galaxy.plan_keys,
            release_keys=galaxy.release_keys,
            release_threshold=galaxy.release_threshold,
            session_endpoint=self._endpoint,
        )
