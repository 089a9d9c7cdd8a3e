"""SPEAD heaps of one item each, from and to the network: what a heap carries and how it is counted. The extra `spead`.

Owns the use of the spead2 package, which it imports only when asked for, and the numbers of heaps: a heap's counter over `step`. Never
touches a ring. Spead2 puts heaps together and leaves incomplete ones out; what is left out is seen by the counter.
"""

import importlib
import select
from types import ModuleType
from typing import Any

from halftrack_dataplane.datagrams import Listening

ITEM = 0x1600  # of what we send: the first of the identifiers that SPEAD leaves to its users' items
PARTIAL_HEAPS = 16  # put together at the same time: as far as packets of different heaps mix
RING_HEAPS = 64  # complete ones that wait for us; then the socket's buffer fills
PACKET_BYTES = 8972  # what an Ethernet frame of 9000 bytes leaves after IP and UDP


class SpeadMissing(Exception):  # noqa: N818 - says what is the matter
    """The package spead2 is not installed."""


class SpeadUnfit(Exception):  # noqa: N818 - the same
    """A heap does not carry what the stream was said to carry."""


def package(part: str) -> ModuleType:
    """A module of spead2."""
    try:
        return importlib.import_module(f"spead2.{part}" if part else "spead2")
    except ImportError as error:
        raise SpeadMissing(f"SPEAD needs the package spead2: pip install 'halftrack[spead]' ({error})") from None


class HeapReceiver:
    """Heaps that come in at a socket, as (number, bytes)."""

    def __init__(self, listening: Listening, *, item: int | None = None, step: int = 1) -> None:
        """`item`: which item's bytes are the frame; None: the only one that has any."""
        recv = package("recv")
        self._pool = package("").ThreadPool(1)
        self._stream = recv.Stream(
            self._pool, recv.StreamConfig(max_heaps=PARTIAL_HEAPS), recv.RingStreamConfig(heaps=RING_HEAPS)
        )
        self._stream.add_udp_reader(listening.socket, max_size=1 << 16)
        self._item, self._step = item, step
        self._empty, self._stopped = package("").Empty, package("").Stopped
        self.ended = False

    @property
    def incomplete(self) -> int:
        """Heaps that spead2 gave up, for want of a packet."""
        stats = self._stream.stats
        return int(stats["incomplete_heaps_evicted"] + stats["incomplete_heaps_flushed"])

    def take(self, timeout_s: float) -> tuple[int, bytes] | None:
        """The next heap that carries a frame, None if none comes in time or the sender has ended its stream (`ended`)."""
        while not self.ended:
            if not select.select([self._stream.fd], [], [], timeout_s)[0]:
                return None
            try:
                heap = self._stream.get_nowait()
            except self._empty:
                return None
            except self._stopped:
                self.ended = True
                return None
            found = self._frame(heap)
            if found is not None:
                return heap.cnt // self._step, found
        return None

    def _frame(self, heap: Any) -> bytes | None:
        items = [item for item in heap.get_items() if not item.is_immediate and self._item in (None, item.id)]
        if len(items) > 1:
            ids = ", ".join(f"0x{item.id:x}" for item in items)
            raise SpeadUnfit(
                f"heap {heap.cnt} has several items with bytes ({ids}): say which one is the frame, --item ID"
            )
        return bytes(items[0]) if items else None

    def close(self) -> None:
        """Stop receiving."""
        self._stream.stop()


class HeapSender:
    """Sends frames as heaps, each with its sequence (times `step`) as counter."""

    def __init__(
        self, host: str, port: int, *, step: int = 1, rate: float = 0.0, packet_bytes: int = PACKET_BYTES
    ) -> None:
        """`rate`: bytes a second on the wire; 0: as fast as it goes."""
        send = package("send")
        config = send.StreamConfig(max_packet_size=packet_bytes, rate=rate, max_heaps=4)
        self._stream = send.UdpStream(package("").ThreadPool(1), [(host, port)], config)
        self._group = send.ItemGroup()
        self._group.add_item(ITEM, "frame", "a frame of a Halftrack ring", shape=(None,), format=[("u", 8)])
        self._step = step
        self._first = True

    def send(self, seq: int, payload: memoryview) -> None:
        """One frame; returns when it is handed to the kernel."""
        numpy = importlib.import_module("numpy")  # spead2 needs it anyway
        self._group["frame"].value = numpy.frombuffer(payload, dtype=numpy.uint8)
        heap = self._group.get_heap(descriptors="all" if self._first else "none", data="all")
        self._first = False
        self._stream.send_heap(heap, cnt=seq * self._step % (1 << 48))

    def end(self, seq: int) -> None:
        """Tell receivers that nothing follows."""
        self._stream.send_heap(self._group.get_end(), cnt=seq * self._step % (1 << 48))
