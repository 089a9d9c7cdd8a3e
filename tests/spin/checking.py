"""One exhaustive search: the trees out of the code, a verifier out of `swap.pml`, and what it says. Needs Debian's `spin` and a C compiler."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.spin import promela

MODEL = Path(__file__).with_name("swap.pml")
LIMIT_S = 1_500
MEMORY_MB = 6_000
_NEEDED = ("spin", "gcc")


@dataclass(frozen=True, slots=True)
class Case:
    """The bounds of a search. `delayed`: a record may arrive after newer ones were decided. `calm`: from each state to the end."""

    surge: int
    hosts: int
    faults: int
    delayed: bool = False
    aborts: bool = True
    calm: bool = True

    def __str__(self) -> str:
        words = f"surge {self.surge}, {self.hosts} host{'s' * (self.hosts > 1)}, {self.faults} faults"
        return words + (", late words" if self.delayed else "")


# One fault at any step, in a second or two each; and two of them, which is minutes and some hundred megabytes.
SHORT = tuple(Case(surge, hosts, 1) for hosts in (1, 2) for surge in (1, 2))
LONG = tuple(Case(surge, hosts, 2, delayed=hosts == 2) for hosts in (1, 2) for surge in (1, 2))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a search has found. `error` is empty when all of it holds; `story` is the shortest way there, a step a line."""

    case: str
    states: int
    depth: int
    memory_mb: float
    seconds: float
    error: str
    story: str

    def row(self) -> dict[str, object]:
        """For a file of results."""
        return asdict(self)


def missing() -> str:
    """What is not installed here; empty when nothing is."""
    return " and ".join(name for name in _NEEDED if shutil.which(name) is None)


def searched(case: Case, folder: Path) -> Verdict:
    """Every state that the model can come to, within the bounds of `case`; `folder` is where the verifier is built."""
    (folder / "decisions.h").write_text(promela.words())
    (folder / "decisions.c").write_text(promela.trees(case.surge))
    shutil.copy(MODEL, folder)
    values = {
        "SURGE": case.surge,
        "HOSTS": case.hosts,
        "FAULTS": case.faults,
        "ABORTS": int(case.aborts),
        "CALM": int(case.calm),
        "DELAYED": int(case.delayed),
    }
    _done(folder, "spin", *(f"-D{name}={value}" for name, value in values.items()), "-a", MODEL.name)
    # Breadth first, so that a counterexample is the shortest; no partial order reduction, as every step may be seen by all.
    options = ("-DBFS", "-DSAFETY", "-DNOREDUCE", "-DVECTORSZ=256", f"-DMEMLIM={MEMORY_MB}")
    effort = "-O1" if case.faults > 1 else "-O0"  # a short search is over before an optimising compiler would be
    _done(folder, "gcc", effort, "-w", *options, "-o", "pan", "pan.c")
    said = _done(folder, "./pan", "-w22", "-m200000")
    trail = folder / f"{MODEL.name}.trail"
    story = _done(folder, "./pan", "-r", trail.name, may_fail=True) if trail.exists() else ""
    return _verdict(str(case), said, story)


def _verdict(case: str, said: str, story: str) -> Verdict:
    def number(pattern: str) -> float:
        found = re.findall(pattern, said)
        return float(found[-1]) if found else -1.0

    failed = re.search(r"pan:\d+: (.*?)\s+\(at depth", said)
    whole = number(r"errors: (\d+)") == 0 and "Search not completed" not in said
    error = failed[1] if failed else "" if whole else "the search did not end"
    lines = [line.strip() for line in story.splitlines() if " -> " in line and line.startswith("  ")]
    return Verdict(
        case,
        int(number(r"(\d+) states, stored")),
        int(number(r"depth reached (\d+)")),
        number(r"([\d.]+)\s+total actual memory"),
        max(number(r"elapsed time ([\d.e-]+)"), 0.0),
        error,
        "\n".join(lines),
    )


def _done(folder: Path, *command: str, may_fail: bool = False) -> str:
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False
    )
    if ended.returncode and not may_fail:
        raise RuntimeError(f"{command[0]} ended with {ended.returncode}: {(ended.stdout + ended.stderr)[-2000:]}")
    return ended.stdout
