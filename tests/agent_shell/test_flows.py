"""What is shown of drops: added up over the lives of a process, per input, and of nobody who is gone."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import clock
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.flows import Flows
from halftrack_agent.rings import Rings
from halftrack_agent.sight import Sight
from halftrack_agent.spools import Spools
from halftrack_dataplane.status import Status, dump, load
from halftrack_proto.gauges import FlowGauge
from tests.agent_shell.test_rings_and_sight import Runs

LIVES = st.lists(st.lists(st.integers(0, 50), max_size=4).map(sorted), max_size=5)


@given(LIVES)
def test_a_restart_hides_nothing(lives: list[list[int]]) -> None:
    flows = Flows()
    for number, life in enumerate(lives):
        for value in life:
            flows.note("g.v.in", number, Status("g.v.in", "inlet", inputs={"s": {"missed": value}}))
    total = sum(life[-1] for life in lives if life)
    assert flows.gauges() == ((FlowGauge("g.v.in", "s", {"missed": total}),) if total else ())


def test_inputs_are_told_apart_and_those_with_one_by_their_own_word() -> None:
    flows = Flows()
    inputs = {"n": {"missed": 1, "lost": 0}, "s": {"missed": 0, "lost": 2}}
    flows.note("g.v.in", 1, load(dump(Status("g.v.in", "inlet", counters={"gap_frames": 9}, inputs=inputs))))
    flows.note("g.end", 1, Status("g.end", "sink", counters={"gap_frames": 3}))
    flows.note("g.s.from-a", 1, Status("g.s.from-a", "bridge-receiver", counters={"lost": 4}))
    flows.note("g.v.merge", 1, Status("g.v.merge", "merge", counters={"gap_frames": 5}))
    assert flows.gauges() == (
        FlowGauge("g.v.in", "n", {"missed": 1}),
        FlowGauge("g.v.in", "s", {"lost": 2}),
        FlowGauge("g.end", "", {"lost": 3}),
        FlowGauge("g.s.from-a", "", {"lost": 4}),
    )
    flows.keep({"g.end"})
    assert flows.gauges() == (FlowGauge("g.end", "", {"lost": 3}),)


def test_what_an_earlier_life_has_left_is_not_counted_again(tmp_path: Path) -> None:
    rings, runs = Rings(tmp_path / "rings"), Runs("end")
    eyes = Sight(
        runs, rings, Spools(tmp_path / "spools"), ArtifactStore(tmp_path / "store"), tmp_path, tmp_path / "counted"
    )  # type: ignore[arg-type]

    def say(frames: int) -> None:
        (tmp_path / "new").write_bytes(dump(Status("end", "sink", counters={"gap_frames": frames})))
        (tmp_path / "new").rename(tmp_path / "end.json")
        eyes.look()

    say(3)
    assert eyes.flows() == (FlowGauge("end", "", {"lost": 3}),)
    runs.started_ms["end"] = clock.boot_ms() + 60_000  # the next life begins, and the file is older
    say(4)
    assert eyes.flows() == (FlowGauge("end", "", {"lost": 3}),)
    runs.started_ms["end"] = clock.boot_ms() - 60_000
    say(2)
    assert eyes.flows() == (FlowGauge("end", "", {"lost": 5}),)
    rings.close()
