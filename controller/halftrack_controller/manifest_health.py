"""What a release manifest says of health: its probes, field by field."""

from typing import Self

from pydantic import Field, model_validator

from halftrack_controller.manifest_types import DurationMs, Name, Strict
from halftrack_model.probes import MAX_COMMAND, MAX_COUNT, MAX_PROBES, Checks, Probe, ProbeKind

_DEFAULTS = Probe("default", ProbeKind.STREAM)  # the one place of the defaults is the model
_CHECKS = Checks(())


class PortFields(Strict):
    """A port of the instance, on the loopback of the network that it has."""

    port: int | str = Field(description="Its number, or a setting that is one.", examples=[8080])


class HttpFields(PortFields):
    """A page, which must come with a status of 200 to 399."""

    path: str = Field(default="/", description="Which page.", examples=["/healthz"])


class GrpcFields(PortFields):
    """What the standard gRPC health service says."""

    service: str = Field(
        default="", max_length=255, description="Of which service; left out: the server.", examples=["shop.Orders"]
    )


class ExecFields(Strict):
    """A program, which runs as the instance does, beside it; a status of 0 is good."""

    command: list[str] = Field(
        min_length=1,
        max_length=MAX_COMMAND,
        description="Its words, filled in like the release's own.",
        examples=[["/bin/true"]],
    )


class StreamFields(Strict):
    """How a vertex keeps up with what it reads."""

    lag: int = Field(
        default=0,
        ge=1,
        description="Frames that it may be behind; left out: half of what its ring retains.",
        examples=[1000],
    )
    gaps: int = Field(
        default=-1,
        ge=0,
        description="Frames that may be missing from one look to the next; left out: any number.",
        examples=[0],
    )


class ProbeFields(Strict):
    """One thing that is looked at; it says one of tcp, http, exec, grpc and stream."""

    name: Name | None = Field(
        default=None, description="What people are told of; left out: its kind.", examples=["front"]
    )
    tcp: PortFields | None = Field(
        default=None, description="A port that takes connections.", examples=[{"port": 8080}]
    )
    http: HttpFields | None = Field(
        default=None, description="A page that can be had.", examples=[{"port": 8080, "path": "/healthz"}]
    )
    exec: ExecFields | None = Field(
        default=None, description="A program that ends well.", examples=[{"command": ["/bin/true"]}]
    )
    grpc: GrpcFields | None = Field(
        default=None, description="A gRPC server that says it serves.", examples=[{"port": 50051}]
    )
    stream: StreamFields | None = Field(
        default=None, description="A vertex that keeps up.", examples=[{"lag": 1000, "gaps": 0}]
    )
    period_ms: DurationMs = Field(
        default=_DEFAULTS.period_ms, alias="period", description="How often.", examples=["5s"]
    )
    timeout_ms: DurationMs = Field(
        default=_DEFAULTS.timeout_ms, alias="timeout", description="How long one look may take.", examples=["2s"]
    )
    failures: int = Field(
        default=_DEFAULTS.failures, ge=1, le=MAX_COUNT, description="In a row, until it is unhealthy.", examples=[3]
    )
    successes: int = Field(
        default=_DEFAULTS.successes,
        ge=1,
        le=MAX_COUNT,
        description="In a row, until it is healthy again.",
        examples=[1],
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        said = [kind.value for kind in ProbeKind if getattr(self, kind.value) is not None]
        if len(said) != 1:
            raise ValueError(
                f"a probe looks at one thing, and says {' and '.join(said) or 'none'}; write one of {', '.join(k.value for k in ProbeKind)}"
            )
        return self

    def probe(self) -> Probe:
        """The model's."""
        kind = next(kind for kind in ProbeKind if getattr(self, kind.value) is not None)
        asked = self.tcp or self.http or self.grpc
        return Probe(
            name=self.name or kind.value,
            kind=kind,
            port="" if asked is None else str(asked.port),
            path=self.http.path if self.http else "",
            service=self.grpc.service if self.grpc else "",
            command=tuple(self.exec.command) if self.exec else (),
            lag_frames=self.stream.lag if self.stream else 0,
            gaps=self.stream.gaps if self.stream else -1,
            period_ms=self.period_ms,
            timeout_ms=self.timeout_ms,
            failures=self.failures,
            successes=self.successes,
        )


class HealthFields(Strict):
    """What must be seen of an instance for it to be healthy. Nothing of it restarts anything: it is evidence, for gates and for people."""

    probes: list[ProbeFields] = Field(
        min_length=1, max_length=MAX_PROBES, description="All must be good.", examples=[[{"tcp": {"port": 8080}}]]
    )
    grace_ms: DurationMs = Field(
        default=_CHECKS.grace_ms,
        alias="grace",
        description="How long after its start failures mean nothing yet.",
        examples=["10s"],
    )

    def checks(self) -> Checks:
        """The model's."""
        return Checks(tuple(probe.probe() for probe in self.probes), self.grace_ms)
