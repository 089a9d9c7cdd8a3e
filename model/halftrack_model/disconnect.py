"""What a workload does while its host is cut off from the controller, as operators declare it. Words, and the rules for them. Pure.

The names are Nomad's `disconnect` block's where the meaning is Nomad's. Durations are each measured by one clock: `stopAfter` by the host's
boot-time clock, from the last time that it was in step with its controller; `lostAfter` by the controller's own, from the last word of the host.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from halftrack_model import canonical

# What one side may learn later than the other that the link is gone: heartbeats that were lost, and a stop that takes its grace.
MARGIN_MS = 15_000
SEEN = 2  # times as long as lostAfter, where nothing else is said
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
    lost_after_seen_ms: int = canonical.added(
        0
    )  # of a host that another of its site still sees; 0: see `lost_after_ms`


def lost_after_ms(disconnect: Disconnect, *, sighted: bool) -> int:
    """After how long without a word a host is lost, by whether a sibling sees it. A bound: nothing that siblings say lets one wait for longer.

    Left out, it is twice as long: what is seen most likely runs, and a replacement would be the second. Not where it is told to stop before
    that: then nobody would run it.
    """
    if not sighted or not disconnect.lost_after_ms:
        return disconnect.lost_after_ms
    if disconnect.lost_after_seen_ms:
        return disconnect.lost_after_seen_ms
    return disconnect.lost_after_ms * (1 if disconnect.stop_after_ms else SEEN)


def faults(disconnect: Disconnect | None) -> Iterator[str]:
    """What is wrong with it, each in a sentence that says what to write."""
    if disconnect is None:
        return
    named = {
        "lostAfter": disconnect.lost_after_ms,
        "lostAfterSeen": disconnect.lost_after_seen_ms,
        "stopAfter": disconnect.stop_after_ms,
    }
    for what, after_ms in named.items():
        if after_ms and not MIN_AFTER_MS <= after_ms <= MAX_AFTER_MS:
            yield f"disconnect: {what} is {after_ms} ms; write {MIN_AFTER_MS // 1000}s to {MAX_AFTER_MS // 86_400_000}d, or leave it out for never"
    if disconnect.replace and not disconnect.lost_after_ms:
        yield "disconnect: a host is replaced once it is lost: write lostAfter as well, or leave replace out"
    if disconnect.lost_after_seen_ms and not disconnect.replace:
        yield "disconnect: lostAfterSeen says when a host is replaced that others of its site see: write replace as well, or leave it out"
    elif disconnect.lost_after_seen_ms and disconnect.lost_after_seen_ms < disconnect.lost_after_ms:
        yield "disconnect: to be seen makes no host lost sooner: let lostAfterSeen be lostAfter at least, or leave it out"
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
