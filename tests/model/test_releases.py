"""Names, digests and releases: who can take over whose state, and what each digest covers."""

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from halftrack_model.errors import InvalidInput
from halftrack_model.ids import checked_digest, checked_name, digest_of
from halftrack_model.observed import Observed
from halftrack_model.release import Release, StateSchemas, state_refusal
from halftrack_model.workload import Workload
from tests.model import shapes

SCHEMAS = st.sampled_from(["", "v1", "v2", "v3"])
states = st.builds(
    StateSchemas, writes=SCHEMAS, reads=st.lists(SCHEMAS.filter(bool), max_size=3, unique=True).map(tuple)
)


@given(shapes.releases, states, states)
def test_state_passes_only_when_each_reads_what_the_other_writes(
    release: Release, one: StateSchemas, two: StateSchemas
) -> None:
    blue, green = replace(release, state=one), replace(release, state=two)
    readable = all(not giver.writes or giver.writes in taker.reads for giver, taker in ((one, two), (two, one)))
    assert (state_refusal(blue, green) is None) == readable
    assert (state_refusal(blue, green) is None) == (state_refusal(green, blue) is None)  # going back must work as well


def test_a_refusal_says_who_cannot_read_what() -> None:
    blue = Release("spectrometer", "1.0.0", None, "", {}, StateSchemas("v1", ("v1",)), None)  # type: ignore[arg-type]
    green = replace(blue, version="1.1.0", state=StateSchemas("v2", ("v2",)))
    assert state_refusal(blue, green) == "spectrometer 1.1.0 reads v2, but 1.0.0 writes v1"


@given(shapes.workloads, st.data())
def test_a_workloads_digest_covers_every_field(workload: Workload, data: st.DataObject) -> None:
    # invariant: R2
    name = data.draw(st.sampled_from([field.name for field in fields(Workload)]))
    other = replace(workload, **{name: getattr(data.draw(shapes.workloads), name)})
    same = _text(getattr(workload, name)) == _text(getattr(other, name))
    assert (workload.digest() == other.digest()) == same


def _text(value: Any) -> str:
    return repr(dict(sorted(value.items()))) if isinstance(value, dict) else repr(value)


@given(shapes.observed, shapes.observed)
def test_a_calm_hosts_digest_is_constant_and_a_changed_hosts_is_not(one: Observed, two: Observed) -> None:
    assert one.digest() == replace(one).digest()
    assume(one != two)
    assert one.digest() != two.digest()


@given(st.binary(max_size=32), st.binary(max_size=32))
def test_digests_are_content_addresses(one: bytes, two: bytes) -> None:
    assert checked_digest(digest_of(one)) == digest_of(one)
    assert (digest_of(one) == digest_of(two)) == (one == two)


_LABEL = set("abcdefghijklmnopqrstuvwxyz0123456789-")


@given(st.text(max_size=70) | st.text(sorted(_LABEL), min_size=1, max_size=66))
def test_only_dns_labels_are_names(text: str) -> None:
    label = 1 <= len(text) <= 63 and set(text) <= _LABEL and not text.startswith("-") and not text.endswith("-")
    if label:
        assert checked_name(text, "host") == text
    else:
        with pytest.raises(InvalidInput, match=r"(?s)host .* is not a name"):
            checked_name(text, "host")


@given(shapes.names)
def test_names_pass(name: str) -> None:
    assert checked_name(name, "host") == name


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:" + "A" * 64, "sha1:" + "a" * 64, "sha256:" + "a" * 64 + "\n"])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="64 hexadecimal"):
        checked_digest(text)
