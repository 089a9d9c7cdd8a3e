"""What a `Service` manifest holds, and the graph of one vertex that it means (ADR 39); and what any step may say of being cut off."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from halftrack_controller.manifest_types import DurationMs, Name, Params, ResourcesFields, Strict, reach_text
from halftrack_model import reach
from halftrack_model.disconnect import ColdBoot, Disconnect, Reconcile
from halftrack_model.graph import Role, StreamGraph, Vertex


class DisconnectFields(Strict):
    """What it does while its host is cut off from the controller."""

    lost_after_ms: DurationMs = Field(
        default=0,
        alias="lostAfter",
        description="The controller gives its host up for lost; left out: never.",
        examples=["10m"],
    )
    lost_after_seen_ms: DurationMs = Field(
        default=0,
        alias="lostAfterSeen",
        description="The same of a host that another of its site still sees; left out: twice lostAfter, or lostAfter where stopAfter has ended it by then.",
        examples=["1h"],
    )
    stop_after_ms: DurationMs = Field(
        default=0,
        alias="stopAfter",
        description="The host stops it until it is in step with the controller again; left out: never.",
        examples=["5m"],
    )
    replace: bool = Field(
        default=False, description="Of a service: another of its hosts runs it once one is lost.", examples=[True]
    )
    reconcile: Literal["keep_original", "keep_replacement", "best_score", "longest_running"] = Field(
        default=Reconcile.KEEP_ORIGINAL.value,
        description="Which stays when the lost host is back; best_score: the one on the host with less to run.",
        examples=["longest_running"],
    )
    cold_boot: Literal["run", "wait"] = Field(
        default=ColdBoot.RUN.value,
        alias="coldBoot",
        description="After a boot without a link: run, or wait until in step with the controller.",
        examples=["wait"],
    )

    def disconnect(self) -> Disconnect:
        """The model's."""
        return Disconnect(
            self.lost_after_ms,
            self.stop_after_ms,
            self.replace,
            Reconcile(self.reconcile),
            ColdBoot(self.cold_boot),
            self.lost_after_seen_ms,
        )


class ServiceSpec(Strict):
    """A command that runs for ever on some hosts of an environment, one instance each."""

    environment: Name = Field(description="The environment that it runs in.", examples=["tank"])
    product: Name = Field(description="The product whose releases it runs.", examples=["balancer"])
    hosts: list[Name] = Field(
        min_length=1, max_length=256, description="All that may run it.", examples=[["tank-a", "tank-b"]]
    )
    instances: int = Field(default=0, ge=1, description="How many of them do; left out: each.", examples=[1])
    params: Params = Field(default={}, description="Settings; they win over the release's.", examples=[{"port": 8080}])
    network: Literal["none", "host"] = Field(
        default="none",
        description="Its own, with nothing in it but what it may reach; or its host's, in which it can listen.",
        examples=["host"],
    )
    resources: ResourcesFields | None = Field(
        default=None,
        description="Limits of each instance; the release's apply where this says nothing.",
        examples=[{"cpu": 0.5, "memory": "256MiB"}],
    )
    reach: list[Annotated[str, AfterValidator(reach_text)]] = Field(
        default=[],
        max_length=reach.MAX_REACH,
        description="IP addresses and ports that it may speak to from a network of its own, as its host reaches them, each with a name if need be.",
        examples=[["db.example=10.0.0.5:5432", "127.0.0.1:4222"]],
    )
    disconnect: DisconnectFields | None = Field(
        default=None,
        description="What it does while its host is cut off; left out: it runs on, after a boot too.",
        examples=[{"stopAfter": "5m", "coldBoot": "wait"}],
    )
    editors: list[Name] = Field(
        default=[], max_length=64, description="Operators who may change it; leave it out for all.", examples=[["ada"]]
    )


def service_of(name: str, spec: ServiceSpec) -> StreamGraph:
    """The graph that the fields mean; yet to be judged."""
    vertex = Vertex(
        name=name,
        role=Role.SERVICE,
        product=spec.product,
        hosts=tuple(spec.hosts),
        params=dict(spec.params),
        ring_bytes=0,
        ring_slots=0,
        resources=None if spec.resources is None else spec.resources.resources(),
        reach=tuple(spec.reach),
        instances=spec.instances,
        host_network=spec.network == "host",
        disconnect=None if spec.disconnect is None else spec.disconnect.disconnect(),
    )
    return StreamGraph(name, spec.environment, (vertex,), (), tuple(spec.editors))
