"""One consistent look at everything the controller knows: what its deciding core reads, and the rows that it may write back.

Plain values, no behaviour beyond look-ups: the store makes a Snapshot, `planner` and `rollout` read it, and what they want
changed goes back as rows of the same types. Nothing here knows a database, a clock or a socket.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

from halftrack_controller.tables import Graphs, Hosts, Plans, Releases, Rollouts
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.edits import GraphRecord
from halftrack_model.graph import StreamGraph
from halftrack_model.observed import Observed
from halftrack_model.plan import Plan
from halftrack_model.release import Release
from halftrack_model.seals import Sealed


@dataclass(frozen=True, slots=True)
class Environment:
    """One production environment. `track` is the layer of risk that it accepts releases from."""

    name: str
    labels: Mapping[str, str]
    track: str
    agent: str = ""  # the version that its hosts' agents shall be; empty: as they are


@dataclass(frozen=True, slots=True)
class Host:
    """A machine. `bridge` and `agent` are host:port as its peers reach it; `curve_public` is empty until it has enrolled."""

    name: str
    environment: str
    labels: Mapping[str, str]
    bridge: str
    agent: str
    curve_public: str
    bandwidth: tuple[BandwidthWindow, ...] = ()  # what artifacts may take of its link
    site: str = ""  # hosts of one environment and site give each other artifacts

    @property
    def enrolled(self) -> bool:
        """It has a certificate and a CurveZMQ key: a plan can be sealed for it, and others can name it as a peer."""
        return bool(self.curve_public)


@dataclass(frozen=True, slots=True)
class Published:
    """A release whose seals were verified when it was published, and the very bytes that were."""

    release: Release
    sealed: Sealed
    published_ms: int


class RolloutPhase(Enum):
    """Where a rollout stands. The last three are ends."""

    PENDING = "pending"
    WAITING_APPROVAL = "waiting-approval"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"

    @property
    def ended(self) -> bool:
        """Nothing more will happen in this rollout."""
        return self in (RolloutPhase.SUCCEEDED, RolloutPhase.FAILED, RolloutPhase.ABORTED)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One release on its way to one vertex. `from_version` is empty and `from_generation` 0 for a vertex's first release."""

    rollout_id: str
    environment: str
    graph: str
    vertex: str
    product: str
    from_version: str
    to_version: str
    from_generation: int
    to_generation: int
    phase: RolloutPhase
    reason: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class Generation:
    """A number that a vertex has given to a release. Recorded with the rollout that brings it; never used again."""

    environment: str
    graph: str
    vertex: str
    number: int
    product: str
    version: str


@dataclass(frozen=True, slots=True)
class RolloutChange:
    """A rollout as it shall be from now on: a new one, or a known one in another phase or with another reason."""

    rollout: Rollout


@dataclass(frozen=True, slots=True)
class Held:
    """The newest plan made for a host; what the host itself has accepted is in `Seen`."""

    plan: Plan
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Refusal:
    """The host has refused the plan of that revision."""

    revision: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """What hosts of its site say of one that is away: who has seen it last, and how long ago (-1: nobody). `watched`: some look for it."""

    by: str = ""
    age_ms: int = -1
    watched: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a host's present. Ages are this controller's own measure; -1 means never."""

    connected: bool
    last_seen_age_ms: int
    observed: Observed | None
    observed_age_ms: int  # since the host last confirmed that `observed` is still so
    accepted_revision: int  # highest revision that the host has said is durable there
    refusal: Refusal | None  # of the newest plan only
    certificate_ends_ms: int = 0  # by our wall clock; 0 when nothing is known of one. For people: it decides nothing
    certificate_left_ms: int = 0  # until then
    silent_ms: int = 0  # for how long this controller has itself listened for it in vain; no wall clock and no restart makes it longer
    up_ms: int = -1  # since its machine booted, as of now by its own word; -1 while it has not told
    sighting: Sighting = Sighting()  # evidence that it can be reached, never of health


NEVER_SEEN = Seen(False, -1, None, -1, 0, None)
_TABLES = (("rollouts", Rollouts), ("held", Plans), ("hosts", Hosts), ("graphs", Graphs), ("releases", Releases))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything, at one instant. Mappings and tuples are ordered by name (rollouts: by creation, then id)."""

    galaxy: str
    environments: Mapping[str, Environment]
    hosts: Mapping[str, Host]
    graphs: tuple[StreamGraph, ...]
    releases: Mapping[tuple[str, str], Published]  # by product and version
    artifacts: frozenset[str]  # digests that the controller can serve
    rollouts: tuple[Rollout, ...]
    generations: tuple[Generation, ...]
    held: Mapping[str, Held]  # by host
    seen: Mapping[str, Seen]  # by host; one for each of `hosts`
    records: Mapping[tuple[str, str], GraphRecord] = field(
        default_factory=dict
    )  # by environment and name; `graphs` are live
    deleted: frozenset[tuple[str, str]] = frozenset()  # graphs that somebody has ended: hosts shall run nothing of them

    def __post_init__(self) -> None:
        """Tables that are none yet become one, of this snapshot alone."""
        for name, table in _TABLES:
            if not isinstance(getattr(self, name), table):
                object.__setattr__(self, name, table(getattr(self, name)))

    @property
    def history(self) -> Rollouts:
        """The rollouts, by what they are for."""
        return cast(Rollouts, self.rollouts)

    @property
    def plans(self) -> Plans:
        """The newest plans, by what they are about."""
        return cast(Plans, self.held)

    @property
    def published(self) -> Releases:
        """The releases, by what they vouch for."""
        return cast(Releases, self.releases)

    @property
    def machines(self) -> Hosts:
        """The hosts, by where they are."""
        return cast(Hosts, self.hosts)

    def graph(self, environment: str, name: str) -> StreamGraph | None:
        """That graph of that environment."""
        return cast(Graphs, self.graphs).named(environment, name)

    def graph_names(self, environment: str) -> tuple[str, ...]:
        """Of the graphs of an environment."""
        return cast(Graphs, self.graphs).names(environment)

    def rollout(self, rollout_id: str) -> Rollout | None:
        """The rollout with that id."""
        return next((r for r in self.rollouts if r.rollout_id == rollout_id), None)

    def rollouts_of(self, environment: str, graph: str, vertex: str) -> tuple[Rollout, ...]:
        """All rollouts that this vertex has had, oldest first."""
        return self.history.of_vertex(environment, graph, vertex)

    def last_generation(self, environment: str, graph: str, vertex: str) -> int:
        """The highest number this vertex has given out, 0 when none."""
        wanted = (environment, graph, vertex)
        return max((g.number for g in self.generations if (g.environment, g.graph, g.vertex) == wanted), default=0)


# ---------------------------------------------------------------------------------------------------- the core's answers


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something does not move, or moves as it does. `host` is empty when it is about no host in particular.

    `under_way`: what it waits for is on its way, and nobody needs to do anything.
    """

    host: str
    subject: str
    text: str
    under_way: bool = False


@dataclass(frozen=True, slots=True)
class Planning:
    """What `planner.plan` wants: a plan for each host that shall have one (its revision 0: the loop assigns it), and why."""

    plans: Mapping[str, Plan]
    reasons: tuple[Reason, ...]
