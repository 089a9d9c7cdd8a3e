"""Turns the world into a `Picture`: which daemons and workloads run, what links do, how full rings are, where a swap stands."""

import time

from examples.demo.display import Picture, RingPicture
from examples.demo.world import LINKS, World
from examples.lab.wire import Carried, Fault


def in_words(fault: Fault) -> str:
    """What a link does to frames."""
    parts = []
    if fault.cut:
        parts.append("is cut")
    if fault.loss_percent:
        parts.append(f"loses {fault.loss_percent:g} %")
    if fault.delay_ms:
        parts.append(f"delays by {fault.delay_ms:g} to {fault.delay_ms + fault.jitter_ms:g} ms")
    return " and ".join(parts) or "good"


class Painter:
    """Remembers the last counters, so that it can show rates."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._carried: dict[str, Carried] = {}
        self._heads: dict[tuple[str, str], int] = {}
        self._at = time.monotonic()

    def picture(self, elapsed_s: float, of_s: float, step: str) -> Picture:
        """The world now."""
        now = time.monotonic()
        passed_s, self._at = max(now - self._at, 1e-3), now
        world = self._world
        return Picture(
            elapsed_s=elapsed_s,
            of_s=of_s,
            step=step,
            swap=self._swap(),
            daemons={name: daemon.up for name, daemon in world.daemons.items()},
            workloads={host: tuple(sorted(found.running())) for host, found in world.evidence.items()},
            links=self._links(passed_s),
            rings=self._rings(passed_s),
        )

    def _swap(self) -> str:
        for found in self._world.evidence.values():
            for swap_id, records in reversed(found.swaps.items()):
                record = records[-1]
                path = " → ".join(dict.fromkeys(f"{one.phase.value}" for one in records if one.leg == record.leg))
                return f"swap {swap_id}, seat {record.leg + 1} of 2: {path}" + (
                    f" ({record.reason})" if record.reason else ""
                )
        return ""

    def _links(self, passed_s: float) -> dict[str, tuple[str, float]]:
        carried, before = self._world.carried(), self._carried
        self._carried = carried
        return {
            f"{link.left} to {link.right}": (
                in_words(self._world.faults[link.name]),
                (carried[link.name].bytes - before[link.name].bytes) / passed_s / 1e6 if before else 0.0,
            )
            for link in LINKS
        }

    def _rings(self, passed_s: float) -> tuple[RingPicture, ...]:
        pictures = []
        for host, found in self._world.evidence.items():
            for name, stats in found.rings().items():
                before = self._heads.get((host, name), stats.head)
                self._heads[host, name] = stats.head
                lag = max((reader.lag_frames for reader in stats.readers), default=0)
                held = max(1, stats.head - stats.tail)
                # What was read stays for replay, so a ring is soon full of it; what matters is how much still waits for a reader.
                filled = lag / held * max(stats.used_bytes / stats.capacity_bytes, held / stats.slots)
                rate = max(0, stats.head - before) / passed_s
                pictures.append(RingPicture(host, name, stats.head, min(filled, 1.0), lag, rate))
        return tuple(pictures)
