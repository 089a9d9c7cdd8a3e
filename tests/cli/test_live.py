"""Verbs against a real controller on loopback, with scripted agents: what an operator does in a day, through the command line only."""

import dataclasses
import json
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from halftrack_controller import galaxy
from halftrack_controller.cli import main
from halftrack_model import canonical
from halftrack_model.observed import Health, InstanceObserved, Observed
from halftrack_model.plan import Plan
from halftrack_model.swap import Phase, SwapRecord
from halftrack_proto import messages as said
from tests.cli.test_manifests import GOOD
from tests.controller_shell.shell_harness import Agent, LiveController, enrol, eventually, plan_of


class Operator:
    """Someone with a shell."""

    def __init__(self, config: Path, folder: Path) -> None:
        self.config, self.folder = config, folder

    def run(self, *words: str, text: str | None = None) -> tuple[int, str]:
        outcome = CliRunner().invoke(main, ["--config", str(self.config), *words], input=text)
        assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exc_info
        return outcome.exit_code, outcome.stdout if outcome.exit_code != 1 else outcome.stderr

    def json(self, *words: str) -> object:
        status, out = self.run(*words, "-o", "json")
        assert status != 1, out
        return json.loads(out)

    def publish(self, product: str, version: str, more: str = "") -> tuple[int, str]:
        (self.folder / f"{product}.py").write_text(f"# {version}\n")
        text = (
            f"apiVersion: halftrack/v1\nkind: Release\nspec: {{product: {product}, version: {version}, entry: 'm:C', "
            f"artifact: {{file: {self.folder}/{product}.py}}{more}}}\n"
        )
        return self.run("release", "publish", "-", text=text)

    def phase(self, rollout: str) -> str:
        entries = self.json("rollout", "status", rollout)
        assert isinstance(entries, list)
        return str(entries[0]["phase"])


class ScriptedHost:
    """Accepts what comes and shows all of it healthy; a swap only as it is told."""

    def __init__(self, live: LiveController, operator: Operator, name: str) -> None:
        status, token = operator.run("host", "token", name, "--ttl", "5m")
        assert status == 0
        self.name, self.swaps = name, ()
        self.swaps: tuple[SwapRecord, ...] = ()
        self.agent = Agent(live, enrol(live, token.strip(), name))
        self.agent.hello(name)
        self.plan: Plan | None = None

    def obey(self) -> Plan:
        """Take the next plan, and say so. Whoever publishes several releases may get a plan for each, or one for all."""
        self.plan = plan_of(self.agent.expect(said.PlanPush))
        self.agent.say(said.Accepted(self.plan.revision))
        self.show()
        return self.plan

    def obey_until(self, what: str, settled: Callable[[Plan], bool]) -> Plan:
        """Take plans until the one it has is as the test waits for it: how many there are on the way depends on the moment."""
        while self.plan is None or not settled(self.plan):
            self._next(what)
        return self.plan

    def _next(self, what: str) -> None:
        try:
            self.obey()
        except queue.Empty:
            raise AssertionError(f"{self.name} got no plan with {what}; its last one: {self.plan}") from None

    def show(self) -> None:
        assert self.plan is not None
        greens = {seat.green_workload for swap in self.plan.swaps for seat in swap.seats}
        rows = tuple(
            InstanceObserved(w.name, w.digest(), "running", Health.HEALTHY, 0, "")
            for w in self.plan.workloads
            if w.name not in greens
        )
        self.agent.say(Observed(self.name, self.plan.revision, rows, self.swaps, ()))

    def tell(self, phase: Phase, reason: str = "") -> None:
        assert self.plan is not None
        (swap,) = self.plan.swaps
        self.swaps = (SwapRecord(swap.swap_id, 2, 0, phase, 1, -1, 0, 0, 0, 0, reason),)
        self.show()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveController]:
    outcome = CliRunner().invoke(
        main, ["galaxy", "init", str(tmp_path / "g"), "--name", "north", "--address", "127.0.0.1"]
    )
    assert outcome.exit_code == 0
    controller = LiveController(tmp_path / "g", heartbeat_ms=10_000)  # scripted hosts do not beat
    config = tmp_path / "g/operator/config.json"
    known = canonical.decode(galaxy.OperatorFile, config.read_bytes())
    config.write_bytes(canonical.encode(dataclasses.replace(known, endpoint=controller.session)))
    try:
        yield controller
    finally:
        controller.stop()


@pytest.fixture
def operator(live: LiveController, tmp_path: Path) -> Operator:
    return Operator(live.folder / "operator", tmp_path)


def test_manifests_are_planned_then_applied_once(operator: Operator) -> None:
    status, out = operator.run("plan", "-f", "-", text=GOOD)
    assert status == 2
    assert "graph tank/spectra: created" in out
    assert operator.run("apply", "-f", "-", text=GOOD)[0] == 0
    assert operator.run("apply", "-f", "-", text=GOOD) == (
        0,
        "environment tank: unchanged\nhost tank-a: unchanged\nhost tank-b: unchanged\ngraph tank/spectra: unchanged\n",
    )
    status, out = operator.run("plan")
    assert status == 3
    assert "spectra/sink: recorder has no release: publish one with `halftrack release publish`" in out
    assert operator.run("explain", "nobody")[0] == 1


def test_what_the_controller_finds_wrong_is_told_with_file_and_line(operator: Operator, tmp_path: Path) -> None:
    path = tmp_path / "tonk.yaml"
    path.write_text("# a comment\n" + GOOD.replace("environment: tank", "environment: tonk"))
    for verb in ("plan", "apply"):
        status, err = operator.run(verb, "-f", str(path))
        assert status == 1
        told = err.splitlines()
        assert told[0] == f"error: {path}:7: host tank-a: there is no environment 'tonk': declare it as well"
        assert f"{path}:17: graph tonk/spectra: there is no environment 'tonk': declare it as well" in told
        assert told[-1] == "nothing was applied"
    assert operator.json("host", "list") == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rollout", "pause", "nobody"), "there is no rollout 'nobody'"),
        (("rollout", "status", "--environment", "nowhere"), "no environment 'nowhere'"),
        (("host", "list", "--environment", "nowhere"), "no environment 'nowhere'"),
        (("stream", "top", "--environment", "nowhere"), "no environment 'nowhere'"),
        (("host", "show", "nobody"), "no host 'nobody'"),
        (("host", "token", "nobody"), "no host 'nobody'"),
        (("apply", "-f", "/dev/null"), "there is no document in /dev/null; nothing was applied"),
        (("plan", "-f", "/dev/null"), "there is no document in /dev/null"),
    ],
)
def test_a_wrong_name_is_an_error_and_never_an_empty_answer(
    operator: Operator, words: tuple[str, ...], told: str
) -> None:
    status, err = operator.run(*words)
    assert status == 1
    assert told in err


def test_another_port_of_the_controller_is_told_apart_from_none(live: LiveController, operator: Operator) -> None:
    config = operator.config / "config.json"
    config.write_text(config.read_text().replace(live.session, live.enrolment))
    status, err = operator.run("host", "list")
    assert status == 1
    assert "the controller's session port" in err


def test_a_graph_is_drawn_before_anything_runs_and_a_wrong_name_is_told(operator: Operator) -> None:
    operator.run("apply", "-f", "-", text=GOOD)
    status, out = operator.run("stream", "graph", "spectra")
    assert (status, out.splitlines()[:3]) == (
        0,
        ["spectra in tank: 3 vertices, 2 edges", "", "source  source  no release  not planned"],
    )
    view = operator.json("stream", "graph", "spectra", "--environment", "tank")
    assert isinstance(view, dict)
    assert [edge["source"] for edge in view["graph"]["edges"]] == ["source", "spectrometer"]
    for form, begins in (("dot", 'digraph "tank/spectra" {'), ("svg", "<svg ")):
        status, out = operator.run("stream", "graph", "spectra", "-o", form)
        assert (status, out.startswith(begins)) == (0, True)
    assert operator.run("stream", "graph", "moon") == (1, "error: no graph 'moon'; there is tank/spectra\n")
    status, out = operator.run("stream", "graph", "spectra", "--environment", "mars")
    assert (status, "no environment 'mars'" in out) == (1, True)


def test_a_graph_is_deleted_by_that_word_alone_and_begins_anew_by_its_manifest(
    live: LiveController, operator: Operator
) -> None:
    operator.run("apply", "-f", "-", text=GOOD)
    hosts = [ScriptedHost(live, operator, name) for name in ("tank-a", "tank-b")]
    try:
        for product in ("player", "recorder", "spectrometer"):
            operator.publish(product, "1.0.0")
        for each in hosts:
            each.obey()
        status, out = operator.run("delete", "spectra", "--dry-run")
        assert (status, out.splitlines()[0]) == (2, "tank/spectra: would end on")
        assert operator.run("stream", "graph", "spectra")[0] == 0, "nothing was changed"
        told = operator.json("delete", "spectra")
        assert isinstance(told, dict)
        assert [each["host"] for each in told["hosts"]] == ["tank-a", "tank-b"]
        assert "spectra.source" in told["hosts"][0]["workloads"]
        for each in hosts:
            assert each.obey_until("nothing", lambda plan: not plan.workloads).decommission
        assert operator.run("stream", "graph", "spectra")[0] == 1
        nothing = "error: no graph 'spectra'; there is none: apply one\n"
        assert operator.run("delete", "spectra") == (1, nothing)
        status, out = operator.run("plan", "-f", "-", text=GOOD)
        assert (status, "+ start   spectra.source" in out) == (2, True)
        assert "graph tank/spectra: created" in operator.run("apply", "-f", "-", text=GOOD)[1]
        for each in hosts:
            assert not each.obey_until("the graph again", lambda plan: bool(plan.workloads)).decommission
        drift = operator.json("stream", "drift", "spectra")
        assert isinstance(drift, dict)
        history = [change["what"] for change in drift["graph"]["changes"]]
        assert history[-2:] == ["deleted", "declared by a manifest"]
    finally:
        for each in hosts:
            each.agent.close()


def test_releases_that_were_published_before_one_that_is_refused_are_told(operator: Operator, tmp_path: Path) -> None:
    text = "apiVersion: halftrack/v1\nkind: Release\nspec: {{product: x, version: {}, entry: 'm:C', artifact: {{file: m.py}}}}\n"
    for number, version in enumerate(("1.0.0", "1.1.0")):
        (tmp_path / f"{number}.yaml").write_text(text.format(version))
    (tmp_path / "m.py").write_text("# one\n")
    assert operator.run("release", "publish", str(tmp_path / "1.yaml"))[0] == 0
    (tmp_path / "m.py").write_text("# another\n")
    outcome = CliRunner().invoke(main, ["--config", str(operator.config), "release", "publish", str(tmp_path)])
    assert outcome.exit_code == 1
    assert outcome.stdout.startswith("x 1.0.0 is published")
    assert "x 1.1.0 is published already, with other content" in outcome.stderr


def test_an_archive_that_no_host_would_unpack_is_not_published(operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "page.tar").write_bytes(b"no archive")
    text = f"apiVersion: halftrack/v1\nkind: Release\nspec:\n  product: x\n  version: 1.0.0\n  command: ['{{artifact}}/run']\n  unpack: true\n  artifact: {{file: {tmp_path}/page.tar}}\n"
    status, err = operator.run("release", "publish", "-", text=text)
    assert (status, "page.tar is to be unpacked, and no host would: it is no tar and no zip" in err) == (1, True)
    assert operator.run("release", "list")[1] == "no release is published\n"


def test_a_release_key_that_is_none_is_met_before_anything_is_sent(operator: Operator) -> None:
    (operator.config / "release.key").write_text("nothing")
    status, err = operator.publish("x", "1.0.0")
    assert status == 1
    assert err.startswith(f"error: {operator.config}/release.key holds no Ed25519 key")


def test_a_day_of_upgrades(live: LiveController, operator: Operator) -> None:
    operator.run("apply", "-f", "-", text=GOOD)
    hosts = [ScriptedHost(live, operator, name) for name in ("tank-a", "tank-b")]
    try:
        for product in ("player", "recorder", "spectrometer"):
            status, out = operator.publish(product, "1.0.0")
            assert (status, out.splitlines()[0]) == (0, f"{product} 1.0.0 is published")
        for each in hosts:
            each.obey()
        first = "tank.spectra.spectrometer.1"
        eventually(lambda: operator.phase(first) == "succeeded")
        assert operator.run("rollout", "status")[0] == 0
        assert operator.run("plan") == (0, "Nothing to do: everything is as it shall be.\n")
        _swap_that_works(operator, hosts)
        _swap_that_fails(operator, hosts)
        _swap_that_waits(operator)
    finally:
        for each in hosts:
            each.agent.close()


def _swap_that_works(operator: Operator, hosts: list[ScriptedHost]) -> None:
    second = "tank.spectra.spectrometer.2"
    with ThreadPoolExecutor(1) as pool:
        assert second in operator.publish("spectrometer", "1.1.0")[1]
        for each in hosts:
            each.obey_until("a swap", lambda plan: bool(plan.swaps))
        watching = pool.submit(operator.run, "rollout", "status", second, "--watch", "-o", "json")
        hosts[0].tell(Phase.SHADOWING)
        eventually(lambda: "shadowing" in operator.run("rollout", "status", second)[1])
        assert (
            "pair  1.0.0 → 1.1.0 (running; seat 1 shadowing)  healthy" in operator.run("stream", "graph", "spectra")[1]
        )
        assert operator.run("rollout", "status", second)[0] == 2
        status, out = operator.run("plan")
        assert (status, "a swap is under way" in out) == (2, True)  # nothing is blocked
        hosts[0].tell(Phase.DONE)
        status, out = watching.result(20)
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert lines[-1][0]["phase"] == "succeeded"
    for each in hosts:
        each.swaps = ()
        each.obey_until("no swap", lambda plan: not plan.swaps)


def _swap_that_fails(operator: Operator, hosts: list[ScriptedHost]) -> None:
    third = "tank.spectra.spectrometer.3"
    operator.publish("spectrometer", "1.2.0")
    for each in hosts:
        each.obey_until("a swap", lambda plan: bool(plan.swaps))
    hosts[0].tell(Phase.UNDONE, "spectrometer 1.2.0 failed on tank-a: exit status 1")
    eventually(lambda: operator.phase(third) == "failed")
    status, out = operator.run("rollout", "status", third)
    assert status == 3
    assert "failed on tank-a: exit status 1" in out
    assert "spectrometer 1.1.0 is in force (generation 2)" in operator.run("explain", "spectra/spectrometer")[1]
    for each in hosts:
        each.swaps = ()
        each.obey_until("no swap", lambda plan: not plan.swaps)


def _swap_that_waits(operator: Operator) -> None:
    fourth = "tank.spectra.spectrometer.4"
    operator.publish("spectrometer", "1.3.0", ", strategy: {approval: manual}")
    assert operator.run("rollout", "status", fourth)[0] == 3
    assert operator.run("rollout", "pause", fourth)[0] == 3
    status, out = operator.run("rollout", "abort", fourth)
    assert (status, out) == (0, f"{fourth}: spectrometer 1.1.0 → 1.3.0 is aborted: aborted by the operator\n")
    assert operator.run("release", "list", "spectrometer")[1].count("\n") == 5
    assert operator.publish("spectrometer", "1.3.0", ", strategy: {approval: manual}")[1].endswith("nothing changes\n")
    assert operator.run("host", "show", "tank-a")[0] == 0
    assert operator.run("host", "list")[1].count("connected") == 2
    assert operator.run("stream", "top") == (0, "no host has told of a ring\n")
