"""What a `Stream` manifest holds, and the graph that it means: vertices in a line, each of which reads the one before.

Nothing behind the manifests knows of it: what is applied, drawn, edited and upgraded is a stream graph (ADR 28).
"""

from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator

from halftrack_controller.manifest_graph import ReadingFields, StepFields, edge_of, vertex_of
from halftrack_controller.manifest_types import Name, Strict
from halftrack_model.graph import Role, StreamGraph


class LineStepFields(StepFields):
    """A step of the line."""

    reads: ReadingFields | None = Field(
        default=None,
        description="How it reads the step before; left out: lossless.",
        examples=[{"policy": "lossy"}],
    )


class StreamSpec(Strict):
    """One stream in one environment: a source, and what its frames go through."""

    environment: Name = Field(description="The environment that it runs in.", examples=["tank"])
    steps: list[LineStepFields] = Field(
        min_length=2, max_length=256, description="From the source on; each reads the one before.", examples=[[]]
    )
    editors: list[Name] = Field(
        default=[], max_length=64, description="Operators who may change it; leave it out for all.", examples=[["ada"]]
    )
    live: bool = Field(
        default=False, description="As in a graph: its steps can be rewired while they run.", examples=[True]
    )

    @model_validator(mode="after")
    def _begins_with_a_source(self) -> Self:
        if self.steps[0].reads is not None:
            raise ValueError(f"{self.steps[0].name} is the first step and reads none: remove `reads`")
        return self


def stream_of(name: str, spec: StreamSpec) -> StreamGraph:
    """The graph that the fields mean; yet to be judged."""
    vertices = tuple(vertex_of(step, _role(spec, number), None) for number, step in enumerate(spec.steps))
    edges = tuple(
        edge_of(before.name, step.name, step.reads or ReadingFields()) for before, step in pairwise(spec.steps)
    )
    return StreamGraph(name, spec.environment, vertices, edges, tuple(spec.editors), spec.live)


def _role(spec: StreamSpec, number: int) -> Role:
    step = spec.steps[number]
    if step.role is not None:
        return Role(step.role)
    if number == 0:
        return Role.SOURCE
    if number == len(spec.steps) - 1:
        return Role.SINK
    return Role.PAIR if len(step.hosts) > 1 else Role.SINGLE
