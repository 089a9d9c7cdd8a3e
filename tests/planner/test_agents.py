"""Updates of agents through a fleet: one host first, then as many as have stayed; nobody after one has gone back; nobody waits for who is away."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_controller import planner
from halftrack_controller.snapshot import Environment, Seen
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.observed import AgentSeen, Observed
from halftrack_model.plan import agent_of
from halftrack_model.release import AGENT, Release, StateSchemas
from tests.planner.world import World, host, release

HOSTS = tuple(f"tank-{letter}" for letter in "abcdefgh")


def command(product: str, version: str) -> Release:
    made = replace(release(product, version), entry="", params={}, state=StateSchemas("", ()))
    return replace(made, command=("run", "{artifact}"), unpack=product == AGENT)


class Fleet:
    """Hosts that each run a page, and agents that become what their plan says, or give it up."""

    def __init__(self) -> None:
        self.world = World()
        self.world.environments["tank"] = Environment("tank", {}, "stable")
        self.world.hosts = {name: host(name) for name in HOSTS}
        vertex = Vertex("page", Role.SERVICE, "page", HOSTS, {}, 0, 0, instances=0)
        self.world.graphs = [StreamGraph("page", "tank", (vertex,), ())]
        self.agents = {name: AgentSeen("0.1.0", "", on_trial=False, failed={}) for name in HOSTS}
        self.here = set(HOSTS)
        self.world.publish(command("page", "1.0.0"))
        for version in ("1.0.0", "1.1.0"):
            self.world.publish(command(AGENT, version))
        self.look()

    def look(self) -> None:
        for name in HOSTS:
            revision = self.world.held[name].plan.revision if name in self.world.held else 0
            observed = Observed(name, revision, (), (), (), agent=self.agents[name])
            self.world.seen[name] = Seen(name in self.here, 0, observed, 0, revision, None)
        self.world.settle()

    def want(self, version: str) -> None:
        self.world.environments["tank"] = Environment("tank", {}, "stable", version)
        self.look()

    def ordered(self, version: str) -> list[str]:
        return [name for name in HOSTS if self.world.held[name].plan.agent == version]

    def take(self, name: str, well: bool) -> None:
        """The agent does what its plan says, and it goes well or does not."""
        plan = self.world.held[name].plan
        if name not in self.here or (wanted := agent_of(plan)) is None:
            return
        agent, digest = self.agents[name], wanted.artifact.digest
        if digest != agent.artifact and digest not in agent.failed:
            failed = agent.failed if well else {**agent.failed, digest: "it did not stay up"}
            self.agents[name] = replace(agent, failed=failed)
            if well:
                self.agents[name] = AgentSeen(plan.agent, digest, False, failed)
        self.look()

    def stayed(self, version: str) -> set[str]:
        return {name for name in HOSTS if self.agents[name].version == version}

    def reasons(self) -> str:
        return "; ".join(reason.text for reason in planner.plan(self.world.snapshot(), 0).reasons)


def test_one_host_first_then_as_many_as_have_stayed() -> None:
    fleet = Fleet()
    assert not fleet.ordered("1.0.0")
    fleet.want("1.0.0")
    seen = []
    while len(fleet.stayed("1.0.0")) < len(HOSTS):
        under_way = [name for name in fleet.ordered("1.0.0") if name not in fleet.stayed("1.0.0")]
        seen.append(len(under_way))
        for name in under_way:
            fleet.take(name, well=True)
    assert seen[:2] == [1, 1]
    assert max(seen) > 1
    assert "waits until" not in fleet.reasons()


def test_who_gives_it_up_stops_it_for_all_others_until_there_is_another() -> None:
    fleet = Fleet()
    fleet.want("1.0.0")
    assert "agent 1.0.0 waits until it has stayed on tank-a" in fleet.reasons()
    fleet.take("tank-a", well=False)
    assert fleet.ordered("1.0.0") == ["tank-a"]
    assert "tank-a gave agent 1.0.0 up: it did not stay up. No further host takes it" in fleet.reasons()
    fleet.want("1.1.0")
    fleet.take("tank-a", well=True)
    assert len(fleet.ordered("1.1.0")) == 2
    fleet.want("")
    assert len(fleet.ordered("1.1.0")) == 2, "without a word all stay as they are"


def test_what_is_not_published_is_told() -> None:
    fleet = Fleet()
    fleet.want("7.0.0")
    assert "halftrack-agent 7.0.0 is not among the releases" in fleet.reasons()
    fleet.here.clear()
    fleet.want("1.0.0")
    assert not fleet.ordered("1.0.0")
    assert "waits for a first host that is connected" in fleet.reasons()


# invariant: O2 R1
@given(st.lists(st.tuples(st.sampled_from(HOSTS), st.sampled_from(["take", "take", "take", "fail", "away", "back"])), max_size=20))  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_bounds_hold_whatever_hosts_do(steps: list[tuple[str, str]]) -> None:
    fleet = Fleet()
    fleet.want("1.0.0")
    before = fleet.ordered("1.0.0")
    for name, word in steps:
        failed = any(agent.failed for agent in fleet.agents.values())
        stayed = len(fleet.stayed("1.0.0"))
        if word in ("take", "fail"):
            fleet.take(name, well=word == "take")
        else:
            (fleet.here.discard if word == "away" else fleet.here.add)(name)
            fleet.look()
        now = fleet.ordered("1.0.0")
        assert set(before) <= set(now), "an order is not taken back"
        assert not failed or now == before, "nobody further once one has given up"
        fresh = [each for each in set(now) - set(before) if each in fleet.here]
        assert len(fresh) <= max(1, stayed + 1)
        before = now
    if any(agent.failed for agent in fleet.agents.values()):
        return
    fleet.here = set(HOSTS)
    fleet.look()
    for _ in range(len(HOSTS) + 1):
        for name in sorted(set(HOSTS) - fleet.stayed("1.0.0")):
            fleet.take(name, well=True)
    assert fleet.stayed("1.0.0") == set(HOSTS), "all come to it in the end"


@pytest.mark.parametrize("name", ["tank-a", "tank-h"])
def test_a_host_that_is_away_holds_nobody_up(name: str) -> None:
    fleet = Fleet()
    fleet.want("1.0.0")
    fleet.here.discard(name)
    fleet.look()
    for _ in HOSTS:
        for each in sorted(set(HOSTS) - fleet.stayed("1.0.0")):
            fleet.take(each, well=True)
    assert fleet.stayed("1.0.0") == set(HOSTS) - {name}
    assert name in fleet.ordered("1.0.0"), "it finds the order when it is back"


class Spares:
    """Hosts that nothing is planned for: one of another environment, one that has not enrolled, and one whose work is gone."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        world = self.fleet.world
        world.environments["dish"] = Environment("dish", {}, "stable")
        world.hosts |= {"dish-a": host("dish-a", "dish"), "new": host("new", enrolled=False), "tank-z": host("tank-z")}
        world.seen |= {name: Seen(True, 0, None, -1, 0, None) for name in ("dish-a", "new", "tank-z")}
        self.fleet.look()

    def spare_has(self, version: str) -> None:
        digest = self.fleet.world.releases[AGENT, version].release.artifact.digest
        observed = Observed("tank-z", 1, (), (), (), agent=AgentSeen(version, digest, on_trial=False, failed={}))
        self.fleet.world.seen["tank-z"] = Seen(True, 0, observed, 0, 1, None)
        self.fleet.look()

    def all_take(self, version: str) -> None:
        for _ in range(len(HOSTS) + 1):
            for name in HOSTS:
                if name in self.fleet.ordered(version):
                    self.fleet.take(name, well=True)


# invariant: R3 R1
def test_a_host_that_runs_nothing_takes_its_turn_and_nobody_else_is_touched() -> None:
    spares = Spares()
    fleet, held = spares.fleet, spares.fleet.world.held
    assert not {"tank-z", "new", "dish-a"} & held.keys()
    fleet.want("1.0.0")
    assert "tank-z" not in held, "its turn has not come"
    spares.all_take("1.0.0")
    plan = held["tank-z"].plan
    assert (plan.bare, plan.agent, plan.workloads, plan.rings) == (True, "1.0.0", (), ())
    release = agent_of(plan)
    assert release is not None
    assert (release.product, len(plan.releases)) == (AGENT, 1)
    assert not {"new", "dish-a"} & held.keys()
    assert "tank-z" not in fleet.reasons()
    spares.spare_has("1.0.0")
    before = dict(held)
    fleet.want("")
    assert held == before, "without a word all stay as they are"
    fleet.want("1.1.0")
    spares.all_take("1.1.0")
    assert held["tank-z"].plan.agent == "1.1.0"
    vertex = Vertex("page", Role.SERVICE, "page", (*HOSTS, "tank-z"), {}, 0, 0, instances=0)
    fleet.world.graphs = [StreamGraph("page", "tank", (vertex,), ())]
    fleet.look()
    assert [w.name for w in held["tank-z"].plan.workloads] == ["page.page"]


# invariant: R3 R2
def test_a_host_whose_work_is_gone_keeps_it_and_gets_the_agent() -> None:
    fleet = Fleet()
    before = {name: held.plan for name, held in fleet.world.held.items()}
    fleet.world.graphs = []
    fleet.want("1.0.0")
    for _ in range(len(HOSTS) + 1):
        for name in HOSTS:
            if name in fleet.ordered("1.0.0"):
                fleet.take(name, well=True)
    assert fleet.stayed("1.0.0") == set(HOSTS)
    for name, held in fleet.world.held.items():
        unsaid = replace(held.plan, agent="", releases=before[name].releases, revision=before[name].revision)
        assert unsaid == before[name]
        assert set(before[name].releases) < set(held.plan.releases)
        assert held.plan.revision == before[name].revision + 1
    assert "no graph tank/page is known here, and hosts run on what they have of it" in fleet.reasons()
