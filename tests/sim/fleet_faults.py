"""Faults of a fleet of services: when they come, and how each strikes. Every one ends by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.sim import keys
from tests.sim.disk import Trouble
from tests.sim.sight_faults import SightFaults

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet
    from tests.sim.service_host import ServiceHost

YEAR_MS = 31_557_600_000
STORM = (6, 60)  # faults in one
CROWD = 25  # of more hosts, several are struck in the same time
EVERY_MS = (50, 20_000, 240_000)  # between two of them: close together, or not


class FleetFaults:
    """Which strike, drawn from randomness of their own."""

    def __init__(self, world: Fleet) -> None:
        self.world, self.rng = world, world.rng("faults")
        self.until_ms = 0
        self.sights = SightFaults(world)
        self._kinds: dict[str, Callable[[], bool]] = {
            "cut off": self._cut_off,
            "cut off for long": self._cut_off_for_long,
            "one-way cut": self._one_way,
            "link flaps": self._flaps,
            "site cut off": self._site,
            "program killed": self._program_killed,
            "program ends": self._program_ends,
            "agent killed": self._agent_killed,
            "agent killed in the act": self._in_the_act,
            "power cut": self._power_cut,
            "controller killed": self._controller_killed,
            "disk full": self._disk_full,
            "write torn": lambda: self._trouble(Trouble.KILLED),
            "write cut by power": lambda: self._trouble(Trouble.POWER),
            "sync fails": lambda: self._trouble(Trouble.SYNC),
            "journal rots": self._journal_rots,
            "note rots": self._note_rots,
            "clock jumps": self._clock_jumps,
            "controller's clock jumps": self._controller_clock,
            "plan replayed": self._replayed,
            "plan forged": self._forged,
        }
        assert world.only is None or set(world.only) <= self._kinds.keys() | self.sights.names, "no such fault"

    def storm(self) -> None:
        """Some of them, one after the other."""
        kinds = sorted(self._kinds.keys() if self.world.only is None else self._kinds.keys() & set(self.world.only))
        at_ms, most_ms = 0, self.rng.choice(EVERY_MS[1:])
        crowd = max(1, len(self.world.hosts) // CROWD)
        self.world.absences.storm()
        count = self.rng.randint(*STORM) * (1 + len(self.world.hosts) // 5)
        for _ in range(count if kinds else 0):
            at_ms += self.rng.randint(1, EVERY_MS[0] if self.rng.random() < 0.3 else most_ms) // crowd
            kind = self.rng.choice(kinds)
            self.world.timeline.after(at_ms, lambda kind=kind: self._strike(kind))  # type: ignore[misc]
        self.lasting(at_ms)
        self.sights.storm(count, at_ms or most_ms)

    def _strike(self, kind: str) -> None:
        self.world.story.tell("FAULT", kind)
        if self._kinds[kind]():
            self.world.struck[kind] += 1

    def lasting(self, lasts_ms: int) -> None:
        """A fault that strikes now is over by then."""
        self.until_ms = max(self.until_ms, self.world.now_ms + lasts_ms)

    def _host(self) -> ServiceHost:
        return self.world.hosts[self.rng.choice(sorted(self.world.hosts))]

    # ---- links --------------------------------------------------------------------------------------------------------

    def _cut(self, host: ServiceHost, lasts_ms: int, directions: tuple[str, ...] = ("in", "out")) -> bool:
        self.world.cut(host.name, directions, lasts_ms)
        self.lasting(lasts_ms)
        return True

    def _cut_off(self) -> bool:
        return self._cut(self._host(), self.rng.randint(50, 40_000))

    def _cut_off_for_long(self) -> bool:
        return self._cut(self._host(), self.rng.choice((60_000, 200_000, 3_000_000)) + self.rng.randint(0, 60_000))

    def _one_way(self) -> bool:
        return self._cut(self._host(), self.rng.randint(50, 200_000), (self.rng.choice(("in", "out")),))

    def _flaps(self) -> bool:
        host, at_ms = self._host(), 0
        for _ in range(self.rng.randint(3, 12)):
            off_ms = self.rng.randint(10, 3_000)
            self.world.timeline.after(at_ms, lambda ms=off_ms: self._cut(host, ms))  # type: ignore[misc, arg-type]
            at_ms += off_ms + self.rng.randint(10, 4_000)
        self.lasting(at_ms + 3_000)
        return True

    def _site(self) -> bool:
        lasts_ms = self.rng.randint(1_000, 200_000)
        names = sorted(self.world.hosts)
        for name in self.rng.sample(names, self.rng.randint(2, max(2, len(names) // 2 + 1))):
            self._cut(self.world.hosts[name], lasts_ms + self.rng.randint(0, 2_000))
        return True

    # ---- programs, agents, machines -------------------------------------------------------------------------------------

    def _program(self, exit_code: int | None, signal: int | None) -> bool:
        host = self._host()
        running = sorted(name for name, program in host.instances.items() if program.running)
        if not running:
            return False
        name = self.rng.choice(running)
        self.world.killed[name.partition(".")[0]] += 1
        self.lasting(40_000)
        return host.end(name, exit_code, signal)

    def _program_killed(self) -> bool:
        return self._program(None, 9)

    def _program_ends(self) -> bool:
        return self._program(1, None)

    def _agent_killed(self) -> bool:
        host = self._host()
        was = host.alive
        host.kill_agent()
        self.lasting(10_000)
        return was

    def _in_the_act(self) -> bool:
        host = self._host()
        host.crash_in = self.rng.randint(0, 4)
        self.lasting(10_000)
        return host.alive

    def _power_cut(self) -> bool:
        host = self._host()
        if not host.on:
            return False
        lasts_ms = self.rng.choice((self.rng.randint(2_000, 60_000), self.rng.randint(60_000, 4_000_000)))
        self.switch_off(host, lasts_ms)
        self.lasting(lasts_ms + 10_000)
        return True

    def switch_off(self, host: ServiceHost, lasts_ms: int) -> None:
        """All that runs there is gone, until it is switched on."""
        for name in host.instances:
            self.world.killed[name.partition(".")[0]] += 1
        self.world.watch.rebooted.add(host.name)
        host.power_off(lasts_ms)

    def _controller_killed(self) -> bool:
        if not self.world.controller.alive:
            return False
        lasts_ms = self.rng.choice((self.rng.randint(500, 20_000), self.rng.randint(20_000, 600_000)))
        self.world.controller.crash(lasts_ms)
        self.lasting(lasts_ms + 10_000)
        return True

    # ---- disks --------------------------------------------------------------------------------------------------------

    def _disk_full(self) -> bool:
        host, lasts_ms = self._host(), self.rng.randint(100, 120_000)
        host.disk.full = True

        def empty() -> None:
            host.disk.full = False
            host.stir_if_alive()

        self.world.timeline.after(lasts_ms, empty)
        self.lasting(lasts_ms + 35_000)
        return True

    def _trouble(self, trouble: Trouble) -> bool:
        host = self._host()
        host.disk.trouble = trouble
        if trouble is Trouble.POWER:
            self.world.watch.rebooted.add(host.name)

        def relieved() -> None:
            host.disk.trouble = Trouble.NONE

        self.world.timeline.after(60_000, relieved)
        self.lasting(150_000)
        return True

    def _journal_rots(self) -> bool:
        host = self._host()
        if not host.alive:
            return False
        host.kill_agent()
        self.world.watch.rot.add(host.name)
        self.lasting(10_000)
        return host.disk.rot()

    def _note_rots(self) -> bool:
        host = self._host()
        if not host.on:
            return False
        host.kill_agent(back=False)
        host.relocate_note(None)
        self.world.watch.rebooted.add(host.name)
        host.power_off(self.rng.randint(2_000, 60_000))
        self.lasting(75_000)
        return True

    # ---- clocks -------------------------------------------------------------------------------------------------------

    def _years(self) -> int:
        return int(self.rng.choice((-30, -3, -0.001, 0, 0.0001, 0.01, 2, 40)) * YEAR_MS)

    def _clock_jumps(self) -> bool:
        host = self._host()
        host.wall_off_ms = self._years()
        host.stir_if_alive()
        return True

    def _controller_clock(self) -> bool:
        self.world.wall_off_ms = self._years()
        self.world.controller.stirred()
        return True

    # ---- plans --------------------------------------------------------------------------------------------------------

    def _replayed(self) -> bool:
        host = self._host()
        sent = self.world.controller.sent.get(host.name)
        if not sent or not host.alive:
            return False
        host.receive(self.rng.choice(sent), stick=True)
        return True

    def _forged(self) -> bool:
        host, other = self._host(), self._host()
        held, theirs = (self.world.controller.held.get(each.name) for each in (host, other))
        if held is None or theirs is None or host is other or not host.alive:
            return False
        forged = keys.sealed(held.sealed.kind, held.sealed.payload, keys.STRANGER)
        host.receive(self.rng.choice((theirs.sealed, forged)), stick=True)
        return True
