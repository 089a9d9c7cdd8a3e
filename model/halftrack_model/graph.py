"""Stream graphs: the words in which one is declared, and who feeds whom. Whether a graph is right is `graph_rules`' to say.

Fields that came after graphs were stored are `canonical.added`, so that a graph that does not use them keeps its bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from halftrack_model import canonical
from halftrack_model.disconnect import Disconnect
from halftrack_model.feed import Feed
from halftrack_model.params import Param
from halftrack_model.resources import Resources


class Role(Enum):
    """What a vertex does with streams: begins one, transforms one (alone or twice over), ends one; or, a service, has to do with none.

    A service is a graph of one vertex, so that one kind of rollout, plan and history serves both (ADR 39).
    """

    SOURCE = "source"
    SINGLE = "single"
    PAIR = "pair"
    SINK = "sink"
    SERVICE = "service"

    @property
    def transforms(self) -> bool:
        """It runs the SDK's vertex: frames in, frames out, perhaps with a state."""
        return self in (Role.SINGLE, Role.PAIR)


class JoinBy(Enum):
    """How several inputs become one: frame n of each, those of one stretch of stream time, all in order of time, or whichever has n."""

    SEQUENCE = "sequence"
    TIME = "time"
    ORDER = "order"
    UNION = "union"


class Policy(Enum):
    """What a reader does when it is slow: hold the writer back, miss frames and count them, or take only some to begin with."""

    LOSSLESS = "lossless"
    LOSSY = "lossy"
    SAMPLE = "sample"


class Place(Enum):
    """Which end of an edge the inlet stands at."""

    SOURCE = "source"
    TARGET = "target"


@dataclass(frozen=True, slots=True)
class Join:
    """How a vertex's inputs are joined. `width_ms` is that of a stretch of stream time, and 0 for what does not join by time.

    `partial`, by sequence only: what some inputs have lost passes without them, instead of being lost as a whole.
    """

    by: JoinBy
    width_ms: int = 0
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes and frames in a second; 0 where nobody has said."""

    bytes_per_s: int = 0
    frames_per_s: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """Which frames a sampling edge takes: every so many, so many in a second, or the newest. Exactly one is said."""

    every: int = 0
    rate_per_s: int = 0
    latest: bool = False


@dataclass(frozen=True, slots=True)
class Partition:
    """The frames whose key (`key_bytes` from `offset` on, hashed, modulo `of`) is in `take`."""

    offset: int
    key_bytes: int
    of: int
    take: tuple[int, ...]


class Full(Enum):
    """What gives when a spool has reached its size: the source waits, or the oldest goes, as a declared gap."""

    BLOCK = "block"
    DROP_OLDEST = "drop-oldest"


@dataclass(frozen=True, slots=True)
class Spool:
    """What an edge's consumer has not had and the ring no longer holds, on the disk of the consumer's host: `size_bytes` at most.

    What the consumer has had stays for `retain_ms`, room permitting.
    """

    size_bytes: int
    retain_ms: int = 0
    full: Full = Full.BLOCK


@dataclass(frozen=True, slots=True)
class Vertex:
    """A step of a graph. `hosts` has one host; two for a pair whose members (`a` on the first, `b` on the second) are apart; all that may
    run it for a service, of which `instances` do (0: each).

    `rate` is what it produces at most, `capacity` what it can take. `hang_after_ms` is for how long a process of it may not move at all.
    """

    name: str
    role: Role
    product: str
    hosts: tuple[str, ...]
    params: Mapping[str, Param]
    ring_bytes: int  # of the ring that it writes; 0 for a sink or a service
    ring_slots: int
    join: Join | None = canonical.added(None)
    state: str = canonical.added(
        ""
    )  # the schema of its state, without a version; empty: it keeps none, or nobody has said
    rate: Rate | None = canonical.added(None)
    capacity: Rate | None = canonical.added(None)
    feeds: tuple[Feed, ...] = canonical.added(())  # of a source: the sockets that it reads
    resources: Resources | None = canonical.added(None)  # of each member; the release's apply where this says nothing
    reach: tuple[str, ...] = canonical.added(())  # [NAME=]ADDRESS:PORT outside that each member may speak to
    hang_after_ms: int | None = canonical.added(None)  # of each of its processes; None: the default, 0: for ever
    instances: int = canonical.added(0)
    host_network: bool = canonical.added(False)  # of a service: it has its host's network, not one of its own
    disconnect: Disconnect | None = canonical.added(None)  # what it does while its host is cut off


@dataclass(frozen=True, slots=True)
class Edge:
    """A stream from one vertex to another, and how it is read.

    `credit_bytes` is how far the consumer may lag at nobody's cost; beyond, it holds up the source, for `evict_after_ms` at most.
    `retain_ms` is what the source's ring keeps, by stream time. 0: whatever the ring holds, and no bound.

    `generation` numbers what its target reads: it rises with each edit that changes that, and all inputs that belong together have the
    same one. Nobody declares it.
    """

    source: str
    target: str
    policy: Policy = canonical.added(Policy.LOSSLESS)
    sample: Sample | None = canonical.added(None)
    partition: Partition | None = canonical.added(None)
    replay_ms: int = canonical.added(0)
    retain_ms: int = canonical.added(0)
    credit_bytes: int = canonical.added(0)
    evict_after_ms: int = canonical.added(0)
    placement: Place | None = canonical.added(None)
    generation: int = canonical.added(0)
    spool: Spool | None = canonical.added(None)

    @property
    def plain(self) -> bool:
        """Its consumer can read the ring itself: every frame, held back by nobody's bound. `retain_ms` is the ring's affair."""
        asked = (self.sample, self.partition, self.replay_ms, self.credit_bytes, self.evict_after_ms, self.spool)
        return self.policy is Policy.LOSSLESS and not any(asked)

    def __str__(self) -> str:
        return f"edge {self.source} → {self.target}"


@dataclass(frozen=True, slots=True)
class Leaving:
    """What edits have taken out of a graph that runs, and hosts carry on until every inlet has gone over to what came instead.

    `edges` are those of older generations, and all that lead to `vertices`, which only such edges still read. `joins` is how a vertex
    joined its older inputs, where it joins none now.
    """

    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    joins: Mapping[str, Join]


NOTHING = Leaving((), (), {})


@dataclass(frozen=True, slots=True)
class StreamGraph:
    """A graph in one environment. `editors` are the operators who may change it; empty means all.

    What a running vertex reads can be changed in a `live` one: every vertex there has an inlet, at its own home, for as long as it runs.
    """

    name: str
    environment: str
    vertices: tuple[Vertex, ...]
    edges: tuple[Edge, ...]
    editors: tuple[str, ...] = canonical.added(())
    live: bool = canonical.added(False)
    leaving: Leaving = canonical.added(NOTHING)

    @property
    def is_service(self) -> bool:
        """Is it one vertex that has to do with no stream?"""
        return any(vertex.role is Role.SERVICE for vertex in self.vertices)

    def vertex(self, name: str) -> Vertex:
        """The vertex of that name; KeyError when there is none."""
        return {vertex.name: vertex for vertex in self.vertices}[name]

    def into(self, name: str) -> tuple[Edge, ...]:
        """The edges that `name` consumes, in the order in which they are declared, which is the order of its inputs."""
        return tuple(edge for edge in self.edges if edge.target == name)

    def inputs(self, name: str) -> tuple[str, ...]:
        """Names of the vertices whose streams `name` consumes."""
        return tuple(edge.source for edge in self.into(name))

    def out_of(self, name: str) -> tuple[Edge, ...]:
        """The edges that carry what `name` produces."""
        return tuple(edge for edge in self.edges if edge.source == name)

    def consumers(self, name: str) -> tuple[Vertex, ...]:
        """The vertices that consume what `name` produces."""
        return tuple(self.vertex(edge.target) for edge in self.out_of(name))

    def has_inlet(self, name: str) -> bool:
        """Does something stand between `name` and its inputs? One plain edge needs nothing, unless it may be another one tomorrow."""
        edges = self.into(name)
        if self.live and edges:
            return True
        return len(edges) > 1 or any(not edge.plain for edge in edges)
