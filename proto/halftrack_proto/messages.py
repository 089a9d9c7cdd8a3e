"""What is said over the wire, as frozen dataclasses, where the model has no word for it. `codec` turns them into messages.

Nothing here checks or decides; types of `halftrack_model` are used wherever one exists.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.graph import StreamGraph
from halftrack_model.observed import Health, Observed
from halftrack_model.plan import Plan
from halftrack_model.release import Release
from halftrack_model.report import Report
from halftrack_model.seals import Sealed
from halftrack_model.swap import SwapRecord
from halftrack_proto.gauges import FlowGauge, RingGauge, TransferGauge
from halftrack_proto.shown import WantFrames
from halftrack_proto.sightings import LookFor, Sees

# -------------------------------------------------------------------------------------------------- session, from an agent


@dataclass(frozen=True, slots=True)
class Hello:
    """First words of an agent: what it holds, so that nothing is sent to it twice."""

    host: str
    boot_id: str
    agent_version: str
    revision: int  # of the plan held; 0 when there is none
    observed_digest: str
    outbox_first: int  # number of the oldest unacknowledged report
    outbox_next: int  # number that the next report will have
    takes_parts: bool = False  # of long messages


@dataclass(frozen=True, slots=True)
class Accepted:
    """The plan of that revision is durable on the host."""

    revision: int


@dataclass(frozen=True, slots=True)
class Declined:
    """The host refuses a plan (message `Refused`; the name would clash with the error). Revision 0: unreadable."""

    revision: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The agent is there, and its observed state has this digest."""

    observed_digest: str
    rings: tuple[RingGauge, ...]
    flows: tuple[FlowGauge, ...] = ()
    transfers: tuple[TransferGauge, ...] = ()
    boot_ms: int = 0  # the host's boot-time clock; 0: an agent that does not tell


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """Reports from the outbox, numbers rising."""

    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Alive:
    """The controller's heartbeat, and the agent's word between two of its own."""


AgentSays = Hello | Accepted | Declined | Heartbeat | Observed | ReportBatch | Alive | Sees

# -------------------------------------------------------------------------------------------- session, from the controller


@dataclass(frozen=True, slots=True)
class Welcome:
    """The terms of the session. An outbox that begins anew gives its first report the number `reports_upto + 1`.

    Of the certificate: how long the one that the controller has seen is still good for, and how long a fresh one would be; 0 where the
    controller does not say. `enrolment_endpoint` is said only to a host whose certificate is older than renewal.
    """

    heartbeat_ms: int
    reports_upto: int
    certificate_left_s: int = 0
    certificate_life_s: int = 0
    enrolment_endpoint: str = ""
    now_ms: int = 0  # the controller's wall clock: for the host to say how far off its own is, never to decide by
    revision: int = 0  # of the newest plan made for this host: with that one, or its refusal, it is in step
    takes_parts: bool = False  # and Alive between heartbeats: a controller of before would end the session for either


@dataclass(frozen=True, slots=True)
class PlanPush:
    """A sealed plan. `revision` is for logs: the one inside counts."""

    sealed: Sealed
    revision: int


@dataclass(frozen=True, slots=True)
class ReportsAcked:
    """Every report up to this number is durable at the controller."""

    upto: int


@dataclass(frozen=True, slots=True)
class WantObserved:
    """The digest that the agent named is not known here: send the full state."""


@dataclass(frozen=True, slots=True)
class ReconnectAfter:
    """The session ends; come back after `ms` plus jitter of your own."""

    ms: int
    reason: str


ControllerSays = Welcome | PlanPush | ReportsAcked | Alive | WantObserved | ReconnectAfter | WantFrames | LookFor

# ------------------------------------------------------------------------------------------------- enrolment and artifacts


@dataclass(frozen=True, slots=True)
class Token:
    """What an enrolment token says. Its text is a secret; see `tokens` in codec for its form."""

    galaxy: str
    endpoint: str  # of the enrolment port, host:port
    ca_der: bytes
    host: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EnrolRequest:
    """A host asks to belong."""

    secret: str = field(repr=False)
    host: str
    csr_der: bytes
    curve_public: str


@dataclass(frozen=True, slots=True)
class EnrolReply:
    """All that an agent needs to trust its galaxy and be trusted. Keys are raw Ed25519 public keys by key id."""

    galaxy: str
    host: str
    certificate_der: bytes
    ca_der: bytes
    plan_keys: Mapping[str, bytes]
    release_keys: Mapping[str, bytes]
    release_threshold: int
    session_endpoint: str


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """The artifact's bytes from `offset` on, in pieces of `chunk_bytes` (0: as the sender likes), `most_bytes` of them (0: all)."""

    digest: str
    offset: int
    chunk_bytes: int = 0
    most_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FetchChunk:
    """Bytes of an artifact. `total_bytes` counts in the first chunk only."""

    total_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PutChunk:
    """Bytes of an artifact on their way in. `digest` and `total_bytes` count in the first chunk only."""

    digest: str
    total_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class PutReply:
    """The artifact is durable."""

    digest: str
    size_bytes: int
    already_held: bool


# ------------------------------------------------------------------------------------------------------------- operators


@dataclass(frozen=True, slots=True)
class EnvironmentDocument:
    """A manifest's environment."""

    name: str
    labels: Mapping[str, str]
    track: str
    agent: str = ""


@dataclass(frozen=True, slots=True)
class HostDocument:
    """A manifest's host; `bridge` and `agent` are where other hosts reach it, host:port."""

    name: str
    environment: str
    labels: Mapping[str, str]
    bridge: str
    agent: str
    bandwidth: tuple[BandwidthWindow, ...] = ()
    site: str = ""


Document = EnvironmentDocument | HostDocument | StreamGraph


@dataclass(frozen=True, slots=True)
class DocumentChange:
    """What applying a document does. `action` is created, changed or unchanged."""

    kind: str
    name: str
    action: str


@dataclass(frozen=True, slots=True)
class HostChange:
    """A host whose plan differs from the one it holds."""

    host: str
    revision_held: int
    held: Plan | None
    next: Plan


@dataclass(frozen=True, slots=True)
class Why:
    """A reason, in prose. `host` is empty when it is about none in particular.

    `under_way`: what it waits for is on its way, and nobody needs to do anything.
    """

    host: str
    subject: str
    text: str
    under_way: bool


@dataclass(frozen=True, slots=True)
class RolloutEntry:
    """A rollout as it stands; `swap` is its record as the leader last showed it."""

    rollout_id: str
    environment: str
    graph: str
    vertex: str
    product: str
    from_version: str
    to_version: str
    from_generation: int
    to_generation: int
    phase: str
    reason: str
    created_ms: int
    swap: SwapRecord | None


@dataclass(frozen=True, slots=True)
class PlanReply:
    """What applying documents would change, where and in which order, and why not elsewhere."""

    changes: tuple[DocumentChange, ...]
    hosts: tuple[HostChange, ...]
    rollouts: tuple[RolloutEntry, ...]
    reasons: tuple[Why, ...]


@dataclass(frozen=True, slots=True)
class PublishReply:
    """The release is durable, and these rollouts have begun."""

    product: str
    version: str
    already_published: bool
    rollout_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReleaseEntry:
    """A published release and who sealed it."""

    release: Release
    key_ids: tuple[str, ...]
    published_ms: int


@dataclass(frozen=True, slots=True)
class HostEntry:
    """A host in a list. `last_seen_age_ms` is -1 when it has never been seen."""

    name: str
    environment: str
    labels: Mapping[str, str]
    enrolled: bool
    connected: bool
    last_seen_age_ms: int
    revision: int
    accepted_revision: int
    refusal_reason: str
    refusal_message: str
    problems: tuple[str, ...]
    health: Health
    certificate_ends_ms: int = 0  # by the controller's clock; 0 when it is not known
    certificate_left_ms: int = 0  # until then; below 0 when it is over
    agent: str = ""  # its agent's version as it last said; empty: it has not
    agent_on_trial: bool = False
    sighted_by: str = ""  # which host of its site has seen it last, while it is away; empty: none
    sighted_age_ms: int = -1
    watched: bool = False  # hosts of its site look for it


@dataclass(frozen=True, slots=True)
class HostDetail:
    """A host in full; `reports` are its newest, oldest first."""

    entry: HostEntry
    plan: Plan | None
    observed: Observed | None
    reports: tuple[Report, ...]
    transfers: tuple[TransferGauge, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A wish for a token with which one host may enrol."""

    host: str
    ttl_s: int


@dataclass(frozen=True, slots=True)
class TokenReply:
    """A fresh token's text: a secret, shown once."""

    token: str = field(repr=False)
    expires_ms: int


class Steer(Enum):
    """What an operator may do to a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class RolloutQuery:
    """Which rollouts: one, those of an environment, or all. An empty field asks for no restriction."""

    rollout_id: str
    environment: str


@dataclass(frozen=True, slots=True)
class SteerRequest:
    """What to do to which rollout."""

    rollout_id: str
    steer: Steer


@dataclass(frozen=True, slots=True)
class Change:
    """Something that has changed at the controller. `number` counts within one watch."""

    number: int
    at_ms: int
    kind: str  # documents, release, host, plan, rollout or report
    subject: str
    text: str
