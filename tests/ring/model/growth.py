"""Records that grow, in small steps, for the explorer: ht_publish and ht_grow against ht_describe, as in native/ring_protocol.h.

Two descriptor places are used in turn, so a reader finds in the next one either what an older record left there, or where its record
ends. Frames of record n lie at words `n.0`, `n.1`, ...; a frame's content is its sequence plus one. `without` leaves one rule out.
"""

from collections.abc import Callable

from tests.ring.model.explorer import Program, Step, barrier, go, let, load, mark, must, store, until, when

FRAMES = (
    5  # sequences 0, 1 are record 0's; 2, 3 record 1's; 4 is record 2's, whose descriptor takes the place of record 0's
)
RECORD = (0, 0, 1, 1, 2)
FIRST = (0, 2, 4)
OLD = -8  # what an older record left in the descriptor's place: a lower sequence
WORDS = {
    "head": 0,
    "tail": 0,
    "seq0": OLD,
    "seq1": OLD,
    **{f"{RECORD[n]}.{n - FIRST[RECORD[n]]}": 0 for n in range(FRAMES)},
}


def place(seq: int) -> str:
    return f"{RECORD[seq]}.{seq - FIRST[RECORD[seq]]}"


def writer(without: str = "") -> Program:
    """Publishes all frames, each a record of its own or a part of the newest; nobody gates it, so record 2 reclaims record 0."""
    steps: list[Step] = []
    for seq in range(FRAMES):
        steps += [store(place(seq), seq + 1)]
        if seq in FIRST:
            if RECORD[seq] == 2:  # SYNC: bytes reclaimed
                steps += [store("tail", FIRST[1], release=True), *([] if "reclaimed" in without else [barrier()])]
            describe = store(f"seq{RECORD[seq] % 2}", seq)
            steps += [describe] if "descriptor first" not in without else []
            steps += [store("head", seq + 1, release=True)]  # SYNC: frame visible
            steps += [describe] if "descriptor first" in without else []
        else:
            steps += [store("head", seq + 1, release="release" not in without)]
    return Program("writer", tuple(steps))


def reader(without: str = "") -> Program:
    """Reads from record to record, as a lossy reader does: ht_locate for what it knows, then what it copies is asked for its wholeness."""
    steps: list[Step] = [let("at", lambda _: 0)]
    for record in (0, 1):
        known, following = f"seq{record % 2}", f"seq{(record + 1) % 2}"
        steps += [
            mark(f"look {record}"),
            until(lambda memory, r: memory["head"] > r["at"]),
            *([load("next", following)] if "head first" in without else []),
            load("head", "head"),
            *([] if "head first" in without else [load("next", following)]),
            load("first", known),
            let("end", lambda r: r["next"] if r["first"] < r["next"] < r["head"] else r["head"]),
            let("end", lambda r: r["head"] if "next" in without else r["end"]),
            load("tail", "tail"), when(lambda r: r["tail"] > r["at"], "behind"),
            mark(f"take {record}"),
            load("seen", _of(record)),
            load("tail", "tail"), when(lambda r: r["tail"] > r["at"], "behind"),
            must(lambda r: r["seen"] == r["at"] + 1, "a frame was looked for where it is not"),
            let("at", lambda r: r["at"] + 1),
            when(lambda r: r["at"] < r["end"], f"take {record}"),
            when(lambda r, last=FIRST[record + 1]: r["at"] < last, f"look {record}"),
        ]  # fmt: skip
    return Program("reader", (*steps, go("behind"), mark("behind")))


def _of(record: int) -> Callable[[dict[str, int]], str]:
    """Where a reader looks for sequence `at`, which it believes to be this record's; past the record's end lies nothing of it."""

    def word(registers: dict[str, int]) -> str:
        name = f"{record}.{registers['at'] - FIRST[record]}"
        return name if name in WORDS else "nowhere"

    return word
