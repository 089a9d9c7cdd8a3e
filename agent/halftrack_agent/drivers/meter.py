"""The meter: what processes have used of the processor, and the memory that they hold alone, from /proc.

Owns what is counted as memory: anonymous pages, in memory or swapped out. Pages of rings are not: they belong to the stream, and are charged
to whoever touched them first. Never decides what is too much.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass

_TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")
_OWN = (b"RssAnon:", b"VmSwap:")


@dataclass(frozen=True, slots=True)
class Used:
    """Of some processes together; ended children that were waited for are in their parents' time."""

    cpu_ms: int
    memory_bytes: int


def used(pids: Iterable[int]) -> Used | None:
    """What they have used so far; None when none of them is left."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended in this moment
            found.append(Used(_cpu_ms(pid), _memory_bytes(pid)))
    if not found:
        return None
    return Used(sum(each.cpu_ms for each in found), sum(each.memory_bytes for each in found))


def _cpu_ms(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        stat = file.read()
    fields = stat[stat.rindex(b")") + 2 :].split()  # the command in parentheses may hold anything
    return sum(int(field) for field in fields[11:15]) * _TICK_MS  # utime, stime, and those of its dead children


def _memory_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/status", "rb") as file:
        rows = [line.split() for line in file if line.startswith(_OWN)]
    return sum(int(row[1]) for row in rows) << 10
