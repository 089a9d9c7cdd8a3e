"""Spectrometer 1.1.0: as 1.0.0, but with a Hann window, which leaks less of a strong line into its neighbours.

A stateful vertex: between two outputs it holds the power integrated so far, and it carries totals since frame 0 that only come
out right if every frame was processed once, in order, through every hand-over of state from release to release.

An output is `HEADER` followed by `BINS` little-endian float32:

    first    u64  sequence of the window's first frame
    frames   u64  frames seen since 0
    energy   u64  sum of rint(1000 * x)^2 over all samples since frame 0, modulo 2^63
    chain    u64  chain = (chain * CHAIN_FACTOR + this frame's energy) modulo CHAIN_PRIME: depends on the order, too
    spectrum      the window's summed power in each of the 513 bins

The totals mean the same in every release; the spectrum does not, and the output does not name its release: whose it is
follows from the stream's epochs alone.
"""

import os
import struct
from collections.abc import Mapping
from typing import Any

# The sums are small: BLAS threads would only take the cores from the other workloads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from halftrack_dataplane.sdk import Frame, Param, Vertex

POINTS = 1024  # of a transform
INTEGRATED = 4  # frames in an output
BINS = POINTS // 2 + 1
ENERGY_MODULUS = 1 << 63
CHAIN_FACTOR = 1_000_003
CHAIN_PRIME = (1 << 61) - 1
HEADER = struct.Struct("<4Q")
STATE = struct.Struct("<4Q")  # filled, frames, energy, chain; the power so far follows as float64: schema spectra/1


class Spectrometer(Vertex):
    """Four frames in, one spectrum out."""

    window = np.hanning(POINTS).astype(np.float32)

    def __init__(self, params: Mapping[str, Param]) -> None:
        """A spectrometer that has seen nothing; it has no parameters."""
        self.power = np.zeros(BINS, np.float64)
        self.filled = 0
        self.frames = 0
        self.energy = 0
        self.chain = 0

    def process(self, frame: Frame) -> bytes | None:
        """Take the next frame in; every fourth brings an output."""
        samples = np.frombuffer(frame.payload, "<f4")
        self.power += powers(samples, self.window)
        energy = energy_of(samples)
        self.energy = (self.energy + energy) % ENERGY_MODULUS
        self.chain = (self.chain * CHAIN_FACTOR + energy) % CHAIN_PRIME
        self.frames += 1
        self.filled += 1
        if self.filled < INTEGRATED:
            return None
        header = HEADER.pack(frame.seq + 1 - INTEGRATED, self.frames, self.energy, self.chain)
        output = header + self.power.astype("<f4").tobytes()
        self.power[:] = 0
        self.filled = 0
        return output

    def snapshot(self) -> bytes:
        """All that the next frame's processing depends on."""
        return STATE.pack(self.filled, self.frames, self.energy, self.chain) + self.power.tobytes()

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """Go on from `state`. One that another release wrote in mid-window spoils the next output, which mixes both."""
        self.filled, self.frames, self.energy, self.chain = STATE.unpack_from(state)
        self.power = np.frombuffer(state, "<f8", BINS, STATE.size).copy()
        return 1 if self.filled and not same_release else 0


def powers(samples: np.ndarray[Any, Any], window: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The power in each bin, summed over the frame's transforms.

    Squares and sums, not `abs`: those are the same to the last bit however NumPy is asked for them, on one machine.
    """
    lines = np.fft.rfft(samples.reshape(-1, POINTS) * window)
    return (lines.real * lines.real + lines.imag * lines.imag).sum(axis=0)


def energy_of(samples: np.ndarray[Any, Any]) -> int:
    """The exact sum of rint(1000 * x)^2: integers below 2^53, so that float64 adds them without rounding in any order."""
    return int(np.square(np.rint(samples.astype(np.float64) * 1000.0)).sum())
