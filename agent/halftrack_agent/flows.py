"""What data-plane processes have counted of their inputs, over all their lives that this agent has seen. For people's eyes: decides nothing.

A process counts from nothing when it starts; here the lives of one workload are added up, so that a restart hides no loss.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from halftrack_dataplane.status import MAX_COUNT, Status
from halftrack_proto.gauges import FlowGauge

LOST = {"member": "gap_frames", "sink": "gap_frames", "bridge-receiver": "lost"}  # what those with one input call it


@dataclass(slots=True)
class _Count:
    started_ms: int
    last: int = 0
    total: int = 0


class Flows:
    """The counts of one host."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], dict[str, _Count]] = {}

    def keep(self, workloads: Collection[str]) -> None:
        """Forget all others."""
        self._counts = {key: counts for key, counts in self._counts.items() if key[0] in workloads}

    def note(self, workload: str, started_ms: int, status: Status) -> None:
        """A process that started then has this status now."""
        for which, counts in _counts_of(status).items():
            held = self._counts.setdefault((workload, which), {})
            for word, value in counts.items():
                count = held.setdefault(word, _Count(started_ms))
                anew = count.started_ms != started_ms or value < count.last
                count.total = min(count.total + value - (0 if anew else count.last), MAX_COUNT)
                count.started_ms, count.last = started_ms, value

    def gauges(self) -> tuple[FlowGauge, ...]:
        """What is not 0."""
        told = (
            FlowGauge(workload, which, {word: count.total for word, count in counts.items() if count.total})
            for (workload, which), counts in self._counts.items()
        )
        return tuple(gauge for gauge in told if gauge.counts)


def _counts_of(status: Status) -> Mapping[str, Mapping[str, int]]:
    if status.inputs or status.role not in LOST:
        return status.inputs
    return {"": {"lost": status.counters.get(LOST[status.role], 0)}}
