"""The frames that an engine has been given, or will be, and has not acknowledged: in order, bounded. Pure.

The rules that make a resumed stream whole, in one place:

- What the engine says that it has, is never sent again. What it does not have is sent again, from the same bytes.
- An engine that has lost what it had acknowledged (its disk did) gets a declared gap in its place: these frames are no longer here.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from halftrack_dataplane.frame import Frame

FRAMES, BYTES = 1024, 8 << 20  # in flight at most, but for one frame that is larger


def end_of(frame: Frame) -> int:
    """The sequence after a frame or a declared gap."""
    return frame.seq + max(frame.gap, 1)


def _from(frame: Frame, seq: int) -> Frame:
    """What of a declared gap lies from `seq` on; any other frame as it is."""
    if frame.seq >= seq:
        return frame
    return Frame(seq, frame.epoch, frame.timestamp_ns, b"", end_of(frame) - seq)


class InFlight:
    """`first` is the first sequence that is not known to be durable, `next` the first that was not given to us."""

    def __init__(self, frames: int = FRAMES, size_bytes: int = BYTES) -> None:
        self._most_frames, self._most_bytes = frames, size_bytes
        self._kept: deque[Frame] = deque()
        self._done: set[int] = set()  # acknowledged before one in front of them
        self._bytes = 0
        self._sent = 0
        self.first = 0
        self.next = 0
        self.lost_frames = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def full(self) -> bool:
        """May no more frames be taken?"""
        return len(self._kept) >= self._most_frames or self._bytes >= self._most_bytes

    @property
    def unsent(self) -> int:
        """How many frames this connection was not given yet."""
        return len(self._kept) - self._sent

    def begin(self, seq: int) -> None:
        """Nothing is in flight, and `seq` comes next."""
        self.first = self.next = seq

    def take(self, frame: Frame) -> bool:
        """One more frame; False if the engine has it already."""
        if end_of(frame) <= self.next:
            return False
        self._append(_from(frame, self.next))
        self.next = end_of(frame)
        return True

    def to_send(self, most: int) -> Sequence[Frame]:
        """The next frames for the engine, at most so many; they count as sent."""
        frames = [self._kept[at] for at in range(self._sent, min(self._sent + most, len(self._kept)))]
        self._sent += len(frames)
        return frames

    def acknowledged(self, seq: int) -> None:
        """The frame or gap that begins with `seq` is durable."""
        self._done.add(seq)
        while self._kept and self._kept[0].seq in self._done:
            self._drop()

    def resumed(self, engine_next: int) -> None:
        """A new connection, at whose other end everything below `engine_next` is durable, and nothing else."""
        self._sent = 0
        self._done.clear()
        while self._kept and end_of(self._kept[0]) <= engine_next:
            self._drop()
        if self._kept:
            self._kept[0] = _from(self._kept[0], engine_next)
        self.next = max(self.next, engine_next)
        here = self._kept[0].seq if self._kept else self.next
        if engine_next < here:
            self._kept.appendleft(Frame(engine_next, 0, 0, b"", here - engine_next))
            self.lost_frames += here - engine_next
        self.first = engine_next

    def _append(self, frame: Frame) -> None:
        self._kept.append(frame)
        self._bytes += len(frame.payload)

    def _drop(self) -> None:
        frame = self._kept.popleft()
        self._done.discard(frame.seq)
        self._bytes -= len(frame.payload)
        self._sent = max(self._sent - 1, 0)
        self.first = end_of(frame)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._kept)
