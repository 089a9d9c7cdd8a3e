"""What a plan lets a workload reach, as its shim is told it. Pure; whether a kernel does it is the driver's to find out."""

from collections.abc import Iterator

from halftrack_model import reach
from halftrack_model.workload import Runs, Workload

_REACHING = (Runs.COMMAND, Runs.SOURCE, Runs.MEMBER, Runs.SINK)  # what runs a user's program, for its own sake


def places(workload: Workload) -> tuple[str, ...]:
    """The addresses, ADDRESS:PORT each."""
    return tuple(reach.parsed(text).place for text in workload.reach)


def hosts(workload: Workload, own: str) -> str:
    """What /etc/hosts says to it, when the host's says `own`: the plan's names first, and of the host's lines those without them. Empty: as it is."""
    ways = [way for way in map(reach.parsed, workload.reach) if way.name]
    if not ways:
        return ""
    names = {way.name.lower() for way in ways}
    lines = dict.fromkeys(f"{way.host} {way.name}" for way in ways)
    kept = (line for line in own.splitlines() if not names & {word.lower() for word in line.partition("#")[0].split()})
    return "".join(f"{line}\n" for line in (*lines, *kept))


def refusals(workload: Workload) -> Iterator[str]:
    """Why it could not be run, each in a sentence."""
    yield from (f"{workload.name} cannot be run: {text}" for text in reach.faults(workload.reach))
    if workload.reach and workload.runs not in _REACHING:
        yield f"{workload.name} cannot be run: it runs {workload.runs.value}, which reaches nothing outside"
