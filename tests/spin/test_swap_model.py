"""The swap, searched exhaustively within bounds: S1 in every state, and from every state the way to an end."""

import os
import re
from pathlib import Path

import pytest

from halftrack_agent import swap
from halftrack_model.swap import Phase
from tests.spin import checking, decisions, promela
from tests.spin.planted import PLANTED, Planted

pytestmark = pytest.mark.timeout(300)  # on a busy machine; alone, each is some seconds

# A search is a second; making its verifier is two. `make spin` runs all of them, and those with two faults.
CASES = [checking.Case(1, 2, 1), checking.Case(2, 2, 1)]
MISTAKES = [planted for planted in PLANTED if planted.name == "one blue is enough to go back to"]


@pytest.fixture(autouse=True)
def verifier() -> None:
    """Skip where it cannot be built; in CI that is a failure."""
    if checking.missing() and not os.environ.get("HALFTRACK_REQUIRE_HOST"):
        pytest.skip(f"{checking.missing()} is not installed here")


# invariant: S1
# invariant: R1
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_single_fault_breaks_the_order_or_keeps_a_swap_from_its_end(case: checking.Case, tmp_path: Path) -> None:
    seen = checking.searched(case, tmp_path)
    assert not seen.error, f"{seen.error}\n{seen.story}"
    assert seen.states > 50_000, "a search of so few states has not seen the swap"


@pytest.mark.parametrize("planted", MISTAKES, ids=lambda planted: planted.name)
def test_a_mistake_in_the_table_is_found(planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.plant(monkeypatch)
    seen = checking.searched(planted.case, tmp_path)
    assert seen.error
    assert seen.story, "and shown, step by step"


# invariant: S1
@pytest.mark.parametrize("surge", [1, 2])
def test_every_move_of_the_trees_is_a_row_or_a_way_back(surge: int) -> None:
    """The trees have the table's rows and no others; each row is in them."""
    legs = (None, 0) if surge == 2 else (None, 0, 1)
    rows = {(row.phase, row.to) for row in swap.ROWS if row.surge in (None, surge) and row.leg in legs}
    back = {(phase, to) for phase in Phase for to in (Phase.ABORTING, Phase.JOINING)}
    taken = set()
    for leg, phase in decisions.places(surge):
        for abort in (False, True):
            moves = decisions.leaves(decisions.moves(surge, abort, leg, phase))
            taken |= {(phase, to) for moved, _, to in moves if moved}
    assert rows <= taken <= rows | back


def test_every_question_of_the_trees_is_one_that_the_model_answers() -> None:
    asked = set(re.findall(r"switch \((f_\w+)\)", promela.trees(1) + promela.trees(2)))
    answered = set(re.findall(r"\b(f_\w+) =", checking.MODEL.read_text()))
    assert asked <= answered
    assert asked <= set(promela.QUESTIONS)
