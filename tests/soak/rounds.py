"""What a soak does in each round, from one seed: the ring's shape, how it is written and read, who comes and goes. Nothing happens here.

A frame's bytes follow from its sequence alone, so a writer that takes a dead one's place goes on with the same stream, and every reader can tell
every byte of every frame. In a ring of any length frames have one length for BLOCK sequences, as records do.
"""

import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Policy = Literal["lossless", "lossy", "sample"]
BLOCK = 1024
BATCHES = (1, 7, 64, 256, 1024, 1024, 1024)
ROUND_BYTES = 1 << 30  # of one ring's stream: some hundred turns of it
ROUND_FRAMES = 50_000_000
ROUND_BATCHES = 40_000  # one costs NumPy some 20 us, whatever is in it: rounds of single frames would take for ever
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no two sequences have the same words: 2**64 / golden ratio


@dataclass(frozen=True, slots=True)
class Guest:
    """A reader that comes when the one before it in its place is gone, and leaves after `frames` unless it is killed first."""

    policy: Policy
    start: Literal["now", "oldest"]
    frames: int
    views: bool
    every: int


@dataclass(frozen=True, slots=True)
class Round:
    """One ring and its stream."""

    seed: int
    frames: int
    base_seq: int
    capacity_bytes: int
    slots: int
    frame_bytes: int  # 0: any length, at most `longest`
    longest: int
    checked: bool
    claims: bool  # filled in place, or copied
    batch: int
    guests: int
    kill_every_s: float

    @classmethod
    def made(cls, seed: int, frames_left: int) -> "Round":
        """The round of that seed, with no more frames than are left."""
        chance = random.Random(seed)
        longest = 8 * int(
            2 ** chance.uniform(0, chance.choice([4, 4, 9]))
        )  # 8 B to 4 KiB, mostly small: 10^9 of them are wanted
        fixed = chance.random() < 0.6
        capacity = 1 << chance.randint(16, 22)
        batch = min(chance.choice(BATCHES), max(1, capacity // 4 // longest))
        return cls(
            seed=seed,
            frames=min(frames_left, ROUND_FRAMES, ROUND_BYTES // longest, ROUND_BATCHES * batch),
            base_seq=chance.choice([0, 1, chance.randrange(1 << 40)]),
            capacity_bytes=capacity,
            slots=1 << chance.randint(4, 12),
            frame_bytes=longest if fixed else 0,
            longest=longest,
            checked=chance.random() < 0.5,
            claims=fixed and chance.random() < 0.5,
            batch=batch,
            guests=chance.randint(1, 3),
            kill_every_s=chance.uniform(0.02, 0.4),
        )

    def guest(self, chance: random.Random) -> Guest:
        """Who comes next."""
        policy: Policy = chance.choice(["lossless", "lossy", "lossy", "sample"])
        return Guest(
            policy=policy,
            start=chance.choice(["now", "oldest"]),
            frames=int(10 ** chance.uniform(2, 6.5)),
            views=policy == "lossless" and chance.random() < 0.5,  # a lossy one's view may change while it is looked at
            every=chance.choice([1, 3, 1000]),
        )

    def length(self, seq: int) -> int:
        """Of frame `seq`, in bytes."""
        return self.frame_bytes or 1 + (seq // BLOCK * 2654435761 + self.seed) % self.longest

    def run(self, seq: int) -> int:
        """How many frames a writer at `seq` puts into one batch: up to the block's end, where the length may change."""
        end = self.base_seq + self.frames
        return min(self.batch, BLOCK - seq % BLOCK, end - seq)

    def content(self, seq: int, count: int) -> npt.NDArray[np.uint8]:
        """Frames `seq` to `seq + count`, one a row."""
        length = self.length(seq)
        words = -(-length // 8)
        rows = (np.arange(seq, seq + count, dtype=np.uint64) * _SPREAD)[:, None]
        block = rows + np.arange(words, dtype=np.uint64) * np.uint64(self.seed * 2 + 1)
        return np.ascontiguousarray(block.view(np.uint8)[:, :length])


@dataclass(slots=True)
class Seen:
    """What one reader has found so far; it knows what it expects, and judges all that it is given.

    `skipped` is what a lossy reader says itself that it missed, which is no loss to the soak; a sampler has no number to expect.
    """

    of: Round
    policy: Policy
    expected: int | None = None
    frames: int = 0
    bytes: int = 0
    skipped: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupt: int = 0

    def batch(self, seq: int, count: int, frame_bytes: int, payload: object, skipped: int) -> None:
        """Frames were read, of which the reader says that `skipped` are missing before them."""
        self.skipped += skipped
        if self.expected is not None:
            ahead = seq - self.expected
            if ahead < 0:
                self.duplicated += min(count, -ahead)
                self.reordered += ahead + count > 0
            elif self.policy != "sample" and ahead != skipped:
                self.lost += abs(ahead - skipped)
        self.expected = seq + count
        self.frames += count
        self.bytes += count * frame_bytes
        wanted = self.of.content(seq, count)
        got = np.frombuffer(payload, np.uint8)  # type: ignore[call-overload]
        if frame_bytes != wanted.shape[1] or got.size != wanted.size:
            self.corrupt += count
        elif not np.array_equal(got, wanted.reshape(-1)):
            self.corrupt += int((got.reshape(wanted.shape) != wanted).any(axis=1).sum())
