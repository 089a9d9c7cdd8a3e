"""A member that nobody's state can be given to: whether it may go on without the inputs that are missing is decided by the real core.

It resumes at a whole block, and so at the output of that block: what the real one would number anew keeps its number here, so that `invariants` knows
each output's value. How outputs are numbered is shown with real rings (tests/dataplane/test_restarting.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from halftrack_dataplane import merge, restarting
from halftrack_dataplane.restarting import Place
from halftrack_dataplane.standing import Standing
from halftrack_model.workload import Runs, Workload

if TYPE_CHECKING:
    from tests.sim.host import SimHost


def refusal(host: SimHost, workload: Workload) -> str:
    """Why it waits; empty when it may go on without them."""
    assert workload.member is not None
    merged = host.rings.get(f"{workload.member.graph}/{workload.member.vertex}")
    if merged is None:
        return "outputs are merged elsewhere, and it is decided there"
    owner = merge.owner_of(merged.head, merged.owners.cuts())
    place = Place(workload.member.member, owner is not None and owner.generation == workload.member.generation)
    others = [other for name, other in host.world.hosts.items() if other is not host and name in _seats(host, workload)]
    return restarting.refusal(
        place, standing(host, workload), [(other.name, _asked(host, other, workload)) for other in others]
    )


def standing(host: SimHost, workload: Workload) -> Standing:
    """As `standing.of` finds it."""
    assert workload.member is not None
    vertex = f"{workload.member.graph}/{workload.member.vertex}"
    mine = [ring for name, ring in host.rings.items() if name.startswith(f"{vertex}.") and ring.spec.member is not None]
    members = {ring.spec.member.member for ring in mine if ring.spec.member.version == workload.version}  # type: ignore[union-attr]
    source = host.rings.get(workload.reads_ring)
    hopes = goes_on(host, workload)
    if source is not None:
        hopes |= any(source.floor <= snapshot.next_in <= source.head for snapshot in host.snapshots_of(vertex))
    return Standing(hopes, 0, tuple(sorted(members)))


def goes_on(host: SimHost, workload: Workload) -> bool:
    """Does another member of that vertex live here, with a state?"""
    return any(
        instance.workload.runs is Runs.MEMBER
        and instance.workload.name != workload.name
        and instance.workload.reads_ring == workload.reads_ring
        and getattr(instance.life, "begun", False)
        for instance in host.instances.values()
    )


def _seats(host: SimHost, workload: Workload) -> tuple[str, ...]:
    return host.world.pair_of(workload.writes_ring).hosts


def _asked(host: SimHost, other: SimHost, workload: Workload) -> Standing | None:
    answers = host.world.net.both_ways(host.name, other.name) and other.runs(Runs.BRIDGE_SERVER)
    return standing(other, workload) if answers else None
