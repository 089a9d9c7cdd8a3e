"""The standard gRPC health service, asked (grpc.health.v1, https://github.com/grpc/grpc/blob/master/doc/health-checking.md). Knows nothing of probes."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

_DIRECT = (("grpc.enable_http_proxy", 0),)  # a host's proxy leads to others, not to what runs on it


async def trouble(address: str, service: str, timeout_s: float) -> str:
    """What the server at `address` says that is not SERVING, or why it says nothing; empty when it serves."""
    async with grpc.aio.insecure_channel(address, options=_DIRECT) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name).lower().replace("_", " ")
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"it says {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"
