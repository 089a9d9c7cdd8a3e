"""Workloads: what a plan runs on a host. Services, jobs and vertices differ in data, not in lifecycle."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from halftrack_model import canonical
from halftrack_model.feed import Feed
from halftrack_model.ids import digest_of
from halftrack_model.params import Param
from halftrack_model.probes import Checks
from halftrack_model.release import StateSchemas
from halftrack_model.resources import Resources
from halftrack_model.verdict import Verdict

# Longer than the longest that a sink's or a source's engine keeps one of our own calls waiting (Kafka's opening: four answers of ten seconds).
DEFAULT_HANG_AFTER_MS = 60_000
MIN_HANG_AFTER_MS = 2_000  # ten beats: of fewer, a busy machine may well lose all
MAX_HANG_AFTER_MS = 24 * 3_600_000  # whoever wants more wants 0


class Kind(Enum):
    """What ends a workload: a service and a vertex never end by themselves, a job ends with its own exit."""

    SERVICE = "service"
    JOB = "job"
    VERTEX = "vertex"


class Runs(Enum):
    """What the exec driver starts. All but COMMAND are roles of the data plane's runner (`halftrack_dataplane.run`)."""

    COMMAND = "command"
    SOURCE = "source"
    MEMBER = "member"
    SINK = "sink"
    MERGE = "merge"
    JUDGE = "judge"
    INLET = "inlet"
    KEEPER = "keeper"
    SPOOL = "spool"
    BRIDGE_SERVER = "bridge-server"
    BRIDGE_RECEIVER = "bridge-receiver"


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a pair in one release: `spectrometer`, `a`, `1.0.0`, generation 1.

    Generations number the releases of a vertex in the order in which they came into force, so that the ring's header, which
    holds no strings to compare, can tell them apart. They never repeat, even when a version comes back.
    """

    graph: str
    vertex: str
    member: str
    version: str
    generation: int


@dataclass(frozen=True, slots=True)
class RingSpec:
    """A ring on a host. `name` is `graph/vertex`, `graph/vertex.member@version` or `graph/vertex.in`; also its path below the ring folder.

    `retain_ms`: records that are older than the newest by more may go, by stream time; 0: only for want of room.
    """

    name: str
    capacity_bytes: int
    slots: int
    member: Member | None  # a ring that belongs to a member comes and goes with it
    retain_ms: int = canonical.added(0)


@dataclass(frozen=True, slots=True)
class InletInput:
    """One input of an inlet: whose stream, from which ring, and what of it. `every` 1 is each; 0 of the others: not asked for.

    Inputs of one `generation` belong together. While a graph is being edited there are several: the inlet goes over to the newest, at a
    number that it finds itself. Names differ, also between generations.
    """

    name: str
    ring: str
    policy: str  # lossless | lossy | sample
    every: int
    rate_per_s: int
    latest: bool
    key_offset: int
    key_bytes: int
    key_of: int
    key_take: tuple[int, ...]
    replay_ms: int
    evict_after_ms: int
    generation: int = canonical.added(0)
    spool: str = canonical.added("")  # the workload that puts `ring` on the disk for it


@dataclass(frozen=True, slots=True)
class Inlet:
    """What an inlet makes one stream of, and how. `join` is empty for one input: sequence | time | order | union."""

    inputs: tuple[InletInput, ...]
    join: str
    join_width_ns: int
    join_partial: bool


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """What a spool may hold, for how long what its inlet has had, and what gives at the limit: block | drop-oldest."""

    size_bytes: int
    retain_ms: int
    full: str


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """The rings of a seat's two members: green's outputs are held against blue's."""

    blue_ring: str
    green_ring: str


@dataclass(frozen=True, slots=True)
class Judge:
    """What a judge looks at and asks. It counts latencies once green was within `lag_frames` of blue: before, it catches up."""

    pairs: tuple[JudgedPair, ...]
    verdict: Verdict
    lag_frames: int


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing to run. Equal digests mean the same thing: a running, healthy instance is then left alone (R2)."""

    name: str
    kind: Kind
    runs: Runs
    artifact: str  # digest, from a release in the same plan; empty for the built-in roles
    entry: str
    argv: tuple[
        str, ...
    ]  # COMMAND only, as its release is sealed with; `{artifact}` and `{params.NAME}` are filled in on the host
    params: Mapping[str, Param]
    reads_ring: str  # ring names; empty when there is none
    writes_ring: str
    from_host: str  # BRIDGE_RECEIVER only: the host that serves `reads_ring`
    version: str
    state: StateSchemas
    member: Member | None  # wanted only while a swap (if any) wants that member
    inlet: Inlet | None = canonical.added(None)  # INLET only, which reads these rings and no `reads_ring`
    judge: Judge | None = canonical.added(None)  # JUDGE only; `reads_ring` is the input of those that it judges
    feeds: tuple[Feed, ...] = canonical.added(())  # KEEPER, which holds them, and the SOURCE that reads them
    keeps_for: str = canonical.added("")  # KEEPER only: the workload that may have its sockets
    resources: Resources | None = canonical.added(None)
    spool: SpoolLimits | None = canonical.added(None)  # SPOOL only, which puts `reads_ring` on the disk
    reach: tuple[str, ...] = canonical.added(())  # [NAME=]ADDRESS:PORT outside; of what runs a user's program only
    hang_after_ms: int | None = canonical.added(None)  # for how long it may be still; None: the default, 0: for ever
    host_network: bool = canonical.added(False)  # COMMAND only: the host's network, not one of its own
    checks: Checks | None = canonical.added(None)  # what must be seen of it, as its release is sealed with
    unpacked: bool = canonical.added(False)  # COMMAND only: `{artifact}` is the folder that the artifact is unpacked to
    _digest: str = canonical.remembered()

    @property
    def read_rings(self) -> tuple[str, ...]:
        """All rings that it reads on its own host."""
        if self.runs is Runs.BRIDGE_RECEIVER:
            return ()
        inputs = () if self.inlet is None else self.inlet.inputs
        pairs = () if self.judge is None else self.judge.pairs
        judged = (ring for pair in pairs for ring in (pair.blue_ring, pair.green_ring))
        names = (self.reads_ring, *(each.ring for each in inputs), *judged)
        return tuple(dict.fromkeys(name for name in names if name))

    def digest(self) -> str:
        """The content address of everything above. Asked for at each look of an agent, so it is worked out once."""
        if not self._digest:
            object.__setattr__(self, "_digest", digest_of(canonical.encode(self)))
        return self._digest
