"""What must hold of sightings in a galaxy of services, at every step.

O1: they are evidence of reachability and of nothing else. Without them verdicts, plans and what is shown of health are the same, but for when a host is lost:
that one is later where it is seen, and never sooner. What is shown of a host that is away is true: who is said to have seen it did have an answer of it
then, as far as the stated delays go, whatever clocks say (C1), and who sees it and has said so is believed. And they are few: the asked, the words, what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from halftrack_agent.watching import MISSES, MOST
from halftrack_controller import planner, render, rollout, sites, standing, views
from halftrack_controller.session import HEARTBEAT_MS
from halftrack_controller.snapshot import Sighting, Snapshot
from halftrack_model import disconnect
from tests.sim import sights
from tests.sim.invariants import Violation
from tests.sim.sight_faults import STALL_MS

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet

STATED_MS = 15_000  # what a sibling has said stands for so long after it was last heard
UNNOTICED_MS = MISSES * (sights.PAUSE_MS[1] + sights.ANSWER_MS)  # that one is gone: twice no answer
UNTOLD_MS = sights.SAY_MS[1] + 1_000  # that it is not seen any more, on a line that may have been cut and is back
LATE_MS = UNNOTICED_MS + UNTOLD_MS + 2 * STALL_MS[1]
SOONEST_MS = sights.PAUSE_MS[0]  # from one answer to the next
SHOWN_EVERY = 3  # turns with sightings between two looks at what is made of all of them
DOUBT_EVERY = 60  # turns with sightings between two looks at what would be decided without them


class SightWatch:
    """Of one controller's life after the other."""

    def __init__(self, world: Fleet) -> None:
        self.world = world
        self.put_off: set[tuple[str, int]] = set()  # who would be lost if nobody saw it, and its last word
        self._wanted: Mapping[str, Sequence[str]] = {}
        self._sessions: Mapping[str, int] = {}
        self._words: dict[str, tuple[int, int, int, int]] = {}  # by host: session, since when, words and times asked
        self._turns = 0

    # ---- what is asked and said --------------------------------------------------------------------------------------

    def asked(self, wanted: Mapping[str, Sequence[str]], sessions: Mapping[str, int]) -> None:
        """Few look for a host that is away, of those of its site that are here."""
        self._wanted, self._sessions = wanted, sessions
        place = self.world.sights.sites
        for name in {name for names in wanted.values() for name in names}:
            by = [each for each, names in wanted.items() if name in names]
            _hold(len(by) <= sites.LOOKOUTS and name not in sessions, f"{by} are to look for {name}")
            _hold(all(place[each] == place[name] for each in by), f"{by} look for {name}, which is of another site")
        _hold(wanted.keys() <= sessions.keys(), "somebody is to look who is not here")

    def told_to_look(self, name: str, number: int, count: int) -> None:
        """One is asked."""
        _hold(count <= MOST, f"{name} is to look for {count}")
        session, since_ms, words, asks = self._words.get(name, (0, 0, 0, 0))
        fresh = session != number
        self._words[name] = (number, self.world.now_ms, 0, 1) if fresh else (session, since_ms, words, asks + 1)

    def heard(self, name: str, number: int) -> None:
        """One says whom it sees: when it was asked, and when that changes, which takes a question."""
        session, since_ms, words, asks = self._words.get(name, (0, 0, 0, 0))
        most = 1 + 2 * asks + (self.world.now_ms - since_ms) // SOONEST_MS
        _hold(session == number and words < most, f"{name} says more than {most} times whom it sees")
        self._words[name] = (session, since_ms, words + 1, asks)

    # ---- what is believed --------------------------------------------------------------------------------------------

    def told(self, snapshot: Snapshot) -> None:
        """What the controller makes of it all now."""
        for name, known in snapshot.seen.items():
            if known.sighting.by:
                self._true(name, known.sighting)
        self._turns += 1
        if self._turns % SHOWN_EVERY == 0:
            self._shown_all(snapshot)
        if self._turns % DOUBT_EVERY == 0:
            indifferent(snapshot, self._held_back(snapshot), self.world.controller.clock_ms())

    def _shown_all(self, snapshot: Snapshot) -> None:
        for name, known in snapshot.seen.items():
            if not known.connected and name in self.world.sights.sites:
                self._shown(snapshot, name, known.sighting)
        for name, by in self._must_be_seen():
            known = snapshot.seen[name]
            believed = known.connected or 0 <= known.sighting.age_ms <= HEARTBEAT_MS
            _hold(believed, f"{by} sees {name} and has said so, and that is not known")

    def _true(self, name: str, sighting: Sighting) -> None:
        now_ms = self.world.now_ms
        then_ms = self.world.sights.exchanged_ms(sighting.by, name)
        if then_ms is None or then_ms < now_ms - sighting.age_ms - LATE_MS:
            ago = "never did" if then_ms is None else f"did so {now_ms - then_ms} ms ago"
            raise Violation("O1", f"{sighting.by} is said to have seen {name} {sighting.age_ms} ms ago, and {ago}")

    def _shown(self, snapshot: Snapshot, name: str, sighting: Sighting) -> None:
        fresh = bool(sighting.by) and sighting.age_ms <= STATED_MS
        _hold(bool(standing.sighted_by(snapshot, name)) == fresh, f"{name}: {sighting} is taken for what it is not")
        rule, silent_ms = self.world.rule_of(name), snapshot.seen[name].silent_ms
        if fresh and rule.lost_after_ms <= silent_ms < disconnect.lost_after_ms(rule, sighted=True):
            self.put_off.add((name, self.world.controller.known[name].heard_ms))
        if self._turns % DOUBT_EVERY == 0:
            text = render.link_text(views.host_entry(snapshot, name))
            _hold(text.startswith(f"cut off from here; seen by {sighting.by} ") == fresh, f"{name}: {sighting}: {text}")

    def _must_be_seen(self) -> Iterator[tuple[str, str]]:
        """Who is seen by one that has been told to look for it, and that has said so, over a line on which nothing is under way."""
        for name, names in self._wanted.items():
            lookout, line = self.world.sights.lookouts[name], self.world.lines[name]
            number, quiet = self._sessions[name], max(line.last_ms) < self.world.now_ms and not any(line.waits)
            both = self.world.controller.sessions.get(name) == lookout.host.session == number
            if both and quiet and self.world.up(name):
                _hold(lookout.found.keys() == set(names), f"{name} looks for {[*lookout.found]} instead of {names}")
                yield from ((each, name) for each in lookout.said if each in lookout.sees)

    def _held_back(self, snapshot: Snapshot) -> set[str]:
        lost = {name: self.world.rule_of(name).lost_after_ms for name in snapshot.seen}
        return {
            name
            for name, known in snapshot.seen.items()
            if known.silent_ms >= lost[name] and standing.sighted_by(snapshot, name)
        }


def indifferent(snapshot: Snapshot, held_back: set[str], now_ms: int) -> None:
    """Without what siblings say the same is decided of all that runs. `held_back`: who may be lost later, as it is seen."""
    unseen = {name: replace(known, sighting=Sighting()) for name, known in snapshot.seen.items()}
    without = replace(snapshot, seen=unseen)
    _hold(rollout.advance(snapshot, now_ms) == rollout.advance(without, now_ms), "a sighting moves a rollout")
    for name in snapshot.hosts:
        health = views.host_entry(snapshot, name).health
        _hold(health is views.host_entry(without, name).health, f"a sighting makes {name} {health.value}")
    if not held_back:
        plans = planner.plan(snapshot, now_ms).plans
        _hold(plans == planner.plan(without, now_ms).plans, "a sighting changes a plan")


def _hold(right: bool, text: str) -> None:
    if not right:
        raise Violation("O1", text)
