"""Manifests: what is right becomes the domain's types; what is wrong is told all at once, at its line, with what to write."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halftrack_controller import manifests, quantities
from halftrack_controller.manifest_schema import json_schema
from halftrack_controller.manifests import BadManifests
from halftrack_controller.snapshot import Environment, Host
from halftrack_model.graph import Edge, Full, Join, JoinBy, Partition, Place, Policy, Rate, Role, Sample, Spool
from halftrack_model.release import Approval, Compare, Migration, OnStateLoss, StateSchemas, SwapStrategy

ROOT = Path(__file__).parents[2]
GOOD = """\
apiVersion: halftrack/v1
kind: Environment
metadata: {name: tank}
spec: {labels: {site: north}}
---
apiVersion: halftrack/v1
kind: Host
metadata: {name: tank-a}
spec: {environment: tank, address: 10.0.0.1}
---
apiVersion: halftrack/v1
kind: Host
metadata: {name: tank-b}
spec: {environment: tank, address: "fe80::1", bridgePort: 9000}
---
apiVersion: halftrack/v1
kind: StreamGraph
metadata: {name: spectra}
spec:
  environment: tank
  vertices:
    - {name: source, role: source, product: player, hosts: [tank-a], params: {rate: 32}, ring: {size: 256MiB}}
    - {name: spectrometer, role: pair, product: spectrometer, hosts: [tank-a, tank-b], ring: {size: 8MiB, slots: 64}}
    - {name: sink, role: sink, product: recorder, hosts: [tank-a]}
  edges:
    - {from: source, to: spectrometer}
    - {from: spectrometer, to: sink}
"""

BAD = """\
apiVersion: halftrack/v1
kind: Environment
metadata: {name: Tank}
spec:
  lables: {a: b}
---
kind: Hosst
---
apiVersion: halftrack/v1
kind: Host
metadata:
  name: tank-a
spec:
  address: tank-a.example
  bridgePort: "7450"
---
apiVersion: halftrack/v1
kind: StreamGraph
metadata: {name: spectra}
spec:
  environment: tank
  vertices:
    - {name: source, role: sorce, product: p, hosts: [tank-a], params: {rate: 1.5}, ring: {size: 64}}
    - {name: sink, role: sink, product: p, hosts: tank-a}
  edges:
    - {from: source, too: sink}
---
apiVersion: halftrack/v1
kind: StreamGraph
metadata: {name: other}
spec:
  environment: tank
  vertices:
    - {name: source, role: source, product: p, hosts: [tank-a], ring: {size: 64MB, slots: 5}}
    - {name: pair, role: pair, product: p, hosts: [tank-b, tank-b], ring: {size: 64MB}, join: {by: sequence}}
    - {name: sink, role: sink, product: p, hosts: [tank-a]}
  edges:
    - {from: source, to: pair}
    - {from: pair, to: sink}
---
apiVersion: halftrack/v1
kind: Release
spec:
  product: x
  version: 1.0
  artifact: {file: missing.py}
  entry: foo
  strategy: {surge: 3, drain: 5, deadline: 1 fortnight, compare: diffres-expected}
---
apiVersion: halftrack/v1
kind: Environment
kind: Host
metadata: {name: tank, labels: .inf}
spec: {track: "\\ud800", lables: {}}
"""

TOLD = (
    (3, "metadata.name: 'Tank' is not a name; use 1 to 63 lower-case letters"),
    (5, "spec.lables: unknown key; did you mean labels?"),
    (7, "kind: 'Hosst' is unknown; did you mean Host?"),
    (13, "spec.environment: is missing; write environment: tank"),
    (14, "spec.address: 'tank-a.example' is not an IP address; write one such as 10.0.0.2"),
    (15, "spec.bridgePort: '7450' is not a whole number; write for example 7450"),
    (23, "spec.vertices[0].params.rate: 1.5 is not text, a whole number, true or false"),
    (23, "spec.vertices[0].ring.size: 64 is not a size; write the number with its unit: 256MiB"),
    (23, "spec.vertices[0].role: 'sorce' is not possible here; did you mean source?"),
    (24, "spec.vertices[1].hosts: 'tank-a' is not a list; write for example [tank-a]"),
    (26, "spec.edges[0].to: is missing; write to: spectrometer"),
    (26, "spec.edges[0].too: unknown key; did you mean to?"),
    (34, "spec.vertices[0]: vertex 'source': its ring's slots must be a power of two"),
    (
        35,
        "spec.vertices[1]: vertex 'pair': has 1 input(s), so there is nothing to join: leave join out, or add an edge",
    ),
    (35, "spec.vertices[1]: vertex 'pair': the members of a pair need different hosts; write the host once"),
    (45, 'spec.version: 1.0 is not text; write for example "1.0.0"'),
    (47, "spec.entry: 'foo' is not an entry; write module:Class"),
    (48, "spec.strategy.compare: 'diffres-expected' is not possible here; did you mean differs-expected?"),
    (48, "spec.strategy.deadline: '1 fortnight' is not a duration; write a whole number and one of ms, s, m, h, d"),
    (48, "spec.strategy.drain: 5 is not a duration; write the number with its unit: 500ms or 30s"),
    (48, "spec.strategy.surge: 3 is not possible here; write 1 or 2"),
    (52, "kind: stands twice (first in line 51); keep one"),
    (53, "metadata.labels: '.inf' is not a number; put it in quotes if it is text"),
    (54, "spec.lables: unknown key; did you mean labels?"),
    (54, "spec.track: holds half a surrogate pair, which is no character"),
)


def problems(text: str) -> list[tuple[int, str]]:
    with pytest.raises(BadManifests) as caught:
        manifests.parsed([("x.yaml", text)])
    return [(problem.line, problem.text) for problem in caught.value.problems]


def test_what_is_right_becomes_the_domains_types() -> None:
    declared = manifests.parsed([("x.yaml", GOOD)])
    assert declared.environments == (Environment("tank", {"site": "north"}, "stable"),)
    assert declared.hosts == (
        Host("tank-a", "tank", {}, "10.0.0.1:7450", "10.0.0.1:7451", ""),
        Host("tank-b", "tank", {}, "[fe80::1]:9000", "[fe80::1]:7451", ""),
    )
    (graph,) = declared.graphs
    assert [vertex.role for vertex in graph.vertices] == [Role.SOURCE, Role.PAIR, Role.SINK]
    assert graph.vertices[0].params == {"rate": 32}
    assert [(vertex.ring_bytes, vertex.ring_slots) for vertex in graph.vertices] == [
        (1 << 28, 16384),
        (1 << 23, 64),
        (0, 0),
    ]
    assert graph.edges == (Edge("source", "spectrometer"), Edge("spectrometer", "sink"))


GRAPH = """\
apiVersion: halftrack/v1
kind: StreamGraph
metadata: {name: survey}
spec:
  environment: tank
  vertices:
    - {name: left, role: source, product: p, hosts: [tank-a], ring: {size: 256MiB}, rate: {bytes: 100MB/s, frames: 1000/s}}
    - {name: right, role: source, product: p, hosts: [tank-a], ring: {size: 64MiB, slots: 64}}
    - name: beam
      role: single
      product: beam
      hosts: [tank-b]
      ring: {size: 8MiB, slots: 64}
      join: {by: sequence, partial: true}
      state: beams
      capacity: {bytes: 1GB/s}
    - {name: sink, role: sink, product: recorder, hosts: [tank-b]}
    - {name: display, role: sink, product: display, hosts: [tank-a]}
  edges:
    - {from: left, to: beam, partition: {offset: 8, bytes: 4, of: 3, take: [0, 2]}, credit: 64MiB, evictAfter: 2s}
    - {from: right, to: beam, policy: lossy, placement: target}
    - {from: beam, to: sink, retain: 1m, spool: {size: 20GiB, retain: 2h, full: drop-oldest}}
    - {from: left, to: display, policy: sample, sample: {rate: 25/s}, replay: {from: -2s}}
"""


def test_a_graph_may_say_all_that_an_edge_and_a_vertex_can() -> None:
    (graph,) = manifests.parsed([("x.yaml", GRAPH)]).graphs
    assert graph.vertex("left").rate == Rate(100_000_000, 1000)
    beam = graph.vertex("beam")
    assert (beam.role, beam.join, beam.state) == (Role.SINGLE, Join(JoinBy.SEQUENCE, partial=True), "beams")
    assert beam.capacity == Rate(10**9, 0)
    parted = Edge("left", "beam", partition=Partition(8, 4, 3, (0, 2)), credit_bytes=64 << 20, evict_after_ms=2000)
    sampled = Edge("left", "display", Policy.SAMPLE, Sample(rate_per_s=25), replay_ms=2000)
    lossy = Edge("right", "beam", Policy.LOSSY, placement=Place.TARGET)
    kept = Edge("beam", "sink", retain_ms=60_000, spool=Spool(20 << 30, 7_200_000, Full.DROP_OLDEST))
    assert graph.edges == (parted, lossy, kept, sampled)


def test_the_examples_are_right() -> None:
    declared = manifests.read([str(ROOT / "examples/graphs"), str(ROOT / "examples/spectra/manifests")])
    assert [graph.name for graph in declared.graphs] == ["correlation", "spectra"]


@pytest.mark.parametrize(
    ("right", "wrong", "line", "told"),
    [
        ("from: -2s", "from: 2s", 23, "spec.edges[3].replay.from: '2s' is not a time before now; write it with a minus"),
        ("rate: 25/s", "rate: 25", 23, "spec.edges[3].sample.rate: 25 is not a rate of frames; write the number with"),
        ("rate: 25/s", "rate: 25/h", 23, "spec.edges[3].sample.rate: '25/h' is not a rate of frames; write for example"),
        ("rate: 25/s", "every: 0", 23, "spec.edges[3].sample.every: input should be greater than or equal to 1"),
        ("100MB/s", "100MB", 7, "spec.vertices[0].rate.bytes: '100MB' is not a rate of bytes; write for example 100MB/s"),
        ("policy: lossy", "policy: loosy", 21, "spec.edges[1].policy: 'loosy' is not possible here; did you mean lossy?"),
        ("by: sequence", "by: tyme", 14, "spec.vertices[2].join.by: 'tyme' is not possible here; did you mean time?"),
        ("take: [0, 2]", "take: [3]", 20, "spec.edges[0]: edge left → beam: takes part 3 of 3; parts count from 0 to 2"),
        ("full: drop-oldest", "full: drop-newest", 22, "spec.edges[2].spool.full: 'drop-newest' is not possible here; did you mean drop-oldest?"),
        ("size: 20GiB", "size: 15MiB", 22, "spec.edges[2]: edge beam → sink: its spool must hold twice what the ring of beam does"),
        ("{size: 20GiB, ", "{", 22, "spec.edges[2].spool.size: is missing"),
        ("to: sink, retain: 1m,", "to: sink, retain: 1m, policy: lossy,", 22, "spec.edges[2]: edge beam → sink: reads lossy, so it has nothing to be kept for"),
        ("credit: 64MiB", "credit: 64B", 20, "spec.edges[0]: edge left → beam: its credit is the buffer of its inlet"),
        ("{bytes: 1GB/s}", "{bytes: 1MB/s}", 9, "spec.vertices[2]: vertex 'beam': can take 1000000 bytes/s, and lossless"),
    ],
)  # fmt: skip
def test_what_a_graph_says_wrongly_is_told_at_its_line(right: str, wrong: str, line: int, told: str) -> None:
    assert GRAPH.count(right) == 1
    ((at, text),) = problems(GRAPH.replace(right, wrong))
    assert (at, text[: len(told)]) == (line, told)


def test_every_error_is_told_at_once_with_its_line_and_the_remedy() -> None:
    told = problems(BAD)
    assert [line for line, _ in told] == [line for line, _ in TOLD]
    for (_, text), (_, expected) in zip(told, TOLD, strict=True):
        assert text.startswith(expected)


def test_errors_of_several_files_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text("kind: Host\n")
    (tmp_path / "c.yaml").write_text(GOOD.split("---", maxsplit=1)[0])
    (tmp_path / "ignored.txt").write_text("nothing")
    with pytest.raises(BadManifests) as caught:
        manifests.read([str(tmp_path), str(tmp_path / "absent.yaml")])
    told = caught.value.message.splitlines()
    assert told[0].endswith("absent.yaml:1: cannot be read: No such file or directory")
    assert any(
        line.endswith('b.yml:1: spec: is missing; write spec: {environment: tank, address: "10.0.0.1"}')
        for line in told
    )
    assert any(f"c.yaml:1: environment tank is already declared at {tmp_path}/a.yaml:1" in line for line in told)
    assert told[-1].endswith("errors; nothing was applied")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", "'':1: names no file; write a manifest's path, or . for this folder"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("binary.yaml", "binary.yaml:1: is not UTF-8 text (byte 3: invalid start byte); save it as UTF-8"),
        ("long.yaml", "long.yaml:1: the file is longer than 1048576 bytes; split it"),
        ("strange.yaml", "strange.yaml:2: not YAML: the character U+0001 is not allowed"),
        (".", "binary.yaml:1: is not UTF-8 text"),
    ],
)
def test_what_is_no_manifest_is_told_with_its_name(
    path: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("binary.yaml").write_bytes(b"a: \xff\n")
    Path("long.yaml").write_bytes(b"a: " + "é".encode() * (1 << 20))
    Path("strange.yaml").write_text("a: 1\nb: \x01\n")
    with pytest.raises(BadManifests) as caught:
        manifests.read([path])
    assert told in caught.value.message


def test_a_release_with_an_impossible_files_name_is_told(tmp_path: Path) -> None:
    (told,) = problems(
        "apiVersion: halftrack/v1\nkind: Release\n"
        f"spec: {{product: x, version: 1.0.0, entry: 'a:B', artifact: {{file: {'x' * 300}}}}}\n"
    )
    assert told[1].startswith("spec.artifact.file: there is no file")


def test_a_release_names_a_file_beside_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("class Main: ...\n")
    (tmp_path / "r.yaml").write_text(
        "apiVersion: halftrack/v1\nkind: Release\nspec:\n  product: x\n  version: 1.2.3\n  artifact: {file: main.py}\n"
        "  entry: main:Main\n  state: {writes: s/2, reads: [s/1, s/2]}\n"
        "  strategy: {surge: 2, lagFrames: 4, caughtUp: 1s, shadow: 2m, compare: equal, approval: manual}\n"
    )
    (draft,) = manifests.read([str(tmp_path / "r.yaml")]).releases
    assert draft.artifact == tmp_path / "main.py"
    assert (draft.state.writes, draft.state.reads) == ("s/2", ("s/1", "s/2"))
    assert draft.strategy == SwapStrategy(
        surge=2, lag_frames=4, caught_up_ms=1000, shadow_ms=120_000, compare=Compare.EQUAL, approval=Approval.MANUAL
    )


STATEFUL = "apiVersion: halftrack/v1\nkind: Release\nspec: {product: x, version: 1.0.0, entry: 'a:B', artifact: {file: HERE}, state: STATE}\n"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            "{writes: s/2, reads: [s/2], migrations: [{from: s/1, to: s/3, entry: 'a:f'}]}",
            "from s/1 to s/3 leads neither",
        ),
        ("{writes: s/2, reads: [s/2], migrations: [{from: s/1, to: s/2, entry: 'f'}]}", "'f' is not an entry"),
        ("{writes: s/1, reads: [s/1], replay: {frames: 8}}", "leave out either `replay` or all the rest"),
        ("{replay: {frames: 8, time: 3s}}", "write one of `frames: 1024` and `time: 30s`"),
        ("{replay: {time: 30}}", "30s"),
        ("{onLoss: restart}", "without one there is nothing to lose"),
        ("{oneWay: true}", "`oneWay` says that no release before can read the state"),
    ],
)
def test_a_state_that_contradicts_itself_is_told(state: str, told: str) -> None:
    assert told in " ".join(text for _, text in problems(STATEFUL.replace("HERE", __file__).replace("STATE", state)))


def test_migrations_and_windows_are_read() -> None:
    def read(state: str) -> StateSchemas:
        text = STATEFUL.replace("HERE", __file__).replace("STATE", state)
        return manifests.parsed([("-", text)]).releases[0].state

    there = "migrations: [{from: s/1, to: s/2, entry: 'a:there'}, {from: s/2, to: s/1, entry: 'a:back'}]"
    found = read(f"{{writes: s/2, reads: [s/2], {there}}}")
    assert found.inward() == {"s/1": (Migration("s/1", "s/2", "a:there"),)}
    assert found.outward() == {"s/1": (Migration("s/2", "s/1", "a:back"),)}
    assert read("{writes: s/2, reads: [s/2], oneWay: true}").one_way
    for said, meant in ((", onLoss: restart", "restart"), (", onLoss: wait", "wait"), ("", "resume")):
        assert read(f"{{writes: s/2, reads: [s/2]{said}}}").on_loss is OnStateLoss(meant)
    assert read("{replay: {frames: 1024}}") == StateSchemas("", (), replay_frames=1024)
    assert read("{replay: {time: 30s}}") == StateSchemas("", (), replay_ms=30_000)


def test_strategy_left_out_is_the_models_own() -> None:
    here = "tests/cli/test_manifests.py"
    text = f"apiVersion: halftrack/v1\nkind: Release\nspec: {{product: x, version: 1.0.0, entry: 'a:B', artifact: {{file: {here}}}}}\n"
    (draft,) = manifests.parsed([("-", text.replace(here, str(Path(__file__))))]).releases
    assert draft.strategy == SwapStrategy()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1", "not YAML: "),
        ("- 1\n", "document: not an object; begin with apiVersion: halftrack/v1"),
        ("kind: !!python/object x\n", "kind: the tag tag:yaml.org,2002:python/object is not used here"),
        ("? [a]\n: 1\n", "a key must be text"),
        ("x: &x [*x]\n", "too deep or has too many parts"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)), "too many parts"),
        ("x: " + "y" * (2 << 20), "longer than 1048576 bytes"),
        ("[" * 50_000, "nested too deeply"),
        ("x: 1\ny: \x00\n", "the character U+0000 is not allowed"),
        ('"\\ud800": 1\n', "a key holds half a surrogate pair"),
        ("x: 9223372036854775808\n", "x: 9223372036854775808 is larger than 9223372036854775807"),
        (GOOD.replace("256MiB", "9999999999GiB"), "'9999999999GiB' is larger than anything can be"),
        ("apiVersion: halftrack/v1\nkind: Host\nmetadata: {name: a}\nspec:\n", "spec: nothing is not an object"),
    ],
)  # fmt: skip
def test_hostile_and_broken_texts_are_refused_in_words(text: str, told: str) -> None:
    assert told in " ".join(message for _, message in problems(text))


@given(st.text(max_size=200))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadManifests):
        manifests.parsed([("x.yaml", text)])


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations_are_read_as_they_are_written(number: int, unit: str) -> None:
    scale = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[unit]
    assert quantities.duration_ms(f"{number}{unit}") == number * scale


@given(st.integers(1, 1023), st.sampled_from(["B", "KiB", "MiB", "GiB"]))
def test_sizes_are_written_as_they_are_read(number: int, unit: str) -> None:
    assert quantities.size_text(quantities.size_bytes(f"{number}{unit}")) == f"{number}{unit}"


@given(st.integers(0, 10**11), st.integers(0, 10**6))
@example(50_000, 12_500)  # past a step, and once exactly on it
def test_rough_ages_change_seldom(age_ms: int, more_ms: int) -> None:
    steps = {quantities.rough_age_text(age_ms + n * more_ms // 50) for n in range(50)}
    assert len(steps) <= 2 + more_ms // 60_000 * 2


def test_the_schema_describes_every_field_and_each_kind() -> None:
    schema = json_schema()
    assert {entry["$ref"] for entry in schema["oneOf"]} == {
        f"#/$defs/{kind}" for kind in ("Environment", "Host", "Stream", "StreamGraph", "Service", "Release")
    }
    for name, part in schema["$defs"].items():
        assert part["additionalProperties"] is False, name
        for field, description in part["properties"].items():
            assert {"description", "examples"} <= set(description), f"{name}.{field}"
