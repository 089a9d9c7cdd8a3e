"""What an operator is shown of one graph: how it is declared, what runs for it where, and what hosts have told of it.

As in `messages`, plain values; a file of its own for its length only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from halftrack_model.graph import StreamGraph
from halftrack_proto.gauges import RingRow


@dataclass(frozen=True, slots=True)
class GraphQuery:
    """Which graph. An empty environment stands for the only one that has a graph of that name."""

    environment: str
    graph: str


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """A service or graph is to end; `dry_run`: only say where."""

    graph: GraphQuery
    dry_run: bool


@dataclass(frozen=True, slots=True)
class HostEnding:
    """What ends on a host, and for how long it has not been seen: 0 while it is connected, -1 when it never was."""

    host: str
    workloads: tuple[str, ...]
    last_seen_age_ms: int


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a graph's end takes away."""

    environment: str
    name: str
    hosts: tuple[HostEnding, ...]


NOT_STARTED = "not-started"


@dataclass(frozen=True, slots=True)
class GraphPart:
    """A process that a host shall run for a vertex.

    `phase` is empty while nothing is known of its host, and NOT_STARTED while the host shows none: a green that waits for its turn.
    """

    vertex: str
    host: str
    workload: str
    runs: str
    version: str
    phase: str
    health: str
    detail: str
    hangs: int = 0  # times that it did not move and was killed, since its agent began


@dataclass(frozen=True, slots=True)
class VertexStanding:
    """The releases of a vertex. `next_version`, `phase` and `swap` are empty when nothing moves."""

    vertex: str
    version: str
    next_version: str
    phase: str
    swap: str


@dataclass(frozen=True, slots=True)
class InputStanding:
    """Which of its inputs a vertex reads, where an edit has changed them: generation `in_force`, from number `first` on.

    `first` is -1 while no host has told. `waits` says why the newest is not in force; it is empty once it is.
    """

    vertex: str
    newest: int
    in_force: int
    first: int
    waits: str


@dataclass(frozen=True, slots=True)
class EdgeReader:
    """A process that reads an edge: where, which ring, how far behind (-1 while its host has not told), and what it did not get.

    `drops` are by reason, as `gauges.FlowGauge` has them, and `on_the_way`: what the bridge to its host had to give up.
    """

    source: str
    target: str
    host: str
    workload: str
    ring: str
    lag_frames: int
    drops: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class GraphView:
    """One graph as it stands. `rings` are those of connected hosts, replicas too."""

    graph: StreamGraph
    vertices: tuple[VertexStanding, ...]
    parts: tuple[GraphPart, ...]
    rings: tuple[RingRow, ...]
    inputs: tuple[InputStanding, ...] = ()
    readers: tuple[EdgeReader, ...] = ()
