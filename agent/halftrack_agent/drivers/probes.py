"""One look of a probe at a running instance: connect, ask for a page, ask the gRPC health service, or run a program beside it.

Each takes as long as its probe allows, reads a bounded answer, and says in words without numbers that change what was wrong. `Blind` is raised when this
host cannot look at all: that is nobody's ill health (O1).
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from halftrack_agent.drivers import grpc_health, inside
from halftrack_model.params import Param
from halftrack_model.probes import Probe, ProbeKind, port_of

MAX_HEAD_BYTES = 16 << 10  # of an HTTP answer: its first line is all that counts
MAX_SAID_BYTES = 4096  # of what a program prints, its end
MAX_TEXT = 200
BLOCK = 65536
_LOOPBACK = "127.0.0.1"


class Blind(Exception):  # noqa: N818 - the host's state, not an error of the instance
    """This host cannot look, and why."""


@dataclass(frozen=True, slots=True)
class Where:
    """The instance: a process in its namespaces, and what a program beside it is given."""

    pid: int
    relay: Path  # where a socket may stand for what only speaks to addresses of its own network
    groups: tuple[str, ...] = ()  # these three: of an `exec` probe, filled in
    argv: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


async def looked(probe: Probe, params: Mapping[str, Param], where: Where) -> str:
    """What was wrong; empty when nothing was. Blind when nobody can tell."""
    try:
        async with asyncio.timeout(probe.timeout_ms / 1000):
            match probe.kind:
                case ProbeKind.TCP:
                    (await _connected(where.pid, port_of(probe, params))).close()
                    return ""
                case ProbeKind.HTTP:
                    return await _page(probe, port_of(probe, params), where)
                case ProbeKind.GRPC:
                    return await _serving(probe, port_of(probe, params), where)
                case ProbeKind.EXEC:
                    return await _ran(where)
                case ProbeKind.STREAM:
                    raise AssertionError("a stream is looked at by who reads its counters")
    except TimeoutError:
        return f"no answer within {probe.timeout_ms} ms"
    except ConnectionError as error:
        return f"port {port_of(probe, params)}: {os.strerror(error.errno).lower() if error.errno else type(error).__name__}"


async def _connected(pid: int, port: int) -> socket.socket:
    """A connection to the instance's loopback. The socket stays in the network in which it was made, whoever uses it."""
    try:
        apart = inside.apart(pid, inside.NET)
    except OSError as error:  # it has just ended, or is another user's
        raise Blind(f"this host cannot look into its network: {error.strerror}") from error
    sock = await asyncio.to_thread(_made_inside, pid) if apart else _a_socket()
    try:
        if not _connected_at_once(sock, (_LOOPBACK, port)):
            await asyncio.get_running_loop().sock_connect(sock, (_LOOPBACK, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _connected_at_once(sock: socket.socket, address: tuple[str, int]) -> bool:
    """Begin to connect. On a loopback the handshake is over when the call returns, which the second call finds out: to wait for it wakes the agent once more."""
    code = sock.connect_ex(address)
    if code == errno.EINPROGRESS:
        code = sock.connect_ex(address)
    if code in (errno.EINPROGRESS, errno.EALREADY):
        return False
    if code not in (0, errno.EISCONN):
        raise OSError(code, os.strerror(code))
    return True


def _a_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


def _made_inside(pid: int) -> socket.socket:
    """A socket in the process's network. In a thread that ends with it: one that had moved there could do nothing else."""
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            inside.enter(pid, [inside.NET])
            made.append(_a_socket())
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make, name="probe")
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise Blind(f"this host cannot look into its network: {made[0].strerror}") from made[0]
    return made[0]


async def _page(probe: Probe, port: int, where: Where) -> str:
    # The bare socket, and no stream: one line is asked for, and one read, every few seconds and for each service of a host.
    loop, head = asyncio.get_running_loop(), b""
    with await _connected(where.pid, port) as sock:
        asked = f"GET {probe.path} HTTP/1.1\r\nHost: {_LOOPBACK}:{port}\r\nUser-Agent: halftrack-probe\r\nConnection: close\r\n\r\n"
        await loop.sock_sendall(sock, asked.encode("ascii"))
        while b"\r\n" not in head and len(head) < MAX_HEAD_BYTES:
            data = await loop.sock_recv(sock, MAX_HEAD_BYTES - len(head))
            if not data:
                break
            head += data
    line, ended, _ = head.partition(b"\r\n")
    words = line.decode("latin-1").rstrip().split(" ", 2) if ended else []
    if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
        return f"{probe.path}: the answer is no HTTP"
    return "" if 200 <= int(words[1]) < 400 else f"{probe.path}: status {words[1]}"


async def _serving(probe: Probe, port: int, where: Where) -> str:
    async with _address(where, port) as address:
        text = await grpc_health.trouble(address, probe.service, probe.timeout_ms / 1000)
    return f"port {port}: {text}" if text else ""


@contextlib.asynccontextmanager
async def _address(where: Where, port: int) -> AsyncIterator[str]:
    """Where gRPC reaches the port: itself, or a socket of ours that leads into the instance's network."""
    if not inside.apart(where.pid, inside.NET):
        yield f"{_LOOPBACK}:{port}"
        return

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, Blind):
            far_reader, far_writer = await asyncio.open_connection(sock=await _connected(where.pid, port))
            await asyncio.gather(_carried(reader, far_writer), _carried(far_reader, writer))
        writer.close()

    server = await asyncio.start_unix_server(lead, where.relay)
    try:
        yield f"unix:{where.relay}"
    finally:
        server.close()
        where.relay.unlink(missing_ok=True)


async def _carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(BLOCK):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _ran(where: Where) -> str:
    words = (str(os.getpid()), str(where.pid), ":".join(where.groups), *where.argv)
    argv = (sys.executable, "-I", "-S", inside.__file__, *words)
    program = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(where.environment),
        start_new_session=True,
    )
    assert program.stdout is not None  # noqa: S101 - a pipe was asked for
    said = b""
    try:
        while data := await program.stdout.read(BLOCK):
            said = (said + data)[-MAX_SAID_BYTES:]
        status = await program.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)  # what it has left behind, or all of it when its time is over
        await asyncio.shield(program.wait())
    if status == 0:
        return ""
    how = f"exit status {status}" if status > 0 else f"signal {-status}"
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return f"{how}: {lines[-1]}"[:MAX_TEXT] if lines else how
