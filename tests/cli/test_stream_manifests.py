"""A `Stream` manifest: the stream graph in a line that it stands for, and what is wrong with one."""

import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_controller import manifests
from halftrack_controller.manifests import BadManifests
from halftrack_model.graph import Policy, Role, Spool
from tests.cli.test_live import Operator, live, operator  # noqa: F401 - fixtures

RING = {"size": "1MiB", "slots": 64}
READS = (
    None,
    {"policy": "lossy"},
    {"policy": "sample", "sample": {"every": 3}},
    {"retain": "1s", "credit": "64KiB", "evictAfter": "5s"},
    {"replay": {"from": "-1s"}, "placement": "target"},
    {"partition": {"offset": 0, "bytes": 8, "of": 4, "take": [1, 2]}},
)
MIDDLE = st.tuples(st.sampled_from((1, 2)), st.sampled_from((None, "pair")), st.sampled_from(READS))


EYE = {"name": "eye", "product": "eye", "hosts": ["tank-a"]}


def document(kind: str, spec: dict[str, Any]) -> str:
    return json.dumps({"apiVersion": "halftrack/v1", "kind": kind, "metadata": {"name": "line"}, "spec": spec})


def line(*steps: dict[str, Any], **more: Any) -> str:
    return document("Stream", {"environment": "tank", "steps": list(steps), **more})


def step(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "product": name, "hosts": ["tank-a"], "ring": RING, **more}


def parsed(text: str) -> manifests.Declared:
    return manifests.parsed([("line.yaml", text)])


@given(st.lists(MIDDLE, max_size=4), st.sampled_from(READS), st.booleans(), st.sampled_from(([], ["ada"])))
def test_a_stream_is_the_graph_that_one_would_have_written(
    middle: list[tuple[int, str | None, dict[str, Any] | None]],
    last: dict[str, Any] | None,
    is_live: bool,
    editors: list[str],
) -> None:
    steps, vertices = [step("s0")], [step("s0", role="source")]
    for number, (hosts, role, reads) in enumerate(middle, 1):
        what = step(f"s{number}", hosts=["tank-a", "tank-b"][:hosts])
        steps.append(what | ({"role": role} if role else {}) | ({"reads": reads} if reads else {}))
        vertices.append(what | {"role": role or ("pair" if hosts == 2 else "single")})
    end = {key: value for key, value in step("end").items() if key != "ring"}
    steps.append(end | ({"reads": last} if last else {}))
    vertices.append(end | {"role": "sink"})
    edges = [
        {"from": before["name"], "to": after["name"], **(after.get("reads") or {})} for before, after in pairwise(steps)
    ]
    more = {"environment": "tank", "editors": editors, "live": is_live}
    written = parsed(document("StreamGraph", {**more, "vertices": vertices, "edges": edges}))
    assert parsed(document("Stream", {**more, "steps": steps})).graphs == written.graphs


def test_how_a_step_reads_is_its_edge() -> None:
    (graph,) = parsed(line(step("adc"), EYE | {"reads": READS[1]})).graphs
    assert [vertex.role for vertex in graph.vertices] == [Role.SOURCE, Role.SINK]
    assert [(edge.source, edge.target, edge.policy) for edge in graph.edges] == [("adc", "eye", Policy.LOSSY)]


def test_a_step_may_have_a_spool_but_not_in_a_live_stream() -> None:
    eye = EYE | {"reads": {"spool": {"size": "8MiB"}}}
    (graph,) = parsed(line(step("adc"), eye)).graphs
    assert graph.edges[0].spool == Spool(8 << 20)
    with pytest.raises(BadManifests, match="would not follow what a live graph reads next"):
        parsed(line(step("adc"), eye, live=True))


STREAM = """\
apiVersion: halftrack/v1
kind: Stream
metadata: {{name: line}}
spec:
  environment: tank
  steps:
    - {{name: adc, product: adc, hosts: [tank-a], ring: {{size: 1MiB, slots: 64}}{first}}}
    - {{name: filter, product: filter, hosts: [tank-a], ring: {{size: 1MiB, slots: 64}}{second}}}
    - {{name: sink, product: sink, hosts: [tank-a]{third}}}
"""


@pytest.mark.parametrize(
    ("at", "more", "said"),
    [
        ("first", ", reads: {policy: lossy}", "line.yaml:4: spec: adc is the first step and reads none: remove `reads`"),
        ("second", ", join: {by: sequence}", "line.yaml:8: spec.steps[1].join: unknown key; "),
        ("second", ", role: sauce", "line.yaml:8: spec.steps[1].role: 'sauce' is not possible here; did you mean source?"),
        ("second", ", role: source", "line.yaml:8: spec.steps[1]: "),
        ("third", ", reads: {policy: sample}", "line.yaml:9: spec.steps[2]: edge filter → sink: samples, so it must say which"),
        ("third", ", reads: {policy: lousy}", "line.yaml:9: spec.steps[2].reads.policy: 'lousy' is not possible here; did you mean lossy?"),
        ("third", ", role: pair", "line.yaml:9: spec.steps[2]: vertex 'sink'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_step(at: str, more: str, said: str) -> None:
    text = STREAM.format(**({"first": "", "second": "", "third": ""} | {at: more}))
    with pytest.raises(BadManifests) as told:
        parsed(text)
    assert said in str(told.value)


GRAPH = {
    "environment": "tank",
    "vertices": [step("adc", role="source"), EYE | {"role": "sink"}],
    "edges": [{"from": "adc", "to": "eye"}],
}


def test_a_stream_and_a_graph_cannot_share_a_name() -> None:
    with pytest.raises(BadManifests, match=re.escape("graph tank/line is already declared at line.yaml:1")):
        parsed(f"{line(step('adc'), EYE)}\n---\n{document('StreamGraph', GRAPH)}")


def test_a_source_alone_is_no_stream() -> None:
    with pytest.raises(BadManifests, match="at least 2 items"):
        parsed(line(step("adc")))


def test_either_spelling_of_what_runs_changes_nothing(operator: Operator) -> None:  # noqa: F811
    place = """\
{apiVersion: halftrack/v1, kind: Environment, metadata: {name: tank}}
---
{apiVersion: halftrack/v1, kind: Host, metadata: {name: tank-a}, spec: {environment: tank, address: 10.0.0.1}}
---
"""
    assert operator.run("apply", "-f", "-", text=place + line(step("adc"), EYE))[0] == 0
    status, out = operator.run("apply", "-f", "-", text=place + document("StreamGraph", GRAPH))
    assert (status, out.splitlines()[-1]) == (0, "graph tank/line: unchanged")
