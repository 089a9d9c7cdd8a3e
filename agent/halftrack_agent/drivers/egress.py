"""The few doors out of an instance's own network, each to one address outside.

To a peer's bridge leads a port on the loopback. What a plan lets a workload reach has its own address inside, too: the loopback interface gets
it, so the workload, and whatever tells it addresses, speaks of the same place as everybody else.

Owns the carrying of bytes between the two; what they mean, and who may say them, is the two ends' business. Lives in the
shim: its listening sockets were made inside the instance's namespace, its connections are made in the host's. Standard library only.
"""

import os
import socket
import struct
import threading
import time

from halftrack_agent.drivers.procfs import Ignoring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PORT = 20_000  # any will do that the plan does not speak of: the namespace is new, nobody else is in it
# At a time and door. A member asks a peer for one snapshot. A sink for Kafka was seen with three connections to its one broker; one that was given up
# may hang beside its successor for as long as the other end does, and a program of the user's may keep a pool.
MAX_CONNECTIONS = 32
CONNECT_S = 5.0
RETRY_S = 0.1
BLOCK = 1 << 16
# The caller's own keepalives are answered by the shim's kernel: that a host is gone where nobody waits to be heard, the shim has to find out.
SILENT_S, PROBE_S, PROBES = 10, 5, 3
_RTM_NEWADDR, _REQUEST_ACK_CREATE = 20, 0x1 | 0x4 | 0x400  # <linux/rtnetlink.h>, <linux/netlink.h>
_IFA_ADDRESS, _IFA_LOCAL, _SCOPE_HOST, _NLMSG_ERROR = 1, 2, 254, 2
_NODAD = 0x2  # <linux/if_addr.h>; without it an IPv6 address cannot be bound until the kernel has looked for another owner, here of all places
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: what is closed ends by a reset

Door = tuple[str, str]
"""The `host:port` where the instance finds it, and the `host:port` behind it."""


def doors(targets: "Sequence[str]", reach: "Sequence[str]" = ()) -> tuple[Door, ...]:
    """A door for each target, and after them one for each address of `reach`, which is found at itself."""
    free = (place for port in range(FIRST_PORT, 1 << 16) if (place := f"127.0.0.1:{port}") not in reach)
    return (*zip(free, targets, strict=False), *((place, place) for place in reach))


def _split(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)


def listen(plan: "Sequence[Door]") -> list[socket.socket]:
    """In the instance's namespace: sockets that listen, in the order of `plan`."""
    made: set[str] = set()
    found = []
    for near, _ in plan:
        host, port = _split(near)
        try:
            if host not in made and not host.startswith("127.") and host != "::1":
                add_address(host)
            found.append(socket.create_server((host, port), family=_family(host)))
        except OSError as error:
            raise OSError(error.errno, f"a door at {near}: {os.strerror(error.errno or 0)}") from None
        made.add(host)
    return found


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def add_address(host: str) -> None:
    """The loopback interface of this namespace has `host` from here on, and nothing of the network around it."""
    address = socket.inet_pton(_family(host), host)
    index = socket.if_nametoindex("lo")
    about = struct.pack("=BBBBI", _family(host), 8 * len(address), _NODAD, _SCOPE_HOST, index)
    said = b"".join(struct.pack("=HH", 4 + len(address), kind) + address for kind in (_IFA_LOCAL, _IFA_ADDRESS))
    size = 16 + len(about) + len(said)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(struct.pack("=IHHII", size, _RTM_NEWADDR, _REQUEST_ACK_CREATE, 1, 0) + about + said)
        kind, _, _, _, status = struct.unpack_from("=HHIIi", kernel.recv(BLOCK), 4)
    if kind == _NLMSG_ERROR and status:
        raise OSError(-status, os.strerror(-status))


def open_doors(listeners: "Sequence[socket.socket]", plan: "Sequence[Door]") -> None:
    """In the host's namespace: carry whatever comes, until this process ends."""
    for listener, (_, target) in zip(listeners, plan, strict=True):
        threading.Thread(target=_serve, args=(listener, _split(target)), daemon=True).start()


def _serve(listener: socket.socket, target: tuple[str, int]) -> None:
    room = threading.BoundedSemaphore(MAX_CONNECTIONS)
    while True:
        try:
            near, _ = listener.accept()
        except OSError:  # a caller that has gone already, or no descriptor left now: the door stays
            time.sleep(RETRY_S)
            continue
        if not room.acquire(blocking=False):
            _refuse(near)
            continue
        threading.Thread(target=_carry, args=(near, target, room), daemon=True).start()


def _carry(near: socket.socket, target: tuple[str, int], room: threading.BoundedSemaphore) -> None:
    """One connection; when either side ends it, so does the other."""
    try:
        with near, _connected(near, target) as far:
            back = threading.Thread(target=_pump, args=(far, near), daemon=True)
            back.start()
            _pump(near, far)
            back.join()
    except OSError:
        return  # nobody is there: the caller sees its connection reset, and tries again
    finally:
        room.release()


def _connected(near: socket.socket, target: tuple[str, int]) -> socket.socket:
    try:
        far = socket.create_connection(target, timeout=CONNECT_S)
    except OSError:
        _refuse(near)
        raise
    far.settimeout(None)
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # when to wait for more is for the two ends to say
    far.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_S)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_S)
    far.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    return far


def _refuse(near: socket.socket) -> None:
    with Ignoring():
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    near.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with Ignoring():
        while data := source.recv(BLOCK):
            target.sendall(data)
    for end in (source, target):
        with Ignoring():
            end.shutdown(socket.SHUT_RDWR)
