"""One line from what `make bench` has measured: `summary.py bench.jsonl bench-micro.json`. Exit 1 when a count was off."""

import json
import sys
from pathlib import Path


def main(lines: Path, micro: Path) -> int:
    """Print the line."""
    cases = [json.loads(line) for line in lines.read_text().splitlines()]
    said = [f"ring {case['case']}: {case['ours']:,} {case['unit']} ({case['ratio']} x the best peer)" for case in cases]
    for measured in json.loads(micro.read_text())["benchmarks"]:
        name = measured["name"].removeprefix("test_").replace("_", " ")
        said.append(f"{name}: {measured['stats']['median'] * 1e6:.1f} µs")
    print("bench: " + "; ".join(said))
    return int(any(not case["ratio"] for case in cases))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
