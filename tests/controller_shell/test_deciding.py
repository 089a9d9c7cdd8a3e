"""What one step makes of a snapshot: revisions that only rise, and nothing for hosts that are as they shall be."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from halftrack_controller import deciding, documents
from halftrack_controller.snapshot import NEVER_SEEN, Held, Rollout, RolloutChange, RolloutPhase, Snapshot
from halftrack_model.plan import Plan
from halftrack_model.seals import Sealed
from tests.controller_shell.shell_harness import ENVIRONMENT, graph, host

EMPTY = Snapshot("milkyway", {}, {}, (), {}, frozenset(), (), (), {}, {})
WANTED = Plan("milkyway", "home", "a", 0, (), (), (), (), (), decommission=False)


def standing(made: int, accepted: int, same: bool) -> Snapshot:
    """A host for which revision `made` exists (0: none), and which says that it holds `accepted`."""
    plan = replace(WANTED, revision=made, decommission=not same)
    held = {"a": Held(plan, Sealed("k", b"", ()))} if made else {}
    return replace(EMPTY, held=held, seen={"a": replace(NEVER_SEEN, accepted_revision=accepted)})


@given(st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_a_revision_only_rises_and_only_for_news(made: int, accepted: int, same: bool) -> None:
    """Above all that was made and all that the host claims; nothing when the host has been told just this. # invariant: P2, R1"""
    plans = list(deciding.due(standing(made, accepted, same), {"a": WANTED}))
    if made and same and accepted <= made:
        assert plans == []
        return
    (plan,) = plans
    assert plan.revision == max(made, accepted) + 1
    assert replace(plan, revision=0) == WANTED
    after = replace(EMPTY, held={"a": Held(plan, Sealed("k", b"", ()))}, seen={})
    assert list(deciding.due(after, {"a": WANTED})) == [], "said once"


PHASES = st.sampled_from(RolloutPhase)


@given(
    st.lists(st.tuples(st.integers(1, 4), PHASES), max_size=6),
    st.lists(st.tuples(st.integers(1, 4), PHASES), max_size=6),
)
def test_changes_are_foretold_as_the_store_commits_them(
    first: list[tuple[int, RolloutPhase]], then: list[tuple[int, RolloutPhase]]
) -> None:
    """The last word on each rollout counts; each brings its generation once; a move is a new phase or a new rollout."""

    def change(number: int, phase: RolloutPhase) -> RolloutChange:
        return RolloutChange(
            Rollout(f"r{number}", "home", "line", "source", "p", "", "1.0.0", 0, number, phase, "", number)
        )

    before = deciding.with_rollouts(EMPTY, [change(*row) for row in first])
    after = deciding.with_rollouts(before, [change(*row) for row in then])
    last = dict([*first, *then])
    assert {rollout.to_generation: rollout.phase for rollout in after.rollouts} == last
    assert [generation.number for generation in after.generations] == sorted(last)
    moved = {each.rollout.to_generation for each in deciding.moves(before, [change(*row) for row in then])}
    assert moved == {number for number, phase in then if dict(first).get(number) is not phase}


def test_what_is_not_declared_stays() -> None:
    """Applying one document takes nothing else away, and a host keeps the key it has enrolled with. # invariant: R3"""
    first = documents.merged(EMPTY, [ENVIRONMENT, host("a"), host("b"), graph("a")])
    enrolled = replace(first, hosts={**first.hosts, "a": replace(first.hosts["a"], curve_public="key")})
    after = documents.merged(enrolled, [replace(host("a"), bridge="10.9.9.9:1")])
    assert (list(after.hosts), after.graphs) == (["a", "b"], first.graphs)
    assert (after.hosts["a"].curve_public, after.hosts["a"].bridge) == ("key", "10.9.9.9:1")
    assert [change.action for change in documents.changes(enrolled, [host("a"), graph("a")])] == [
        "unchanged",
        "unchanged",
    ]
