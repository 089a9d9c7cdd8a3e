"""Names, digests and releases: who can take over whose state, and what each digest covers."""

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from halftrack_model import canonical
from halftrack_model.errors import InvalidInput
from halftrack_model.ids import checked_digest, checked_name, digest_of
from halftrack_model.observed import Observed
from halftrack_model.release import (
    Migration,
    Release,
    StateSchemas,
    no_way_back,
    replay_refusal,
    state_faults,
    state_refusal,
)
from halftrack_model.workload import Workload
from tests.model import shapes

SCHEMAS = st.sampled_from(["", "v1", "v2", "v3"])
STEPS = st.tuples(SCHEMAS.filter(bool), SCHEMAS.filter(bool)).map(lambda pair: Migration(*pair, f"m:{'_'.join(pair)}"))
states = st.builds(
    StateSchemas,
    writes=SCHEMAS,
    reads=st.lists(SCHEMAS.filter(bool), max_size=3, unique=True).map(tuple),
    migrations=st.lists(STEPS, max_size=4).map(tuple),
    one_way=st.booleans(),
)


def _reached(state: StateSchemas, first: str) -> set[str]:
    """Every schema that the declared migrations lead to, by brute force."""
    found = {first}
    for _ in state.migrations:
        found |= {step.target for step in state.migrations if step.source in found}
    return found


def _readable(taker: StateSchemas, giver: StateSchemas) -> bool:
    offered = _reached(giver, giver.writes)
    return not giver.writes or any(_reached(taker, schema) & set(taker.reads) for schema in offered)


@given(shapes.releases, states, states)
def test_state_passes_only_when_each_can_read_the_other_or_there_is_no_going_back(
    release: Release, one: StateSchemas, two: StateSchemas
) -> None:
    blue, green = replace(release, state=one), replace(release, state=two)
    assert (state_refusal(blue, green) is None) == (_readable(two, one) and (two.one_way or _readable(one, two)))
    gone = two.one_way and not _readable(one, two)
    assert (no_way_back(blue, green) is not None) == gone, (
        "an abort is refused exactly where a snapshot could not be read"
    )
    if not (one.one_way or two.one_way):
        assert (state_refusal(blue, green) is None) == (
            state_refusal(green, blue) is None
        )  # going back must work as well


@given(states)
def test_a_chain_of_migrations_is_one_and_there_is_no_shorter_one(state: StateSchemas) -> None:
    for chain in (*state.inward().values(), *state.outward().values()):
        assert all(one.target == two.source for one, two in pairwise(chain))
        assert set(chain) <= set(state.migrations)
        assert len({step.target for step in chain}) == len(chain), "a chain has no circle"
    assert all(chain[0].source == first and chain[-1].target in state.reads for first, chain in state.inward().items())
    assert all(chain[0].source == state.writes and chain[-1].target == end for end, chain in state.outward().items())
    assert set(state.outward()) == (_reached(state, state.writes) - {state.writes} if state.writes else set())


@given(states)
def test_a_migration_that_leads_nowhere_is_told_and_nothing_else_is(state: StateSchemas) -> None:
    steps = [(step.source, step.target) for step in state.migrations]
    faulty = len(set(steps)) < len(steps) or (state.one_way and not state.writes)
    for source, target in steps:
        inward, outward = _reached(state, target) & set(state.reads), source in _reached(state, state.writes)
        faulty |= source == target or not (inward or outward)
    assert bool(state_faults(state)) == faulty


@given(shapes.releases, st.integers(0, 5000), st.integers(0, 100), st.integers(1, 5000))
def test_a_window_must_fit_into_the_ring_it_is_replayed_from(
    release: Release, frames: int, lag: int, slots: int
) -> None:
    strategy = replace(release.strategy, lag_frames=lag)
    replayed = replace(release, strategy=strategy, state=StateSchemas("", (), replay_frames=frames))
    refusal = replay_refusal(replayed, slots)
    assert (refusal is not None) == (frames > 0 and frames + lag > slots)
    assert refusal is None or replay_refusal(replayed, frames + lag) is None, "what it says to do helps"


def test_what_was_signed_before_migrations_keeps_its_bytes() -> None:
    # invariant: R2
    assert canonical.encode(StateSchemas("v1", ("v1",))) == b'{"reads":["v1"],"writes":"v1"}'


def test_a_refusal_says_who_cannot_read_what() -> None:
    blue = Release("spectrometer", "1.0.0", None, "", {}, StateSchemas("v1", ("v1",)), None)  # type: ignore[arg-type]
    green = replace(blue, version="1.1.0", state=StateSchemas("v2", ("v2",)))
    assert state_refusal(blue, green) == "spectrometer 1.1.0 reads v2, but 1.0.0 writes v1"


@given(shapes.workloads, st.data())
def test_a_workloads_digest_covers_every_field(workload: Workload, data: st.DataObject) -> None:
    # invariant: R2
    name = data.draw(st.sampled_from([field.name for field in fields(Workload) if field.init]))
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
