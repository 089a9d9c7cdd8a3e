"""One line from what was measured: `summary.py bench-ring.jsonl bench-micro.json`. Exit 1 when a count was off.

Owns what counts as wrong (a figure of 0: frames lost, repeated, reordered or changed) and as missed (a bar). Never measures.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path


def wrong(lines: Sequence[dict]) -> list[str]:
    """The carriers that got something wrong, ours or a peer."""
    return [
        f"{line['case']}: {name}"
        for line in lines
        for name, figure in {"ours": line["ours"], **line["peers"]}.items()
        if figure == 0
    ]


def missed(lines: Sequence[dict]) -> list[str]:
    """The cases that do not reach their bars."""
    return [line["case"] for line in lines if not line["ok"]]


def missing(lines: Sequence[dict]) -> list[str]:
    """The peers that are not installed."""
    return sorted({name for line in lines for name, figure in line["peers"].items() if figure is None})


def of_ring(lines: Sequence[dict], name: str = "bench-ring") -> str:
    """The line of `make bench-ring`, or of another run with such cases."""
    said = [f"{name}: {sum(line['ok'] for line in lines)} of {len(lines)} cases reach their bars"]
    for word, names in (("missed", missed(lines)), ("WRONG", wrong(lines)), ("not installed", missing(lines))):
        said += [f"{word}: {', '.join(names)}"] if names else []
    return "; ".join(said)


def of_micro(measured: dict) -> str:
    """The line of the micro benchmarks."""
    said = [
        f"{each['name'].removeprefix('test_').replace('_', ' ')}: {each['stats']['median'] * 1e6:.1f} µs"
        for each in measured["benchmarks"]
    ]
    return "bench-micro: " + "; ".join(said)


def main(ring: Path, micro: Path) -> int:
    """Print the lines."""
    lines = [json.loads(line) for line in ring.read_text().splitlines()]
    print(of_ring(lines))
    print(of_micro(json.loads(micro.read_text())))
    return int(bool(wrong(lines)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
