"""Faults that are planted into the deciding code, to see that the simulation finds each within a few dozen seeds.

A simulation that finds nothing may just be blind; each case here is a mistake that somebody could make, with the invariant that
it must break. They live in tests only: no switch for them is shipped.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from halftrack_agent import core, inbox, reconcile, seats, swap
from halftrack_agent import events as ev
from halftrack_controller import rollout
from halftrack_controller.snapshot import RolloutChange, RolloutPhase, Snapshot
from halftrack_dataplane import merge
from halftrack_model.swap import Phase, SwapRecord
from tests.sim.faults import Fault
from tests.sim.world import World

SEEDS = 60


def first_violation(plan: list[Fault] | None, first: int = 0) -> tuple[str, int]:
    """What the simulation finds, and after how many seeds; empty when it finds nothing."""
    for seed in range(first, first + SEEDS):
        violation = World(f"planted {seed}", plan=plan, grown=False).run().violation
        if violation:
            return violation, seed - first + 1
    return "", SEEDS


def _row_always(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        rows = [replace(row, holds=lambda _: True) if row.holds.__name__ == name else row for row in swap.ROWS]
        patch.setattr(swap, "ROWS", tuple(rows))

    return plant


def _cut_before_the_other_host_agreed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(swap, "agreed", lambda record, facts: True)


def _no_margin_and_a_late_merge(patch: pytest.MonkeyPatch) -> None:
    real = merge.due_cut

    def late(expected: int, cuts: Any) -> Any:
        due = real(expected, cuts)
        overdue = [cut for cut in cuts if cut.applied_at is None and cut.fence is not None and cut.fence <= expected]
        return due or (overdue[0] if overdue else None)

    patch.setattr(swap, "FENCE_MARGIN", -1_000)
    patch.setattr(merge, "due_cut", late)


def _effects_before_the_journal(patch: pytest.MonkeyPatch) -> None:
    real = core.advance

    def hasty(state: Any, event: Any, now_ms: int) -> Any:
        after, actions = real(state, event, now_ms)
        journal = (ev.JournalPlan, ev.JournalSwap)
        return after, tuple(sorted(actions, key=lambda action: isinstance(action, journal)))

    patch.setattr(core, "advance", hasty)


def _believes_anybody(patch: pytest.MonkeyPatch) -> None:
    real = seats.told

    def gullible(state: Any, event: ev.PeerTold, now_ms: int) -> Any:
        spec = state.order(event.record.swap_id)
        return real(state, replace(event, from_host=spec.leader if spec else ""), now_ms)

    patch.setattr(seats, "told", gullible)


def _restarts_after_a_reconnect(patch: pytest.MonkeyPatch) -> None:
    real = reconcile._one

    def forgetful(name: str, wanted: Any, instance: Any, view: ev.HostView, now_ms: int, seed: int) -> Any:
        seen = view.instances.get(name)
        if instance is None and seen is not None and seen.running:
            return reconcile._unwanted(name, instance, seen, now_ms)
        return real(name, wanted, instance, view, now_ms, seed)

    patch.setattr(reconcile, "_one", forgetful)


def _takes_old_plans(patch: pytest.MonkeyPatch) -> None:
    real = inbox.judged
    patch.setattr(core, "judged", lambda sealed, trust, *_: real(sealed, trust, None))


def _silence_is_failure(patch: pytest.MonkeyPatch) -> None:
    real = swap.must_abort

    def nervous(look: swap.Look) -> str:
        silent = look.record.phase is not Phase.PENDING and not look.facts.heard
        return real(look) or ("the other host is gone" if silent else "")

    patch.setattr(swap, "must_abort", nervous)


def _blue_never_takes_over_again(patch: pytest.MonkeyPatch) -> None:
    real = swap.owning

    def stubborn(spec: Any, record: SwapRecord | None) -> Any:
        return spec.green if record is not None and record.phase is Phase.ABORTING else real(spec, record)

    patch.setattr(swap, "owning", stubborn)


def _artifacts_when_they_are_needed(patch: pytest.MonkeyPatch) -> None:
    real = core.wanted_now

    def late(trusted: Any, records: Any, *held_back: Any) -> Any:
        wanted = real(trusted, records, *held_back)
        used = {workload.artifact for workload in wanted.workloads.values()}
        return replace(wanted, artifacts={d: size for d, size in wanted.artifacts.items() if d in used})

    patch.setattr(core, "wanted_now", late)
    patch.setattr(seats, "_equipped", lambda state, spec, view: True)


def _the_controller_takes_silence_for_failure(patch: pytest.MonkeyPatch) -> None:
    real = rollout.advance

    def impatient(snapshot: Snapshot, now_ms: int) -> tuple[RolloutChange, ...]:
        silent = any(seen.last_seen_age_ms > 1_500 for seen in snapshot.seen.values())
        running = [r for r in snapshot.rollouts if r.phase is RolloutPhase.RUNNING and r.from_generation and silent]
        failed = tuple(RolloutChange(replace(r, phase=RolloutPhase.FAILED, reason="silence")) for r in running)
        return failed or real(snapshot, now_ms)

    patch.setattr(rollout, "advance", impatient)


FORGED = [
    Fault("record forged", phase, 0, 10, 0, pick) for phase in (Phase.JOINING, Phase.SHADOWING) for pick in range(9)
]
NO_CONTROLLER = [Fault("controller killed", Phase.JOINING, 0, 0, 15_000, 1)]
LATE_ABORT = [Fault("abort", Phase.GONE, 1, 0, 0, 1)]
FAILING = [Fault("release broken", Phase.SHADOWING, 1, 0, 0, 1)]

Plant = Callable[[pytest.MonkeyPatch], None]
PLANTED: dict[str, tuple[str, Plant, list[Fault] | None]] = {
    "a cut before the other host has acknowledged it": ("S1", _cut_before_the_other_host_agreed, None),
    "no fence margin, and a merge that applies late": ("S1", _no_margin_and_a_late_merge, None),
    "blue drained too early": ("S1", _row_always("_drained"), None),
    "effects before the journal": ("P3", _effects_before_the_journal, None),
    "records taken from anybody": ("P1", _believes_anybody, FORGED),
    "a restart after each reconnect": ("R2", _restarts_after_a_reconnect, None),
    "old plans taken again": ("P2", _takes_old_plans, None),
    "silence is failure": ("O1", _silence_is_failure, None),
    "the controller takes silence for failure": ("O1", _the_controller_takes_silence_for_failure, None),
    "green keeps the output in an abort": ("S1 R1", _blue_never_takes_over_again, FAILING),
    "an abort that does not wait for blue": ("S1", _row_always("_blue_owns"), LATE_ABORT),
    "artifacts fetched only when needed": ("O1", _artifacts_when_they_are_needed, NO_CONTROLLER),
}

# Found by one seed in sixty or so: from where on one is soon met. (The model of tests/spin finds it always.)
RARE = {PLANTED["blue drained too early"][1]: 120}
