"""What running vertices read is changed by two people, through the command line and a real controller; hosts are scripted."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from halftrack_model.observed import Health, InstanceObserved, Observed, Owner
from halftrack_model.plan import Plan
from tests.cli.test_edits import another
from tests.cli.test_live import Operator, ScriptedHost, live, operator  # noqa: F401 - fixtures
from tests.cli.test_manifests import GOOD
from tests.controller_shell.shell_harness import LiveController, eventually

LIVE = f"{GOOD.rstrip()}\n  live: true\n"
INSERT = ("stream", "insert", "spectra", "source:spectrometer", "--vertex", "flag", "--product", "flagger")


class Telling(ScriptedHost):
    """Tells also which inputs its inlets pass."""

    owners: tuple[Owner, ...] = ()

    def show(self) -> None:
        assert self.plan is not None
        rows = (InstanceObserved(w.name, w.digest(), "running", Health.HEALTHY, 0, "") for w in self.plan.workloads)
        self.agent.say(Observed(self.name, self.plan.revision, tuple(rows), (), (), self.owners))

    def over(self, vertex: str, generation: int, first: int) -> None:
        """The vertex's inlet has gone over."""
        ring = f"spectra/{vertex}.in"
        self.owners = (*(each for each in self.owners if each.ring != ring), Owner(ring, generation, first))
        self.show()

    def reads(self, vertex: str, *names: str) -> Plan:
        """Take plans until that vertex's inlet has these inputs."""
        what = f"{vertex} reading {', '.join(names)}"
        return self.obey_until(what, lambda plan: inputs(plan, vertex) == list(names))


def inputs(plan: Plan, vertex: str) -> list[str]:
    inlets = (w.inlet for w in plan.workloads if w.name == f"spectra.{vertex}.in")
    return [each.name for inlet in inlets if inlet is not None for each in inlet.inputs]


@pytest.fixture
def ada(live: LiveController, operator: Operator, tmp_path: Path) -> Operator:  # noqa: F811
    assert operator.run("apply", "-f", "-", text=LIVE)[0] == 0
    return another(live, tmp_path, "ada")


@pytest.fixture
def host(live: LiveController, operator: Operator, ada: Operator) -> Iterator[Telling]:  # noqa: F811
    """The one where the inlets are, once everything runs."""
    hosts = [Telling(live, operator, name) for name in ("tank-a", "tank-b")]
    try:
        for product in ("flagger", "player", "recorder", "spectrometer"):
            operator.publish(product, "1.0.0")
        for each in hosts:
            each.obey()
        eventually(lambda: operator.run("plan")[0] == 0)
        yield hosts[0]
    finally:
        for each in hosts:
            each.agent.close()


def test_an_insert_waits_for_the_number_from_which_on_it_counts(
    host: Telling,
    operator: Operator,  # noqa: F811
    ada: Operator,
) -> None:
    # invariant: S1
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(operator.run, *INSERT, "--reach", "10.0.0.5:80")
        try:
            host.reads("spectrometer", "source", "flag@2")
        finally:  # or the verb would wait for ever
            host.over("spectrometer", 2, 4711)
        status, out = waiting.result(20)
    assert status == 0
    assert "spectrometer reads its new inputs from number 4711 on" in out
    assert "operator: inserted flag (flagger on tank-a) between source and spectrometer" in out
    host.reads("spectrometer", "flag@2")
    drawn = operator.run("stream", "graph", "spectra")[1]
    assert "new inputs read from number 4711 on" in drawn
    assert "leaving" not in drawn
    assert "  may reach 10.0.0.5:80" in drawn.splitlines()
    status, err = ada.run("stream", "remove", "spectra", "flag", "--revision", "1")
    assert status == 1
    assert "  2: operator inserted flag (flagger on tank-a) between source and spectrometer" in err


def test_two_people_edit_two_parts_and_one_of_them_reverts_both(
    host: Telling,
    operator: Operator,  # noqa: F811
    ada: Operator,
) -> None:
    assert operator.run(*INSERT, "--no-wait")[0] == 0
    status, out = ada.run("stream", "set-policy", "spectra", "spectrometer:sink", "--credit", "8MiB", "--no-wait")
    assert status == 0
    assert "sink reads what it did so far: tank-a" in out
    drawn = operator.run("stream", "graph", "spectra")[1]
    assert "└┄▶ spectrometer  leaving" in drawn
    shown = operator.run("stream", "graph", "spectra", "-o", "dot")[1]
    assert 'spectrometer.in" [label="", style=dashed]' in shown
    assert "stroke-dasharray" in operator.run("stream", "graph", "spectra", "-o", "svg")[1]
    host.reads("sink", "spectrometer", "spectrometer@3")
    host.reads("spectrometer", "source", "flag@2")
    host.over("spectrometer", 2, 10)
    host.over("sink", 3, 12)
    host.reads("sink", "spectrometer@3")
    assert operator.run("stream", "drift", "spectra")[0] == 2
    assert ada.run("stream", "revert", "spectra", "--no-wait")[0] == 0
    host.reads("sink", "spectrometer@3", "spectrometer@4")
    host.reads("spectrometer", "flag@2", "source@4")
    assert operator.run("stream", "drift", "spectra")[0] == 0
    host.over("spectrometer", 4, 20)
    host.over("sink", 4, 22)
    host.obey_until("no flag", lambda plan: "spectra.flag" not in {w.name for w in plan.workloads})
    assert operator.run("apply", "-f", "-", text=LIVE)[1].endswith("graph tank/spectra: unchanged\n")


def test_edits_are_adopted_and_the_manifest_says_so(host: Telling, operator: Operator, ada: Operator) -> None:  # noqa: F811
    assert ada.run("stream", "split", "spectra", "spectrometer", "--into", "2", "--key", "0:8", "--no-wait")[0] == 0
    status, manifest = operator.run("stream", "adopt", "spectra")
    assert status == 0
    assert "live: true" in manifest
    assert "spectrometer-1" in manifest
    assert "generation" not in manifest
    rest = LIVE[: LIVE.rindex("---")]
    told = operator.run("apply", "-f", "-", text=f"{rest}---\n{manifest}")[1]
    assert told.endswith("graph tank/spectra: unchanged\n")
    host.reads("sink", "spectrometer", "spectrometer-0@2", "spectrometer-1@2")
    assert operator.run("apply", "-f", "-", text=LIVE)[1].endswith("graph tank/spectra: changed\n")
    host.reads("sink", "spectrometer", "spectrometer-0@2", "spectrometer-1@2", "spectrometer@4")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("insert", "spectra", "source-sink", "--vertex", "x", "--product", "flagger"), "write SOURCE:TARGET"),
        (("insert", "spectra", "nobody:sink", "--vertex", "x", "--product", "flagger"), "there is no vertex 'nobody'"),
        (("split", "spectra", "spectrometer", "--into", "2", "--key", "eight"), "write OFFSET:BYTES"),
        (("reroute", "spectra", "spectrometer:sink", "--from", "source"), "nobody else reads spectrometer"),
        (("replace", "spectra", "sink", "--vertex", "x", "--product", "flagger"), "can be replaced"),
        (("set-policy", "spectra", "spectrometer:sink"), "nothing of the edge is to be set"),
        (("remove", "spectra", "source"), "source is a source"),
    ],
)
def test_what_cannot_be_is_told_and_changes_nothing(ada: Operator, words: tuple[str, ...], told: str) -> None:
    status, err = ada.run("stream", *words)
    assert (status, told in err) == (1, True), err
    assert ada.run("stream", "drift", "spectra")[0] == 0


def test_a_graph_that_runs_cannot_become_live(host: Telling, operator: Operator) -> None:  # noqa: F811
    status, err = operator.run("apply", "-f", "-", text=GOOD)
    assert status == 1
    assert "it was declared live: true" in err
