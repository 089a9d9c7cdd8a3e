"""Sockets that a workload inherits: bound in the forked child of the shim, before it gives up the host's network and its rights.

Standard library only, for the reason that `procfs` gives. Owns the making; who keeps them and who reads them is the data plane's.
"""

import errno
import fcntl
import os
import socket
import struct

DESCRIPTORS = "HALFTRACK_FEEDS"  # as the data plane's keeper knows it
FIRST_FD = 256  # above all that the child closes before it executes
BACKLOG = 64
_RCVBUFFORCE, _RXQ_OVFL = 33, 40  # of Linux; the socket module has no names for them
SLICE = struct.pack("@ll", 0, 100_000)  # a receive gives up after a tenth of a second, so that signals are seen


def bound(words: str) -> int:
    """The descriptor of a socket that is bound as `PROTOCOL BUFFER HOST:PORT` says; -1 when the address is in use.

    It is, after a keeper was killed: by the process that the keeper gave the socket to, which returns it.
    """
    protocol, buffer_bytes, bind = words.split(" ")
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM)
    try:
        _buffer(made, int(buffer_bytes))
        if protocol == "udp":
            made.setsockopt(socket.SOL_SOCKET, _RXQ_OVFL, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, SLICE)
        else:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of before may linger
        made.bind((host.strip("[]"), int(port)))
        if protocol == "tcp":
            made.listen(BACKLOG)
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            return -1
        raise OSError(error.errno, f"binding {bind} ({protocol}): {os.strerror(error.errno or 0)}") from None
    held = fcntl.fcntl(made.fileno(), fcntl.F_DUPFD, FIRST_FD)
    made.close()
    return held


def _buffer(made: socket.socket, wanted: int) -> None:
    """Who may (CAP_NET_ADMIN) gets more than net.core.rmem_max."""
    try:
        made.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, wanted)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
