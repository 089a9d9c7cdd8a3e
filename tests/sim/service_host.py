"""A host that runs services: its machine, its disk, its clocks and its agent's real core, all driven by events: while nothing happens, nothing is done.

The agent looks when something has changed, and then until everything stands; after that at the next moment at which its plan's clocks say so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from halftrack_agent import core, cutoff, timekeeping
from halftrack_agent import events as ev
from halftrack_agent.cutoff import Contact, Keeping
from halftrack_agent.lifecycle import Phase
from halftrack_agent.timekeeping import Floor, Told
from halftrack_model.errors import HostFault
from halftrack_model.observed import Health, Observed
from halftrack_model.plan import Peer
from halftrack_model.workload import Workload
from tests.sim import keys
from tests.sim.disk import Disk, Interrupted, Trouble

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet

LOOK_MS = (100, 250)
SLOW_LOOK_MS = 4_000
AWAY_TIMES = 150
GRACE_MS = (5, 2_000)
RESTART_MS = (500, 4_000)


@dataclass(slots=True)
class Program:
    """One start of a service, as its driver knows it."""

    workload: Workload
    digest: str
    started_ms: int  # boot-time clock
    running: bool = True
    exit_code: int | None = None
    signal: int | None = None
    leaves: bool = False


class ServiceHost:
    """One host. To the watch it is its own agent."""

    def __init__(self, world: Fleet, name: str) -> None:
        self.world, self.name, self.story = world, name, world.story
        self.trust = keys.trust_of(name)
        self.rng = world.rng(f"host {name}")
        self.disk = Disk(world.rng(f"disk {name}"))
        self.instances: dict[str, Program] = {}
        self.artifacts: set[str] = set()
        self.on, self.alive, self.life, self.boots = False, False, 0, 0
        self.booted_ms = 0
        self.wall_off_ms = 0
        self.note: Contact | None = None  # on the disk
        self.beat: Contact | None = None  # in memory
        self.floor: Floor | None = None
        self.told: Told | None = None
        self.session = 0  # which one stands; 0: none
        self.newest = self.refused = 0
        self.crash_in = -1
        self.ended_in_step_ms = 0  # the truth, by the world's clock, for the watch
        self.off_ms = 0  # of the time since then, what the machine was off
        self._down_ms = 0
        self._next_ms = -1
        self._gap_ms = LOOK_MS[1]
        self._shown: Observed | None = None
        self._mute = False

    # ---- clocks -------------------------------------------------------------------------------------------------------

    @property
    def host(self) -> ServiceHost:
        """As the watch asks for it."""
        return self

    @property
    def boot_id(self) -> str:
        """Of this boot."""
        return f"{self.name} {self.boots}"

    def clock_ms(self) -> int:
        """The boot-time clock: from zero in each boot."""
        return self.world.now_ms - self.booted_ms

    def wall_ms(self) -> int:
        """Whatever it says."""
        return self.world.real_ms() + self.wall_off_ms

    def away_on_ms(self) -> int:
        """For how long it has truly been out of step while its machine was on."""
        return self.world.now_ms - self.ended_in_step_ms - self.off_ms if not self.in_step() else 0

    def in_step(self) -> bool:
        """As `Link.in_step` has it."""
        held = self.state.plan.plan.revision if self.alive and self.state.plan else 0
        return self.alive and self.session > 0 and max(held, self.refused) >= self.newest

    # ---- life ---------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """A boot."""
        self.on, self.boots = True, self.boots + 1
        self.booted_ms = max(self._down_ms, self.world.now_ms - self.rng.randint(2_000, 9_000))
        self.off_ms += self.booted_ms - self._down_ms
        self.beat = None
        self.start_agent()

    def power_off(self, lasts_ms: int) -> None:
        """No process is left, and nothing that was only in memory."""
        self.kill_agent(back=False)
        self.on, self._down_ms = False, self.world.now_ms
        self.instances.clear()
        self.world.timeline.after(lasts_ms, self.power_on)

    def start_agent(self) -> None:
        """From what the disk has."""
        if not self.on or self.alive:
            return
        self.life, self.alive, self.crash_in, self._next_ms = self.life + 1, True, -1, -1
        found = self.disk.recovered()
        self.world.watch.found(self, found)  # type: ignore[arg-type]
        now_ms = self.clock_ms()
        self.state = core.recovered(self.trust, found.entries, self.rng.randrange(1 << 30), now_ms, found.floor)
        obeys = self.state.plan is not None
        if self.state.plan is not None and not self.disk.full:
            self.disk.floor = max(self.disk.floor, self.state.plan.plan.revision)
        contact = cutoff.recovered(self.note, self.boot_id, now_ms, beat=self.beat, obeys=obeys)
        self.keeping = Keeping(contact, False, now_ms, now_ms)
        self.session, self.newest, self.refused, self.told, self._shown = 0, 0, 0, None, None
        self.world.certificates[self.name].begun()
        self.world.sights.changed(self.name)
        self.story.tell(self.name, f"agent starts, boot {self.boots}, {len(found.entries)} entries, clock {now_ms}")
        self.world.watch.booted(self)  # type: ignore[arg-type]
        self.stir()
        self.world.reconnect(self)

    def kill_agent(self, back: bool = True) -> None:
        """At once; what is written as time passes is written until now."""
        if not self.alive:
            return
        self._pass_time(self.clock_ms())
        self._out_of_step()
        self.world.sights.look_for(self.name, ())
        self.alive, self.session, self._next_ms = False, 0, -1
        self.world.sights.changed(self.name)
        self.story.tell(self.name, "agent is killed")
        self.world.controller.lost(self)
        if back:
            self.world.timeline.after(self.rng.randint(*RESTART_MS), self.start_agent)

    # ---- contact ------------------------------------------------------------------------------------------------------

    def connected(self, number: int, newest: int, wall_ms: int) -> None:
        """A session stands; the controller has said what it has."""
        self.session, self.newest = number, newest
        self._shown = None
        self.world.sights.begun(self.name)
        self.told = Told(wall_ms, self.clock_ms())
        self.stir()

    def disconnected(self, number: int = 0) -> None:
        """It has noticed that session `number`, or whichever there is, is over."""
        if self.session and number in (0, self.session):
            self._pass_time(self.clock_ms())
            self._out_of_step()
            self.session = 0
            self.world.sights.look_for(self.name, ())  # there is nobody to tell
            self.stir()

    def _out_of_step(self) -> None:
        if self.in_step():
            self.ended_in_step_ms, self.off_ms = self.world.now_ms, 0

    def _pass_time(self, now_ms: int) -> None:
        """What an agent that only waits has written since it last looked: notes once a minute, a beat up to a second ago."""
        in_step = self.in_step()
        late_ms = now_ms - self.keeping.note_at_ms
        if late_ms > 0:
            self._written(self.keeping.note_at_ms + late_ms // cutoff.NOTE_EVERY_MS * cutoff.NOTE_EVERY_MS, in_step)
        beat_ms = now_ms - self.rng.randint(0, cutoff.BEAT_EVERY_MS - 1)
        if beat_ms > self.keeping.contact.noted_ms:
            self._written(beat_ms, in_step)

    def _written(self, at_ms: int, in_step: bool) -> None:
        self.keeping, note, beat = cutoff.looked(self.keeping, at_ms, in_step=in_step)
        self.note = self.keeping.contact if note and not self.disk.full else self.note
        self.beat = self.keeping.contact if beat else self.beat

    def _keep_time(self) -> str:
        now_ms = self.clock_ms()
        before_ms = timekeeping.floor_ms(self.floor, self.boot_id, now_ms)
        floor = timekeeping.raised(self.floor, self.told, self.boot_id, now_ms)
        if timekeeping.worth_writing(self.floor, floor) and not self.disk.full:
            self.floor = floor
        self.world.watch.floor(self, before_ms, floor.wall_ms)
        return timekeeping.problem(self.wall_ms(), floor.wall_ms, self.told, now_ms)

    # ---- the loop -----------------------------------------------------------------------------------------------------

    def stir(self) -> None:
        """Something has changed: look soon, and often at first."""
        self._gap_ms = LOOK_MS[1]
        self._look_in(self.rng.randint(1, 20))

    def _look_in(self, delay_ms: int) -> None:
        at_ms = self.world.now_ms + delay_ms
        if 0 <= self._next_ms <= at_ms:
            return
        self._next_ms, life = at_ms, self.life

        def due() -> None:
            if self.alive and self.life == life and self._next_ms == at_ms:
                self._next_ms = -1
                if stalls_ms := self.world.sights.stalls_ms(self.name):
                    self._look_in(stalls_ms)
                    return
                self.look()

        self.world.timeline.after(delay_ms, due)

    def look(self) -> None:
        """One look and what follows from it."""
        now_ms = self.clock_ms()
        self._written(now_ms, self.in_step())
        view = self._view(now_ms)
        before = self.state
        moved = self._advance(ev.Looked(view))
        if moved is None and self.alive:
            moved = self._advance(ev.Looked(view, still=True)) or 1
        if not self.alive:
            return
        self._show()
        if moved:
            self._gap_ms = LOOK_MS[1]
            self._look_in(self.rng.randint(*LOOK_MS))
            return
        away = self.name in self.world.absences.away  # what it waits for may not come for months
        self._gap_ms = min(2 * self._gap_ms, SLOW_LOOK_MS * (AWAY_TIMES if away else 1))
        rows = self.state.instances.items()
        calm = all(row.phase is Phase.RUNNING and self.state.verdicts[n].health is Health.HEALTHY for n, row in rows)
        calm = calm and len(rows) == len(self._wanted())
        if not calm or before.instances.keys() != self.state.instances.keys():
            self._look_in(self._gap_ms)
        if not self.in_step() and self.state.plan is not None:
            rules = [each.disconnect for each in self.state.plan.plan.holdings]
            left = [
                r.stop_after_ms - view.contact.away_ms for r in rules if r and r.stop_after_ms > view.contact.away_ms
            ]
            if left:
                self._look_in(min(left) + self.rng.randint(*LOOK_MS))

    def _wanted(self) -> set[str]:
        plan = self.state.plan.plan if self.state.plan else None
        return {w.name for w in plan.workloads} - self.state.held_back.keys() if plan else set()

    def _view(self, now_ms: int) -> ev.HostView:
        seen = {
            name: ev.InstanceSeen(
                name, p.digest, p.running, p.exit_code, p.signal, p.started_ms, "", leaving=p.running and p.leaves
            )
            for name, p in self.instances.items()
        }
        return ev.HostView(seen, {}, {}, frozenset(self.artifacts), contact=cutoff.seen(self.keeping.contact, now_ms))

    def receive(self, sealed: object, stick: bool = False) -> None:
        """Bytes that claim to be a plan; a session is not told of what came on a stick."""
        self._pass_time(self.clock_ms())
        self._mute = stick
        moved = self._advance(ev.PlanArrived(sealed))  # type: ignore[arg-type]
        self._mute = False
        if not self.alive:
            return
        if moved is None:
            self.world.timeline.after(1_000, lambda life=self.life: self._again(life, sealed))  # type: ignore[misc]
        self.stir()

    def _again(self, life: int, sealed: object) -> None:
        if self.alive and self.life == life:
            self.receive(sealed)

    def _advance(self, event: ev.Event) -> int | None:
        """How much was done; None when the disk had no room for it, or the agent is no more."""
        before = self.state
        after, actions = core.advance(before, event, self.clock_ms())
        self.world.watch.advanced(self, before, event, actions)  # type: ignore[arg-type]
        done: list[ev.Action] = []
        for action in actions:
            if self.crash_in == 0:
                self.kill_agent()
                return None
            self.crash_in -= self.crash_in > 0
            try:
                self._do(action)
            except HostFault:
                self.state = core.kept(before, done)
                return None
            except Interrupted as error:
                self.kill_agent(back=error.trouble is not Trouble.POWER)
                if error.trouble is Trouble.POWER:
                    self.power_off(self.rng.randint(5_000, 60_000))
                return None
            done.append(action)
        was, siblings = self.in_step(), self._siblings()
        self.state = after
        if self._siblings() != siblings:
            self.world.sights.changed(self.name)
        if was and not self.in_step():
            self.ended_in_step_ms, self.off_ms = self.world.now_ms, 0
        return sum(not isinstance(action, ev.Fetch | ev.AckPlan | ev.NackPlan | ev.Emit) for action in actions)

    def _siblings(self) -> tuple[Peer, ...]:
        return self.state.plan.plan.siblings if self.state.plan else ()

    def _show(self) -> None:
        problem = self._keep_time()
        observed = core.observed(self.state, (problem,) if problem else ())
        if observed != self._shown and self.session:
            self._shown = observed
            self.world.say(self, ("observed", observed))

    def _do(self, action: ev.Action) -> None:
        self.world.watch.acting(self, action)  # type: ignore[arg-type]
        match action:
            case ev.JournalPlan():
                self.disk.append(action)
                self.world.watch.journaled(self, action)  # type: ignore[arg-type]
            case ev.AckPlan(revision):
                self.disk.floor = max(self.disk.floor, revision)
                self.world.say(self, ("accepted", revision))
            case ev.NackPlan(revision, reason, message) if not self._mute:
                self.refused = max(self.refused, revision)
                self.world.say(self, ("declined", revision, reason, message))
            case ev.Start(workload):
                self.story.tell(self.name, f"starts {workload.name} {workload.version}")
                self.instances[workload.name] = Program(workload, workload.digest(), self.clock_ms())
            case ev.Stop(name, reason):
                self.story.tell(self.name, f"stops {name}: {reason}")
                self._stop(self.instances.get(name))
            case ev.Kill(name):
                self.end(name, None, 9)
            case ev.Forget(name):
                if name in self.instances and not self.instances[name].running:
                    del self.instances[name]
            case ev.Fetch(digest):
                self.world.fetch(self, digest)

    def _stop(self, program: Program | None) -> None:
        if program is not None and program.running and not program.leaves:
            program.leaves = True
            boot = self.boots

            def gone() -> None:
                if self.boots == boot and self.on and program.running:
                    program.running, program.exit_code = False, 0
                    self.stir_if_alive()

            self.world.timeline.after(self.rng.randint(*GRACE_MS), gone)

    def stir_if_alive(self) -> None:
        """A process has ended: whoever is there looks."""
        if self.alive:
            self.stir()

    def end(self, name: str, exit_code: int | None, signal: int | None) -> bool:
        """A program ends."""
        program = self.instances.get(name)
        if program is None or not program.running:
            return False
        program.running, program.exit_code, program.signal = False, exit_code, signal
        self.stir_if_alive()
        return True

    def running(self, name: str) -> bool:
        """Does it?"""
        return name in self.instances and self.instances[name].running

    def relocate_note(self, note: Contact | None) -> None:
        """Its note of contact is another one, or none: a disk that has rotted."""
        self.note = replace(note) if note else None
