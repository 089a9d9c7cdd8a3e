"""What must hold after a program was killed somewhere, and started again: nothing acknowledged is lost, nothing runs twice, nothing healthy was
started again, every report has come once, and nothing is left lying about."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from halftrack_agent.drivers.instances import Folder
from halftrack_agent.drivers.processes import Process
from halftrack_model.report import Report
from tests.crash.scenarios import pids
from tests.crash.stage import Stage, made_anew

WORDS = ("Traceback", "is damaged", "cannot be used", "CRITICAL")  # that a killed program's next start must not say


@dataclass(frozen=True)
class Before:
    """What was so when the victim died, and what had been acknowledged by then."""

    running: dict[str, tuple[Process, str]]  # who, with the digest of what it runs
    accepted: int
    plan: int
    reports: tuple[Report, ...]
    consumed: tuple[Report, ...]
    releases: tuple[tuple[object, ...], ...]
    said: dict[str, int]  # how long each log was


def before(stage: Stage) -> Before:
    """As it is now."""
    newest = stage.plan()
    running = {}
    for name, process in pids(stage).items():
        folder = Folder(stage.places.instances / name)
        ordered = folder.ordered()
        if ordered is not None and not folder.leaves():
            running[name] = process, ordered.digest
    return Before(
        running,
        stage.accepted(),
        0 if newest is None else newest[0],
        tuple(stage.unsent()[1]),
        tuple(stage.consumed()),
        tuple(sorted(stage.asked("select product, version from releases"))),
        {log.name: log.stat().st_size for log in stage.folder.glob("*.log")},
    )


def durable(stage: Stage, was: Before) -> Iterator[str]:
    """Of the disks as they are now, before anything is started again: what was acknowledged and is not there."""
    if was.accepted > stage.journaled() > 0 or (was.accepted and not stage.journaled()):
        yield f"the agent has accepted plan {was.accepted}, and its journal has {stage.journaled()}"
    newest = stage.plan()
    if was.plan > (0 if newest is None else newest[0]):
        yield f"plan {was.plan} was made, and the store does not have it"
    if missing := set(was.releases) - set(stage.asked("select product, version from releases")):
        yield f"the store has lost releases: {missing}"
    if missing_reports := {(r.number, r.subject) for r in was.consumed} - {
        (r.number, r.subject) for r in stage.consumed()
    }:
        yield f"the store has lost reports: {missing_reports}"


def converged(stage: Stage, was: Before, kept: Iterable[str], on_disk: Iterable[Report]) -> Iterator[str]:
    """At the end: what is not as it must be. `kept` are those that had to live on, `on_disk` reports that were durable."""
    now = pids(stage)
    wanted = stage.plan()
    digests = {} if wanted is None else {workload.name: workload.digest() for workload in wanted[1].workloads}
    for name in kept:
        process, digest = was.running[name]
        if digests.get(name) == digest and now.get(name) != process:
            yield f"{name} ran and was healthy, and was started again"
    lines = [line for _, line in stage.processes()]
    commands = Counter(name for name in now for line in lines if f"/instances/{name}/run.json" in line)
    yield from (f"{name} runs {count} times" for name, count in commands.items() if count > 1)
    consumed = stage.consumed()
    numbers = [report.number for report in consumed]
    if numbers != list(range(min(numbers, default=1), min(numbers, default=1) + len(numbers))):
        yield f"reports are not in order without a gap: {numbers}"
    yield from (
        f"this report came {n} times: {report}" for report, n in Counter(map(made_anew, consumed)).items() if n > 1
    )
    if missing := set(map(made_anew, on_disk)) - set(map(made_anew, consumed)):
        told = {report.number for report in consumed}
        if old := [report for report in missing if report.number >= min(told, default=0)]:
            yield f"these reports were on the disk and have not come: {old[:3]}"
    yield from _left(stage, was)


def _left(stage: Stage, was: Before) -> Iterator[str]:
    for root in stage.roots.values():
        for path in root.rglob("*"):
            reserved = path.name in (
                "exit.json.new",
                "ended.json.new",
            )  # of an instance that runs: the room for its records
            if (
                path.name.endswith((".new", ".gone", ".part", ".built", ".tmp")) and not reserved
            ) or ".quarantined" in path.name:
                yield f"{path.relative_to(stage.folder)} was left behind"
    for path in stage.places.instances.glob(".*"):
        yield f"{path.relative_to(stage.folder)} was left behind"
    for log in stage.folder.glob("*.log"):
        text = log.read_text(errors="replace")[was.said.get(log.name, 0) :]
        yield from (f"{log.name} says {word!r}" for word in WORDS if word in text and log.name != "operator.log")
