"""The ring against its peers: every case of benchmarks/cases.py, in one run on one machine.

    python benchmarks/ring.py [--json] [--quick] [--strict] [--only WORD] [--placement near|far] [--write FILE]

Owns the order of things and what is printed: a table for people, or with --json a line a case. Exit status 1 when any count, order or
byte was off; with --strict also when a bar is missed.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: `benchmarks` is not installed

from benchmarks import cases, summary
from benchmarks.compiled import program
from benchmarks.race import Missing, medians

ROUNDS = 5
AWAIT_S, TRIES = 60.0, 3
QUICK = 0.01  # of the full counts


def chosen() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="the ring against its peers")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of the table")
    parser.add_argument(
        "--quick", action="store_true", help="a hundredth of the frames, one round: does it run at all?"
    )
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help=f"rounds of each case ({ROUNDS})")
    parser.add_argument("--strict", action="store_true", help="exit status 1 also when a bar is missed")
    parser.add_argument("--only", default="", metavar="WORD", help="only cases with this in their name")
    parser.add_argument("--placement", choices=["near", "far"], help="wait for it before each case, for a minute")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the JSON lines there as well")
    return parser.parse_args()


def main(all_cases: Callable[[float], list[cases.Case]] = cases.all_cases, name: str = "bench-ring") -> int:
    """Measure and print."""
    options = chosen()
    try:
        program("floor")
    except Missing as why:
        print(f"the benchmarks need a C compiler: {why}", file=sys.stderr)
        return 2
    print(f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} processors", file=sys.stderr)
    lines = []
    for case in all_cases(QUICK if options.quick else 1.0):
        if options.only not in case.name:
            continue
        rounds = options.rounds or (1 if options.quick else ROUNDS)
        placement, figures, reasons = settled(case, rounds, options.placement)
        lines.append(case.line(figures, placement))
        for reason in reasons:
            print(f"{case.name}: {reason}", file=sys.stderr)
        print(json.dumps(lines[-1], ensure_ascii=False) if options.json else table(case, lines[-1]), flush=True)
    if options.write:
        options.write.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print(summary.of_ring(lines, name), file=sys.stderr if options.json else sys.stdout)
    return int(bool(summary.wrong(lines) or (options.strict and summary.missed(lines))))


def settled(case: cases.Case, rounds: int, wanted: str | None) -> tuple[str, dict[str, float | None], list[str]]:
    """A case's placement, figures and reasons. Virtual processors are moved about: what ended elsewhere than it began is measured again, twice at
    most; and if a placement is wanted, it is waited for, for a minute."""
    end = time.monotonic() + AWAIT_S
    for _ in range(TRIES):
        while (before := cases.placement()) != wanted and wanted and time.monotonic() < end:
            pass
        figures, reasons = medians({"ours": case.ours, **case.peers}, rounds)
        if cases.placement() == before:
            break
    return before, figures, reasons


def table(case: cases.Case, line: dict) -> str:
    """A case for people: ours, then a row a peer with its ratio and bar."""
    bar = f", at most {case.most:g}" if case.most is not None else ""
    rows = [
        f"{case.name}: {_figure(line['ours'])} {case.unit}{bar}  [{line['placement']}]{'' if line['ok'] else '  MISSED'}"
    ]
    for name, figure in line["peers"].items():
        row = f"    {name:<34}{_figure(figure):>10} {case.unit}" if figure is not None else f"    {name:<34}   missing"
        ratio, wanted = line["ratio"].get(name), line["bar"].get(name) if isinstance(line["bar"], dict) else None
        if ratio is not None and wanted is not None:
            reached = ratio <= wanted if case.falling else ratio >= wanted
            row += f"   ratio {ratio:<8g} {'at most' if case.falling else 'at least'} {wanted:g}{'' if reached else '  MISSED'}"
        rows.append(row)
    return "\n".join(rows)


def _figure(value: float | None) -> str:
    return "missing" if value is None else "WRONG" if value == 0 else f"{value:,.4g}"


if __name__ == "__main__":
    sys.exit(main())
