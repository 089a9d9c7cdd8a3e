"""Services, their releases' probes and what is said of being cut off, in manifests; all that is wrong is told at once, with what to write."""

from pathlib import Path

import pytest

from halftrack_controller import manifests
from halftrack_controller.manifests import BadManifests
from halftrack_model.disconnect import ColdBoot, Disconnect, Reconcile
from halftrack_model.graph import Role
from halftrack_model.probes import Checks, Probe, ProbeKind

EXAMPLES = Path(__file__).parents[2] / "examples/services/manifests"
SERVICE = """\
apiVersion: halftrack/v1
kind: Service
metadata: {name: page}
spec:
  environment: tank
  product: page
  hosts: [tank-a, tank-b]
"""
RELEASE = """\
apiVersion: halftrack/v1
kind: Release
spec:
  product: page
  version: 1.0.0
  artifact: {file: FILE}
"""


def told(text: str) -> str:
    with pytest.raises(BadManifests) as error:
        manifests.parsed([("page.yaml", text)])
    return error.value.message


def test_the_example_says_all_that_a_service_can() -> None:
    declared = manifests.read([str(EXAMPLES)])
    (graph,), (draft,) = declared.graphs, declared.releases
    (vertex,) = graph.vertices
    assert (graph.name, vertex.name, vertex.role, vertex.instances) == ("page", "page", Role.SERVICE, 1)
    assert (vertex.host_network, dict(vertex.params)) == (True, {"site": "the tank"})
    assert vertex.disconnect == Disconnect(360_000, 300_000, True, Reconcile.KEEP_ORIGINAL, ColdBoot.RUN)
    assert draft.command == ("python3", "{artifact}", "{params.port}", "hello from {params.site}")
    probe = Probe("http", ProbeKind.HTTP, port="{params.port}", path="/healthz", period_ms=2_000)
    assert draft.health == Checks((probe,), 10_000)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("  instances: 3\n", "page.yaml:4: spec: vertex 'page': asks for 3 instances on 2 host(s)"),
        ("  network: bridge\n", "page.yaml:8: spec.network: 'bridge' is not possible here; write none or host"),
        ("  disconnect: {stopAfter: 1s}\n", "disconnect: stopAfter is 1000 ms; write 5s to 400d"),
        ("  disconnect: {replace: true, lostAfter: 1m}\n", "ask for fewer instances than hosts"),
        ("  disconnect: {reconcile: best_scores}\n", "did you mean best_score?"),
        ("  disconnect: {coldBoot: wait, lostAfter: 5}\n", "5 is not a duration"),
    ],
)
def test_what_is_wrong_with_a_service_is_told(more: str, said: str) -> None:
    assert said in told(SERVICE + more)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "write one of `entry` and `command`"),
        ("  entry: a:B\n  command: [true]\n", "is not text"),
        ("  entry: a:B\n  command: ['true']\n", "write one of `entry` and `command`"),
        ("  command: ['true']\n  health: {probes: []}\n", "probes"),
        (
            "  command: ['true']\n  health: {probes: [{tcp: {port: 1}, exec: {command: ['true']}}]}\n",
            "says tcp and exec",
        ),
        ("  command: ['true']\n  health: {probes: [{period: 5s}]}\n", "says none; write one of tcp, http"),
        ("  command: ['true']\n  health: {probes: [{tcp: {port: 70000}}]}\n", "'70000' is no port"),
        ("  command: ['true']\n  health: {probes: [{tcp: {port: '{params.port}'}}]}\n", "set params.port"),
        (
            "  command: ['true']\n  health: {probes: [{tcp: {port: 1}}, {tcp: {port: 2}}]}\n",
            "two probes are called 'tcp'",
        ),
        ("  command: ['true']\n  health: {probes: [{http: {port: 1, path: x}}]}\n", "'x' is no path"),
        ("  command: ['true']\n  health: {probes: [{stream: {lag: 1}}]}\n", "a service reads no stream"),
        ("  command: ['true']\n  health: {probes: [{tcp: {port: 1}, period: 1ms}]}\n", "every 1 ms; write 200ms to 1h"),
        ("  command: ['true']\n  state: {writes: s/1, reads: [s/1]}\n", "a service has no snapshots"),
        ("  entry: 'a:B'\n  unpack: true\n", "only what a command runs is unpacked"),
    ],
)
def test_what_is_wrong_with_its_release_is_told(tmp_path: Path, more: str, said: str) -> None:
    (tmp_path / "page.py").write_text("")
    assert said in told(RELEASE.replace("FILE", str(tmp_path / "page.py")) + more)


def test_a_step_says_what_it_does_when_it_is_cut_off() -> None:
    text = SERVICE.replace("Service", "Stream").replace("  product: page\n  hosts: [tank-a, tank-b]\n", "")
    text += (
        "  steps:\n    - {name: adc, product: capture, hosts: [tank-a], ring: {size: 64MiB}}\n"
        "    - {name: sink, product: recorder, hosts: [tank-a], disconnect: {stopAfter: 1h}}\n"
    )
    (graph,) = manifests.parsed([("line.yaml", text)]).graphs
    assert graph.vertex("sink").disconnect == Disconnect(stop_after_ms=3_600_000)
    assert "nobody replaces its steps" in told(text.replace("stopAfter: 1h", "lostAfter: 1h, replace: true"))
