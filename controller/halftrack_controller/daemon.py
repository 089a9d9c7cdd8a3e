"""`halftrack-controller serve`: puts the parts together, listens, and leaves in order. Holds no logic of its own.

Two ports: one with mutual TLS for hosts and operators, one that only the server authenticates, for enrolment.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from halftrack_controller import ca, galaxy
from halftrack_controller.artifacts import ArtifactFiles, ArtifactService
from halftrack_controller.enrolment import EnrolmentService
from halftrack_controller.galaxy import ControllerGalaxy, endpoint_text
from halftrack_controller.health import add_health
from halftrack_controller.news import News
from halftrack_controller.operator_service import OperatorService
from halftrack_controller.parcels import Parcels
from halftrack_controller.service import Controller
from halftrack_controller.session import HEARTBEAT_MS, Sessions
from halftrack_controller.showing import ShowingService
from halftrack_controller.store_thread import StoreThread
from halftrack_controller.terms import Terms
from halftrack_controller.watching import Looks
from halftrack_model.errors import HalftrackError, HostFault
from halftrack_proto.channel import COMMON_OPTIONS, ENROLMENT_PORT_SERVICES, SESSION_PORT_SERVICES, Options
from halftrack_proto.v1 import artifacts_pb2_grpc, enrolment_pb2_grpc, operator_pb2_grpc, session_pb2_grpc
from halftrack_proto.watchdog import Watchdog

log = logging.getLogger("halftrack.controller")

# gRPC's default lets two processes share a port, and half the hosts would reach another galaxy's controller.
SERVER_OPTIONS: Options = (*COMMON_OPTIONS, ("grpc.so_reuseport", 0))
GRACE_S = 2.0  # for calls under way when the daemon is asked to stop; agents have been told to come back by then
READY = "ready"
MAX_PORT = 65535  # gRPC takes a larger number modulo 65536, and would listen where nobody looks


@dataclass(frozen=True, slots=True)
class Listening:
    """Where to listen. Port 0 lets the system choose (tests)."""

    address: str
    session_port: int
    enrolment_port: int


class Running:
    """A controller that runs: started by `start`, ended by `stop`."""

    def __init__(
        self,
        controller: Controller,
        sessions: Sessions,
        store: StoreThread,
        servers: tuple[grpc.aio.Server, grpc.aio.Server],
        ports: tuple[int, int],
    ) -> None:
        self.controller, self.sessions, self.store, self.ports = controller, sessions, store, ports
        self._servers = servers
        self._loop = asyncio.create_task(controller.run())

    async def stop(self) -> None:
        """Send agents away politely, finish calls, stop deciding, close the store: in this order."""
        self.sessions.close()
        await asyncio.gather(*(server.stop(GRACE_S) for server in self._servers))
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        await self.store.close()


async def start(
    state: Path,
    listening: Listening,
    heartbeat_ms: int = HEARTBEAT_MS,
    turned: Callable[[], None] = lambda: None,
) -> Running:
    """Open the state, listen on both ports, begin to decide."""
    mine = galaxy.load(state)
    store = await StoreThread.open(state, mine.name)
    try:
        return await _start(mine, store, state, listening, heartbeat_ms, turned)
    except BaseException:
        await store.close()
        raise


async def _start(
    mine: ControllerGalaxy,
    store: StoreThread,
    state: Path,
    listening: Listening,
    heartbeat_ms: int,
    turned: Callable[[], None],
) -> Running:
    files = await asyncio.to_thread(ArtifactFiles, state / "artifacts")
    parcels = await asyncio.to_thread(Parcels, state / "artifacts" / "parcels")
    sessions, news = Sessions(heartbeat_ms), News()
    controller = Controller(mine, store, sessions, news, turned)
    operators, enrolments = grpc.aio.server(options=SERVER_OPTIONS), grpc.aio.server(options=SERVER_OPTIONS)
    ports = (
        _bound(operators, listening.address, listening.session_port, _credentials(mine, state, mutual=True)),
        _bound(enrolments, listening.address, listening.enrolment_port, _credentials(mine, state, mutual=False)),
    )
    session_endpoint = endpoint_text(mine.addresses[0], ports[0])
    enrolment = (endpoint_text(mine.addresses[0], ports[1]), ca.der(mine.authority.certificate))
    looks, terms = Looks(sessions), Terms(mine.host_certificate_s, enrolment[0])
    speaking = ShowingService(mine.name, sessions, store, news, terms, looks)
    session_pb2_grpc.add_SessionServicer_to_server(speaking, operators)
    artifacts_pb2_grpc.add_ArtifactsServicer_to_server(ArtifactService(mine.name, files, parcels, store), operators)
    operator = OperatorService(mine, controller, sessions, news, enrolment, looks)
    operator_pb2_grpc.add_OperatorServicer_to_server(operator, operators)
    enrolment_service = EnrolmentService(mine, controller, session_endpoint, enrolment[0])
    enrolment_pb2_grpc.add_EnrolmentServicer_to_server(enrolment_service, enrolments)
    await add_health(operators, SESSION_PORT_SERVICES)
    await add_health(enrolments, ENROLMENT_PORT_SERVICES)
    reflection.enable_server_reflection([*SESSION_PORT_SERVICES, reflection.SERVICE_NAME], operators)
    for server in (operators, enrolments):
        await server.start()
    return Running(controller, sessions, store, (operators, enrolments), ports)


def _credentials(mine: ControllerGalaxy, state: Path, *, mutual: bool) -> grpc.ServerCredentials:
    """Of a server whose certificate may be replaced while it runs: the next handshake has the new one, sessions go on."""
    roots = mine.ca_pem if mutual else None
    path, first = state / "server.pem", mine.server.certificate_pem
    seen = [first]

    def changed() -> grpc.ServerCertificateConfiguration | None:
        with contextlib.suppress(OSError):  # the one that we have goes on serving
            fresh = path.read_bytes()
            if fresh != seen[0]:
                seen[0] = fresh
                return _shown(fresh, mine.server.key_pem, roots)
        return None

    return grpc.dynamic_ssl_server_credentials(
        _shown(first, mine.server.key_pem, roots),
        changed,  # type: ignore[arg-type]  # None is how it says "as before"; the stubs do not know
        require_client_authentication=mutual,
    )


def _shown(certificate: bytes, key: bytes, roots: bytes | None) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=roots)


def _bound(server: grpc.aio.Server, address: str, port: int, credentials: grpc.ServerCredentials) -> int:
    try:
        bound = server.add_secure_port(endpoint_text(address, port), credentials)
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise HostFault(
            "cannot-listen", f"cannot listen on {endpoint_text(address, port)}: is the address ours, and the port free?"
        )
    return bound


async def _serve(state: Path, listening: Listening) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    watchdog = Watchdog()
    running = await start(state, listening, turned=watchdog.beat)
    watchdog.ready()
    print(f"{READY} session={running.ports[0]} enrolment={running.ports[1]}", flush=True)
    log.info("listening on %s, session port %d, enrolment port %d", listening.address, *running.ports)
    await stopping.wait()
    log.info("stopping")
    watchdog.close()
    await running.stop()


def serve(state: Path, address: str, session_port: int | None = None, enrolment_port: int | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Ports default to the galaxy's."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        mine = galaxy.load(state)
        ports = (
            mine.session_port if session_port is None else session_port,
            mine.enrolment_port if enrolment_port is None else enrolment_port,
        )
        asyncio.run(_serve(state, Listening(address, *ports)))
    except HalftrackError as error:
        print(f"halftrack-controller: {error.reason}: {error.message}", file=sys.stderr)
        return 1
    return 0


def _port(text: str) -> int:
    """A port from a command line; 0 lets the system choose."""
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number from 0 to {MAX_PORT}")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """The command `halftrack-controller`. Under systemd it needs no argument: the unit's state directory is the galaxy's."""
    unit_state = os.environ.get("STATE_DIRECTORY", "")
    parser = argparse.ArgumentParser(
        prog="halftrack-controller",
        description="The controller of a Halftrack galaxy.",
        epilog="Example:\n  halftrack-controller serve --state ./north/controller --listen 10.0.0.1\n\n"
        "Exit status: 0 stopped in order; 1 an error, which says what to do; 2 a wrong command line;\n"
        "3 the disk did not keep what was written: start it again, and check the disk.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command", nargs="?", default="serve", choices=["serve"], help="run until SIGTERM (the default)"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(unit_state) if unit_state else None,
        required=not unit_state,
        help="the controller/ folder that `halftrack galaxy init` made; default: $STATE_DIRECTORY, which systemd sets",
    )
    parser.add_argument("--listen", default="0.0.0.0", metavar="IP", help="address to listen on (default: all)")  # noqa: S104
    parser.add_argument(
        "--session-port", type=_port, metavar="PORT", help=f"default: the galaxy's ({galaxy.SESSION_PORT})"
    )
    parser.add_argument(
        "--enrolment-port", type=_port, metavar="PORT", help=f"default: the galaxy's ({galaxy.ENROLMENT_PORT})"
    )
    given = parser.parse_args(arguments)
    return serve(given.state, given.listen, given.session_port, given.enrolment_port)


if __name__ == "__main__":
    sys.exit(main())
