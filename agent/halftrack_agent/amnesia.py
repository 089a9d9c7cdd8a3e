"""A swap of whose record this host knows nothing any more, because its journal was damaged. Pure.

The other host still has its copy, and takes only records with larger numbers; processes and rings are where the swap has left them. A leader
that began with record 1 again would be ignored and wait for ever, or later take an old acknowledgement for one of its new record. So:

* That a record is lost is seen by what only a swap that has begun can leave: a green, a row of its release in the owner table, or the other host's
  word for a record that we do not know.
* Until a record is there, greens that run stay. They may be what counts, or what takes over.
* The owner table is the truth about a cut. If green counts, the swap goes on behind the cut, in the second leg if the second green has its
  ring here, which it has from that leg's first moment on. Else nothing of green's counts, and the swap begins anew.
* Numbers and epochs go on far above all that was used before. A life that is lost before it has shown anything here may have used epochs all the same:
  the number that the other host has heard says how many lives there were, and each has epochs of its own.
"""

from collections.abc import Iterable
from dataclasses import replace

from halftrack_agent import swap
from halftrack_agent.events import CutSeen, HostView
from halftrack_agent.looks import ring_of
from halftrack_model.swap import Phase, SeatStatus, SwapRecord, SwapSpec
from halftrack_model.workload import Member, Runs, Workload

LIFE = 1_000_000  # numbers of one record's life; a swap that lasts for a year and moves every minute uses half of them
LIFE_EPOCHS = (
    10_000  # of `swap.EPOCHS`: tries at a fence that a lost life may have made, each withdrawn and so not to be seen
)
TOLD = "the record of this swap was lost here with the journal; it goes on from what the host shows"
LIVES = swap.EPOCHS // LIFE_EPOCHS - 1  # what a swap has epochs for; a peer that claims more gets no others


def is_lost(spec: SwapSpec, record: SwapRecord | None, status: SeatStatus | None, view: HostView) -> bool:
    """Has this leader decided more than `record` says?"""
    known = 0 if record is None else record.number
    if status is not None and status.number > known:
        return True
    ordered = any(cut.generation == spec.green.generation for cut in _cuts(spec, view))
    return record is None and (ordered or any(seat.green_workload in view.instances for seat in spec.seats))


def resumed(
    spec: SwapSpec, record: SwapRecord | None, status: SeatStatus | None, view: HostView, now_ms: int
) -> SwapRecord:
    """The record to go on with."""
    top = max(_cuts(spec, view), key=lambda cut: cut.epoch, default=None)
    counts = top is not None and top.generation == spec.green.generation and top.applied_at is not None
    second = spec.strategy.surge == 1 and ring_of(spec.seats[1].green) in view.rings
    fresh = swap.opening(spec, now_ms)
    known = max(0 if record is None else record.number, 0 if status is None else status.number)
    number, shown = (known // LIFE + 1) * LIFE, -1 if top is None else (top.epoch - fresh.epoch) // LIFE_EPOCHS
    epoch = fresh.epoch + min(max(number // LIFE, shown + 1), LIVES) * LIFE_EPOCHS
    if not counts:
        return replace(fresh, number=number, epoch=epoch)
    leg, phase = (1, Phase.JOINING) if second else (0, Phase.DRAINING)
    return replace(fresh, number=number, epoch=epoch, leg=leg, phase=phase, reason="")


def found(spec: SwapSpec, workloads: Iterable[Workload], view: HostView) -> frozenset[Member]:
    """The greens of which something runs here as the plan has it, be it what brings their output from the other host."""
    greens = {seat.green for seat in spec.seats}
    mine = ((w, view.instances.get(w.name)) for w in workloads if w.member in greens and w.runs is not Runs.JUDGE)
    return frozenset(
        w.member
        for w, seen in mine
        if w.member and seen and seen.running and not seen.leaving and seen.digest == w.digest()
    )


def _cuts(spec: SwapSpec, view: HostView) -> tuple[CutSeen, ...]:
    merged = view.rings.get(spec.merged_ring)
    return () if merged is None else merged.cuts
