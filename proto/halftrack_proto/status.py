"""Our errors across gRPC: the status code says who must act, the trailing metadata carries the stable reason word."""

from collections.abc import Mapping

import grpc

from halftrack_model.errors import HalftrackError, HostFault, InvalidInput, Refused, Untrusted

REASON_KEY = "halftrack-reason"
UNREACHABLE = "unreachable"

_CODES: Mapping[type[HalftrackError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    Untrusted: grpc.StatusCode.PERMISSION_DENIED,
    Refused: grpc.StatusCode.FAILED_PRECONDITION,
    HostFault: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
_KINDS = {code: kind for kind, code in _CODES.items()}


def code_of(error: HalftrackError) -> grpc.StatusCode:
    """The status code under which `error` travels."""
    return _CODES.get(type(error), grpc.StatusCode.INTERNAL)


def metadata_of(error: HalftrackError) -> tuple[tuple[str, str], ...]:
    """The trailing metadata that goes with it."""
    return ((REASON_KEY, error.reason),)


def error_of(error: grpc.RpcError) -> HalftrackError:
    """The error that the other side raised; a HostFault `unreachable` when there was no other side.

    Whatever gRPC raises from a call, blocking or not, also is that call: its status is on it.
    """
    assert isinstance(error, (grpc.Call, grpc.aio.AioRpcError)), "raised by a call"  # noqa: S101
    code, details = error.code(), error.details() or ""
    trailing = error.trailing_metadata() or ()
    reason = next((str(value) for key, value in trailing if key == REASON_KEY), "")
    if reason:
        return _KINDS.get(code, HalftrackError)(reason, details)
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
        return HostFault(UNREACHABLE, f"no answer from the other side ({details or code.name})")
    return _KINDS.get(code, HalftrackError)(code.name.lower().replace("_", "-"), details)
