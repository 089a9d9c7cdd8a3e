"""Whether a plan's parts fit together, and each of them this host: rule 8 of the inbox. Pure; trusts nothing that a seal covers.

A genuine seal says who wrote a plan, not that it can be carried out. What is journaled is obeyed again by every later agent of this
host, so whatever would make one stumble is refused here, before it is: a name that is no path, a number that no ring can hold, an
address that no socket takes. Each fault is a sentence for whoever wrote the plan.
"""

import re
from collections.abc import Callable, Iterable, Iterator

from halftrack_agent import feed_orders, inlet_orders, judge_orders, reach_orders, spool_orders
from halftrack_agent.swap import EPOCHS
from halftrack_model import disconnect, probes
from halftrack_model.canonical import MAX_INT
from halftrack_model.errors import InvalidInput
from halftrack_model.ids import checked_digest, checked_name
from halftrack_model.params import filled
from halftrack_model.plan import Peer, Plan
from halftrack_model.release import strategy_faults
from halftrack_model.swap import SwapSpec
from halftrack_model.versions import Version
from halftrack_model.workload import Member, RingSpec, Runs, Workload

MAX_NAME = 200  # with what is added to it (`.json`, a draft's random part) still below the 255 bytes of a file's name
MAX_GENERATION = MAX_INT // EPOCHS - 1  # each has a range of epochs, which a record must be able to hold
MAX_SLOTS = 1 << 32
MAX_SIBLINGS = 64  # each is asked about every artifact
MAX_RETAIN_MS = 10**11  # three years, and well below what a ring's header can say
MAX_JOIN_NS = 10**18  # as times in frames are: of 63 bits, with room to add
_PART = r"[A-Za-z0-9][A-Za-z0-9.@+_-]*"
_WORKLOAD_NAME = re.compile(_PART)
_RING_NAME = re.compile(rf"{_PART}(/{_PART}){{0,3}}")  # at most as deep as a bridge serves
_ADDRESS = re.compile(
    r"(\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?):(?P<port>[0-9]{1,5})"
)
_Z85_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


def misfits(plan: Plan) -> Iterator[str]:
    """Every way in which the plan cannot be carried out."""
    names = [workload.name for workload in plan.workloads]
    rings = [ring.name for ring in plan.rings]
    swaps = [swap.swap_id for swap in plan.swaps]
    peers, siblings = [peer.host for peer in plan.peers], [peer.host for peer in plan.siblings]
    called = (("workload", names), ("ring", rings), ("swap", swaps), ("peer", peers), ("sibling", siblings))
    for what, items in called:
        yield from (f"{what} {item!r} stands twice" for item in sorted(set(items)) if items.count(item) > 1)
    yield from _bad_names(names, _WORKLOAD_NAME)
    yield from _bad_names(rings, _RING_NAME)
    for ring in plan.rings:
        yield from _of_ring(ring)
    yield from _of_workloads(plan, set(rings))
    for holding in plan.holdings:
        if holding.workload not in names:
            yield f"the plan says how to hold {holding.workload!r}, which is not in it"
        yield from (f"{holding.workload} cannot be run: {text}" for text in disconnect.faults(holding.disconnect))
    held = [holding.workload for holding in plan.holdings]
    yield from (f"{name!r} is held in two ways" for name in sorted(set(held)) if held.count(name) > 1)
    for peer in (*plan.peers, *plan.siblings):
        yield from _of_peer(peer)
    if len(siblings) > MAX_SIBLINGS or plan.host in siblings:
        yield f"{len(siblings)} hosts give it artifacts: other hosts than itself, and at most {MAX_SIBLINGS}, can"
    for swap in plan.swaps:
        yield from _of_swap(plan, swap, set(names), set(peers))


def _bad_names(names: Iterable[str], form: re.Pattern[str]) -> Iterator[str]:
    for name in names:
        if not form.fullmatch(name) or ".." in name or len(name) > MAX_NAME:
            yield f"{name[:MAX_NAME]!r} cannot be a name here: it becomes a path"


def _of_ring(ring: RingSpec) -> Iterator[str]:
    if not 2 <= ring.slots <= MAX_SLOTS or ring.slots & (ring.slots - 1):
        yield f"ring {ring.name} cannot have {ring.slots} slots: a power of two from 2 to {MAX_SLOTS} is needed"
    if ring.capacity_bytes < 1:
        yield f"ring {ring.name} cannot hold {ring.capacity_bytes} bytes"
    if not 0 <= ring.retain_ms <= MAX_RETAIN_MS:
        yield f"ring {ring.name} cannot keep {ring.retain_ms} ms: 0 to {MAX_RETAIN_MS}"
    if ring.member is not None:
        yield from _of_member(ring.member)


def _of_workloads(plan: Plan, rings: set[str]) -> Iterator[str]:
    for workload in plan.workloads:
        for ring in sorted({workload.reads_ring, *workload.read_rings, workload.writes_ring}):
            if ring and ring not in rings:
                yield f"{workload.name} uses ring {ring!r}, which the plan does not create"
        yield from _of_inlet(workload)
        yield from _of_judge(workload)
        yield from feed_orders.refusals(workload, {other.name for other in plan.workloads})
        yield from spool_orders.refusals(workload, plan.workloads)
        yield from reach_orders.refusals(workload)
        yield from _of_command(workload)
        if workload.artifact:
            yield from _fault(checked_digest, workload.artifact)
        if workload.member is not None:
            yield from _of_member(workload.member)


def _of_command(workload: Workload) -> Iterator[str]:
    name, command = workload.name, workload.runs is Runs.COMMAND
    if bool(workload.argv) != command:
        yield f"{name} is {'a command, and has no words' if command else 'no command, and has the words of one'}"
    if workload.host_network and not command:
        yield f"{name} runs {workload.runs.value}, which has a network of its own"
    yield from (f"{name} cannot be run: {text}" for text in probes.faults(workload.checks, workload.params))
    of_probes = workload.checks.probes if workload.checks else ()
    for word in (*workload.argv, *(word for probe in of_probes for word in probe.command)):
        try:
            filled(word, workload.params)
        except ValueError as error:
            yield f"{name} cannot be run: {error}"


def _of_inlet(workload: Workload) -> Iterator[str]:
    """What the data plane would refuse when the inlet starts; here it is refused before it is journaled."""
    name, inlet = workload.name, workload.inlet
    if (inlet is not None) != (workload.runs is Runs.INLET):
        yield f"{name} is {'no inlet, and has' if inlet else 'an inlet, and lacks'} the orders of one"
    if inlet is not None and (refusal := inlet_orders.refusal(inlet)):
        yield f"{name} cannot be run: {refusal}"


def _of_judge(workload: Workload) -> Iterator[str]:
    name, judge = workload.name, workload.judge
    if (judge is not None) != (workload.runs is Runs.JUDGE):
        yield f"{name} is {'no judge, and has' if judge else 'a judge, and lacks'} the orders of one"
    if judge is not None and (refusal := judge_orders.refusal(judge)):
        yield f"{name} cannot be run: {refusal}"


def _of_member(member: Member) -> Iterator[str]:
    """Its snapshots lie in a folder of graph and vertex, and a cut to it bears generation and version."""
    for what, name in (("graph", member.graph), ("vertex", member.vertex), ("member", member.member)):
        yield from _fault(checked_name, name, what)
    yield from _fault(Version.parse, member.version)
    if not 0 <= member.generation <= MAX_GENERATION:
        yield f"{member.vertex} {member.version} cannot be generation {member.generation}"


def _of_peer(peer: Peer) -> Iterator[str]:
    for what, address in (("bridge", peer.bridge), ("agent", peer.agent)):
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match["port"]) < 1 << 16:
            yield f"{peer.host}'s {what} cannot be reached at {address!r}: host:port is needed"
    if not _Z85_KEY.fullmatch(peer.curve_public):
        yield f"{peer.host} cannot have the key {peer.curve_public!r}: 40 characters of Z85 are needed"


def _of_swap(plan: Plan, swap: SwapSpec, names: set[str], peers: set[str]) -> Iterator[str]:
    if swap.strategy.surge not in (1, 2):
        yield f"swap {swap.swap_id} asks for surge {swap.strategy.surge}; this agent knows 1 and 2"
    yield from (f"swap {swap.swap_id} cannot be judged: {text}" for text in strategy_faults(swap.strategy))
    if len(swap.seats) != 2 or swap.seats[0].host != swap.leader or plan.host not in swap.hosts:
        yield f"swap {swap.swap_id} needs two seats, the first on its leader, one of them here"
    for seat in swap.seats:
        yield from (*_of_member(seat.blue), *_of_member(seat.green))
        mine = seat.host == plan.host
        yield from (
            f"swap {swap.swap_id} names {name!r}, which is not in the plan"
            for name in (seat.blue_workload, seat.green_workload)
            if mine and name not in names
        )
        if not mine and seat.host not in peers:
            yield f"swap {swap.swap_id} needs {seat.host}, which is not among the peers"


def _fault(check: Callable[..., object], *given: str) -> Iterator[str]:
    """What `check` has against it, if anything."""
    try:
        check(*given)
    except InvalidInput as error:
        yield error.message
