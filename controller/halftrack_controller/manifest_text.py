"""A graph as the manifest that declares it: what `manifests.read` makes of the text is the graph again. Pure.

For operators who adopt what they have changed while it ran. What a manifest may leave out is left out.
"""

import io
from typing import Any

from ruamel.yaml import YAML

from halftrack_controller.manifest_schema import API_VERSION
from halftrack_controller.quantities import exact_duration_text, exact_size_text
from halftrack_model.disconnect import Disconnect
from halftrack_model.feed import Feed
from halftrack_model.graph import Edge, Full, Join, Policy, Rate, Spool, StreamGraph, Vertex
from halftrack_model.resources import Resources


def graph_manifest(graph: StreamGraph) -> str:
    """The YAML document."""
    spec: dict[str, Any] = {
        "environment": graph.environment,
        "vertices": [_vertex(vertex) for vertex in graph.vertices],
        "edges": [_edge(edge) for edge in graph.edges],
    }
    if graph.live:
        spec["live"] = True
    if graph.editors:
        spec["editors"] = list(graph.editors)
    tree = {"apiVersion": API_VERSION, "kind": "StreamGraph", "metadata": {"name": graph.name}, "spec": spec}
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 4096  # a wrapped text is still one text, but hard to read
    yaml.dump(tree, text)
    return text.getvalue()


def _vertex(vertex: Vertex) -> dict[str, Any]:
    return _said(
        name=vertex.name,
        role=vertex.role.value,
        product=vertex.product,
        hosts=list(vertex.hosts),
        params=dict(vertex.params),
        ring=_said(size=exact_size_text(vertex.ring_bytes), slots=vertex.ring_slots) if vertex.ring_bytes else None,
        join=_join(vertex.join),
        state=vertex.state,
        rate=_rate(vertex.rate),
        capacity=_rate(vertex.capacity),
        feeds=[_feed(each) for each in vertex.feeds],
        resources=_resources(vertex.resources),
        reach=list(vertex.reach),
        hangAfter="0" if vertex.hang_after_ms == 0 else _duration(vertex.hang_after_ms or 0),
        disconnect=None if vertex.disconnect is None else _disconnect(vertex.disconnect),
    )


def _disconnect(disconnect: Disconnect) -> dict[str, Any]:
    """Of a step: nobody replaces one."""
    return _said(
        lostAfter=_duration(disconnect.lost_after_ms),
        stopAfter=_duration(disconnect.stop_after_ms),
        coldBoot=disconnect.cold_boot.value,
    )


def _feed(feed: Feed) -> dict[str, Any]:
    size = exact_size_text(feed.buffer_bytes)
    return {"name": feed.name, "protocol": feed.protocol.value, "bind": feed.bind, "receiveBuffer": size}


def _resources(resources: Resources | None) -> dict[str, Any] | None:
    if resources is None:
        return None
    memory = exact_size_text(resources.memory_bytes) if resources.memory_bytes else None
    return _said(cpu=resources.cpu_milli / 1000, memory=memory, pids=resources.pids)


def _join(join: Join | None) -> dict[str, Any] | None:
    if join is None:
        return None
    return _said(by=join.by.value, width=_duration(join.width_ms), partial=join.partial)


def _rate(rate: Rate | None) -> dict[str, Any] | None:
    if rate is None:
        return None
    return _said(
        bytes=f"{exact_size_text(rate.bytes_per_s)}/s" if rate.bytes_per_s else None,
        frames=f"{rate.frames_per_s}/s" if rate.frames_per_s else None,
    )


def _edge(edge: Edge) -> dict[str, Any]:
    sample, cut = edge.sample, edge.partition
    fields = _said(
        to=edge.target,
        policy=None if edge.policy is Policy.LOSSLESS else edge.policy.value,
        sample=sample
        and _said(every=sample.every, rate=sample.rate_per_s and f"{sample.rate_per_s}/s", latest=sample.latest),
        partition=cut and {"offset": cut.offset, "bytes": cut.key_bytes, "of": cut.of, "take": list(cut.take)},
        replay={"from": f"-{_duration(edge.replay_ms)}"} if edge.replay_ms else None,
        retain=_duration(edge.retain_ms),
        credit=exact_size_text(edge.credit_bytes) if edge.credit_bytes else None,
        evictAfter=_duration(edge.evict_after_ms),
        placement=edge.placement and edge.placement.value,
        spool=_spool(edge.spool),
    )
    return {"from": edge.source} | fields


def _spool(spool: Spool | None) -> dict[str, Any] | None:
    if spool is None:
        return None
    full = None if spool.full is Full.BLOCK else spool.full.value
    return _said(size=exact_size_text(spool.size_bytes), retain=_duration(spool.retain_ms), full=full)


def _duration(number_ms: int) -> str | None:
    return exact_duration_text(number_ms) if number_ms else None


def _said(**fields: Any) -> dict[str, Any]:
    """The fields that say something: what a manifest leaves out means the same."""
    return {name: value for name, value in fields.items() if value not in (None, "", 0, False, [], {})}
