"""The judge: compares what the sink recorded with what NumPy computes from the same telescope files, value by value.

A process of its own that sees the sink's folder and the recordings, and nothing of Halftrack: neither its rings nor its logs.
It shares with the releases only the format of an output, not their code. Every count starts at what is on disk.

    python -m examples.demo.check RECORDS OUT [FRAMES_IN]

FRAMES_IN is how many frames the source has published; without it nobody can tell what the stream's end should have been, and
only losses before the last record are seen.
"""

import hashlib
import itertools
import json
import math
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt

from examples.spectra import player
from examples.spectra.recorder import Record, recorded

POINTS, INTEGRATED = 1024, 4
HEAD = struct.Struct("<4Q")  # first, frames, energy, chain
ENERGY_MODULUS, CHAIN_FACTOR, CHAIN_PRIME = 1 << 63, 1_000_003, (1 << 61) - 1
WINDOWS: Mapping[str, npt.NDArray[np.float32]] = {
    "1.0.0": np.ones(POINTS, np.float32),
    "1.1.0": np.hanning(POINTS).astype(np.float32),
    "1.2.0": np.hanning(POINTS).astype(np.float32),
}
EXAMPLES = 5  # wrong outputs that are described in words; all are counted
MISSING_CAP = 1 << 20  # sequences remembered as missing, to tell a late record from a repeated one

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Epoch:
    """A row of the owner table: whose output counts from where on."""

    label: str
    applied_at: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge found. All of lost, duplicated, reordered and mismatched must be zero."""

    frames_in: int
    frames_out: int
    lost: int
    duplicated: int
    reordered: int
    mismatched: int
    corrupt_refused: int
    cuts: int
    max_output_gap_ms: float
    cut_pause_ms: float
    stream_seconds: float
    stream_digest: str
    releases: Mapping[str, int]  # outputs of each release
    examples: tuple[str, ...]


class Reference:
    """The outputs that there should be, computed from the playlist alone."""

    def __init__(self, blocks: Floats) -> None:
        """`blocks`: the playlist, one row a frame."""
        self._turn = len(blocks)
        self._windows = self._turn // math.gcd(self._turn, INTEGRATED)  # different windows before they repeat
        self._lines = {label: _powers(blocks, window) for label, window in WINDOWS.items()}
        energies = [int((np.rint(row.astype(np.float64) * 1000.0) ** 2).sum()) for row in blocks]
        self._energies = energies
        self._running = [0, *itertools.accumulate(energies)]
        self._chain, self._chained = 0, 0
        self._spectra: dict[tuple[str, int], bytes] = {}

    def output(self, number: int, label: str) -> bytes:
        """Output `number` of the release `label`. Numbers rise from call to call; going back starts over."""
        first, frames = number * INTEGRATED, (number + 1) * INTEGRATED
        turns, rest = divmod(frames, self._turn)
        energy = (turns * self._running[-1] + self._running[rest]) % ENERGY_MODULUS
        return HEAD.pack(first, frames, energy, self._chain_after(frames)) + self._spectrum(number, label)

    def _spectrum(self, number: int, label: str) -> bytes:
        key = label, number % self._windows
        if key not in self._spectra:
            rows = [(key[1] * INTEGRATED + offset) % self._turn for offset in range(INTEGRATED)]
            self._spectra[key] = self._lines[label][rows].astype(np.float64).sum(axis=0).astype("<f4").tobytes()
        return self._spectra[key]

    def _chain_after(self, frames: int) -> int:
        if frames < self._chained:
            self._chain, self._chained = 0, 0
        for frame in range(self._chained, frames):
            self._chain = (self._chain * CHAIN_FACTOR + self._energies[frame % self._turn]) % CHAIN_PRIME
        self._chained = frames
        return self._chain


def _powers(blocks: Floats, window: Floats) -> Floats:
    lines = np.fft.rfft(blocks.reshape(len(blocks), -1, POINTS) * window)
    powers: Floats = (lines.real**2 + lines.imag**2).sum(axis=1)
    return powers


@dataclass
class Judge:
    """Takes records in the order in which they were written."""

    reference: Reference
    epochs: Mapping[int, Epoch]
    expected: int = 0
    out: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    mismatched: int = 0
    releases: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    gap_ns: int = 0
    pause_ns: int = 0
    _missing: set[int] = field(default_factory=set)
    _before: Record | None = None
    _first_ns: int = 0
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    def take(self, record: Record) -> None:
        """Judge one record."""
        if record.seq < self.expected:
            self._late(record)
        else:
            self._skip(record.seq)
            if record.gap:
                self._skip(record.next_seq)
                self._tell(f"the stream itself declares {record.gap} outputs from {record.seq} on as lost")
            else:
                self.expected = record.seq + 1
        if not record.gap:
            self._compare(record)
        self._time(record)

    def end(self, frames_in: int | None) -> Verdict:
        """The verdict; outputs that are missing at the end are lost, too, if `frames_in` says that there should be more."""
        if frames_in is not None:
            self._skip(frames_in // INTEGRATED)
        seconds = (self._before.arrival_ns - self._first_ns) / 1e9 if self._before else 0.0
        return Verdict(
            frames_in=self.expected * INTEGRATED if frames_in is None else frames_in,
            frames_out=self.out,
            lost=self.lost,
            duplicated=self.duplicated,
            reordered=self.reordered,
            mismatched=self.mismatched,
            corrupt_refused=0,
            cuts=max(0, len({epoch for epoch, row in self.epochs.items() if row.applied_at is not None}) - 1),
            max_output_gap_ms=round(self.gap_ns / 1e6, 3),
            cut_pause_ms=round(self.pause_ns / 1e6, 3),
            stream_seconds=round(seconds, 3),
            stream_digest=self._digest.hexdigest(),
            releases=dict(self.releases),
            examples=tuple(self.examples),
        )

    def _skip(self, seq: int) -> None:
        if seq <= self.expected:
            return
        self.lost += seq - self.expected
        self._missing.update(range(self.expected, min(seq, self.expected + MISSING_CAP - len(self._missing))))
        self._tell(f"outputs {self.expected} to {seq - 1} are missing")
        self.expected = seq

    def _late(self, record: Record) -> None:
        if record.seq in self._missing:
            self._missing.discard(record.seq)
            self.lost -= 1
            self.reordered += 1
            self._tell(f"output {record.seq} came after {self.expected - 1}")
        else:
            self.duplicated += 1
            self._tell(f"output {record.seq} came twice")

    def _compare(self, record: Record) -> None:
        self.out += 1
        self._digest.update(struct.pack("<Q", record.seq) + record.payload)
        label = self._label(record)
        self.releases[label] = self.releases.get(label, 0) + 1
        if label not in WINDOWS:
            self.mismatched += 1
            self._tell(f"output {record.seq} has epoch {record.epoch}, which no release owned there")
        elif record.payload != (wanted := self.reference.output(record.seq, label)):
            self.mismatched += 1
            self._tell(f"output {record.seq} is not what {label} computes: {_difference(record.payload, wanted)}")

    def _label(self, record: Record) -> str:
        """The release in force at the record's sequence, by the owner table; empty when its epoch does not own it."""
        row = self.epochs.get(record.epoch)
        if row is None or row.applied_at is None or record.seq < row.applied_at:
            return ""
        ended = (
            later.applied_at is not None and epoch > record.epoch and later.applied_at <= record.seq
            for epoch, later in self.epochs.items()
        )
        return "" if any(ended) else row.label

    def _time(self, record: Record) -> None:
        if self._before is None:
            self._first_ns = record.arrival_ns
        else:
            gap_ns = record.arrival_ns - self._before.arrival_ns
            self.gap_ns = max(self.gap_ns, gap_ns)
            if record.epoch != self._before.epoch:
                self.pause_ns = max(self.pause_ns, gap_ns)
        self._before = record

    def _tell(self, text: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)


def _difference(found: bytes, wanted: bytes) -> str:
    if len(found) != len(wanted):
        return f"{len(found)} bytes instead of {len(wanted)}"
    names = ("first", "frames", "energy", "chain")
    heads = zip(names, HEAD.unpack_from(found), HEAD.unpack_from(wanted), strict=True)
    parts = [f"{name} is {one}, not {other}" for name, one, other in heads if one != other]
    unequal = sum(found[at : at + 4] != wanted[at : at + 4] for at in range(HEAD.size, len(wanted), 4))
    if unequal:
        parts.append(f"{unequal} of {POINTS // 2 + 1} bins differ")
    return ", ".join(parts)


def epochs_of(lines: Iterable[str]) -> dict[int, Epoch]:
    """The owner table that the sink wrote down: the last row of each epoch."""
    rows = (json.loads(line) for line in lines if line.endswith("\n"))
    return {int(row["epoch"]): Epoch(str(row["label"]), row["applied_at"]) for row in rows}


def judged(folder: Path, frames_in: int | None) -> Verdict:
    """The verdict on the recording in `folder`."""
    found = player.recordings()
    table = folder / "cuts.jsonl"
    judge = Judge(Reference(player.blocks(found)), epochs_of(_lines(table)) if table.exists() else {})
    for record in recorded(folder):
        judge.take(record)
    refused = sum(recording.refused for recording in found)
    return replace(judge.end(frames_in), corrupt_refused=refused)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file


def main(argv: Sequence[str]) -> int:
    """Judge, and write the verdict as JSON."""
    folder, out, *rest = argv
    verdict = judged(Path(folder), int(rest[0]) if rest else None)
    Path(out).write_text(json.dumps(asdict(verdict), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
