"""Mistakes that somebody could make in the swap's table, each planted into the code that the model's trees are taken from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from halftrack_agent import swap
from halftrack_agent.events import Action, ProposeCut
from halftrack_dataplane import merge
from halftrack_model.swap import Phase, SwapRecord
from tests.spin.checking import Case

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True, slots=True)
class Planted:
    """A mistake, and the smallest search that must find it."""

    name: str
    plant: Plant
    case: Case


def _row(name: str, holds: Callable[[Any], bool]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        rows = tuple(replace(row, holds=holds) if row.holds.__name__ == name else row for row in swap.ROWS)
        assert rows != swap.ROWS, f"no row has {name}"
        patch.setattr(swap, "ROWS", rows)

    return plant


def _always(_: Any) -> bool:
    return True


def _never(_: Any) -> bool:
    return False


def _before_the_journal(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(swap, "agreed", lambda *_: True)


def _without_a_fence(patch: pytest.MonkeyPatch) -> None:
    real = swap.table_actions

    def hasty(*seen: Any) -> Iterable[Action]:
        for action in real(*seen):
            yield replace(action, fence=None) if isinstance(action, ProposeCut) else action

    patch.setattr(swap, "table_actions", hasty)


def _twice(patch: pytest.MonkeyPatch) -> None:
    def eager(ring: str, owner: Any, epoch: int, cuts: Any) -> Iterable[Action]:
        top = max(cuts, key=lambda cut: cut.epoch)
        if top.generation != owner.generation:
            yield ProposeCut(ring, max(epoch, top.epoch) + 1, owner.generation, None, owner.version)

    patch.setattr(swap, "corrected", eager)


def _late(patch: pytest.MonkeyPatch) -> None:
    real = merge.due_cut

    def lenient(expected: int, cuts: Any) -> Any:
        overdue = [cut for cut in cuts if cut.applied_at is None and cut.fence is not None and cut.fence < expected]
        return real(expected, cuts) or (overdue[0] if overdue else None)

    patch.setattr(merge, "due_cut", lenient)


def _blue_is_let_go_while_it_drains(patch: pytest.MonkeyPatch) -> None:
    real = swap.wanted

    def mean(spec: Any, record: SwapRecord | None) -> Any:
        draining = record is not None and record.phase is Phase.DRAINING
        return real(spec, replace(record, phase=Phase.GONE) if record is not None and draining else record)

    patch.setattr(swap, "wanted", mean)


def _green_keeps_the_output_in_an_abort(patch: pytest.MonkeyPatch) -> None:
    real = swap.owning

    def stubborn(spec: Any, record: SwapRecord | None) -> Any:
        return spec.green if record is not None and record.phase is Phase.ABORTING else real(spec, record)

    patch.setattr(swap, "owning", stubborn)


def _a_blue_that_leaves_is_trusted(patch: pytest.MonkeyPatch) -> None:
    def trusting(spec: Any, record: SwapRecord, facts: Any) -> tuple[bool, bool]:
        near = [head >= 0 and facts.merged_head - head <= spec.strategy.lag_frames for head in facts.blue_heads]
        here, there = (runs and close for runs, close in zip(facts.blues_running, near, strict=True))
        return here, there and swap.agreed(record, facts)

    patch.setattr(swap, "blues_ready", trusting)


def _one_blue_is_enough(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(swap, "_blues_are_back", lambda look: any(swap.blues_ready(look.spec, look.record, look.facts)))


def _an_abort_is_not_journaled_by_both(patch: pytest.MonkeyPatch) -> None:
    real = swap.blues_ready
    patch.setattr(swap, "blues_ready", lambda spec, record, facts: real(spec, replace(record, phase=Phase.GONE), facts))


_ONE, _TWO = Case(1, 2, 1), Case(2, 2, 1)
PLANTED = (
    Planted("a cut before the other host has journaled it", _before_the_journal, _ONE),
    Planted("a first cut without a fence", _without_a_fence, _ONE),
    Planted("a second row while the first is proposed", _twice, _ONE),
    Planted("a row applied after its fence", _late, _ONE),
    Planted("drained at once", _row("_drained", _always), _ONE),
    Planted("blue let go while it drains", _blue_is_let_go_while_it_drains, _TWO),
    Planted("a missed fence stays where it is", _row("_fence_lost", _never), _ONE),
    Planted("green keeps the output in an abort", _green_keeps_the_output_in_an_abort, _ONE),
    Planted("undone before blue is back", _row("_blue_owns", _always), _ONE),
    Planted("a blue that was told to stop is trusted", _a_blue_that_leaves_is_trusted, _TWO),
    Planted("one blue is enough to go back to", _one_blue_is_enough, _ONE),
    Planted("the other blue is trusted before its host knows", _an_abort_is_not_journaled_by_both, _ONE),
)
