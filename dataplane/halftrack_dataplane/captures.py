"""A source that needs no code of its own: datagrams, by the numbers in them.

A release of one is a file with one line, `from halftrack_dataplane.captures import Datagrams`, and its params; `stream_capture` has the one for TCP. It loses nothing that it has
taken from its socket, however its process ends (`packet_capture`).
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import Literal, cast

from halftrack_dataplane import capture_place
from halftrack_dataplane.capturing import Taking, drafted, number, only, read, text
from halftrack_dataplane.datagrams import SLICE
from halftrack_dataplane.packet_capture import Capture, place_bytes
from halftrack_dataplane.runtime import ring_writer
from halftrack_dataplane.sdk import Param

Full = Literal["block", "drop", "overwrite"]


class Datagrams:
    """One packet, one frame. Params: `feed` (the only one's name), `frame_bytes`, `numbers` (none, le64, be64: a packet's first 8 bytes, no part of
    the frame), `window` (how many packets one may be out of order by), `full` (block, drop, overwrite: what a full ring does).

    Frames have the packets' numbers; what is lost is declared. A sender that begins again gets the next epoch. Without numbers a stream goes on, after
    a power cut too, behind all that it may have given out.
    """

    def __init__(self, params: Mapping[str, Param]) -> None:
        self._feed = text(params, "feed", "")
        self._frame_bytes = number(params, "frame_bytes", None, 65507)
        self._window = number(params, "window", 64, 4096)
        kind = text(params, "numbers", "none", ("none", "le64", "be64"))
        self._numbers = cast(Literal["arrival", "le64", "be64"], "arrival" if kind == "none" else kind)
        self._full = cast(Full, text(params, "full", "block", ("block", "drop", "overwrite")))

    def capture(self, taking: Taking) -> None:
        """Until asked to stop. What waits for an earlier packet then is taken up by the next process."""
        kept = taking.feeds.socket(self._feed or only(taking.feeds))
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, SLICE)
        with ring_writer(taking.ring, taking.name, taking.stop, self._full) as writer:
            size = place_bytes(self._frame_bytes, self._window)
            before = capture_place.left(read(taking.place), taking.ring.head, self._frame_bytes, self._numbers)
            inode = os.fstat(kept.fileno()).st_ino
            arrival = self._numbers == "arrival"
            if arrival and before is None:
                taking.numbering.start(writer)
            with drafted(taking.place, size) as (memory, settle):
                capture = Capture(
                    writer,
                    taking.ring.capacity_bytes,
                    kept.fileno(),
                    frame_bytes=self._frame_bytes,
                    numbers=self._numbers,
                    window=self._window,
                    keep_on=lambda: _goes_on(taking, capture),
                    epoch=0 if before is None else before.epoch,
                    place=memory,
                    expected=None if before is None else before.expected,
                    socket=inode,
                    kernel_seen=before.kernel_seen if before is not None and before.socket == inode else 0,
                )
                for held in () if before is None else before.packets:
                    capture.feed(held.number, held.frame, held.timestamp_ns or time.time_ns())
                settle()
                while not taking.stop.asked:
                    capture.step(taking.numbering.left(taking.ring.head) if arrival else None)
                    taking.feeds.attend()
                    taking.offer(counts(capture))


def _goes_on(taking: Taking, capture: Capture) -> bool:
    """Between two slices of waiting for room in the ring."""
    taking.offer(counts(capture))
    return not taking.stop.asked


def counts(capture: Capture) -> dict[str, int]:
    """All that a capture counts; `lost` is all that the ring lacks of what was sent."""
    order = capture.order
    return {
        "packets": capture.packets,
        "frames": capture.frames,
        "lost": order.lost + capture.dropped,
        "dropped": capture.dropped,
        "kernel_drops": capture.kernel_drops,
        "late": order.late,
        "duplicates": order.duplicates,
        "strays": order.strays,
        "restarts": order.restarts,
        "wrong_size": capture.wrong_size,
    }
