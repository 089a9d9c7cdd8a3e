"""Who runs below an instance's folder, found by what a process cannot lose while it lives: the descriptor of the lock that its shim holds.

For the day on which the folder's own record of it is damaged. Reads /proc, all of it, so it is asked only then. Never signals anything.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from halftrack_agent.drivers.instances import Who
from halftrack_agent.drivers.processes import Process
from halftrack_agent.drivers.procfs import children, start_ticks


def found(lock: Path, boot: str) -> Who | None:
    """The shim that holds `lock`, and the workload below it; None when this process may not see them, or they are just ending."""
    shim = _first(pid for pid in _holders(lock) if pid != os.getpid())
    if shim is None:
        return None
    workload = _first(_children(shim[1]))  # its only fork; those that it adopts were forked later
    if workload is None or start_ticks(shim[1]) != shim[0]:
        return None
    return Who(Process(workload[1], workload[0], boot), Process(shim[1], shim[0], boot))


def _first(pids: Iterator[int]) -> tuple[int, int] | None:
    """Of these the one that began first: when, and its pid."""
    return min(((ticks, pid) for pid in pids if (ticks := start_ticks(pid)) is not None), default=None)


def _children(pid: int) -> Iterator[int]:
    try:
        yield from children(str(pid))
    except OSError:  # it has ended
        return


def _holders(path: Path) -> Iterator[int]:
    wanted = os.stat(path)
    for name in filter(str.isdecimal, os.listdir("/proc")):
        if _holds(name, wanted):
            yield int(name)


def _holds(pid: str, wanted: os.stat_result) -> bool:
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # gone, or not ours to look into
        return False
    return any(_same(f"/proc/{pid}/fd/{number}", wanted) for number in numbers)


def _same(path: str, wanted: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), wanted)
    except OSError:  # closed meanwhile
        return False
