"""The socket that packets are captured from: its address, its buffer, and what the kernel grants of it.

Owns making it. Never receives.
"""

import re
import socket
import struct
from dataclasses import dataclass

BUFFER_BYTES = 64 << 20  # half a second at 1 Gbit/s: what a receiver may be late by
SLICE = struct.pack("@ll", 0, 100_000)  # a receive gives up after a tenth of a second, so that signals are seen
_RCVBUFFORCE, _RXQ_OVFL = 33, 40  # of Linux; the socket module has no names for them


class BadAddress(ValueError):  # noqa: N818 - says what it is
    """Not HOST:PORT."""


def address(text: str, *, may_choose: bool = False) -> tuple[str, int]:
    """HOST and PORT; an IPv6 address in brackets. Port 0, which lets the kernel choose one, only where that is asked for."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.%]+)\]|([^:\s]*)):([0-9]{1,5})", text)
    if match is None or not (not may_choose) <= int(match[3]) < 1 << 16:
        raise BadAddress(f"{text!r} is no address; write HOST:PORT, with an IPv6 address in brackets: 0.0.0.0:7148")
    return match[1] or match[2] or "0.0.0.0", int(match[3])  # noqa: S104 - an empty host is every one, as everywhere


@dataclass(frozen=True, slots=True)
class Listening:
    """A bound socket, and how many bytes of buffer were asked for and granted."""

    socket: socket.socket
    asked_bytes: int
    granted_bytes: int

    @property
    def port(self) -> int:
        """The port, also if the kernel chose it."""
        return int(self.socket.getsockname()[1])


def listening(host: str, port: int, buffer_bytes: int = BUFFER_BYTES) -> Listening:
    """A datagram socket on that address, with as much buffer as may be had, that tells how many packets the kernel dropped.

    Who may (CAP_NET_ADMIN) gets more than net.core.rmem_max. The kernel counts its own records too, and says twice what one may use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        try:
            made.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, buffer_bytes)
        except PermissionError:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        made.setsockopt(socket.SOL_SOCKET, _RXQ_OVFL, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, SLICE)
        made.bind((host, port))
        granted = made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    except BaseException:
        made.close()
        raise
    return Listening(made, buffer_bytes, granted)
