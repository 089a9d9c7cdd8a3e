"""One value, one encoding: what two signers can read differently, neither may accept."""

import dataclasses
import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_model import canonical
from halftrack_model.errors import InvalidInput
from halftrack_model.plan import Plan
from halftrack_model.release import Release
from halftrack_model.report import Report
from halftrack_model.seals import Sealed
from halftrack_model.swap import SwapRecord
from halftrack_model.workload import Workload
from tests.model import shapes

KINDS = (Plan, Release, Report, SwapRecord, Workload)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _same(left: Any, right: Any) -> bool:
    """Equal, and of equal types all the way down: to Python, True == 1."""
    return bool(_shape(left) == _shape(right))


def _shape(value: Any) -> Any:
    if is_dataclass(value):
        return [type(value), *(_shape(getattr(value, field.name)) for field in fields(value))]
    if isinstance(value, dict):
        return {key: _shape(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_shape(item) for item in value]
    return type(value), value


@given(shapes.documents)
def test_what_was_encoded_is_decoded(value: Any) -> None:
    assert _same(canonical.decode(type(value), canonical.encode(value)), value)


@given(shapes.params, st.randoms(use_true_random=False))
def test_the_order_of_a_mapping_does_not_show(params: dict[str, Any], shuffle: Any) -> None:
    keys = list(params)
    shuffle.shuffle(keys)
    assert canonical.encode({key: params[key] for key in keys}) == canonical.encode(params)


@given(st.tuples(shapes.workloads, shapes.workloads) | st.tuples(shapes.records, shapes.records))
def test_different_values_have_different_bytes(pair: tuple[Any, Any]) -> None:
    assert (canonical.encode(pair[0]) == canonical.encode(pair[1])) == _same(*pair)


@given(shapes.documents, st.data())
def test_every_other_spelling_of_a_value_is_refused(value: Any, data: st.DataObject) -> None:
    tree = json.loads(canonical.encode(value))
    spelling = data.draw(
        st.sampled_from(
            [
                json.dumps(tree, sort_keys=True, separators=(", ", ":")),
                json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n",
                json.dumps(dict(reversed(tree.items())), separators=(",", ":"), ensure_ascii=False),
                "\ufeff" + json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
            ]
        )
    )
    with pytest.raises(InvalidInput):
        canonical.decode(type(value), spelling.encode())


@given(shapes.documents, st.data())
def test_a_changed_field_is_refused_or_seen(value: Any, data: st.DataObject) -> None:
    tree = json.loads(canonical.encode(value))
    name = data.draw(st.sampled_from(sorted(tree)))
    tree[name] = data.draw(json_values)
    changed = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass")
    try:
        decoded = canonical.decode(type(value), changed)
    except InvalidInput:
        return
    assert canonical.encode(decoded) == changed


@given(shapes.documents, st.data())
def test_a_missing_and_an_unknown_field_are_named(value: Any, data: st.DataObject) -> None:
    tree = json.loads(canonical.encode(value))
    later = {field.name for field in dataclasses.fields(value) if canonical.added(None).metadata == field.metadata}
    name = data.draw(st.sampled_from(sorted(tree.keys() - later)))  # what came later may be missing
    del tree[name]
    with pytest.raises(InvalidInput, match=name):
        canonical.decode(type(value), json.dumps(tree).encode())
    tree |= {name: 0, "extra-field": 1}
    with pytest.raises(InvalidInput, match="extra-field"):
        canonical.decode(type(value), json.dumps(tree).encode())


@given(st.sampled_from(KINDS), st.binary(max_size=64) | json_values.map(lambda tree: json.dumps(tree).encode()))
def test_anything_else_is_refused_and_nothing_else_is_raised(kind: type, data: bytes) -> None:
    with pytest.raises(InvalidInput):
        canonical.decode(kind, data)


def test_bytes_that_are_not_even_ascii_are_refused() -> None:
    with pytest.raises(InvalidInput, match="not base64"):
        canonical.decode(Sealed, '{"kind":"","payload":"\x80","seals":[]}'.encode())


@given(shapes.workloads, st.data())
def test_a_truncated_document_is_refused(value: Any, data: st.DataObject) -> None:
    encoded = canonical.encode(value)
    with pytest.raises(InvalidInput):
        canonical.decode(type(value), encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@dataclass(frozen=True)
class _Grown:
    """A type of which documents were signed before it had its last two fields."""

    name: str
    note: str = canonical.added("")
    counts: tuple[int, ...] = canonical.added(())


grown = st.builds(_Grown, name=shapes.TEXT, note=shapes.TEXT, counts=st.lists(shapes.NUMBERS, max_size=2).map(tuple))


@given(grown)
def test_a_field_that_came_later_stands_there_only_when_it_says_something(value: _Grown) -> None:
    encoded = canonical.encode(value)
    said = {name for name in ("note", "counts") if getattr(value, name)}
    assert set(json.loads(encoded)) == {"name"} | said
    assert _same(canonical.decode(_Grown, encoded), value)


@given(grown)
def test_a_field_that_came_later_has_one_spelling_too(value: _Grown) -> None:
    tree = {"name": value.name, "note": value.note, "counts": list(value.counts)}
    spelt = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if value.note and value.counts:
        assert _same(canonical.decode(_Grown, spelt), value)
        return
    with pytest.raises(InvalidInput, match="canonical form"):
        canonical.decode(_Grown, spelt)


@dataclass(frozen=True)
class _Loose:
    anything: Any


@pytest.mark.parametrize(
    "value", [1.5, 2**63, -(2**63), {1, 2}, object(), "\ud800", {"a": 1j}], ids=lambda value: repr(value)[:20]
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        canonical.encode(_Loose(value))


@pytest.mark.parametrize(
    "text",
    [
        b'{"digest":"x","digest":"x","size_bytes":1}',
        b'{"digest":"x","size_bytes":1.0}',
        b'{"digest":"x","size_bytes":NaN}',
        b'{"digest":"x","size_bytes":true}',
        b'{"digest":"x","size_bytes":9223372036854775808}',
        b'{"digest":"\\ud800","size_bytes":1}',
        b'{"digest":"\\u0078","size_bytes":1}',
        b'{"digest":"x","size_bytes":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
    ],
    ids=lambda text: text[:40].decode(),
)
def test_the_known_ways_to_spell_it_twice_are_refused(text: bytes) -> None:
    kind = {field.name: field.type for field in fields(Release)}["artifact"]
    with pytest.raises(InvalidInput):
        canonical.decode(kind, text)  # type: ignore[arg-type]
