"""The judge of the swap soak: reads the source's ring file and the sink's files, and nothing else of Halftrack, and counts what is not right.

    python -m tests.soak.swap_check SINK_FOLDER SOURCE_RING FAULTS OUT

It follows the sink's files while they are written and removes those that it is done with, so that a long soak needs no room. When there is an
empty file `SINK_FOLDER/ended`, it judges the rest, writes OUT and ends. FAULTS, lines of JSON (`at_ns`, `kind`), tells only which pauses
belong to what: no count depends on it.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from halftrack_dataplane.ring import Ring
from tests.soak.swap_stream import ROW, SPREAD, files_of

LOOK_S = 0.2
EXAMPLES = 8
STEADY_AFTER_NS = 1_000_000_000  # after a fault or a cut, what comes for so long is not steady
KILL_NS = 250_000_000  # a pause that begins so soon after a kill is the kill's
BINS_PER_DECADE = 200  # of the steady state's pauses: a quantile is right to about 1 %
NOBODY = (1 << 64) - 1
MISSING = 1 << 20  # sequences that are remembered as missing, to tell a late one from a repeated one

Column = npt.NDArray[np.uint64]


@dataclass
class Verdict:
    """What was counted; all times in µs."""

    frames: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    mismatched: int = 0
    output_cuts: int = 0
    gap_us_p50: float = 0.0
    gap_us_p99: float = 0.0
    kill_gap_us_p50: float = 0.0
    kill_gap_us_p99: float = 0.0
    steady_gap_us_p999: float = 0.0
    examples: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """An example of what is wrong, if there are not too many yet."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)


class Pauses:
    """The times between outputs: at cuts that no fault has hastened, after kills of members, and in the steady state."""

    def __init__(self) -> None:
        self.cuts: list[float] = []
        self.kills: dict[int, float] = {}
        self._bins = np.zeros(9 * BINS_PER_DECADE, np.int64)  # 1 ns to a second

    def take(self, arrived: Column, epochs: Column, faults: Sequence[tuple[int, str]]) -> None:
        """Of consecutive outputs. `faults` is all that has happened so far, (when, what)."""
        at = arrived.astype(np.int64)
        gaps, changed = np.diff(at), np.diff(epochs.astype(np.int64)) != 0
        struck = np.zeros(gaps.size, bool)  # a cut just after a fault is a way back, which an agent has had to see to
        for when, _ in faults:
            struck |= (at[1:] >= when) & (at[:-1] <= when + STEADY_AFTER_NS)
        self.cuts += (gaps[changed & ~struck] / 1e3).tolist()
        steady = ~changed
        for when in [*(when for when, _ in faults), *at[1:][changed].tolist()]:
            steady &= (at[1:] < when) | (at[:-1] > when + STEADY_AFTER_NS)
        for when, kind in faults:
            after = gaps[(at[1:] >= when) & (at[:-1] <= when + KILL_NS)]
            if kind == "member" and after.size:
                self.kills[when] = max(self.kills.get(when, 0.0), float(after.max()) / 1e3)
        places = (np.log10(np.maximum(gaps[steady], 1)) * BINS_PER_DECADE).astype(np.int64)
        self._bins += np.bincount(np.minimum(places, self._bins.size - 1), minlength=self._bins.size)

    def put(self, verdict: Verdict) -> None:
        """Into the verdict."""
        verdict.gap_us_p50, verdict.gap_us_p99 = _quantiles(self.cuts)
        verdict.kill_gap_us_p50, verdict.kill_gap_us_p99 = _quantiles(list(self.kills.values()))
        if total := int(self._bins.sum()):
            place = int(np.searchsorted(np.cumsum(self._bins), 0.999 * total))
            verdict.steady_gap_us_p999 = round(10 ** ((place + 1) / BINS_PER_DECADE) / 1e3, 1)


def _quantiles(values: list[float]) -> tuple[float, float]:
    found = np.percentile(values, [50, 99]) if values else (0.0, 0.0)
    return round(float(found[0]), 1), round(float(found[1]), 1)


class Judge:
    """Takes rows in the order in which the sink wrote them."""

    def __init__(self) -> None:
        self.verdict, self.pauses = Verdict(), Pauses()
        self.expected = 0
        self._missing: set[int] = set()
        self._table: dict[int, tuple[str, int]] = {}  # applied epochs: label, applied at
        self._before: npt.NDArray[np.uint64] | None = None

    def table(self, lines: Sequence[str]) -> None:
        """The owner table as the sink wrote it down."""
        for row in map(json.loads, lines):
            if row["applied_at"] is not None:
                self._table[row["epoch"]] = row["label"], row["applied_at"]

    def take(self, rows: npt.NDArray[np.uint64], faults: Sequence[tuple[int, str]]) -> None:
        """Rows as a matrix of ROW's columns."""
        if not len(rows):
            return
        held = rows if self._before is None else np.vstack([self._before, rows])
        self._before = rows[-1:]
        self.pauses.take(held[:, 2], held[:, 1], faults)
        wanted = np.arange(self.expected, self.expected + len(rows), dtype=np.uint64)
        if not rows[:, 3].any() and np.array_equal(rows[:, 0], wanted):
            self._in_order(rows)
        else:
            for row in rows:
                self._one(row)

    def end(self, head: int) -> Verdict:
        """What the source has published and the sink has not is lost."""
        verdict = self.verdict
        if head > self.expected:
            verdict.lost += head - self.expected
            verdict.tell(f"the source has published {head} frames, the sink has {self.expected}")
        verdict.frames, verdict.output_cuts = self.expected, max(0, len(self._table) - 1)
        self.pauses.put(verdict)
        return verdict

    def _one(self, row: npt.NDArray[np.uint64]) -> None:
        seq, gap, verdict = int(row[0]), int(row[3]), self.verdict
        if seq < self.expected:
            verdict.tell(f"output {seq} came where {self.expected} was due")
            if seq in self._missing and not gap:
                self._missing.discard(seq)
                verdict.lost -= 1
                verdict.reordered += 1
                self._compare(row[None, :])
            else:
                verdict.duplicated += 1
            return
        end = seq + gap
        if end > self.expected:
            verdict.lost += end - self.expected
            verdict.tell(f"outputs {self.expected} to {end - 1} are {'declared ' if gap else ''}lost")
            self._missing.update(range(self.expected, min(end, self.expected + MISSING - len(self._missing))))
            self.expected = end
        if not gap:
            self._in_order(row[None, :])

    def _in_order(self, rows: npt.NDArray[np.uint64]) -> None:
        self.expected = int(rows[-1, 0]) + 1
        self._compare(rows)

    def _compare(self, rows: npt.NDArray[np.uint64]) -> None:
        """With what a stream of one process would have there: 0 + 1 + ... + n words is n (n + 1) / 2 times the first one."""
        seqs = rows[:, 0]
        with np.errstate(over="ignore"):
            sums = seqs * (seqs + np.uint64(1)) // np.uint64(2) * np.uint64(SPREAD)
        wrong = (rows[:, 4] != seqs) | (rows[:, 5] != sums) | (rows[:, 6] != self._releases(rows))
        if wrong.any():
            self.verdict.mismatched += int(wrong.sum())
            at = int(np.argmax(wrong))
            found = rows[at].tolist()
            self.verdict.tell(f"output {found[0]}, epoch {found[1]}, is {found[4:]}; its sum should be {sums[at]}")

    def _releases(self, rows: npt.NDArray[np.uint64]) -> Column:
        """Whose output each row should be, by its epoch, if that owns its sequence; else NOBODY's."""
        found = np.full(len(rows), NOBODY, np.uint64)
        for epoch in np.unique(rows[:, 1]):
            if int(epoch) not in self._table:
                continue
            label, first = self._table[int(epoch)]
            later = [at for other, (_, at) in self._table.items() if other > int(epoch)]
            mine = (rows[:, 1] == epoch) & (rows[:, 0] >= first) & (rows[:, 0] < min(later, default=1 << 62))
            found[mine] = int(label.rpartition(".")[2])
        return found


class Follower:
    """Reads the sink's files as they grow."""

    def __init__(self, folder: Path, faults: Path) -> None:
        self._folder, self._faults = folder, faults
        self._read: dict[Path, int] = {}
        self.judge = Judge()

    def look(self) -> None:
        """What is complete; a file is taken away when a younger one exists and all of it is read."""
        found = files_of(self._folder)
        rows = [self._rows(path) for path in found]
        table = self._folder / "cuts.jsonl"  # after the rows: the sink writes a row's cut down before the row
        if table.exists():
            self.judge.table([line for line in table.read_text().splitlines(keepends=True) if line.endswith("\n")])
        happened = [json.loads(line) for line in self._faults.read_text().splitlines()] if self._faults.exists() else []
        for some in rows:
            self.judge.take(some, [(fault["at_ns"], fault["kind"]) for fault in happened])
        for path in found[:-1]:
            self._read.pop(path)
            path.unlink()

    def _rows(self, path: Path) -> npt.NDArray[np.uint64]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            data = file.read()
        data = data[: len(data) // ROW.size * ROW.size]
        self._read[path] = self._read.get(path, 0) + len(data)
        return np.frombuffer(data, "<u8").reshape(-1, 7)


def main(argv: Sequence[str]) -> int:
    """Follow, judge, write."""
    folder, ring, faults, out = map(Path, argv)
    follower = Follower(folder, faults)
    while not (folder / "ended").exists():
        follower.look()
        time.sleep(LOOK_S)
    follower.look()
    with Ring.open(ring, readonly=True) as source:
        verdict = follower.judge.end(source.head)
    out.write_text(json.dumps(asdict(verdict), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
