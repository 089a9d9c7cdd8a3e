"""A graph written as a manifest is that graph again; a setting on a command line is what YAML would make of it."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from halftrack_controller import manifest_graph, manifest_schema, manifests, quantities
from halftrack_controller.manifest_graph import graph_of
from halftrack_controller.manifest_schema import StreamGraphManifest
from halftrack_controller.manifest_text import graph_manifest
from halftrack_controller.params import param_of
from halftrack_controller.yaml_lines import documents as yaml_documents
from halftrack_model.disconnect import ColdBoot, Disconnect
from halftrack_model.errors import InvalidInput
from halftrack_model.feed import Feed, Protocol
from halftrack_model.graph import (
    Edge,
    Full,
    Join,
    JoinBy,
    Partition,
    Place,
    Policy,
    Rate,
    Sample,
    Spool,
    StreamGraph,
    Vertex,
)
from halftrack_model.release import Param
from halftrack_model.resources import Resources
from tests.cli.test_manifests import GOOD

(SPECTRA,) = manifests.parsed([("good", GOOD)]).graphs
PARAMS: st.SearchStrategy[Param] = st.one_of(
    st.booleans(),
    st.integers(-(2**63) + 1, 2**63 - 1),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20),
)


@given(
    st.dictionaries(st.text("abcxyz_", min_size=1, max_size=8), PARAMS, max_size=4),
    st.integers(1 << 16, 10**12 - 1),  # what twelve digits of bytes can say
    st.sampled_from([2, 64, 16384]),
    st.lists(st.sampled_from(["ada", "bob", "eve"]), max_size=3, unique=True),
)
def test_what_is_written_is_read_back(params: dict[str, Param], size: int, slots: int, editors: list[str]) -> None:
    source, *others = SPECTRA.vertices
    vertices = (dataclasses.replace(source, params=params, ring_bytes=size, ring_slots=slots), *others)
    graph = dataclasses.replace(SPECTRA, vertices=vertices, editors=tuple(editors))
    assert _read(graph_manifest(graph)) == graph


RATES = st.builds(Rate, st.integers(0, 10**12 - 1), st.integers(0, 10**12 - 1)).filter(lambda rate: rate != Rate())

FEEDS = st.builds(
    Feed,
    st.sampled_from(["data", "control"]),
    st.sampled_from(Protocol),
    st.sampled_from(["0.0.0.0:4001", "[::1]:80"]),
    st.integers(1 << 16, 1 << 30),
)
RESOURCES = st.builds(
    Resources, st.integers(10, 64_000), st.just(0) | st.integers(1 << 24, 10**12 - 1), st.integers(0, 4096)
)


@given(
    st.builds(Join, st.sampled_from(JoinBy), st.integers(1, 10**9)),
    RATES,
    RATES,
    st.sampled_from(["", "spectra"]),
    st.lists(FEEDS, max_size=3).map(tuple),
    st.none() | RESOURCES,
    st.lists(st.sampled_from(["10.0.0.5:5432", "db.example=127.0.0.1:4222", "[fd00::5]:80"]), unique=True).map(tuple),
    st.none() | st.integers(0, 10**9),
    st.none()
    | st.builds(Disconnect, st.integers(0, 10**9), st.integers(0, 10**9), cold_boot=st.sampled_from(ColdBoot)),
)
def test_what_a_vertex_may_say_is_read_back(
    join: Join,
    rate: Rate,
    capacity: Rate,
    state: str,
    feeds: tuple[Feed, ...],
    resources: Resources | None,
    reach: tuple[str, ...],
    hang_after_ms: int | None,
    disconnect: Disconnect | None,
) -> None:
    said = {"join": join, "rate": rate, "capacity": capacity, "state": state, "feeds": feeds, "resources": resources}
    said |= {"reach": reach, "hang_after_ms": hang_after_ms, "disconnect": disconnect}
    source = dataclasses.replace(SPECTRA.vertices[0], **said)
    assert len(said) == len(dataclasses.fields(Vertex)) - 9, (
        "and what the test above has, and a service: a field more belongs into one of them"
    )
    assert _fields_read(dataclasses.replace(SPECTRA, vertices=(source, *SPECTRA.vertices[1:]))).vertices[0] == source


@given(
    st.sampled_from(Policy),
    st.none() | st.sampled_from([Sample(every=3), Sample(rate_per_s=7), Sample(latest=True)]),
    st.none() | st.builds(Partition, st.integers(0, 9), st.integers(1, 9), st.integers(2, 9), st.just((0, 1))),
    st.lists(st.integers(0, 10**9), min_size=4, max_size=4),
    st.none() | st.sampled_from(Place),
    st.none() | st.builds(Spool, st.integers(1, 10**12 - 1), st.integers(0, 10**9), st.sampled_from(Full)),
)
def test_what_an_edge_may_say_is_read_back(
    policy: Policy,
    sample: Sample | None,
    partition: Partition | None,
    numbers: list[int],
    place: Place | None,
    spool: Spool | None,
) -> None:
    edge = Edge("source", "spectrometer", policy, sample, partition, *numbers, placement=place, spool=spool)
    assert _fields_read(dataclasses.replace(SPECTRA, edges=(edge, SPECTRA.edges[1]))).edges[0] == edge


def _fields_read(graph: StreamGraph) -> StreamGraph:
    """By the fields alone: whether the graph makes sense is not asked here."""
    (document,) = yaml_documents(graph_manifest(graph))
    manifest = StreamGraphManifest.model_validate(document.value)
    return graph_of(manifest.metadata.name, manifest.spec)


def _read(text: str) -> StreamGraph:
    (graph,) = manifests.parsed([("adopted", text)]).graphs
    return graph


@given(st.one_of(st.integers(0, 10**12 - 1), st.integers(0, 2**30).map(lambda number: number << 30)))
def test_a_size_is_written_exactly(number: int) -> None:
    assert quantities.size_bytes(quantities.exact_size_text(number)) == number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("rate=32", 32),
        ("rate=-1", -1),
        ("on=true", True),
        ("off=false", False),
        ("name=a=b", "a=b"),
        ("name=", ""),
        ('serial="007"', "007"),
        ("serial=x7", "x7"),
        ("rate=٣", "٣"),
    ],
)
def test_a_setting_is_a_truth_a_number_or_text(text: str, value: Param) -> None:
    _, found = param_of(text)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("text", ["rate", "=3", "rate=99999999999999999999999999"])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        param_of(text)


def test_no_two_parts_of_a_manifest_share_a_name() -> None:
    """The JSON Schema's definitions and the field reference go by the class's name: of two, one would hide the other."""
    models = [
        kind
        for module in (manifest_graph, manifest_schema)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind.__module__ == module.__name__
    ]
    names = [kind.__name__ for kind in models]
    assert sorted(set(names)) == sorted(names)
