"""The manifest format `halftrack/v1`, as pydantic models: the field reference, and the source of `halftrack schema`.

Each field has a description and an example; the example is what an error message tells the author to write. Nothing here reads
files or knows lines: that is `manifests.py`. What streams hold is in `manifest_stream.py` and `manifest_graph.py`. Models never leave these files; the rest of the
house sees model types.
"""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from halftrack_controller.manifest_graph import StreamGraphSpec
from halftrack_controller.manifest_health import HealthFields
from halftrack_controller.manifest_service import ServiceSpec
from halftrack_controller.manifest_stream import StreamSpec
from halftrack_controller.manifest_types import (
    Address,
    DurationMs,
    Entry,
    Labels,
    LinkBytesPerS,
    MinuteOfDay,
    Name,
    Params,
    Port,
    ResourcesFields,
    Schema,
    Strict,
    VersionText,
)
from halftrack_controller.manifest_verdict import VerdictFields
from halftrack_model.bandwidth import MAX_WINDOWS
from halftrack_model.probes import Checks
from halftrack_model.release import (
    MAX_COMMAND,
    Approval,
    Compare,
    Migration,
    OnStateLoss,
    StateSchemas,
    SwapStrategy,
    state_faults,
    strategy_faults,
)
from halftrack_model.resources import faults

API_VERSION = "halftrack/v1"
_DEFAULTS = SwapStrategy()  # the one place of the defaults is the model; this file only repeats them in people's units


class Metadata(Strict):
    """What every object has."""

    name: Name = Field(description="The object's name, unique among its kind.", examples=["tank"])


class EnvironmentSpec(Strict):
    """One production environment: a customer, a tank, a telescope."""

    labels: Labels = Field(default={}, description="Facts to select by.", examples=[{"site": "north"}])
    track: Name = Field(default="stable", description="The layer of risk it accepts.", examples=["stable"])
    agent: VersionText | None = Field(
        default=None,
        description="The version that the agents of its hosts shall be, of a release of halftrack-agent; left out: as they are.",
        examples=["0.2.0"],
    )


class BandwidthFields(Strict):
    """What artifacts may take of the host's link in a part of the day. Of several that hold at once, the tightest counts."""

    limit: LinkBytesPerS = Field(
        description="This much at most, in bits or bytes a second; 0 lets nothing in.", examples=["256kbit/s", "2MB/s"]
    )
    from_: MinuteOfDay | None = Field(
        default=None, alias="from", description="From this time on, UTC; without it, from midnight.", examples=["08:00"]
    )
    to: MinuteOfDay | None = Field(
        default=None,
        description="Until before this time, UTC; one before `from` is on the next day, none is midnight.",
        examples=["18:00"],
    )


class HostSpec(Strict):
    """A machine with an agent."""

    environment: Name = Field(description="The environment it belongs to.", examples=["tank"])
    address: Address = Field(description="Where the other hosts reach it.", examples=["10.0.0.2"])
    labels: Labels = Field(default={}, description="Facts to select by.", examples=[{"rack": "left"}])
    bridge_port: Port = Field(default=7450, alias="bridgePort", description="Its bridge listens here.", examples=[7450])
    agent_port: Port = Field(default=7451, alias="agentPort", description="Its agent listens here.", examples=[7451])
    bandwidth: list[BandwidthFields] = Field(
        default=[],
        max_length=MAX_WINDOWS,
        description="What artifacts may take of its link; without it, all of it.",
        examples=[[{"limit": "256kbit/s", "from": "08:00", "to": "18:00"}]],
    )
    site: Name | None = Field(
        default=None,
        description="Hosts of one environment that name the same site give each other artifacts, so that its link carries each once.",
        examples=["ridge"],
    )


class ArtifactFields(Strict):
    """What the release runs."""

    file: str = Field(
        min_length=1,
        description="A .py file or zipapp, or whatever the command runs; relative to this manifest.",
        examples=["spectrometer.py"],
    )


class MigrationFields(Strict):
    """A function in the artifact that takes a snapshot of one schema and returns it in another."""

    source: Schema = Field(alias="from", description="The schema it takes.", examples=["spectra/1"])
    target: Schema = Field(alias="to", description="The schema it returns.", examples=["spectra/2"])
    entry: Entry = Field(description="module:function in the artifact.", examples=["spectrometer:spectra_2_from_1"])


class WindowFields(Strict):
    """How far back the vertex's state reaches, when its last inputs are all of it: by count or by time."""

    frames: int = Field(default=0, ge=1, le=1 << 30, description="That many inputs.", examples=[1024])
    time_ms: DurationMs = Field(default=0, alias="time", description="The inputs of that long.", examples=["30s"])

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if bool(self.frames) == bool(self.time_ms):
            raise ValueError("a window is a count or a time: write one of `frames: 1024` and `time: 30s`")
        return self


class StateFields(Strict):
    """Schemas of the vertex's snapshot; leave it out when it keeps no state."""

    writes: str = Field(default="", max_length=128, description="The one it writes.", examples=["spectra/1"])
    reads: list[str] = Field(default=[], max_length=64, description="All it can restore.", examples=[["spectra/1"]])
    migrations: list[MigrationFields] = Field(
        default=[],
        max_length=32,
        description="Ways from others' schemas to one it reads, and back from the one it writes.",
        examples=[[{"from": "spectra/1", "to": "spectra/2", "entry": "spectrometer:spectra_2_from_1"}]],
    )
    one_way: bool = Field(
        default=False,
        alias="oneWay",
        description="No way back: `rollout abort` is refused once its output counts.",
        examples=[True],
    )
    replay: WindowFields | None = Field(
        default=None,
        description="In place of snapshots: its state is a function of its last inputs.",
        examples=[{"frames": 1024}],
    )
    on_loss: Literal["resume", "restart", "wait"] | None = Field(
        default=None,
        alias="onLoss",
        description="When no member can go on from it any more, behind a declared gap: resume the newest that there is (default), restart with an empty one; or wait.",
        examples=["wait"],
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if faults := state_faults(self.state()):
            raise ValueError("; ".join(faults))
        return self

    def state(self) -> StateSchemas:
        """The model's."""
        return StateSchemas(
            writes=self.writes,
            reads=tuple(self.reads),
            migrations=tuple(Migration(step.source, step.target, step.entry) for step in self.migrations),
            one_way=self.one_way,
            replay_frames=self.replay.frames if self.replay else 0,
            replay_ms=self.replay.time_ms if self.replay else 0,
            on_loss=OnStateLoss(self.on_loss or ("resume" if self.writes else "wait")),
        )


class StrategyFields(Strict):
    """How a pair is taken to this release."""

    surge: Literal[1, 2] = Field(
        default=1,
        description="Greens beside the blues at a time: one seat after the other, or both before a single cut.",
        examples=[2],
    )
    lag_frames: int = Field(
        default=_DEFAULTS.lag_frames,
        ge=0,
        alias="lagFrames",
        description="Green has caught up within it.",
        examples=[32],
    )
    caught_up_ms: DurationMs = Field(
        default=_DEFAULTS.caught_up_ms, alias="caughtUp", description="... for this long.", examples=["500ms"]
    )
    shadow_ms: DurationMs = Field(
        default=_DEFAULTS.shadow_ms, alias="shadow", description="Green shadows at least this long.", examples=["1s"]
    )
    shadow_frames: int = Field(
        default=_DEFAULTS.shadow_frames,
        ge=0,
        alias="shadowFrames",
        description="... and this many outputs.",
        examples=[8],
    )
    drain_ms: DurationMs = Field(
        default=_DEFAULTS.drain_ms, alias="drain", description="Blue shadows on after the cut.", examples=["1s"]
    )
    deadline_ms: DurationMs = Field(
        default=_DEFAULTS.deadline_ms,
        alias="deadline",
        description="A leg that takes longer is undone.",
        examples=["60s"],
    )
    green_deaths: int = Field(
        default=_DEFAULTS.green_deaths,
        ge=0,
        alias="greenDeaths",
        description="Kills that green survives.",
        examples=[3],
    )
    compare: Literal["equal", "differs-expected"] = Field(
        default=_DEFAULTS.compare.value, description="Green's outputs against blue's.", examples=[Compare.EQUAL.value]
    )
    approval: Literal["automatic", "manual"] = Field(
        default=_DEFAULTS.approval.value, description="Who lets it begin.", examples=[Approval.MANUAL.value]
    )
    verdict: VerdictFields | None = Field(
        default=None,
        description="What is measured and compared before the cut of a pair.",
        examples=[{"check": "equal", "latency": {"p99": "1.5x"}}],
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if faults := strategy_faults(self.strategy()):
            raise ValueError("; ".join(faults))
        return self

    def strategy(self) -> SwapStrategy:
        """The model's."""
        return SwapStrategy(
            surge=self.surge,
            lag_frames=self.lag_frames,
            caught_up_ms=self.caught_up_ms,
            shadow_ms=self.shadow_ms,
            shadow_frames=self.shadow_frames,
            drain_ms=self.drain_ms,
            deadline_ms=self.deadline_ms,
            green_deaths=self.green_deaths,
            compare=Compare(self.compare),
            approval=Approval(self.approval),
            verdict=self.verdict.verdict() if self.verdict else None,
        )


class ReleaseSpec(Strict):
    """An immutable version of a product; `halftrack release publish` seals and uploads it."""

    product: Name = Field(description="The software's name.", examples=["spectrometer"])
    version: VersionText = Field(description="Semantic version; never reused.", examples=["1.0.0"])
    artifact: ArtifactFields = Field(description="What it runs.", examples=[{"file": "spectrometer.py"}])
    entry: Entry | None = Field(
        default=None,
        description="module:Class in the artifact; of a stream's vertex.",
        examples=["spectrometer:Spectrometer"],
    )
    command: list[str] = Field(
        default=[],
        max_length=MAX_COMMAND,
        description="What a service runs; `{artifact}` is the file's path, `{params.NAME}` a setting.",
        examples=[["python3", "{artifact}", "--port", "{params.port}"]],
    )
    unpack: bool = Field(
        default=False,
        description="The artifact is a tar or zip of files and folders; `{artifact}` is then the folder that holds them.",
        examples=[True],
    )
    params: Params = Field(default={}, description="Settings.", examples=[{"channels": 1024}])
    state: StateFields = Field(default=StateFields(), description="Its snapshots.", examples=[{"writes": "spectra/1"}])
    strategy: StrategyFields = Field(default=StrategyFields(), description="Its upgrade.", examples=[{"surge": 1}])
    resources: ResourcesFields | None = Field(
        default=None,
        description="Limits of each instance; a vertex's own win.",
        examples=[{"cpu": 0.5, "memory": "256MiB"}],
    )
    health: HealthFields | None = Field(
        default=None,
        description="What must be seen of an instance; left out: that it runs, and keeps up with its stream.",
        examples=[{"probes": [{"http": {"port": 8080}}]}],
    )

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.resources and (found := list(faults(self.resources.resources()))):
            raise ValueError("; ".join(found))
        return self

    def checks(self) -> Checks | None:
        """The model's."""
        return None if self.health is None else self.health.checks()


class Object(Strict):
    """What begins every document."""

    api_version: Literal["halftrack/v1"] = Field(alias="apiVersion", description="The format.", examples=[API_VERSION])


class EnvironmentManifest(Object):
    """`kind: Environment`."""

    kind: Literal["Environment"] = Field(description="What this is.", examples=["Environment"])
    metadata: Metadata = Field(description="Its name.", examples=[{"name": "tank"}])
    spec: EnvironmentSpec = Field(default=EnvironmentSpec(), description="Its fields.", examples=[{}])


class HostManifest(Object):
    """`kind: Host`."""

    kind: Literal["Host"] = Field(description="What this is.", examples=["Host"])
    metadata: Metadata = Field(description="Its name.", examples=[{"name": "tank-a"}])
    spec: HostSpec = Field(description="Its fields.", examples=[{"environment": "tank", "address": "10.0.0.1"}])


class StreamManifest(Object):
    """`kind: Stream`; a stream graph in a line, which no graph of the same name can stand beside."""

    kind: Literal["Stream"] = Field(description="What this is.", examples=["Stream"])
    metadata: Metadata = Field(description="Its name.", examples=[{"name": "spectra"}])
    spec: StreamSpec = Field(description="Its fields.", examples=[{"environment": "tank", "steps": []}])


class StreamGraphManifest(Object):
    """`kind: StreamGraph`."""

    kind: Literal["StreamGraph"] = Field(description="What this is.", examples=["StreamGraph"])
    metadata: Metadata = Field(description="Its name.", examples=[{"name": "spectra"}])
    spec: StreamGraphSpec = Field(description="Its fields.", examples=[{"environment": "tank", "vertices": []}])


class ServiceManifest(Object):
    """`kind: Service`; a graph of one vertex, which no graph of the same name can stand beside."""

    kind: Literal["Service"] = Field(description="What this is.", examples=["Service"])
    metadata: Metadata = Field(description="Its name.", examples=[{"name": "balancer"}])
    spec: ServiceSpec = Field(description="Its fields.", examples=[{"environment": "tank", "product": "balancer"}])


class ReleaseManifest(Object):
    """`kind: Release`; it needs no metadata, product and version are its name."""

    kind: Literal["Release"] = Field(description="What this is.", examples=["Release"])
    metadata: Metadata | None = Field(default=None, description="A name, for people.", examples=[{"name": "hann"}])
    spec: ReleaseSpec = Field(description="Its fields.", examples=[{"product": "spectrometer", "version": "1.0.0"}])


KINDS: dict[str, type[Object]] = {
    "Environment": EnvironmentManifest,
    "Host": HostManifest,
    "Stream": StreamManifest,
    "StreamGraph": StreamGraphManifest,
    "Service": ServiceManifest,
    "Release": ReleaseManifest,
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one document of any kind."""
    definitions: dict[str, Any] = {}
    for kind, model in KINDS.items():
        schema = model.model_json_schema(by_alias=True, ref_template="#/$defs/{model}")
        definitions.update(schema.pop("$defs", {}))
        definitions[kind] = schema
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Halftrack manifest, {API_VERSION}",
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in KINDS],
        "$defs": dict(sorted(definitions.items())),
    }
