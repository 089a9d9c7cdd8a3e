"""What a workload does while its host is cut off from the controller, as operators declare it. Words, and the rules for them. Pure.

The names are Nomad's `disconnect` block's where the meaning is Nomad's. Durations are each measured by one clock: `stopAfter` by the host's
boot-time clock, from the last time that it was in step with its controller; `lostAfter` by the controller's own, from the last word of the host.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

# What one side may learn later than the other that the link is gone: heartbeats that were lost, and a stop that takes its grace.
MARGIN_MS = 15_000
MIN_AFTER_MS, MAX_AFTER_MS = 5_000, 400 * 24 * 3_600_000


class Reconcile(Enum):
    """Which instance stays when a host comes back that has been replaced meanwhile."""

    KEEP_ORIGINAL = "keep_original"
    KEEP_REPLACEMENT = "keep_replacement"
    BEST_SCORE = "best_score"  # the one on the host that has less to run
    LONGEST_RUNNING = "longest_running"


class ColdBoot(Enum):
    """What happens after the machine has booted without a link: run what the last plan says, or wait for a word from the controller."""

    RUN = "run"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Disconnect:
    """0 is never. `replace`: once the host is lost, another one of the service's runs it."""

    lost_after_ms: int = 0
    stop_after_ms: int = 0
    replace: bool = False
    reconcile: Reconcile = Reconcile.KEEP_ORIGINAL
    cold_boot: ColdBoot = ColdBoot.RUN


def faults(disconnect: Disconnect | None) -> Iterator[str]:
    """What is wrong with it, each in a sentence that says what to write."""
    if disconnect is None:
        return
    for what, after_ms in (("lostAfter", disconnect.lost_after_ms), ("stopAfter", disconnect.stop_after_ms)):
        if after_ms and not MIN_AFTER_MS <= after_ms <= MAX_AFTER_MS:
            yield f"disconnect: {what} is {after_ms} ms; write {MIN_AFTER_MS // 1000}s to {MAX_AFTER_MS // 86_400_000}d, or leave it out for never"
    if disconnect.replace and not disconnect.lost_after_ms:
        yield "disconnect: a host is replaced once it is lost: write lostAfter as well, or leave replace out"
    if not disconnect.replace and disconnect.reconcile is not Reconcile.KEEP_ORIGINAL:
        yield "disconnect: without replace there is nothing to reconcile: leave reconcile out"
    if (
        disconnect.replace
        and disconnect.stop_after_ms
        and disconnect.lost_after_ms < disconnect.stop_after_ms + MARGIN_MS
    ):
        yield (
            f"disconnect: a replacement could begin before the original has stopped: let lostAfter be stopAfter and {MARGIN_MS // 1000}s at least"
        )
