"""The standard gRPC health service, for load balancers and probes: serving from the start until the port closes."""

from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_health.v1._async import HealthServicer  # type: ignore[import-untyped]


async def add_health(server: grpc.aio.Server, names: Sequence[str]) -> None:
    """Say that the services of these names, and the server as a whole, serve."""
    servicer = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", *names):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
