"""Feeds in a manifest: what is right becomes the graph's, what is wrong is told at its line."""

import pytest

from halftrack_controller import manifests
from halftrack_controller.manifests import BadManifests
from halftrack_model.feed import Feed, Protocol

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
      feeds:
        - {feed}
    - {{name: sink, role: sink, product: recorder, hosts: [tank-a]}}
  edges:
    - {{from: adc, to: sink}}
"""


def test_a_feed_is_declared_at_its_source() -> None:
    text = GRAPH.format(feed="{name: data, protocol: udp, bind: '0.0.0.0:4001', receiveBuffer: 32MiB}")
    (graph,) = manifests.parsed([("line.yaml", text)]).graphs
    assert graph.vertex("adc").feeds == (Feed("data", Protocol.UDP, "0.0.0.0:4001", 32 << 20),)
    text = GRAPH.format(feed="{name: data, protocol: tcp, bind: '[::]:80'}")
    (graph,) = manifests.parsed([("line.yaml", text)]).graphs
    assert graph.vertex("adc").feeds == (Feed("data", Protocol.TCP, "[::]:80", 64 << 20),)


@pytest.mark.parametrize(
    ("feed", "said"),
    [
        ("{name: data, protocol: udp}", "line.yaml:13: spec.vertices[0].feeds[0].bind: is missing"),
        ("{name: data, protocol: sctp, bind: '0.0.0.0:4001'}", "'sctp' is not possible here; write udp or tcp"),
        ("{name: data, protocol: udp, bind: 'adc:4001'}", "'adc:4001' is no address to bind: write an IP address and a port"),
        ("{name: data, protocol: udp, bind: '0.0.0.0:4001', receiveBuffer: 1KiB}", "a buffer has 65536 to 1073741824 bytes"),
        ("{name: Data, protocol: udp, bind: '0.0.0.0:4001'}", "is not a name"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_feed_is_told_with_what_to_write(feed: str, said: str) -> None:
    with pytest.raises(BadManifests) as told:
        manifests.parsed([("line.yaml", GRAPH.format(feed=feed))])
    assert said in str(told.value)
