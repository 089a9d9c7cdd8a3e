"""The host's clocks, in one place, so that nothing else asks the kernel for the time.

Decisions use the boot-time clock only: it never jumps, it counts while the machine sleeps, and it is meaningless after a reboot,
which `boot_id` tells. The wall clock is for people (C1).
"""

import os
import time
from pathlib import Path

_TICK_MS = 1000 // os.sysconf("SC_CLK_TCK")


def boot_ms() -> int:
    """Milliseconds since this machine booted."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def wall_ms() -> int:
    """Milliseconds since 1970 as this machine believes: for reports, never for a decision."""
    return time.time_ns() // 1_000_000


def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def ticks_to_ms(ticks: int) -> int:
    """A start time as `/proc/PID/stat` tells it (clock ticks since boot), in milliseconds of `boot_ms`."""
    return ticks * _TICK_MS
