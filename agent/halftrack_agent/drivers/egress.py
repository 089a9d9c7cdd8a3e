"""The few doors out of an instance's own network: a port on its loopback for each host that the plan lets it speak to.

Owns the carrying of bytes between the two; what they mean, and who may say them, is the two ends' business (CurveZMQ). Lives in the
shim: its listening sockets were made inside the instance's namespace, its connections are made in the host's. Standard library only.
"""

import socket
import threading
import time

from halftrack_agent.drivers.procfs import Ignoring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PORT = 20_000  # any will do: the namespace is new, nobody else is in it
MAX_CONNECTIONS = 8  # at a time and door; a member asks one peer for one snapshot
CONNECT_S = 5.0
RETRY_S = 0.1
BLOCK = 1 << 16

Door = tuple[int, str]
"""A port on the instance's loopback, and the `host:port` behind it."""


def doors(targets: "Sequence[str]") -> tuple[Door, ...]:
    """A door for each target."""
    return tuple((FIRST_PORT + number, target) for number, target in enumerate(targets))


def listen(plan: "Sequence[Door]") -> list[socket.socket]:
    """In the instance's namespace: sockets that listen, in the order of `plan`."""
    return [socket.create_server(("127.0.0.1", port)) for port, _ in plan]


def open_doors(listeners: "Sequence[socket.socket]", plan: "Sequence[Door]") -> None:
    """In the host's namespace: carry whatever comes, until this process ends."""
    for listener, (_, target) in zip(listeners, plan, strict=True):
        host, _, port = target.rpartition(":")
        work = (listener, (host.strip("[]"), int(port)))
        threading.Thread(target=_serve, args=work, daemon=True).start()


def _serve(listener: socket.socket, target: tuple[str, int]) -> None:
    room = threading.BoundedSemaphore(MAX_CONNECTIONS)
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # a caller that has gone already, or no descriptor left now: the door stays
            time.sleep(RETRY_S)
            continue
        if not room.acquire(blocking=False):
            near.close()
            continue
        threading.Thread(target=_carry, args=(near, target, room), daemon=True).start()


def _carry(near: socket.socket, target: tuple[str, int], room: threading.BoundedSemaphore) -> None:
    """One connection; when either side ends it, so does the other."""
    try:
        with near, socket.create_connection(target, timeout=CONNECT_S) as far:
            far.settimeout(None)
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()
    except OSError:
        return  # the other host cannot be reached: the caller sees its connection end, and tries again
    finally:
        room.release()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with Ignoring():
        while data := source.recv(BLOCK):
            target.sendall(data)
    for end in (source, target):
        with Ignoring():
            end.shutdown(socket.SHUT_RDWR)
