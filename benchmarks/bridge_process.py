"""One end of a bridge as a process: `bridge_process.py SPEC.json`, the same as `python -m halftrack_dataplane.run`, and with `--plain`
without CURVE, which nothing but a measurement can do.

Owns what is exchanged for that: how sockets are secured, and who is let in. All else is the bridge's own.
"""

import itertools
import sys
from typing import Any

import zmq

from halftrack_dataplane import bridge_sockets, run

arrivals = itertools.count()


class Plain(zmq.Socket):
    """A socket that hears nothing of CURVE."""

    def __setattr__(self, key: str, value: Any) -> None:
        """Everything else is set as it is asked for."""
        if not key.startswith("curve_"):
            super().__setattr__(key, value)


def answer(door: bridge_sockets.Door) -> None:
    """Lets in whoever comes, each connection as the next peer in the list: a peer has one session for a ring."""
    while door.socket.poll(0):
        version, request = door.socket.recv_multipart()[:2]
        key = list(door._admission._hosts)[next(arrivals) % len(door._admission._hosts)]
        door.socket.send_multipart([version, request, b"200", b"OK", key.encode(), b""])


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if arguments[:1] == ["--plain"]:
        zmq.Context._socket_class = Plain
        bridge_sockets.Door.answer = answer  # type: ignore[method-assign]
        arguments = arguments[1:]
    sys.exit(run.main(arguments))
