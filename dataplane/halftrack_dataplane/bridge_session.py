"""One receiver being served: where it stands in a ring, how much it still takes, and what goes to it next.

Owns the reader. It is a lossy one: a link that is cut must never hold an instrument up; what it missed by that is told.
"""

import os

from halftrack_dataplane.bridge_wire import (
    BATCH_BYTES,
    BATCH_FRAMES,
    FRAME_COST,
    MAX_FRAME_BYTES,
    Data,
    Gap,
    Hello,
    Message,
    Refusal,
)
from halftrack_dataplane.frames import Evicted, Frame
from halftrack_dataplane.ring import Reader, Ring

COALESCE_BYTES = 256 << 10  # enough to make a message's own cost vanish, little enough to go out soon


class Session:
    """What the server knows of one receiver's one ring."""

    def __init__(self, hello: Hello, user: str, path: str, now: float) -> None:
        self.id = hello.session
        self.user = user
        self.ring_name = hello.ring
        self.heard_at = self.sent_at = self.checked_at = now
        self.credit = hello.credit_bytes
        self.outbox: list[bytes] | None = None  # encoded, but the socket would not take it yet
        self.frames = self.bytes = self.missed = 0
        self._path = path
        self._inode = os.stat(path).st_ino  # before opening: a ring made anew in between is noticed, not the reverse
        self._ring = Ring.open(path)
        self._next = hello.next_seq
        self._held: Frame | None = None
        self._reader = self._join()

    def close(self) -> None:
        """Let the ring go."""
        self._reader.close()
        self._ring.close()

    def ring_is_gone(self) -> bool:
        """Was the ring removed, or made anew?"""
        try:
            return os.stat(self._path).st_ino != self._inode
        except OSError:
            return True

    def next_message(self) -> Message | None:
        """What goes out next, within the credit; None when there is nothing or the receiver takes no more."""
        if self.credit <= 0:
            return None
        frames: list[tuple[int, int, int]] = []
        payloads: list[bytes | memoryview] = []
        first, size = 0, 0
        while len(frames) < BATCH_FRAMES and size < COALESCE_BYTES:
            frame = self._take()
            if frame is None:
                break
            hole = 0 <= self._next < frame.seq
            if frames and (hole or frame.gap or size + len(frame.payload) > BATCH_BYTES):
                self._held = frame
                break
            if hole:
                self._held = frame
                return self._gap(self._next, frame.seq - self._next)
            if frame.gap:
                return self._gap(frame.seq, frame.gap)
            if len(frame.payload) > MAX_FRAME_BYTES:
                return Refusal(
                    self.id, f"frame {frame.seq} has {len(frame.payload)} bytes, {MAX_FRAME_BYTES} can travel"
                )
            first = first if frames else frame.seq
            frames.append((frame.epoch, frame.timestamp_ns, len(frame.payload)))
            payloads.append(frame.payload)
            size += len(frame.payload)
            self._next = frame.seq + 1
        if not frames:
            return None
        self.credit -= size + FRAME_COST * len(frames)
        self.frames += len(frames)
        self.bytes += size
        return Data(self.id, first, tuple(frames), b"".join(payloads))

    def _gap(self, first: int, count: int) -> Gap:
        self.missed += count
        self._next = first + count
        self.credit -= FRAME_COST
        return Gap(self.id, first, count)

    def _take(self) -> Frame | None:
        if self._held is not None:
            frame, self._held = self._held, None
            return frame
        try:
            return self._reader.read(0)
        except Evicted:
            self._reader.close()
            self._reader = self._join()
            return self._reader.read(0)

    def _join(self) -> Reader:
        name = f"bridge:{self.user[:8]}"
        return self._ring.reader(policy="lossy", name=name, start=self._next if self._next >= 0 else "oldest")
