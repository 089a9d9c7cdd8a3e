"""What a `StreamGraph` manifest holds, field by field, and the graph that it means.

As in `manifest_schema.py`, each field has a description and an example. Whether the graph is right is `graph_rules`' to say.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from halftrack_controller.manifest_service import DisconnectFields
from halftrack_controller.manifest_types import (
    AgoMs,
    BytesPerS,
    DurationMs,
    DurationOrNeverMs,
    FramesPerS,
    Name,
    Params,
    ResourcesFields,
    Size,
    Strict,
    reach_text,
)
from halftrack_model import reach
from halftrack_model.feed import DEFAULT_BUFFER_BYTES, MAX_FEEDS, Feed, Protocol, parsed_bind
from halftrack_model.graph import (
    Edge,
    Full,
    Join,
    JoinBy,
    Partition,
    Place,
    Policy,
    Rate,
    Role,
    Sample,
    Spool,
    StreamGraph,
    Vertex,
)

RoleName = Literal["source", "single", "pair", "sink"]


def _bind(text: str) -> str:
    parsed_bind(text)  # whose ValueError says what to write
    return text


class RingFields(Strict):
    """The buffer that a vertex writes."""

    size: Size = Field(description="Bytes of frames that it holds.", examples=["256MiB"])
    slots: int = Field(default=16384, ge=1, description="Frames that it holds; a power of two.", examples=[16384])


class JoinFields(Strict):
    """How several inputs become one."""

    by: Literal["sequence", "time", "order", "union"] = Field(
        description="Frame n of each; those of one stretch of stream time; all in order of time; or whichever has n.",
        examples=["sequence"],
    )
    width_ms: DurationMs | None = Field(
        default=None, alias="width", description="By time only: how long a stretch is.", examples=["10ms"]
    )
    partial: bool = Field(
        default=False,
        description="By sequence only: what some inputs have lost passes without them.",
        examples=[True],
    )


class RateFields(Strict):
    """Bytes, frames, or both, in a second."""

    bytes_per_s: BytesPerS | None = Field(
        default=None, alias="bytes", description="Bytes in a second.", examples=["100MB/s"]
    )
    frames_per_s: FramesPerS | None = Field(
        default=None, alias="frames", description="Frames in a second.", examples=["20000/s"]
    )


class FeedFields(Strict):
    """A socket that a source reads. Its host binds it, and holds it through the source's upgrades, deaths and restarts."""

    name: Name = Field(description="What the source calls it.", examples=["data"])
    protocol: Literal["udp", "tcp"] = Field(description="Datagrams, or connections.", examples=["udp"])
    bind: Annotated[str, AfterValidator(_bind)] = Field(
        description="IP address and port, on the host; low ports too.", examples=["0.0.0.0:4001"]
    )
    receive_buffer: Size = Field(
        default=DEFAULT_BUFFER_BYTES,
        alias="receiveBuffer",
        description="What may wait while nobody reads (TCP: of each connection); the kernel counts its own records too.",
        examples=["64MiB"],
    )


class StepFields(Strict):
    """What any step of a stream has, wherever its inputs come from."""

    name: Name = Field(description="Its name in the graph.", examples=["spectrometer"])
    role: RoleName | None = Field(
        default=None,
        description="As in a graph; left out: source for the first, sink for the last, else single on one host and pair on two.",
        examples=["pair"],
    )
    product: Name = Field(description="The product whose releases it runs.", examples=["spectrometer"])
    hosts: list[Name] = Field(
        min_length=1,
        max_length=2,
        description="One host; two for a pair (members a and b), or one where both run.",
        examples=[["tank-a"]],
    )
    params: Params = Field(default={}, description="Settings; they win over the release's.", examples=[{"rate": 32}])
    ring: RingFields | None = Field(
        default=None, description="The ring that it writes; a sink has none.", examples=[{"size": "256MiB"}]
    )
    state: str = Field(
        default="",
        max_length=128,
        description="The schema of its state, without a version. Once one vertex says it, all that keep a state must.",
        examples=["spectra"],
    )
    rate: RateFields | None = Field(
        default=None, description="What it produces at most.", examples=[{"frames": "20000/s"}]
    )
    capacity: RateFields | None = Field(
        default=None, description="What it can take; checked against what feeds it.", examples=[{"bytes": "100MB/s"}]
    )
    feeds: list[FeedFields] = Field(
        default=[],
        max_length=MAX_FEEDS,
        description="Of a source: the sockets that it reads.",
        examples=[[{"name": "data", "protocol": "udp", "bind": "0.0.0.0:4001"}]],
    )
    resources: ResourcesFields | None = Field(
        default=None,
        description="Limits of each member; the release's apply where this says nothing.",
        examples=[{"cpu": 0.5, "memory": "256MiB"}],
    )
    reach: list[Annotated[str, AfterValidator(reach_text)]] = Field(
        default=[],
        max_length=reach.MAX_REACH,
        description="IP addresses and ports that it may speak to, as its host reaches them, each with a name if need be; nothing else is let out.",
        examples=[["db.example=10.0.0.5:5432", "127.0.0.1:4222"]],
    )
    hang_after_ms: DurationOrNeverMs | None = Field(
        default=None,
        alias="hangAfter",
        description="How long its processes may be still before they are killed; 0: for ever. Left out: 60s, and a source may be silent.",
        examples=["20s"],
    )
    disconnect: DisconnectFields | None = Field(
        default=None,
        description="What it does while its host is cut off; left out: it runs on, after a boot too.",
        examples=[{"stopAfter": "5m", "coldBoot": "wait"}],
    )


class VertexFields(StepFields):
    """A step of the graph."""

    role: RoleName = Field(
        description="Begins a stream, transforms one alone or as two members, or ends one.", examples=["pair"]
    )
    join: JoinFields | None = Field(
        default=None, description="How its inputs become one; needed from two on.", examples=[{"by": "sequence"}]
    )


class SampleFields(Strict):
    """Which frames a sampling edge takes; one of these."""

    every: int | None = Field(default=None, ge=1, description="Every so many, by sequence.", examples=[10])
    rate_per_s: FramesPerS | None = Field(
        default=None, alias="rate", description="So many at most.", examples=["100/s"]
    )
    latest: bool = Field(default=False, description="The newest whenever it looks.", examples=[True])


class PartitionFields(Strict):
    """The frames whose key falls into some parts."""

    offset: int = Field(ge=0, description="Where the key begins in a frame, in bytes.", examples=[0])
    key_bytes: int = Field(ge=1, alias="bytes", description="How long it is.", examples=[8])
    of: int = Field(ge=2, description="How many parts there are; a key's hash says which.", examples=[4])
    take: list[int] = Field(min_length=1, max_length=65536, description="The parts taken, from 0 on.", examples=[[0]])


class ReplayFields(Strict):
    """Where a consumer begins that has never read."""

    from_ms: AgoMs = Field(alias="from", description="So far back, by stream time.", examples=["-30s"])


class SpoolFields(Strict):
    """A folder on the consumer's host, which the agent keeps for as long as the graph has it."""

    size: Size = Field(description="Bytes on the disk at most; twice the source's ring at least.", examples=["20GiB"])
    retain_ms: DurationMs | None = Field(
        default=None,
        alias="retain",
        description="How long it keeps what the consumer has had, room permitting; left out: not at all.",
        examples=["2h"],
    )
    full: Literal["block", "drop-oldest"] = Field(
        default="block",
        description="What gives when it is full: the source waits, or the oldest is lost and declared so.",
        examples=["drop-oldest"],
    )


class ReadingFields(Strict):
    """How a step reads what it does."""

    policy: Literal["lossless", "lossy", "sample"] = Field(
        default="lossless",
        description="Whether a slow consumer holds up the source, misses frames, or takes only some.",
        examples=["lossy"],
    )
    sample: SampleFields | None = Field(
        default=None, description="Which frames; with policy sample.", examples=[{"every": 10}]
    )
    partition: PartitionFields | None = Field(
        default=None,
        description="Only some, by a key in each frame.",
        examples=[{"offset": 0, "bytes": 8, "of": 4, "take": [0]}],
    )
    replay: ReplayFields | None = Field(
        default=None, description="Begin in the past; left out: as its consumer does.", examples=[{"from": "-30s"}]
    )
    retain_ms: DurationMs | None = Field(
        default=None,
        alias="retain",
        description="What the source's ring keeps, by stream time; left out: what fits.",
        examples=["60s"],
    )
    credit_bytes: Size | None = Field(
        default=None,
        alias="credit",
        description="What the consumer may lag at nobody's cost; left out: as much as the source's ring holds.",
        examples=["64MiB"],
    )
    evict_after_ms: DurationMs | None = Field(
        default=None,
        alias="evictAfter",
        description="How long it may hold up the source then; left out: for ever.",
        examples=["5s"],
    )
    placement: Literal["source", "target"] | None = Field(
        default=None,
        description="The end where frames are picked and joined; left out: where most are made.",
        examples=["target"],
    )
    spool: SpoolFields | None = Field(
        default=None,
        description="Keep on the disk what the consumer has not had and the ring no longer holds; not in live graphs.",
        examples=[{"size": "20GiB", "full": "drop-oldest"}],
    )


class EndsFields(Strict):
    """From where to where."""

    source: Name = Field(alias="from", description="The vertex that produces it.", examples=["source"])
    target: Name = Field(alias="to", description="The vertex that consumes it.", examples=["spectrometer"])


class EdgeFields(ReadingFields, EndsFields):
    """A stream from one vertex to another."""


class StreamGraphSpec(Strict):
    """A stream graph in one environment."""

    environment: Name = Field(description="The environment that it runs in.", examples=["tank"])
    vertices: list[VertexFields] = Field(min_length=1, max_length=256, description="Its steps.", examples=[[]])
    edges: list[EdgeFields] = Field(default=[], max_length=1024, description="Its streams.", examples=[[]])
    editors: list[Name] = Field(
        default=[], max_length=64, description="Operators who may change it; leave it out for all.", examples=[["ada"]]
    )
    live: bool = Field(
        default=False,
        description="Whether what its vertices read can be changed while they run; they have an inlet each then. For a graph's whole life.",
        examples=[True],
    )


# ------------------------------------------------------------------------------------------------------ to the domain's types


def graph_of(name: str, spec: StreamGraphSpec) -> StreamGraph:
    """The graph that the fields mean; yet to be judged."""
    edges = tuple(edge_of(fields.source, fields.target, fields) for fields in spec.edges)
    vertices = tuple(vertex_of(fields, Role(fields.role), _join(fields.join)) for fields in spec.vertices)
    return StreamGraph(name, spec.environment, vertices, edges, tuple(spec.editors), spec.live)


def vertex_of(fields: StepFields, role: Role, join: Join | None) -> Vertex:
    """The vertex that the fields mean."""
    return Vertex(
        name=fields.name,
        role=role,
        product=fields.product,
        hosts=tuple(fields.hosts),
        params=dict(fields.params),
        ring_bytes=fields.ring.size if fields.ring else 0,
        ring_slots=fields.ring.slots if fields.ring else 0,
        join=join,
        state=fields.state,
        rate=_rate(fields.rate),
        capacity=_rate(fields.capacity),
        feeds=tuple(Feed(each.name, Protocol(each.protocol), each.bind, each.receive_buffer) for each in fields.feeds),
        resources=None if fields.resources is None else fields.resources.resources(),
        reach=tuple(fields.reach),
        hang_after_ms=fields.hang_after_ms,
        disconnect=None if fields.disconnect is None else fields.disconnect.disconnect(),
    )


def _join(fields: JoinFields | None) -> Join | None:
    return None if fields is None else Join(JoinBy(fields.by), fields.width_ms or 0, fields.partial)


def _rate(fields: RateFields | None) -> Rate | None:
    return None if fields is None else Rate(fields.bytes_per_s or 0, fields.frames_per_s or 0)


def edge_of(source: str, target: str, fields: ReadingFields) -> Edge:
    """The edge between the two that the fields mean."""
    sample, cut = fields.sample, fields.partition
    return Edge(
        source=source,
        target=target,
        policy=Policy(fields.policy),
        sample=None if sample is None else Sample(sample.every or 0, sample.rate_per_s or 0, sample.latest),
        partition=None if cut is None else Partition(cut.offset, cut.key_bytes, cut.of, tuple(cut.take)),
        replay_ms=0 if fields.replay is None else fields.replay.from_ms,
        retain_ms=fields.retain_ms or 0,
        credit_bytes=fields.credit_bytes or 0,
        evict_after_ms=fields.evict_after_ms or 0,
        placement=None if fields.placement is None else Place(fields.placement),
        spool=None if fields.spool is None else _spool(fields.spool),
    )


def _spool(fields: SpoolFields) -> Spool:
    return Spool(fields.size, fields.retain_ms or 0, Full(fields.full))
