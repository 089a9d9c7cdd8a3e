"""A ring filled from a socket, against a bare loop of recvmmsg: packets a second of the receiver alone.

Both receive what already lies in the socket's buffer, some hundred packets at a time, and only that is timed: on two processors a sender at
full speed is slower than either. Ours numbers, orders and publishes into a ring; the other throws away.
"""

import socket
import time

from benchmarks.race import Missing, Wrong
from halftrack_dataplane.datagrams import listening
from halftrack_dataplane.packet_capture import Capture
from halftrack_dataplane.ring import Ring

BUFFER_BYTES = 256 << 20
RING_BYTES = 16 << 20
DEPTH = 256  # packets that lie in the buffer at a time


def captured(size: int, count: int) -> float:
    """Packets of `size` bytes a second, of which the first eight are the number and not in the ring."""
    heard = listening("127.0.0.1", 0, BUFFER_BYTES)
    each = size - 8
    with (
        heard.socket,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        Ring.create(None, capacity_bytes=RING_BYTES, frame_bytes=each, slots=1 << 16) as ring,
        ring.writer(full="drop", name="bench") as writer,
    ):
        if heard.granted_bytes < DEPTH * size * 3:
            raise Missing("the kernel gives a socket too little buffer")
        ring.prefault()
        sender.connect(("127.0.0.1", heard.port))
        capture = Capture(writer, ring.capacity_bytes, heard.socket.fileno(), frame_bytes=each, numbers="le64")
        rest, took, seq = bytes(each), 0.0, 0
        while seq < count:
            for number in range(seq, seq + DEPTH):
                sender.send(number.to_bytes(8, "little") + rest)
            seq += DEPTH
            began = time.perf_counter()
            while capture.packets < seq:
                capture.step(seq - capture.packets)
            took += time.perf_counter() - began
        if capture.frames != seq or capture.order.lost or ring.head != seq:
            raise Wrong(f"{capture.frames} of {seq} packets are in the ring")
    return seq / took
