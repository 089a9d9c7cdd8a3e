"""What both ends of a connection must agree on: names in certificates, message limits, channel options. No I/O."""

from halftrack_model.limits import MAX_PLAN_BYTES

SERVER_NAME = "halftrack-controller"
"""The DNS name in every controller's certificate. Clients verify this instead of the address that they dialled, because
hosts reach one controller under many addresses, and a galaxy's CA signs no other certificate that may serve."""

CHUNK_BYTES = 256 << 10  # of an artifact: large against gRPC's cost per message, small against the message limit
MAX_MESSAGE_BYTES = 2 * MAX_PLAN_BYTES  # a plan as JSON with its seals and its envelope fits with room
assert CHUNK_BYTES < MAX_MESSAGE_BYTES  # noqa: S101 - relation of constants

SESSION_PORT_SERVICES = ("halftrack.v1.Session", "halftrack.v1.Artifacts", "halftrack.v1.Operator")
ENROLMENT_PORT_SERVICES = ("halftrack.v1.Enrolment",)

Options = tuple[tuple[str, str | int], ...]

# Liveness is the session's own heartbeats; gRPC's bandwidth probing would be a second, hidden pulse on thin links.
COMMON_OPTIONS: Options = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
# Retrying is the caller's decision, with its own jitter; a channel must not serve stale failures for minutes either.
CLIENT_OPTIONS: Options = (
    *COMMON_OPTIONS,
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),  # two channels with different certificates never share a connection
)


def host_uri(galaxy: str, host: str) -> str:
    """How a host's certificate names it (URI in the subject's alternative names)."""
    return f"halftrack://{galaxy}/host/{host}"


def operator_uri(galaxy: str, operator: str) -> str:
    """How an operator's certificate names them."""
    return f"halftrack://{galaxy}/operator/{operator}"
