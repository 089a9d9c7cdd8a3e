"""`python -m tests.crash.run`: the real agent, its shims and the real controller, killed at POINTS boundaries (each write, sync, rename, removal and start of a process is
one), started again, and judged; crash-matrix.json says what came of it. Exit status 1 when one did not converge.

    make crash-matrix POINTS=1000 SEED=1
    make crash-matrix POINTS=1000 SEED=1 FROM=400                    the same thousand, without the first 400
    make crash-matrix ONLY='first plan, agent #85 power torn 7'      one point again, or several, with `;` between; the 7 is its seed

Which boundaries is decided by SEED, from those that a run without a fault has. What did not converge is told by the name that ONLY takes; a run is not the
same to the last write, so that a number may be another boundary the next time. Where the power fails, everything that runs on the victim's machine dies
with it, and its disk keeps what was synced (`power`). All of it happens in a private world, on a disk in memory.
"""

import json
import os
import random
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from examples.lab import kernel
from tests.crash import power
from tests.soak.two_hosts import isolated

POINTS = int(os.environ.get("POINTS") or 1000)
FROM = int(os.environ.get("FROM") or 0)
ONLY = os.environ.get("ONLY") or ""
SEED = int(os.environ.get("SEED") or 1)
JOBS = int(os.environ.get("JOBS") or 2 * (os.cpu_count() or 1))  # most of a point's time is waiting
SOURCE = Path(__file__).with_name("boundaries.c")
FOLDER = Path("/run/crash")
HOWS = {"killed": 0, "half written": 1, "disk failed": 2, "power lost": 0, "power torn": 0}  # in `boundaries.c`'s words
EXAMPLES = 20
NAMED = ("artifacts", "instances", "data", "logs")  # folders of things with names of their own


@dataclass(frozen=True)
class Point:
    """One of the matrix: the boundary of that number in a scenario, and what happens there."""

    scenario: str
    number: int
    how: str
    seed: int

    def __str__(self) -> str:
        return f"{self.scenario} #{self.number} {self.how} {self.seed}"


def points_of(text: str) -> list[Point]:
    """Points by the names that they are told by; ValueError for what is none. Without a seed: 0."""
    found = []
    for name in filter(None, map(str.strip, text.split(";"))):
        match = re.fullmatch(rf"(.+) #(\d+) ({'|'.join(HOWS)})(?: (\d+))?", name)
        if match is None:
            raise ValueError(f"{name!r} is no point: write 'SCENARIO #NUMBER {' | '.join(HOWS)} [SEED]'")
        found.append(Point(match[1], int(match[2]), match[3], int(match[4] or 0)))
    return found


@dataclass
class Outcome:
    """What came of a point. `boundary` is where it was struck; empty when the run had come to its end before."""

    point: Point
    boundary: str
    wrong: list[str]
    seconds: float


@dataclass
class Matrix:
    """crash-matrix.json."""

    seed: int
    points: int = 0
    converged: int = 0
    missed: int = 0  # drawn, but that run had fewer boundaries: not counted as points
    seconds: float = 0.0
    by_boundary: list[dict[str, object]] = field(default_factory=list)
    by_kind: dict[str, int] = field(default_factory=dict)
    by_scenario: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)


def drawn(counts: dict[str, int], weights: dict[str, int], powered: set[str], points: int, seed: int) -> list[Point]:
    """So many points, by weight of their scenarios; of each scenario, its boundaries in turn from a place that the seed says, so that none is left out
    for as long as there are points enough."""
    rng, found = random.Random(seed), []
    names = [name for name in weights for _ in range(weights[name])]
    rng.shuffle(names)
    orders = {name: rng.sample(range(1, count + 1), count) for name, count in counts.items()}
    taken: Counter[str] = Counter()
    for n in range(points):
        name = names[n % len(names)]
        turn, at = divmod(taken[name], counts[name])
        taken[name] += 1
        how = list(HOWS)[(turn + rng.randrange(len(HOWS))) % len(HOWS)]
        if name not in powered and how.startswith("power"):
            how = "killed"
        found.append(Point(name, orders[name][at], how, rng.randrange(1 << 32)))
    return found


def boundary_of(side: str, root: str, what: str, path: str) -> str:
    """What a boundary is called: whose, which call, and on which kind of file."""
    if not path:
        return f"{side} {what}"
    parts = [part.removeprefix(".").removesuffix(".new") for part in path.removeprefix(root).split("/")[1:]]
    if parts and parts[0] in NAMED and len(parts) > 1:  # one of many
        parts[1:] = parts[2:] or ["part" if parts[1].endswith(".part") else "…"]
    return f"{side} {what} {'/'.join(parts) or 'state folder'}"


def library(folder: Path) -> Path:
    """boundaries.so."""
    built = folder / "boundaries.so"
    command = [
        os.environ.get("CC", "gcc"),
        "-std=gnu11",
        "-shared",
        "-fPIC",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
    ]
    subprocess.run([*command, str(built), str(SOURCE), "-ldl", "-lpthread"], check=True)
    return built


class Worker:
    """Plays points, one after the other."""

    def __init__(self, number: int, cgroup: str) -> None:
        self._folder, self._cgroup, self._runs = FOLDER / f"worker-{number}", f"{cgroup}/{number}", 0

    def counted(self, name: str) -> int:
        """How many boundaries a run of that scenario has that nothing befalls."""
        from tests.crash.stage import UNHARMED, Stuck

        scenario, stage = self._staged(name)
        try:
            victim = scenario.play(stage, UNHARMED)
        except Stuck:
            print("\n".join(_last_words(stage)), file=sys.stderr)
            raise
        count = sum(record.kind is power.Kind.POINT for record in victim.records())
        stage.clear()
        return count

    def played(self, point: Point) -> Outcome:
        """Strike, look, start again, judge."""
        from tests.crash.stage import Stuck

        began = time.monotonic()
        scenario, stage = self._staged(point.scenario)
        where: list[str] = []
        try:
            wrong = _struck(scenario, stage, point, where)
        except Stuck as error:
            wrong = [str(error), *_last_words(stage)]
        except Exception:  # noqa: BLE001 - one point must not end the matrix
            wrong = [traceback.format_exc()]
        stage.clear()
        return Outcome(point, "".join(where) or ("?" if wrong else ""), wrong, time.monotonic() - began)

    def _staged(self, name: str):  # type: ignore[no-untyped-def]
        from tests.crash import scenarios
        from tests.crash.stage import Stage, copied

        self._runs += 1
        scenario = next(each for each in scenarios.SCENARIOS if each.name == name)
        stage = Stage(self._folder / str(self._runs), self._cgroup)
        copied(FOLDER / "bases" / scenario.base, stage)
        return scenario, stage


def _struck(scenario, stage, point, where):  # type: ignore[no-untyped-def]
    from tests.crash import judging
    from tests.crash.stage import UNHARMED, Strike, until

    disk = stage.disk(scenario.side)
    victim = scenario.play(stage, Strike(point.number, HOWS[point.how]))
    log = victim.records()
    hit = [record for record in log if record.kind is power.Kind.POINT and record.offset == point.number]
    if not hit:
        return []
    boundary = boundary_of(scenario.victim or scenario.side, str(stage.roots[scenario.side]), hit[0].name, hit[0].other)
    where.append(boundary)
    if wrong := _not_ended(victim, point, boundary):
        return wrong
    victim.end()
    if point.how.startswith("power") and (hit[0].name, Path(hit[0].other).name) == ("fsync", "store.db-wal"):
        stage.forget_unsynced(log)
    was, kept = judging.before(stage), ()
    if point.how.startswith("power"):
        for record in log:
            disk.apply(record)
        stage.put(scenario.side, disk.lost() if point.how == "power lost" else disk.torn(random.Random(point.seed)))
    else:
        kept = tuple(was.running.keys() - scenario.ends)
    on_disk = stage.unsent()[1]
    wrong = list(judging.durable(stage, was))
    scenario.play(stage, UNHARMED)
    until(lambda: scenario.done(stage), "it comes to its end")
    wrong += [*judging.converged(stage, was, kept, on_disk), *scenario.wrong(stage)]
    return [*wrong, *_last_words(stage)] if wrong else []


def _not_ended(victim, point, boundary):  # type: ignore[no-untyped-def]
    """Killed, or gone by itself because its disk has failed. A controller that could not keep an upload says so to whoever sent it, and stays."""
    from tests.crash.stage import Child, until

    if not isinstance(victim, Child):
        return []  # its agent sees it end; what a shim cannot keep costs the word of how a workload ended
    if point.how != "disk failed" or " fsync " not in boundary:
        return [] if victim.end(0) == -9 else [f"it ended by itself, with status {victim.status}"]
    if "controller" in boundary and (" artifacts" in boundary or " state folder" in boundary):
        return []  # of a folder that could not be synced, SQLite tells nobody
    until(victim.ended, "it ends when its disk has failed", 30)
    return [] if victim.status == 3 else [f"its disk has failed, and it ended with status {victim.status}"]


def _last_words(stage) -> list[str]:  # type: ignore[no-untyped-def]
    return [f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in sorted(stage.folder.glob("*.log"))]


def inside(cgroup: str, out: Path) -> int:
    """The part with the library, in the private world: prepare, fork workers, add up."""
    from tests.crash import scenarios

    began = time.monotonic()
    points = points_of(ONLY)
    names = {point.scenario for point in points} or set(filter(None, (os.environ.get("SCENARIOS") or "").split(";")))
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    chosen = [scenario for scenario in scenarios.SCENARIOS if not names or scenario.name in names]
    if unknown := names - {scenario.name for scenario in chosen}:
        known = "; ".join(scenario.name for scenario in scenarios.SCENARIOS)
        print(f"crash-matrix: no such scenario: {'; '.join(unknown)}. There are: {known}", file=sys.stderr)
        return 2
    scenarios.prepare(FOLDER / "bases", cgroup, frozenset(scenario.base for scenario in chosen))
    if not points:
        counter = Worker(0, cgroup)
        counts = {scenario.name: counter.counted(scenario.name) for scenario in chosen}
        told = f"boundaries of a run: {counts}, after {time.monotonic() - began:.0f} s"
        print(f"crash-matrix: {told}", file=sys.stderr, flush=True)
        weights = {scenario.name: scenario.weight for scenario in chosen}
        points = drawn(counts, weights, {s.name for s in chosen if s.power}, POINTS, SEED)[FROM:]
    matrix, outcomes = Matrix(SEED), list[Outcome]()
    for outcome in _all(points, cgroup):
        outcomes.append(outcome)
        if outcome.wrong:
            told = f"{outcome.point} at {outcome.boundary}: {outcome.wrong[0][:300]}"
            print(f"crash-matrix: {len(outcomes)} of {len(points)}: {told}", file=sys.stderr, flush=True)
        ended = len(outcomes) == len(points)
        matrix = added(points if ended else [outcome.point for outcome in outcomes], outcomes)
        matrix.seconds = round(time.monotonic() - began, 1)
        _write(matrix, out)  # each time: who ends it early has what there is
    if len(outcomes) < len(points):  # a worker has died
        matrix = added(points, outcomes)
        _write(matrix, out)
    failed = matrix.points - matrix.converged
    print(
        f"crash-matrix: {matrix.points} points at {len(matrix.by_boundary)} kinds of boundaries, {matrix.converged} converged, {failed} did not, "
        f"seed {SEED}, {matrix.seconds:.0f} s",
        flush=True,
    )
    for example in matrix.examples:
        print(f"crash-matrix: {example}", file=sys.stderr)
    return int(failed > 0 or matrix.points == 0)


def _write(matrix: Matrix, out: Path) -> None:
    out.write_text(json.dumps(asdict(matrix), indent=1, ensure_ascii=False) + "\n")


def _all(points: Sequence[Point], cgroup: str) -> Iterator[Outcome]:
    """All outcomes as they come, by JOBS forked workers."""
    jobs = min(JOBS, len(points))
    with selectors.DefaultSelector() as readers:
        for number in range(1, jobs + 1):
            reader, writer = os.pipe()
            if os.fork() == 0:
                os.close(reader)
                _work(Worker(number, cgroup), points[number - 1 :: jobs], writer)
            os.close(writer)
            readers.register(reader, selectors.EVENT_READ)
        said = dict.fromkeys(readers.get_map(), b"")
        while readers.get_map():
            for key, _ in readers.select():
                if not (data := os.read(key.fd, 1 << 16)):
                    readers.unregister(key.fd)
                    os.close(key.fd)
                *lines, said[key.fd] = (said[key.fd] + data).split(b"\n")
                for tree in map(json.loads, lines):
                    yield Outcome(**{**tree, "point": Point(**tree["point"])})


def _work(worker: Worker, points: Sequence[Point], writer: int) -> None:
    status = 1
    try:
        kernel.unshare(kernel.CLONE_NEWNET)  # each worker's controller listens on the same port
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        with os.fdopen(writer, "w") as out:
            for point in points:
                outcome = worker.played(point)
                print(json.dumps(asdict(outcome)), file=out, flush=True)
        status = 0
    except BaseException:  # noqa: BLE001 - never back into the parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def added(points: Sequence[Point], outcomes: Sequence[Outcome]) -> Matrix:
    """The report."""
    matrix = Matrix(SEED)
    struck = [outcome for outcome in outcomes if outcome.boundary]
    matrix.missed = len(outcomes) - len(struck)
    matrix.points, matrix.converged = len(struck), sum(not outcome.wrong for outcome in struck)
    if lost := len(points) - len(outcomes):  # a worker has died
        matrix.points += lost
        matrix.examples.append(f"{lost} points were never played to their end")
    matrix.by_kind = dict(sorted(Counter(outcome.point.how for outcome in struck).items()))
    matrix.by_scenario = dict(sorted(Counter(outcome.point.scenario for outcome in struck).items()))
    everywhere = Counter(outcome.boundary for outcome in struck)
    well = Counter(outcome.boundary for outcome in struck if not outcome.wrong)
    matrix.by_boundary = [
        {"boundary": name, "points": everywhere[name], "converged": well[name]} for name in sorted(everywhere)
    ]
    wrong = [outcome for outcome in struck if outcome.wrong][:EXAMPLES]
    matrix.examples += [f"{outcome.point} at {outcome.boundary}: {'; '.join(outcome.wrong)}" for outcome in wrong]
    return matrix


def main() -> int:
    """As the environment says."""
    try:
        points_of(ONLY)
    except ValueError as error:
        print(f"crash-matrix: {error}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="halftrack-crash-"))
    try:
        environment = {**os.environ, "LD_PRELOAD": str(library(folder))}

        def played(cgroup: str, out: Path) -> int:
            words = [sys.executable, "-m", "tests.crash.run", cgroup, str(out)]
            return subprocess.run(words, env=environment, check=False).returncode

        return isolated("crash-matrix", played)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(inside(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 2 else main())
