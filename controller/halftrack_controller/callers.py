"""Who is calling: read from the certificate that the TLS handshake has verified, and from nothing else.

Also the one place where our errors become gRPC's, so that a service's method is a function from request to reply.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from cryptography import x509

from halftrack_controller import ca
from halftrack_controller.store_thread import StoreThread
from halftrack_model.errors import HalftrackError, Untrusted
from halftrack_proto.channel import host_uri, operator_uri
from halftrack_proto.status import code_of, metadata_of

T = TypeVar("T")
Context = grpc.aio.ServicerContext[Any, Any]
Wire = Any  # a generated message: services hand it to the codec and never look inside

HOST = "host"
OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Caller:
    """A host or an operator of this galaxy, the key with which they have proved it, and when their certificate ends."""

    kind: str
    name: str
    key_digest: str
    ends_ms: int = 0


def caller_of(context: Context, galaxy: str) -> Caller:
    """The caller; Untrusted when the certificate names nobody of this galaxy."""
    pems = list(context.auth_context().get("x509_pem_cert", ()))
    if len(pems) != 1:
        raise Untrusted("no-certificate", "this port is for hosts and operators with a certificate of this galaxy")
    certificate = x509.load_pem_x509_certificate(pems[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    for uri in uris:
        name = uri.rpartition("/")[2]
        for kind, spelled in ((HOST, host_uri(galaxy, name)), (OPERATOR, operator_uri(galaxy, name))):
            if len(uris) == 1 and uri == spelled:
                return Caller(kind, name, ca.key_digest(certificate.public_key()), ca.ends_ms(certificate))
    raise Untrusted("wrong-galaxy", f"the certificate is for {', '.join(uris) or 'nobody'}, not for galaxy {galaxy!r}")


def checked_caller(context: Context, galaxy: str, kinds: tuple[str, ...]) -> Caller:
    """The caller, if they are one of `kinds`."""
    caller = caller_of(context, galaxy)
    if caller.kind not in kinds:
        raise Untrusted(
            "wrong-caller", f"{caller.kind} {caller.name} may not do this: it is for {' and '.join(kinds)}s"
        )
    return caller


async def current_caller(context: Context, galaxy: str, kinds: tuple[str, ...], store: StoreThread) -> Caller:
    """The caller, and for a host also that its key is the one that enrolled last: a replaced key is out at once."""
    caller = checked_caller(context, galaxy, kinds)
    if caller.kind == HOST:
        await store.do(lambda held: held.check_key(caller.name, caller.key_digest))
    return caller


async def answered(context: Context, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` makes; an error of ours ends the call with its code, words and reason."""
    try:
        return await work()
    except HalftrackError as error:
        await context.abort(code_of(error), error.message, metadata_of(error))
        raise
