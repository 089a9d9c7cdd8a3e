"""What a rewire soak is given and what it gives: the manifest of its graph, and rewire-soak.json. Pure."""

import statistics
from dataclasses import dataclass, field

from tests.soak.rewire_wiring import Wiring
from tests.soak.two_hosts import HOSTS

KINDS = {"source": "source", "step": "single", "sums": "pair", "sink": "sink"}
MANIFEST = (
    HOSTS
    + """apiVersion: halftrack/v1
kind: StreamGraph
metadata: {name: rewire}
spec:
  environment: soak
  live: true
"""
)


def manifest(wiring: Wiring, rate: int) -> str:
    """Of a graph as it is declared first."""
    lines = ["  vertices:"]
    for name, box in wiring.items():
        role = KINDS[box.kind]
        ring = "" if role == "sink" else ", ring: {size: 8MiB, slots: 32768}"
        params = f", params: {{mark: {box.mark}}}" if box.mark else ""
        if role == "source":
            params = f", params: {{rate: {rate}, burst_us: 40000}}"
        hosts = ", ".join(box.hosts)
        lines.append(f"    - {{name: {name}, role: {role}, product: {box.product}, hosts: [{hosts}]{params}{ring}}}")
    edges = [f"    - {{from: {each.source}, to: {name}}}" for name, box in wiring.items() for each in box.inputs]
    return MANIFEST + "\n".join([*lines, "  edges:", *edges]) + "\n"


@dataclass
class Report:
    """rewire-soak.json. Counts of frames are the judge's; `edit_s` is how long each edit took to count, by kind."""

    seed: int
    edits: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    boundaries: int = 0
    frames: int = 0
    rows: int = 0
    lost: int = 0
    duplicated: int = 0
    reordered: int = 0
    mismatched: int = 0
    refused: int = 0  # as they had to be
    swaps: int = 0
    undone: int = 0
    kills: int = 0
    cuts: int = 0
    killed: dict[str, int] = field(default_factory=dict)
    edit_s: dict[str, list[float]] = field(default_factory=dict)
    rate: int = 0
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)
    missing: str = ""  # why it ended before its time

    @property
    def wrong(self) -> bool:
        """Is anything there that must not be?"""
        return bool(self.lost or self.duplicated or self.reordered or self.mismatched or self.undone or self.missing)

    def text(self) -> str:
        """In one line."""
        times = [each for some in self.edit_s.values() for each in some]
        median, most = (statistics.median(times), max(times)) if times else (0.0, 0.0)
        return (
            f"{self.edits} edits ({median:.1f} s each, {most:.1f} at most) at {self.boundaries} boundaries, {self.swaps} swaps, {self.refused} refused as they must be, "
            f"{self.kills} kills, {self.cuts} cuts of the link, {self.frames} frames to {self.rows} rows of sinks in {self.seconds:.0f} s; lost {self.lost}, "
            f"duplicated {self.duplicated}, reordered {self.reordered}, mismatched {self.mismatched}"
        )
