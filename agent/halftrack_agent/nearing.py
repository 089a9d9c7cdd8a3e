"""When anything last came over a connection that is only being made: gRPC says nothing before the first word, the kernel does.

The connection is gRPC's, and is found among this process's own descriptors by the port at its other end. Looks, and touches nothing.
"""

import contextlib
import os
import socket
import struct

_RECEIVED = struct.Struct("=52xII")  # <linux/tcp.h>, struct tcp_info: tcpi_last_data_recv and tcpi_last_ack_recv, in ms


def heard_ms(port: int, since_ms: int, now_ms: int) -> int:
    """When the last byte, or the last word that one of ours has arrived, came from that port; `since_ms` when none has since."""
    ago_ms = (_quiet_ms(number, port) for number in os.listdir("/proc/self/fd"))
    return max((since_ms, *(now_ms - ms for ms in ago_ms if ms is not None)))


def _quiet_ms(number: str, port: int) -> int | None:
    """For how long nothing has come over that descriptor; None when it is no connection to that port."""
    with contextlib.suppress(OSError):  # closed meanwhile, or not connected yet
        if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
            return None
        with socket.socket(fileno=os.dup(int(number))) as found:
            if found.family not in (socket.AF_INET, socket.AF_INET6) or found.type != socket.SOCK_STREAM:
                return None
            if found.getpeername()[1] != port:
                return None
            data_ms, word_ms = _RECEIVED.unpack(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED.size))
            return int(min(data_ms, word_ms))
    return None
