"""What hosts of a site see of each other: who is asked to look, what it comes to, and that it is evidence of reachability and of nothing else."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_controller import neighbours, planner, render, rollout, sites, standing, views
from halftrack_controller.explain import explained
from halftrack_controller.lookouts import Lookouts, with_sightings
from halftrack_controller.remembering import Memory
from halftrack_controller.snapshot import Environment, Seen, Sighting
from halftrack_model import canonical, disconnect
from halftrack_model.disconnect import Disconnect
from tests.planner.test_services import HOSTS, LOST_MS, Fleet, service
from tests.planner.world import NOW_MS, World, deployed, host, release

SIGHTINGS = st.builds(
    Sighting,
    by=st.sampled_from(["", "tank-a", "tank-b", "somebody"]),
    age_ms=st.sampled_from([-1, 0, 1, standing.SIGHTED_MS, standing.SIGHTED_MS + 1, 10**9]),
    watched=st.booleans(),
)


def sited(fleet: Fleet, *hosts: str) -> None:
    for name in hosts:
        fleet.world.hosts[name] = replace(fleet.world.hosts[name], site="ridge")
    fleet.settle()


def sight(fleet: Fleet, name: str, by: str, age_ms: int = 0) -> None:
    fleet.world.seen[name] = replace(fleet.world.seen[name], sighting=Sighting(by, age_ms, watched=True))
    fleet.settle()


# invariant: O1
@settings(max_examples=40, deadline=None)
@given(
    st.fixed_dictionaries(dict.fromkeys(("tank-a", "tank-b"), SIGHTINGS)),
    st.sets(st.sampled_from(["tank-a", "tank-b"])),
    st.booleans(),
    st.sampled_from([1_000, 20_000, 10**7]),
)
def test_no_view_of_a_peer_changes_a_health_a_verdict_or_a_plan(
    said: dict[str, Sighting], away: set[str], moving: bool, age_ms: int
) -> None:
    """In mid-rollout or at rest, whoever is away and whatever is said of whom."""
    world = deployed()
    if moving:
        world.publish(release("spectrometer", "9.0.0"))
        world.settle()
    for name in away:
        gone = {"connected": False, "last_seen_age_ms": age_ms, "observed_age_ms": age_ms, "silent_ms": age_ms}
        world.seen[name] = replace(world.seen[name], **gone)
    before = world.snapshot()
    seen = {name: replace(known, sighting=said[name]) for name, known in before.seen.items() if name in said}
    after = replace(before, seen={**before.seen, **seen})
    assert rollout.advance(after, NOW_MS) == rollout.advance(before, NOW_MS)
    assert planner.plan(after, NOW_MS) == planner.plan(before, NOW_MS)
    for name in before.hosts:
        assert views.host_entry(after, name).health is views.host_entry(before, name).health
        assert standing.visible(after, name) == standing.visible(before, name)


# invariant: O1
def test_a_host_that_a_sibling_sees_is_lost_later_and_the_reason_says_so() -> None:
    fleet = Fleet(service())
    fleet.lose("tank-a", LOST_MS)
    sight(fleet, "tank-a", "tank-b", 4_000)
    assert fleet.planned() == ("tank-a",)
    told = "; ".join(reason.text for reason in fleet.world.planning.reasons)
    assert "nothing was heard of tank-a for at least 10 min, but tank-b sees it: it is lost after 20 min" in told
    assert any(
        "tank-b sees it, so it can be reached" in each.text
        for each in explained(fleet.world.snapshot(), "tank-a", NOW_MS)
    )
    sight(fleet, "tank-a", "tank-b", standing.SIGHTED_MS + 1)
    assert fleet.planned() == ("tank-a", "tank-b"), "what was said is old: nobody sees it now"


# invariant: O1
@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([0, LOST_MS, 3 * LOST_MS]),
    st.sampled_from([0, LOST_MS // 2]),
    st.lists(st.tuples(st.integers(0, LOST_MS), st.booleans()), min_size=1, max_size=12),
)
def test_whoever_lies_about_a_sibling_delays_its_replacement_to_the_bound_at_most(
    seen_ms: int, stop_ms: int, steps: list[tuple[int, bool]]
) -> None:
    """Whatever is said, and whenever: never before `lostAfter`, never later than the bound; and once replaced, nothing takes it back."""
    graph = service()
    rule = Disconnect(LOST_MS, stop_ms, replace=True, lost_after_seen_ms=seen_ms)
    fleet = Fleet(replace(graph, vertices=(replace(graph.vertices[0], disconnect=rule),)))
    bound = disconnect.lost_after_ms(rule, sighted=True)
    assert bound == (seen_ms or LOST_MS * (1 if stop_ms else 2))
    fleet.lose("tank-a", 0)
    replaced, memory = False, Memory()
    for length_ms, lies in steps:
        sight(fleet, "tank-a", "tank-b" if lies else "")
        age_ms = fleet.away["tank-a"]
        assert (len(fleet.planned()) == 2) == (replaced or age_ms >= (bound if lies else LOST_MS))
        replaced, snapshot = len(fleet.planned()) == 2, fleet.world.snapshot()
        assert planner.plan(snapshot, NOW_MS, memory) == planner.plan(snapshot, NOW_MS), (
            "what is remembered is no excuse"
        )
        fleet.away["tank-a"] += length_ms
        fleet.lose("tank-a", fleet.away["tank-a"])
    fleet.lose("tank-a", bound)
    sight(fleet, "tank-a", "tank-b")
    assert fleet.planned() == ("tank-a", "tank-b")


def test_what_was_sealed_before_keeps_its_bytes_and_odd_bounds_are_refused() -> None:
    rule = Disconnect(LOST_MS, 0, replace=True)
    assert b"seen" not in canonical.encode(rule)
    assert b"lost_after_seen_ms" in canonical.encode(replace(rule, lost_after_seen_ms=LOST_MS))
    assert not list(disconnect.faults(replace(rule, lost_after_seen_ms=LOST_MS)))
    sooner, alone = replace(rule, lost_after_seen_ms=LOST_MS - 1), Disconnect(LOST_MS, lost_after_seen_ms=LOST_MS)
    assert "makes no host lost sooner" in " ".join(disconnect.faults(sooner))
    assert "write replace as well" in " ".join(disconnect.faults(alone))
    assert "write 5s to 400d" in " ".join(disconnect.faults(replace(rule, lost_after_seen_ms=1)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["", "ridge", "valley"]), st.booleans(), st.booleans()), max_size=70))
def test_those_who_are_here_look_for_siblings_who_are_away(hosts: list[tuple[str, bool, bool]]) -> None:
    """Few for each, all that can be, and nobody for a host of no site, or for one that is here."""
    world = World()
    world.environments["tank"] = Environment("tank", {}, "stable")
    names = [f"h{number:02}" for number in range(len(hosts))]
    for name, (site, here, _) in zip(names, hosts, strict=True):
        world.hosts[name] = replace(host(name), site=site)
        world.seen[name] = Seen(here, 0, None, -1, 1, None)
    plans = deployed().held["tank-a"]
    for name, (_, _, planned) in zip(names, hosts, strict=True):
        if planned:
            peers = tuple(
                neighbours.peer_of(world.snapshot(), name, other) for other in sites.siblings(world.snapshot(), name)
            )
            world.held[name] = replace(plans, plan=replace(plans.plan, host=name, siblings=peers))
    snapshot = world.snapshot()
    wanted = sites.lookouts(snapshot)
    for name, (_, here, planned) in zip(names, hosts, strict=True):
        able = [n for n in sites.siblings(snapshot, name) if snapshot.seen[n].connected and n in snapshot.held]
        mine = [looker for looker, them in wanted.items() if name in them]
        assert set(mine) <= set(able)
        assert len(mine) == (0 if here or not planned else min(sites.LOOKOUTS, len(able)))


# invariant: O1
def test_a_word_holds_while_who_said_it_is_heard() -> None:
    found = Lookouts()
    assert found.ask("tank-b", ["tank-a"])
    assert not found.ask("tank-b", ["tank-a"])
    assert found.sightings({}, 9.0) == {"tank-a": Sighting("", -1, watched=True)}
    found.said("tank-b", ["tank-a", "tank-z"], 10.0)
    assert found.sightings({"tank-b": 12.0}, 13.0) == {"tank-a": Sighting("tank-b", 1_000, watched=True)}, (
        "nobody asked for tank-z"
    )
    found.gone("tank-b", 14.0)
    assert found.sightings({"tank-b": 99.0}, 20.0) == {"tank-a": Sighting("tank-b", 6_000, watched=False)}
    found.back("tank-a")
    assert found.sightings({}, 20.0) == {}
    found.ask("tank-c", ["tank-a"])
    found.said("tank-c", ["tank-a"], 30.0)
    found.said("tank-c", [], 40.0)
    assert found.sightings({"tank-c": 50.0}, 50.0) == {"tank-a": Sighting("tank-c", 10_000, watched=True)}


# invariant: O1
def test_the_newest_word_stands_when_the_session_of_an_older_one_ends() -> None:
    found = Lookouts()
    for lookout, now_s in (("tank-b", 10.0), ("tank-c", 11.0)):
        found.ask(lookout, ["tank-a"])
        found.said(lookout, ["tank-a"], now_s)
    found.said("tank-c", [], 16.0)
    found.gone("tank-b", 12.0)
    assert found.sightings({}, 20.0) == {"tank-a": Sighting("tank-c", 4_000, watched=True)}


def test_people_are_told_who_sees_a_host_that_is_away() -> None:
    fleet = Fleet(service(instances=2))
    sited(fleet, *HOSTS)
    assert sites.lookouts(fleet.world.snapshot()) == {}
    fleet.lose("tank-a", 300_000)
    assert sites.lookouts(fleet.world.snapshot()) == {"tank-b": ("tank-a",)}, (
        "who has no plan admits nobody, and is not asked"
    )

    def text(sighting: Sighting) -> str:
        snapshot = with_sightings(fleet.world.snapshot(), {"tank-a": sighting, "tank-b": Sighting("tank-c", 0)})
        assert snapshot.seen["tank-b"].sighting == Sighting(), "who is here speaks for itself"
        return render.link_text(views.host_entry(snapshot, "tank-a"))

    assert text(Sighting("tank-b", 4_000, watched=True)) == "cut off from here; seen by tank-b 4 s ago"
    assert text(Sighting("tank-b", 60_000, watched=True)) == "not seen by anybody for 1 min"
    assert text(Sighting("", -1, watched=True)) == "not seen by anybody for 5 min"
    assert text(Sighting()) == "last seen 5 min ago"
