"""What a step may reach, in a manifest: it becomes the graph's, in a stream too, and all that is wrong is told at once, at its line."""

import pytest

from halftrack_controller import manifests
from halftrack_controller.manifests import BadManifests

GRAPH = """\
apiVersion: halftrack/v1
kind: StreamGraph
metadata: {{name: line}}
spec:
  environment: tank
  vertices:
    - name: adc
      role: source
      product: capture
      hosts: [tank-a]
      ring: {{size: 64MiB}}
    - name: sink
      role: sink
      product: recorder
      hosts: [tank-a]
      reach:
        - {first}
        - {second}
  edges:
    - {{from: adc, to: sink}}
"""
STREAM = """\
apiVersion: halftrack/v1
kind: Stream
metadata: {name: line}
spec:
  environment: tank
  steps:
    - {name: adc, product: capture, hosts: [tank-a], ring: {size: 64MiB}, reach: ['10.0.0.6:4222']}
    - {name: sink, product: recorder, hosts: [tank-a]}
"""


def test_a_step_says_what_it_may_reach() -> None:
    text = GRAPH.format(first="10.0.0.5:5432", second="'[fd00::5]:4222'")
    (graph,) = manifests.parsed([("line.yaml", text)]).graphs
    assert graph.vertex("sink").reach == ("10.0.0.5:5432", "[fd00::5]:4222")
    assert graph.vertex("adc").reach == ()
    (graph,) = manifests.parsed([("line.yaml", STREAM)]).graphs
    assert graph.vertex("adc").reach == ("10.0.0.6:4222",)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("db.example:5432", "10.0.0.5", ["line.yaml:17: spec.vertices[1].reach[0]: 'db.example:5432' is a name, and a plan says addresses",
                                         "line.yaml:18: spec.vertices[1].reach[1]: '10.0.0.5' is no address to speak to: write"]),
        ("10.0.0.5:80", "10.0.0.5:80", ["vertex 'sink': reach '10.0.0.5:80' stands twice"]),
        ("5", "10.0.0.5:80", ["spec.vertices[1].reach[0]"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_it_is_told_with_what_to_write(first: str, second: str, said: list[str]) -> None:
    with pytest.raises(BadManifests) as told:
        manifests.parsed([("line.yaml", GRAPH.format(first=first, second=second))])
    assert [text for text in said if text not in str(told.value)] == []
