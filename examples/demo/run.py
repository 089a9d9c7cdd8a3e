"""`make demo`: the main job, end to end, in a private world of namespaces that ends with this program.

    SEED=7 SECONDS=60 RATE=32 python examples/demo/run.py

SEED decides every fault, SECONDS is how long the stream flows, RATE is megabytes a second. Exit status: 0 when every count that
must be zero is zero, 1 when one is not or the demo could not go on, 130 after Ctrl-C. Writes `demo-report.json` here.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from examples.lab import jail  # noqa: E402 - this file is also started by path, as `make demo` does

REPORT = Path("demo-report.json")
LOGS = Path("demo-logs")
KEPT = ("logs/*.log", "tank-*/**/*.log", "tank-*/run/observed.json", "tank-*/run/status/*.json", "tank-*/**/cuts.jsonl")
CGROUP = "halftrack-demo"
CGROUPS = Path("/sys/fs/cgroup")
MIN_SECONDS = 20.0  # two swaps take that long, whatever SECONDS says
MAX_RATE = 200  # MB/s; beyond, two cores do not carry the demo's own Python


def main() -> int:
    """Check, isolate, play, clear up."""
    try:
        seed, seconds, rate = _settings()
    except ValueError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if reason := jail.missing():
        print(f"demo: {reason}", file=sys.stderr)
        return 1
    clear_cgroups()
    cgroup = f"{CGROUP}-{os.getpid()}"
    print(f"demo: SEED={seed} SECONDS={seconds:g} RATE={rate:g}", flush=True)
    try:
        return jail.run_isolated(lambda: played(seed, seconds, int(rate * 1e6), cgroup))
    finally:
        clear_cgroups()


def played(seed: int, seconds: float, rate: int, cgroup: str) -> int:
    """The part inside the private world."""
    from examples.demo import display, report
    from examples.demo.director import Director, Settings
    from examples.demo.world import DemoFailed, World

    folder = Path("/run/halftrack-demo")
    settings = Settings(seed, seconds, rate)
    try:
        world = World(folder, seed, cgroup)
        with display.chosen() as shown:
            happened = Director(settings, world, shown).play()
        verdict = _judged(folder, happened.frames_in, world.environment())
        result = report.made(settings, happened, verdict, world.evidence)
    except DemoFailed as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        _keep(folder)
        return 1
    REPORT.write_text(json.dumps(result, indent=1) + "\n")
    print(report.in_words(result, happened, verdict))
    print(f"written to {REPORT}")
    if not report.right(result):
        _keep(folder)
        return 1
    return 0


def _judged(folder: Path, frames_in: int, environment: dict[str, str]) -> dict[str, object]:
    """The verdict of a process that sees the sink's folder and the recordings only."""
    found = sorted(folder.glob("tank-a/**/cuts.jsonl"))
    records = found[0].parent if found else folder / "nothing-recorded"
    out = folder / "verdict.json"
    argv = [sys.executable, "-m", "examples.demo.check", str(records), str(out), str(frames_in)]
    subprocess.run(argv, cwd=ROOT, env=environment, check=True)
    verdict: dict[str, object] = json.loads(out.read_text())
    return verdict


def _settings() -> tuple[int, float, float]:
    texts = {
        name: os.environ.get(name) or default for name, default in (("SEED", ""), ("SECONDS", "60"), ("RATE", "32"))
    }
    try:
        seed = int(texts["SEED"]) if texts["SEED"] else random.SystemRandom().randrange(1_000_000)
        seconds, rate = float(texts["SECONDS"]), float(texts["RATE"])
    except ValueError as error:
        raise ValueError(f"SEED is a whole number, SECONDS and RATE are numbers: {error}") from None
    if not (MIN_SECONDS <= seconds <= 86400 and 1 <= rate <= MAX_RATE):
        raise ValueError(f"SECONDS must be {MIN_SECONDS:g} to 86400, RATE 1 to {MAX_RATE} (MB/s)")
    return seed, seconds, rate


def clear_cgroups() -> None:
    """Remove the control groups of runs that are over, ours or one that was killed; those of a living run stay."""
    for folder, _, _ in os.walk(CGROUPS, topdown=False):  # which other runs may be clearing, too
        run = next((part for part in Path(folder).parts if part.startswith(f"{CGROUP}-")), "")
        pid = run.rpartition("-")[2]
        if not pid.isdigit() or (int(pid) != os.getpid() and Path(f"/proc/{pid}").exists()):
            continue
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _keep(folder: Path) -> None:
    """Put logs and last words of the hosts where a person can read them after the private world is gone."""
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir()
    for number, log in enumerate(sorted(path for pattern in KEPT for path in folder.glob(pattern))):
        shutil.copy(log, LOGS / f"{number:02}-{'-'.join(log.relative_to(folder).parts)}")
    print(f"demo: the logs are in {LOGS}/", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
