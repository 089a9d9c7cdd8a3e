"""A daemon's pulse: its loop says that it turns, and a loop that does not ends the program, whatever it hangs in.

Two watchers hear of each beat. The kernel's alarm clock ends this process when none has come for `patience_s`: no thread of ours, and no interpreter that
somebody holds, is needed for that; where every thread stood then is written to stderr. And the service manager, where there is one that asks
(sd_notify(3), `Type=notify` and `WatchdogSec=`). Where there is one, it starts the program again, as after any crash (ADR 37); elsewhere the alarm makes the program begin anew as the same process (ADR 50).

Beats come from the loop that does the work, from nowhere else.
"""

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence

from halftrack_proto import anew

PATIENCE_S = (
    20.0  # no turn of a loop takes a second, on a disk that still answers; a wedged one is to be back within thirty
)
START_S = 900.0  # artifacts are read whole before the first beat; the units say the same
EVERY_S = 1.0  # a beat that follows another sooner says nothing new


def managed() -> bool:
    """Is there a service manager, which starts again what has ended?"""
    return bool(os.environ.get("NOTIFY_SOCKET"))


class Watchdog:
    """One program's. Signals are the process's own, so this is for a `main`, never for a part; `patience_s` 0: no alarm.

    `begins`: the command line that a program which hangs becomes; none: it ends.
    """

    def __init__(self, patience_s: float = PATIENCE_S, begins: Sequence[str] = ()) -> None:
        self._patience_s = patience_s
        self._beaten_s = -EVERY_S
        self._manager = os.environ.get("NOTIFY_SOCKET", "")
        if patience_s:
            faulthandler.register(signal.SIGALRM, file=sys.stderr, all_threads=True)
            anew.on_signal(signal.SIGALRM, [os.fsencode(word) for word in begins], dict(os.environb))
            signal.setitimer(signal.ITIMER_REAL, START_S)

    def ready(self) -> None:
        """All parts run; from here on beats are missed."""
        self._tell("READY=1")
        if usual := os.environ.get("WATCHDOG_USEC", ""):
            self._tell(
                f"WATCHDOG_USEC={usual}"
            )  # as the unit has it: a program before this one may have asked for more
        self.beat()

    def beat(self) -> None:
        """The loop has turned."""
        now_s = time.monotonic()
        if now_s - self._beaten_s < min(EVERY_S, self._patience_s / 4 or EVERY_S):
            return
        self._beaten_s = now_s
        if self._patience_s:
            signal.setitimer(signal.ITIMER_REAL, self._patience_s)
        self._tell("WATCHDOG=1")

    def hand_over(self) -> None:
        """This process is about to become another program, which beats once it is there: it has that long to come so far."""
        self._tell(f"WATCHDOG_USEC={int(START_S * 1e6)}")
        self._tell("WATCHDOG=1")
        if self._patience_s:
            signal.setitimer(signal.ITIMER_REAL, START_S)

    def close(self) -> None:
        """The program ends in order."""
        self._tell("STOPPING=1")
        if self._patience_s:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _tell(self, word: str) -> None:
        if not self._manager:
            return
        address = "\0" + self._manager[1:] if self._manager.startswith("@") else self._manager
        # It never waits: a manager that does not read must not be what the loop hangs in.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
            to.setblocking(False)
            to.sendto(word.encode(), address)
