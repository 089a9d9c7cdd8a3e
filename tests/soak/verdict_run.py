"""`python -m tests.soak.verdict_run`: releases that ask for a verdict on themselves, as greens of a pair on two hosts; swap-verdict.json says how each ended, and why.

    make swap-verdict CASES=2

CASES says how many, the last included; 0: all. Hosts, stream and the judge of frames are the swap soak's (`swap_run`). Exit status 1 when a green counted that must not, or did not that may, when its diff
was not told, or when a frame was lost, doubled, out of order or wrong.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from examples.demo.world import DemoFailed
from tests.soak import swap_run
from tests.soak.swap_run import Report, Soak
from tests.soak.two_hosts import isolated

RATE = int(os.environ.get("RATE") or 250)
FRAMES = 40  # that a verdict looks at
NEAR = [["number", "<u8"], ["sum", "<u8", 1, "8"], ["release", "<u8", 1, "99"]]


@dataclass(frozen=True)
class Case:
    """A green: what it does otherwise, what it is asked, how it ends, and what is told of it; `diff`: in each line of the diff."""

    name: str
    verdict: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    ends: str = "failed"
    told: str = ""
    diff: str = ""


DIFFERS = "differ from 1.0.0's by more than they may"
CASES = (
    Case("off on the other host", {"check": "tolerance", "fields": NEAR}, {"off": 9, "only": "tank-b"}, told="on tank-b differ", diff="sum: "),
    # Its release's number is in every output, so no other release is ever its equal.
    Case("equal", {"check": "equal"}, told=DIFFERS, diff="frame "),
    Case("breaks its invariant", {"check": "invariant", "entry": "swap_stream:sane"}, {"off": 1}, told="break its invariant", diff="due is"),
    Case("slow", {"latency_p99_percent": 120}, {"slow_us": 3_000}, told="99 of 100 outputs of sums"),
    Case("within its tolerance", {"check": "tolerance", "fields": NEAR}, ends="succeeded"),
)  # fmt: skip


@dataclass
class Verdicts:
    """swap-verdict.json. `ended` has, by case, how it ended and what was told."""

    ended: dict[str, list[str]] = field(default_factory=dict)
    wrong_ends: list[str] = field(default_factory=list)
    frames: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    mismatched: int = 0
    output_cuts: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)
    missing: str = ""

    @property
    def wrong(self) -> bool:
        """Is anything there that must not be?"""
        counts = self.lost or self.duplicated or self.reordered or self.mismatched
        return bool(counts or self.wrong_ends or self.missing or self.output_cuts != 1)

    def text(self) -> str:
        """In one line."""
        return (
            f"{len(self.ended)} greens judged on two hosts, {len(self.wrong_ends)} of them wrongly, {self.frames} frames in {self.seconds:.0f} s; "
            f"lost {self.lost}, duplicated {self.duplicated}, reordered {self.reordered}, mismatched {self.mismatched}"
        )


class VerdictRun(Soak):
    """One run, inside its own world."""

    troubles = False

    def __init__(self, cases: int, cgroup: str) -> None:
        self._cases = (*CASES[: cases - 1], CASES[-1]) if cases else CASES
        super().__init__(0, len(self._cases), 1, cgroup)
        self.verdicts = Verdicts()

    def graph(self) -> str:
        """At a pace at which a green can be slow and yet keep up."""
        return swap_run.GRAPH % (RATE, 40_000)

    def _swap(self, number: int) -> None:
        case, version = self._cases[number - 1], f"1.0.{number}"
        params = {"release": number, "snapshot_every": 64, **case.params}
        asked = {"frames": FRAMES, **case.verdict}
        self._publish("sums", version, "Sums", params, "sums/1", surge=2, verdict=asked)
        self.until(
            f"the rollout of {version}", lambda: self._phase(version) in ("succeeded", "failed", "aborted"), 60.0
        )
        ended, why = self._phase(version), str(self._heard["reasons"][f"sums {version}"])
        first, *diff = why.splitlines()
        self.verdicts.ended[case.name] = [ended, why]
        told = case.told in first and (not case.diff or (diff and all(case.diff in line for line in diff)))
        if ended != case.ends or not told:
            self.verdicts.wrong_ends.append(f"{case.name} {ended}: {why}")
        print(f"swap-verdict: {case.name}: {ended}: {first}", file=sys.stderr, flush=True)


def played(cases: int, cgroup: str, out: Path) -> int:
    """The part inside the private world."""
    run, began = VerdictRun(cases, cgroup), time.monotonic()
    try:
        report: Report = run.play()
    except DemoFailed as error:
        print(f"swap-verdict: {error}", file=sys.stderr)
        swap_run.show_logs()
        return 1
    found = run.verdicts
    for name in ("frames", "lost", "duplicated", "reordered", "mismatched", "output_cuts", "examples", "missing"):
        setattr(found, name, getattr(report, name))
    found.seconds = round(time.monotonic() - began, 1)
    out.write_text(json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n")
    print(f"swap-verdict: {found.text()}", flush=True)
    for example in [found.missing, *found.wrong_ends, *found.examples]:
        if example:
            print(f"swap-verdict: {example}", file=sys.stderr)
    if found.wrong:
        swap_run.show_logs()
    return int(found.wrong)


def main() -> int:
    """As the environment says."""
    cases = int(os.environ.get("CASES") or 0)
    return isolated("swap-verdict", lambda cgroup, out: played(cases, cgroup, out))


if __name__ == "__main__":
    sys.exit(main())
