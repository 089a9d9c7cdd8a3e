"""What hosts of a site see of each other in a galaxy of services: the links between them, and their agents as far as they look for one another.

Whom to look for, and what questions come to, is decided by the agent's real core (`watching`). The links between siblings fail by themselves, one-way as
well, whatever becomes of those to the controller. A question that must come to what the one before came to is not played, so that a host that is away for
months costs nothing: what could change the answer has those who look for it ask again. Randomness is of its own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from halftrack_agent import watching
from halftrack_agent.siblings import ANSWER_S
from halftrack_agent.watching import EVERY_S, JITTER, MISSES, Found, Looked

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet
    from tests.sim.service_host import ServiceHost

WAY_MS = (1, 40)  # of a question, or of an answer
ANSWER_MS = int(1000 * ANSWER_S)
PAUSE_MS = (int(1000 * EVERY_S * (1 - JITTER)), int(1000 * EVERY_S * (1 + JITTER)))
SAY_MS = (1, 100)  # what is new is said ten times a second at most
SETTLED = (Looked(True, 0), Looked(False, MISSES))  # the same question and the same answer leave it as it is
LAYOUTS = ((5,), (3, 2), (2,), (), (), ())  # how a service's hosts stand in sites; the rest stand alone
ONE_SITE = 0.15  # of the galaxies of several services all stand in one

Edge = tuple[str, str]  # who says something, and to whom


def laid_out(rng: random.Random, groups: Sequence[Sequence[str]]) -> Mapping[str, str]:
    """Which host stands where."""
    if len(groups) > 1 and rng.random() < ONE_SITE:
        return {name: "valley" for group in groups for name in group}
    found: dict[str, str] = {}
    for group in groups:
        left = list(group)
        for number, size in enumerate(rng.choice(LAYOUTS)):
            found |= dict.fromkeys(left[:size], f"{group[0]} {number}")
            left = left[size:]
    return found


class Lookout:
    """One agent, as far as it looks for others. It lasts for longer than its lives, and knows nothing from one to the next."""

    def __init__(self, sights: Sights, host: ServiceHost) -> None:
        self._sights, self._world, self.host = sights, sights.world, host
        self.found: Found = {}
        self.said: tuple[str, ...] = ()  # in this session
        self.since_ms = 0  # it has seen whom it sees, and was to look for whom it looks for
        self.words = 0
        self.resting = True  # no question is under way or due
        self._speaks = False

    @property
    def sees(self) -> tuple[str, ...]:
        """Who has answered lately."""
        return watching.seen(self.found)

    def look_for(self, hosts: Sequence[str]) -> None:
        """As it is told, or for nobody, once there is nobody to tell."""
        if not hosts and not self.found:
            return
        self._sights.asked_until_now(self)
        idle, self.since_ms = not self.found, self._world.now_ms
        self.found = watching.looking(self.found, hosts)
        self._wake(0 if idle else self._sights.rng.randint(0, PAUSE_MS[1]))
        self._news()

    def begun(self) -> None:
        """A session stands in which nothing has been said."""
        self.said = ()

    def disturbed(self) -> None:
        """Something may come to another answer than it did."""
        self._wake(self._sights.rng.randint(0, PAUSE_MS[1]))

    def _wake(self, delay_ms: int) -> None:
        if self.resting and self.found:
            self.resting = False
            self._world.timeline.after(delay_ms, self._ask)

    def _ask(self) -> None:
        """All of them at once; it goes on when all have answered, or have had their time."""
        if not self.found or not self.host.alive:
            self.resting = True
            return
        if left_ms := self._sights.stalls_ms(self.host.name):
            self._world.timeline.after(left_ms, self._ask)
            return
        took = {name: self._sights.question_ms(self.host, name) for name in self.found}
        at_ms, life = self._world.now_ms, self.host.life
        lasts_ms = max(ANSWER_MS if each is None else each for each in took.values())
        self._world.timeline.after(lasts_ms, lambda: self._note(at_ms, life, took))

    def _note(self, at_ms: int, life: int, took: Mapping[str, int | None]) -> None:
        if not self.host.alive or self.host.life != life:
            self.resting = True
            self._wake(0)
            return
        if left_ms := self._sights.stalls_ms(self.host.name):
            self._world.timeline.after(left_ms, lambda: self._note(at_ms, life, took))
            return
        answers = {}
        for name, way_ms in took.items():
            answers[name] = way_ms is not None and self._sights.answers(name, self.host)
            if way_ms is not None and answers[name]:
                self._sights.exchanged[self.host.name, name] = at_ms + way_ms
        self.found = watching.noted(self.found, answers)
        self._news()
        self.resting = not self.found or (
            all(each in SETTLED for each in self.found.values()) and not self._sights.slow_for(self.host.name)
        )
        if not self.resting:
            self._world.timeline.after(self._sights.rng.randint(*PAUSE_MS), self._ask)

    def _news(self) -> None:
        """As the link has it: what it sees is said when it is not what was said last, and soon."""
        if self.sees != self.said:
            self.since_ms = self._world.now_ms
            if not self._speaks:
                self._speaks = True
                self._world.timeline.after(self._sights.rng.randint(*SAY_MS), self._say)

    def _say(self) -> None:
        self._speaks = False
        if self.host.session and self.sees != self.said:
            self.said = self.sees
            self.words += 1
            self._world.say(self.host, ("sees", self.said), self._sights.rng)


class Sights:
    """The sites of a galaxy, and who looks for whom."""

    def __init__(self, world: Fleet, groups: Sequence[Sequence[str]]) -> None:
        self.world, self.rng = world, world.rng("sights")
        self.sites = laid_out(world.rng("sites"), groups)
        self.lookouts = {name: Lookout(self, world.hosts[name]) for name in self.sites}
        self.cuts: Counter[Edge] = Counter()
        self.slow_ms: Counter[Edge] = Counter()
        self.exchanged: dict[Edge, int] = {}  # by who asked whom: when the last answer that came was given
        self._stalled_ms: dict[str, int] = {}  # until when
        self._mates = {name: [each for each in self.sites if self._together(name, each)] for name in self.sites}

    def _together(self, name: str, other: str) -> bool:
        return name != other and self.sites[name] == self.sites[other]

    def mates(self, name: str) -> list[str]:
        """Those that stand with it."""
        return self._mates.get(name, [])

    def edges(self) -> list[Edge]:
        """All pairs of hosts that stand together."""
        return [(name, other) for name, mates in self._mates.items() for other in mates if name < other]

    # ---- what truly is --------------------------------------------------------------------------------------------------

    def question_ms(self, host: ServiceHost, name: str) -> int | None:
        """How long it will be under way, with its answer; None when it does not come, or not in time."""
        there, back = (host.name, name), (name, host.name)
        took_ms = self.rng.randint(*WAY_MS) + self.rng.randint(*WAY_MS) + self.slow_ms[there] + self.slow_ms[back]
        known = host.state.plan is not None and any(p.host == name for p in host.state.plan.plan.siblings)
        carries = known and not self.cuts[there] and not self.stalls_ms(name)
        return took_ms if carries and took_ms < ANSWER_MS else None

    def answers(self, name: str, host: ServiceHost) -> bool:
        """Does an answer of it come to that one now? It gives one to siblings of the plan that is in force there."""
        other = self.world.hosts[name]
        if not other.alive or other.state.plan is None or self.cuts[name, host.name]:
            return False
        return any(peer.host == host.name for peer in other.state.plan.plan.siblings)

    def exchanged_ms(self, lookout: str, name: str) -> int | None:
        """When one last had an answer of the other: now, where each question that was not played has had its answer."""
        mine = self.lookouts[lookout]
        steady = mine.resting and name in mine.found and mine.found[name].seen
        return self.world.now_ms if steady else self.exchanged.get((lookout, name))

    def stalls_ms(self, name: str) -> int:
        """For how long still its machine does nothing at all."""
        return max(0, self._stalled_ms.get(name, 0) - self.world.now_ms)

    def slow_for(self, name: str) -> bool:
        """Is anybody whom it looks for so far away that an answer may come or not?"""
        found = self.lookouts[name].found
        return any(self.slow_ms[name, each] or self.slow_ms[each, name] for each in found)

    # ---- what changes it -----------------------------------------------------------------------------------------------

    def changed(self, name: str) -> None:
        """It began, it ended, it has another plan, or something between it and others is another thing than before."""
        for mate in self._mates.get(name, ()):
            if name in self.lookouts[mate].found:
                self._disturb(self.lookouts[mate])
        if name in self.lookouts and self.lookouts[name].found:
            self._disturb(self.lookouts[name])

    def _disturb(self, lookout: Lookout) -> None:
        self.asked_until_now(lookout)
        lookout.disturbed()

    def asked_until_now(self, lookout: Lookout) -> None:
        """Questions that were not played have had their answers so far; from now on that has to be seen."""
        if lookout.resting:
            steady = [(lookout.host.name, name) for name in lookout.sees]
            self.exchanged |= dict.fromkeys(steady, self.world.now_ms)

    def begun(self, name: str) -> None:
        """A session stands."""
        if name in self.lookouts:
            self.lookouts[name].begun()

    def look_for(self, name: str, hosts: Sequence[str]) -> None:
        """It is told to, or hears no more of it."""
        if name in self.lookouts:
            self.lookouts[name].look_for(hosts)

    def cut(self, edges: Sequence[Edge], by: int = 1) -> None:
        """Nothing is carried there, until it is undone with -1."""
        for edge in edges:
            self.cuts[edge] += by
        self._all_changed(edges)

    def slow(self, edges: Sequence[Edge], by_ms: int) -> None:
        """Each way takes so much longer, until it is undone."""
        for edge in edges:
            self.slow_ms[edge] += by_ms
        self._all_changed(edges)

    def _all_changed(self, edges: Sequence[Edge]) -> None:
        for name in dict.fromkeys(name for edge in edges for name in edge):
            self.changed(name)

    def stall(self, name: str, lasts_ms: int) -> None:
        """It does nothing at all for so long."""
        self._stalled_ms[name] = max(self._stalled_ms.get(name, 0), self.world.now_ms + lasts_ms)
        self.changed(name)
        self.world.timeline.after(lasts_ms, lambda: self.changed(name))

    def looking(self) -> Iterator[Lookout]:
        """Those who look for somebody."""
        return (each for each in self.lookouts.values() if each.found)
