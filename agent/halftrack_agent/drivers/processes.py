"""Which process is which: a pid alone is reused by the kernel, a pid with its start time and boot is one process for ever.

Never signals anything.
"""

import os
from dataclasses import dataclass

from halftrack_agent.drivers.procfs import start_ticks


@dataclass(frozen=True, slots=True)
class Process:
    """One process of one boot."""

    pid: int
    start_ticks: int
    boot_id: str


def alive(process: Process, this_boot: str) -> bool:
    """Does that very process still live?"""
    return process.boot_id == this_boot and start_ticks(process.pid) == process.start_ticks


def opened(process: Process, this_boot: str) -> int | None:
    """A pidfd of that very process, or None when it is gone. Checked after opening, so that a reused pid cannot slip in."""
    if process.boot_id != this_boot:
        return None
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return None
    if start_ticks(process.pid) == process.start_ticks:
        return fd
    os.close(fd)
    return None
