"""The rewire soak's judge. It reads the sinks' files, and the director's word on who was to read whom from which number on; nothing else of Halftrack.

Each sink must have every number once, in order, with the marks of exactly what was in force at that number, and the word that these make. A
vertex's release may change once from one number to the next, never back, and all sinks must have seen it change at the same one.
"""

import itertools
import json
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.soak import rewire_wiring
from tests.soak.rewire_stream import MARK, MASK, ROW, folded, word_of
from tests.soak.rewire_wiring import History, Input

MISSING = 4096  # lost numbers that are remembered, to tell late from double
EXAMPLES = 20


@dataclass
class Verdict:
    """What must be zero, and the first that were not."""

    frames: int = 0
    rows: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    mismatched: int = 0
    boundaries: int = 0
    examples: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        """One more thing that must not be."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)

    @property
    def wrong(self) -> int:
        """How much is."""
        return self.lost + self.duplicated + self.reordered + self.mismatched


@dataclass(frozen=True)
class Asked:
    """What the director has asked for. `main` is the sink that has every frame of the sum; `tables`: a pair's releases and from when on each counted."""

    history: History
    marks: Mapping[str, int]
    sums: str
    main: str
    lasting: Sequence[str]
    head: int
    tables: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)

    @staticmethod
    def of(tree: Mapping[str, Any]) -> "Asked":
        """From JSON."""
        history = {
            name: [(first, tuple(Input(**each) for each in inputs)) for first, inputs in rows]
            for name, rows in tree["history"].items()
        }
        names = ("marks", "sums", "main", "lasting", "head", "tables")
        return Asked(history, **{name: tree[name] for name in names})


class Judge:
    """Takes one sink after the other, `main` first."""

    def __init__(self, asked: Asked) -> None:
        self.asked, self.verdict = asked, Verdict()
        self._firsts = sorted({first for rows in asked.history.values() for first, _ in rows})
        self._parts = sorted({each.of for rows in asked.history.values() for _, given in rows for each in given} - {0})
        self._ways: dict[tuple[str, int, tuple[int, ...]], list[str]] = {}
        self._sums: list[int] = []
        self._seen: dict[tuple[str, int], tuple[int, int]] = {}  # vertex, release -> the first and last number with it
        self.verdict.boundaries = len(self._firsts) - 1

    def take(self, sink: str, rows: Iterator[tuple[Any, ...]]) -> None:
        """All rows of a sink."""
        verdict, lasts = self.verdict, sink in self.asked.lasting
        expected = 0 if lasts else None
        missing: set[int] = set()
        for seq, gap, number, word, length, marks in rows:
            verdict.rows += 1
            end = seq + max(gap, 1)
            first = seq if expected is None else expected
            if seq < first:
                late = seq in missing and not gap
                missing.discard(seq)
                verdict.lost -= late
                verdict.reordered += late
                verdict.duplicated += not late
                verdict.tell(f"{sink}: {seq} came where {first} was due")
                continue
            if not lasts and expected is None:
                first = end if gap else seq  # who comes late is told where the stream begins for it
            if lost := (seq if not gap else end) - first:
                verdict.lost += lost
                missing.update(range(first, min(first + lost, first + MISSING)))
                verdict.tell(f"{sink}: {first} to {first + lost - 1} are {'declared ' if gap else ''}lost")
            if not gap:
                self._compare(sink, seq, number, word, marks[:length], length)
            expected = end
        if lasts and (expected or 0) < self.asked.head:
            verdict.lost += self.asked.head - (expected or 0)
            verdict.tell(f"{sink}: the source has published {self.asked.head} frames, it has {expected}")
        if not lasts and expected is None:
            verdict.lost += 1
            verdict.tell(f"{sink}: it has nothing at all")
        verdict.frames = self.asked.head

    def end(self) -> Verdict:
        """After all sinks: where releases have changed."""
        by_vertex: dict[str, list[tuple[int, int, int]]] = {}
        for (name, release), (first, last) in self._seen.items():
            by_vertex.setdefault(name, []).append((release, first, last))
        for name, found in by_vertex.items():
            found.sort()
            for (old, _, last), (new, first, _) in itertools.pairwise(found):
                if last >= first:
                    self.verdict.mismatched += 1
                    self.verdict.tell(f"{name}: release {old} still at {last}, {new} already at {first}")
            self._tabled(name, found)
        return self.verdict

    def _tabled(self, name: str, found: Sequence[tuple[int, int, int]]) -> None:
        table = sorted(self.asked.tables.get(name, ()))
        if not table:
            return
        for (at, release), later in zip(table, [*table[1:], (1 << 62, 0)], strict=True):
            for mine, first, last in found:
                if mine == release and not (at <= first and last < later[0]):
                    self.verdict.mismatched += 1
                    self.verdict.tell(
                        f"{name}: release {release} counts from {at} to {later[0] - 1}, seen {first} to {last}"
                    )

    def _way(self, sink: str, number: int) -> list[str]:
        """What the frame has passed."""
        key = (
            sink,
            bisect_right(self._firsts, number),
            tuple(rewire_wiring.part_of(number, of) for of in self._parts),
        )
        if key not in self._ways:
            found = list(rewire_wiring.ways_at(self.asked.history, sink, number))
            self._ways[key] = found[0] if len(found) == 1 else []
        return self._ways[key]

    def _compare(self, sink: str, seq: int, number: int, word: int, marks: bytes, length: int) -> None:
        way = [name for name in self._way(sink, seq) if self.asked.marks.get(name)]
        found = list(MARK.iter_unpack(marks)) if length % MARK.size == 0 and length <= len(marks) else []
        right = number == seq and [who for who, _ in found] == [self.asked.marks[name] for name in way]
        if right:
            for name, (_, release) in zip(way, found, strict=True):
                first, last = self._seen.get((name, release), (seq, seq))
                self._seen[name, release] = min(first, seq), max(last, seq)
            right = word == self._word(sink, seq, way, [release for _, release in found])
        if not right:
            self.verdict.mismatched += 1
            self.verdict.tell(f"{sink}: {seq} is number {number}, has passed {found}, word {word:x}; due is {way}")

    def _word(self, sink: str, seq: int, way: Sequence[str], releases: Sequence[int]) -> int:
        word = word_of(seq)
        for name, release in zip(way, releases, strict=True):
            if name != self.asked.sums:
                word = folded(word, self.asked.marks[name], release)
                continue
            if sink == self.asked.main and seq == len(self._sums):
                self._sums.append(((self._sums[-1] if seq else 0) + word) & MASK)
            word = self._sums[seq] if seq < len(self._sums) else -1
        return word


def rows_of(path: Path) -> Iterator[tuple[Any, ...]]:
    """A sink's rows, whole ones only."""
    data = path.read_bytes()
    return ROW.iter_unpack(data[: len(data) // ROW.size * ROW.size])


def judged(asked: Asked, sinks: Mapping[str, Path]) -> Verdict:
    """All of it."""
    judge = Judge(asked)
    for name in sorted(sinks, key=lambda each: (each != asked.main, each)):
        judge.take(name, rows_of(sinks[name]) if sinks[name].exists() else iter(()))
    return judge.end()


def main(argv: Sequence[str]) -> int:
    """`asked.json verdict.json`: judge, write."""
    tree = json.loads(Path(argv[0]).read_text())
    found = judged(Asked.of(tree), {name: Path(path) for name, path in tree["sinks"].items()})
    Path(argv[1]).write_text(json.dumps(asdict(found), indent=1) + "\n")
    return int(found.wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
