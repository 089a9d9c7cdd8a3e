"""A source with feeds has a keeper beside it, which no release of the source and no neighbour touches."""

from dataclasses import replace

import pytest

from halftrack_agent import inbox
from halftrack_controller import documents
from halftrack_model.feed import Feed, Protocol
from halftrack_model.workload import Runs, Workload
from tests.planner.graphs import ALONE, A, running
from tests.planner.world import World, release

FEED = Feed("data", Protocol.UDP, "0.0.0.0:4001", 1 << 20)
FED = replace(ALONE, vertices=(replace(ALONE.vertices[0], feeds=(FEED,)), *ALONE.vertices[1:]))
TRUST = inbox.Trust("north", A, {"plan-key": b""}, {"release-key": b""}, 1, lambda *_: True)


def workloads(made: World) -> dict[str, Workload]:
    return {workload.name: workload for workload in made.held[A].plan.workloads}


def test_a_release_of_the_source_leaves_its_keeper_alone() -> None:
    # invariant: R2
    made = running(FED)
    assert inbox.judged(made.held[A].sealed, TRUST, None) is not None
    before = workloads(made)
    keeper = before["alone.source.feeds"]
    assert (keeper.runs, keeper.feeds, keeper.keeps_for) == (Runs.KEEPER, (FEED,), "alone.source")
    assert before["alone.source"].feeds == (FEED,)
    made.publish(release(FED.vertices[0].product, "1.1.0"))
    made.settle()
    after = workloads(made)
    assert after["alone.source"].version == "1.1.0"
    assert after["alone.source.feeds"].digest() == keeper.digest()


def test_a_source_without_feeds_has_no_keeper_and_keeps_its_bytes() -> None:
    plain, fed = workloads(running(ALONE)), workloads(running(FED))
    assert set(fed) - set(plain) == {"alone.source.feeds"}
    assert {name: each for name, each in plain.items() if name != "alone.source"} == {
        name: each for name, each in fed.items() if name not in ("alone.source", "alone.source.feeds")
    }


@pytest.mark.parametrize(("bind", "clash"), [("10.0.0.1:4001", True), ("[::]:4001", True), ("0.0.0.0:4002", False)])
def test_an_address_that_another_graph_of_the_host_has_is_refused(bind: str, clash: bool) -> None:
    made = running(FED)
    source, *others = FED.vertices
    second = replace(FED, name="second", vertices=(replace(source, feeds=(replace(FEED, bind=bind),)), *others))
    told = [f"graph tank/second: vertex 'source': feed 'data' binds {bind}, and tank/alone/source's 'data' has "]
    found = [text[: len(told[0])] for text in documents.problems(made.snapshot(), [second])]
    assert found == (told if clash else [])
    assert list(documents.problems(made.snapshot(), [FED])) == [], "its own is no other's"
    unbound = replace(FED, vertices=(replace(source, feeds=()), *others))
    assert list(documents.problems(made.snapshot(), [unbound, second])) == [], "it goes with the same apply"
