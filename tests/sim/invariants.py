"""The invariants, watched on every step from outside: nothing here asks the code under test whether it is right.

O1: what a verdict rests on. P1 P2 P3: what is journaled, acknowledged and started. R2 R3: what is stopped. S1: what the merge passes, and that whoever
counts is never alone by our own doing. R1, O2 and O1's other half are judged by `settling.py`, once faults
have ended: they speak of where things come to rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from halftrack_agent import events as ev
from halftrack_agent import looks
from halftrack_agent.journal import Entry
from halftrack_agent.state import AgentState
from halftrack_dataplane.frames import Cut
from halftrack_model import canonical
from halftrack_model.plan import Plan
from halftrack_model.seals import Sealed
from halftrack_model.swap import Phase, SwapRecord, SwapSpec
from halftrack_model.workload import Member, Runs, Workload
from tests.sim import resuming
from tests.sim.disk import Found
from tests.sim.processes import BLOCK, right_output
from tests.sim.rings import SimRing

if TYPE_CHECKING:
    from tests.sim.agent import SimAgent
    from tests.sim.host import SimHost
    from tests.sim.world import World

_JUDGED = (Phase.SHADOWING, Phase.CAUGHT_UP, Phase.ARMED)
STANDBY_SLACK_S = 0.25  # what a standby may have fallen behind between the look at it and the deed


DOUBLE_MS = 10_000  # what one failure may still cost while a second one strikes: a restart, a snapshot from a peer


class Violation(Exception):  # noqa: N818 - reads as what it is where it is raised
    """An invariant does not hold. `name` is its id in DESIGN.md."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name


@dataclass(slots=True)
class Durable:
    """What a host's disk says, followed entry by entry."""

    plan: Plan | None = None
    floor: int = 0  # the highest revision acknowledged, when the journal that held it was lost
    records: dict[str, SwapRecord] = field(default_factory=dict)
    seen: dict[str, set[str]] = field(default_factory=dict)  # by swap: its phases so far


@dataclass(slots=True)
class Output:
    """What a merged ring has shown: the rows applied, as (from, generation), and when it last moved."""

    rows: list[tuple[int, int]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    moved_ms: int = -1
    longest_pause_ms: int = 0


class Watch:
    """Raises Violation on the first step that breaks an invariant."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.durable: dict[str, Durable] = {}
        self.outputs: dict[str, Output] = {}
        self.declared_lost = 0
        self.resumptions = 0
        self._resumed: dict[str, int] = {}  # by merged ring: the output that a state of not all inputs was resumed at
        self._said: set[tuple[str, Phase]] = set()  # swaps and phases that a host has made durable, lost since or not
        self._genuine: dict[str, set[bytes]] = {}
        self._newest: dict[str, tuple[bytes, Plan]] = {}  # what was sealed last, which need not be read again
        self._decided: dict[str, dict[int, Phase]] = {}  # by swap and number: what its leader has journaled

    def of(self, host: str) -> Durable:
        """A host's disk."""
        return self.durable.setdefault(host, Durable())

    def planned(self, plan: Plan, sealed: Sealed) -> None:
        """The controller has made this plan."""
        self._genuine.setdefault(plan.host, set()).add(sealed.payload)
        self._newest[plan.host] = (sealed.payload, plan)

    # ---- the controller ---------------------------------------------------------------------------------------------

    def judged(self, swap_id: str, end: Phase, refused: bool) -> None:
        """O1, at each verdict on a swap: a host's own record of that end, or its refusal, is behind it; silence never is."""
        ended = (swap_id, end) in self._said
        excused = refused and end is Phase.UNDONE
        _hold("O1", ended or excused, f"the rollout of {swap_id} ends as {end.value}, which no host has said")

    # ---- agents -----------------------------------------------------------------------------------------------------

    def found(self, agent: SimAgent, found: Found) -> None:
        """What an agent that begins has on its disk: all that it had acknowledged, or it knows that its journal was lost (D1)."""
        mine = self.of(agent.name)
        if found.lost:
            _hold("D1", not found.entries, f"{agent.name} uses a part of a journal that is damaged")
            floor = max(mine.floor, mine.plan.revision if mine.plan else 0)
            _hold("P2", found.floor >= floor - 1, f"{agent.name} has forgotten revision {floor} with its journal")
            self.durable[agent.name] = Durable(floor=found.floor)
        elif found.unacknowledged is not None:
            self.journaled(agent, found.unacknowledged)

    def booted(self, agent: SimAgent) -> None:
        """P3: what was durable is in force again."""
        mine = self.of(agent.name)
        plan = agent.state.plan.plan if agent.state.plan else None
        _hold("P3", plan == mine.plan, f"{agent.name} came back with another plan than it had acknowledged")
        _hold("P3", set(agent.state.swaps) == set(mine.records), f"{agent.name} came back with other swaps")

    def advanced(self, agent: SimAgent, before: AgentState, event: ev.Event, actions: Sequence[ev.Action]) -> None:
        """A refused plan changes nothing (P1, P2); a repeated one neither (P3)."""
        if not isinstance(event, ev.PlanArrived):
            return
        taken = any(isinstance(action, ev.JournalPlan) for action in actions)
        if not taken:
            _hold("P3", agent.state == before, f"{agent.name} was changed by a plan that it did not take")
            kinds = {type(action) for action in actions}
            _hold(
                "P3", kinds <= {ev.NackPlan, ev.Emit, ev.AckPlan}, f"{agent.name} acts on a plan that it did not take"
            )
        elif event.sealed.payload not in self._genuine.get(agent.name, set()):
            raise Violation("P1", f"{agent.name} takes a plan that the controller has not made for it")

    def journaled(self, agent: SimAgent, entry: Entry) -> None:
        """P1 and P2, and what a record may say."""
        mine = self.of(agent.name)
        match entry:
            case ev.JournalPlan(sealed):
                payload, plan = self._newest.get(agent.name, (b"", None))
                if plan is None or payload != sealed.payload:
                    plan = canonical.decode(Plan, sealed.payload)
                held = mine.plan.revision if mine.plan else mine.floor - 1
                _hold("P2", plan.revision > held, f"{agent.name}: revision {plan.revision} after {held}")
                mine.plan = plan
            case ev.JournalSwap(record):
                old = mine.records.get(record.swap_id)
                _hold("P2", old is None or record.number > old.number, f"{agent.name}: a record's number went back")
                _hold("P2", old is None or record.epoch >= old.epoch, f"{agent.name}: a record's epoch went back")
                mine.records[record.swap_id] = record
                self._said.add((record.swap_id, record.phase))
                mine.seen.setdefault(record.swap_id, set()).add(record.phase.value)
                self._heard_of(agent, record)
                self._entered(agent, record)
            case ev.ForgetSwap(swap_id):
                mine.records.pop(swap_id, None)

    def _heard_of(self, agent: SimAgent, record: SwapRecord) -> None:
        """P1: a follower's record is one that the leader has made durable."""
        spec = self.spec(agent.name, record.swap_id)
        _hold("P1", spec is not None, f"{agent.name} journals a record of a swap that its plan does not order")
        assert spec is not None
        decided = self._decided.setdefault(record.swap_id, {})
        if spec.leader == agent.name:
            decided[record.number] = record.phase
        _hold(
            "P1",
            decided.get(record.number) is record.phase,
            f"{agent.name} takes a record that its leader has not made",
        )

    def _entered(self, agent: SimAgent, record: SwapRecord) -> None:
        spec = self.spec(agent.name, record.swap_id)
        if spec is not None and spec.leader == agent.name:
            if record.phase is Phase.GONE:
                self._standby(agent.host, spec, record)
            self.world.entered(spec, record)

    def _standby(self, host: SimHost, spec: SwapSpec, record: SwapRecord) -> None:
        """S1: a blue may go only while somebody else than the counting green is close behind the output."""
        last = record.leg == 1 or spec.strategy.surge == 2
        member = spec.seats[1].green if last else spec.seats[1].blue
        near = _near(host, spec, member)
        _hold(
            "S1", near, f"blue of seat {record.leg} goes while {looks.ring_of(member)} is not close behind the output"
        )

    def spec(self, host: str, swap_id: str) -> SwapSpec | None:
        """The swap as that host was told it."""
        plan = self.of(host).plan
        return next((s for s in plan.swaps if s.swap_id == swap_id), None) if plan else None

    # ---- actions ----------------------------------------------------------------------------------------------------

    def acting(self, agent: SimAgent, action: ev.Action) -> None:
        """Just before an action is carried out."""
        mine = self.of(agent.name)
        match action:
            case ev.AckPlan(revision):
                _hold(
                    "P3", mine.plan is not None and mine.plan.revision >= revision, "acknowledged before it was durable"
                )
            case ev.AnswerPeer(_, status):
                held = mine.records.get(status.swap_id)
                _hold(
                    "P3", (held.number if held else 0) >= status.number, "a record acknowledged before it was durable"
                )
            case ev.TellPeer(_, record):
                held = mine.records.get(record.swap_id)
                _hold("P3", held is not None and held.number >= record.number, "a record told before it was durable")
            case ev.Start(workload):
                known = mine.plan is not None and workload in mine.plan.workloads
                _hold("P1", known, f"{workload.name} is started, which no plan on the disk orders")
                _hold("R2", not agent.host.running(workload.name), f"{workload.name} is started while it runs")
                _hold(
                    "P1", not workload.artifact or workload.artifact in agent.host.artifacts, "started before fetched"
                )
            case ev.Stop(name, reason):
                self._stopping(agent, name, reason)
            case ev.ProposeCut():
                self._proposing(agent, action)

    def _stopping(self, agent: SimAgent, name: str, reason: str) -> None:
        plan, instance = self.of(agent.name).plan, agent.host.instances.get(name)
        if plan is None:
            raise Violation("R3", f"{name} is stopped although nothing is known to be wanted")
        if instance is None or instance.life is None:
            return
        workload = next((w for w in plan.workloads if w.name == name), None)
        if workload is None or workload.digest() != instance.digest:
            return
        spec = next((s for s in plan.swaps if workload.member in _members(s)), None)
        record = self.of(agent.name).records.get(spec.swap_id) if spec else None
        if spec is not None and workload.runs is Runs.JUDGE:  # gates nobody, and is asked before the first cut only
            asked = record is not None and record.leg == 0 and record.phase in _JUDGED
            _hold("R2", not asked, f"{name} is stopped while its word is still to count: {reason}")
            return
        may_go = spec is not None and workload.member is not None and _may_go(spec, record, workload.member)
        _hold("R2", may_go, f"{name} runs as wanted and is stopped: {reason}")
        assert spec is not None
        merged = agent.host.rings.get(spec.merged_ring)
        top = max(merged.owners.cuts(), key=lambda cut: cut.epoch, default=None) if merged else None
        counts = top is not None and workload.member is not None and top.generation == workload.member.generation
        _hold("S1", not counts, f"{name} is stopped while the owner table gives its release the output")

    def _proposing(self, agent: SimAgent, action: ev.ProposeCut) -> None:
        """A cut with a fence needs the other host's durable word; one without needs our own."""
        plan = self.of(agent.name).plan
        spec = next((s for s in plan.swaps if s.merged_ring == action.ring), None) if plan else None
        epochs = self._output(agent.host, action.ring).epochs
        _hold("P2", all(action.epoch > epoch for epoch in epochs), f"epoch {action.epoch} after {epochs[-1:]}")
        epochs.append(action.epoch)
        if spec is None:
            return
        if action.generation == spec.blue.generation:
            self._taking_back(agent.host, spec)
            return
        record = self.of(agent.name).records.get(spec.swap_id)
        _hold("S1", record is not None, "a cut without a record")
        assert record is not None
        if action.fence is None:
            cut_made = record.leg == 1 or record.phase in (Phase.CUT, Phase.DRAINING, Phase.GONE, Phase.DONE)
            _hold("S1", cut_made, f"green is given the output in {record.phase.value}")
            return
        other = self.of(spec.hosts[-1]).records.get(spec.swap_id)
        agreed = other is not None and other.epoch == action.epoch == record.epoch and other.fence == action.fence
        _hold("S1", agreed, f"a cut at {action.fence} is proposed before the other host has made it durable")

    @staticmethod
    def _taking_back(host: SimHost, spec: SwapSpec) -> None:
        """S1: a green that still runs keeps the output until a blue is close enough to take it without a pause."""
        cuts = host.rings[spec.merged_ring].owners.cuts()
        top = max((cut for cut in cuts if cut.applied_at is not None), key=lambda cut: cut.epoch, default=None)
        if top is not None and top.generation == spec.green.generation and host.running(spec.seats[0].green_workload):
            near = any(_near(host, spec, seat.blue) for seat in spec.seats)
            _hold("S1", near, "the output is taken from a green that runs, and no blue is close behind it")

    # ---- output -----------------------------------------------------------------------------------------------------

    def _output(self, host: SimHost, ring: str) -> Output:
        return self.outputs.setdefault(f"{host.name}:{ring}", Output())

    def applied(self, host: SimHost, target: SimRing, epoch: int, at_seq: int) -> None:
        """The merge has applied a row."""
        row = next(cut for cut in target.owners.cuts() if cut.epoch == epoch)
        _hold("S1", row.fence in (None, at_seq), f"the cut for {row.fence} is applied at {at_seq}")
        self._output(host, target.spec.name).rows.append((at_seq, row.generation))
        self.world.story.tell(host.name, f"cut: {target.spec.name} from {at_seq} on is generation {row.generation}'s")

    def passed(self, host: SimHost, target: SimRing, source: SimRing, seq: int, value: int, epoch: int) -> None:
        """S1: the next sequence, from the release that owns it, with the right value."""
        output, member = self._output(host, target.spec.name), source.spec.member
        assert member is not None
        owner = next((generation for at, generation in reversed(output.rows) if at <= seq), None)
        _hold("S1", seq == target.head, f"{seq} passes where {target.head} is due")
        _hold("S1", member.generation == owner, f"{seq} is {owner}'s, and {member.version}'s passes in epoch {epoch}")
        if value != right_output(member.version, seq):
            raise Violation(
                "S1", f"output {seq} of {member.version} is {value}, not {right_output(member.version, seq)}"
            )
        now_ms = self.world.now_ms
        if output.moved_ms >= 0:
            output.longest_pause_ms = max(output.longest_pause_ms, now_ms - output.moved_ms)
        output.moved_ms = now_ms

    def resumed(self, host: SimHost, workload: Workload, output: int) -> None:
        """O1: a state is gone on with without some inputs only where nobody has it whole, asked by nobody and seen from outside."""
        assert workload.member is not None
        ring = f"{workload.member.graph}/{workload.member.vertex}"
        whole = [other.name for other in self.world.hosts.values() if resuming.standing(other, workload).hopes]
        _hold("O1", not whole, f"{workload.name} goes on without some inputs, and {whole} can go on with all of them")
        self.world.story.tell(host.name, f"{workload.name} goes on without some inputs, at output {output}")
        self._resumed[ring] = output
        self.resumptions += 1

    def lost(self, host: SimHost, target: SimRing, count: int, epoch: int) -> None:
        """Declared, not silent; and only when both members were struck at about the same time, which is no single failure (S2)."""
        now_ms, pair = self.world.now_ms, self.world.pair_of(target.spec.name)
        seats = zip(pair.hosts, "ab", strict=True)
        struck = [self.world.harmed_ms.get(seat, -DOUBLE_MS) for seat in seats]
        rows: Sequence[Cut] = target.owners.cuts()
        text = f"{host.name} declares {count} outputs from {target.head} on lost in epoch {epoch}: {rows}"
        resumed = target.head + count <= self._resumed.get(target.spec.name, 0)
        excused = resumed or self._outlasted(host, target) or all(now_ms - at_ms < DOUBLE_MS for at_ms in struck)
        _hold("S1", excused, text)
        self.world.story.tell(host.name, text)
        self.declared_lost += count

    def _outlasted(self, host: SimHost, target: SimRing) -> bool:
        """Was there no merge that moved for longer than its members' rings last (S2)? This one then only tells what nobody has any more."""
        moved_ms = self._output(host, target.spec.name).moved_ms
        lasts_ms = target.spec.slots * BLOCK * 1000 // host.rate
        merge = next(each for each in host.instances.values() if each.workload.writes_ring == target.spec.name)
        return merge.started_ms > moved_ms and self.world.now_ms - moved_ms > lasts_ms


def _near(host: SimHost, spec: SwapSpec, member: Member) -> bool:
    ring, merged = host.rings.get(looks.ring_of(member)), host.rings.get(spec.merged_ring)
    slack = spec.strategy.lag_frames + host.rate * STANDBY_SLACK_S
    return ring is not None and merged is not None and merged.head - ring.head <= slack and ring.head > 0


def _members(spec: SwapSpec) -> set[Member]:
    return {member for seat in spec.seats for member in (seat.blue, seat.green)}


def _may_go(spec: SwapSpec, record: SwapRecord | None, member: Member) -> bool:
    """May that member be stopped while `record` stands? Written down a second time, from the protocol's text."""
    first, second = spec.seats
    if record is None or record.phase in (Phase.PENDING, Phase.UNDONE):
        return member in (first.green, second.green)
    if record.phase is Phase.DONE:
        return member in (first.blue, second.blue)
    if spec.strategy.surge == 2:
        return member in (first.blue, second.blue) and record.phase is Phase.GONE
    if record.leg == 0:
        return member == second.green or (member == first.blue and record.phase is Phase.GONE)
    if record.phase is Phase.ABORTING:
        return False
    return member == first.blue or (member == second.blue and record.phase is Phase.GONE)


def _hold(name: str, holds: bool, text: str) -> None:
    if not holds:
        raise Violation(name, text)
