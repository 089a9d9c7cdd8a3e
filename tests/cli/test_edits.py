"""Graphs edited while they run, by two people, through the command line and a real controller."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from halftrack_controller.cli import main
from halftrack_controller.galaxy import OperatorFile
from halftrack_model import canonical
from tests.cli.test_live import Operator, ScriptedHost, live, operator  # noqa: F401 - fixtures
from tests.cli.test_manifests import GOOD
from tests.controller_shell.shell_harness import LiveController, eventually

TAP = ("stream", "tap", "spectra", "source", "--product", "recorder", "--host", "tank-b", "--name", "night")


def another(live: LiveController, folder: Path, name: str) -> Operator:  # noqa: F811
    """One more operator, made as the documents say."""
    outcome = CliRunner().invoke(
        main, ["galaxy", "operator", str(live.folder / "controller"), "--name", name, "--to", str(folder / name)]
    )
    assert outcome.exit_code == 0, outcome.output
    config = folder / name / "config.json"
    known = canonical.decode(OperatorFile, config.read_bytes())
    spelled = json.loads(config.read_bytes()) | {"endpoint": live.session}
    config.write_text(json.dumps(spelled))
    assert known.galaxy == "north"
    return Operator(folder / name, folder)


@pytest.fixture
def ada(live: LiveController, operator: Operator, tmp_path: Path) -> Iterator[Operator]:  # noqa: F811
    operator.run("apply", "-f", "-", text=GOOD)
    return another(live, tmp_path, "ada")


def test_a_tap_is_live_at_once_and_moves_nobody_else(live: LiveController, operator: Operator) -> None:  # noqa: F811
    """The plan gains one workload; every other keeps its digest."""
    # invariant: R1, R2
    operator.run("apply", "-f", "-", text=GOOD)
    hosts = [ScriptedHost(live, operator, name) for name in ("tank-a", "tank-b")]
    try:
        for product in ("player", "recorder", "spectrometer"):
            operator.publish(product, "1.0.0")
        before = {each.name: each.obey() for each in hosts}
        eventually(lambda: operator.run("plan")[0] == 0)
        status, out = operator.run(*TAP, "--reach", "db.example=10.0.0.5:5432", "--reach", "127.0.0.1:4222")
        assert status == 0
        assert "+ vertex night" in out
        after = hosts[1].obey()
        new = {w.name: w for w in after.workloads if w.name not in {w.name for w in before["tank-b"].workloads}}
        assert new.keys() == {"spectra.night"}
        assert new["spectra.night"].reach == ("db.example=10.0.0.5:5432", "127.0.0.1:4222")
        kept = {w.name: w.digest() for w in after.workloads if w.name not in new}
        assert kept == {w.name: w.digest() for w in before["tank-b"].workloads}
        assert operator.run("stream", "remove", "spectra", "night")[0] == 0
        gone = hosts[1].obey()
        assert {w.name: w.digest() for w in gone.workloads} == kept
    finally:
        for each in hosts:
            each.agent.close()


def test_the_second_of_two_people_is_told(operator: Operator, ada: Operator) -> None:  # noqa: F811
    assert operator.json("stream", "drift", "spectra")["graph"]["revision"] == 1  # type: ignore[call-overload, index]
    assert ada.run(*TAP, "--revision", "1")[0] == 0
    status, err = operator.run("stream", "remove", "spectra", "sink", "--revision", "1")
    assert status == 1
    assert "spectra is at revision 2; you saw 1. Since then:" in err
    assert "  2: ada tapped source with night (recorder on tank-b)" in err
    status, out = operator.run("stream", "drift", "spectra")
    assert status == 2
    assert "+ vertex night" in out
    assert "ada: tapped source with night" in out


def test_drift_is_adopted_or_reverted_and_never_overwritten(operator: Operator, ada: Operator) -> None:  # noqa: F811
    ada.run(*TAP)
    assert operator.run("apply", "-f", "-", text=GOOD)[0] == 0  # says nothing new
    assert operator.run("stream", "drift", "spectra")[0] == 2
    other = GOOD.replace("rate: 32", "rate: 33")
    status, err = operator.run("apply", "-f", "-", text=other)
    assert status == 1
    assert "a manifest must not overwrite that unseen" in err
    assert "by ada, who tapped source with night" in err
    status, manifest = operator.run("stream", "adopt", "spectra")
    assert status == 0
    assert operator.run("stream", "drift", "spectra")[0] == 0
    rest = GOOD[: GOOD.rindex("---")]
    assert operator.run("apply", "-f", "-", text=f"{rest}---\n{manifest}")[1].endswith(
        "graph tank/spectra: unchanged\n"
    )
    operator.run("stream", "remove", "spectra", "night")
    status, out = operator.run("stream", "revert", "spectra")
    assert status == 0
    assert "as declared" in out
    status, err = operator.run("stream", "revert", "spectra")
    assert (status, "there is nothing to revert" in err) == (1, True)


def test_only_its_editors_change_a_graph(operator: Operator, ada: Operator) -> None:  # noqa: F811
    closed = f"{GOOD.rstrip()}\n  editors: [operator]\n"
    assert operator.run("apply", "-f", "-", text=closed)[0] == 0
    for words in (TAP, ("stream", "adopt", "spectra"), ("stream", "revert", "spectra")):
        status, err = ada.run(*words)
        assert status == 1
        assert "is changed by operator, and you are ada" in err
    status, err = ada.run("apply", "-f", "-", text=GOOD)
    assert (status, "you are ada" in err) == (1, True)
    assert operator.run(*TAP)[0] == 0
    assert ada.run("stream", "drift", "spectra")[0] == 2  # looking is everybody's


def test_a_tap_that_cannot_be_is_refused_with_everything_that_is_wrong(operator: Operator, ada: Operator) -> None:  # noqa: F811
    status, err = operator.run("stream", "tap", "spectra", "source", "--product", "recorder", "--host", "nowhere")
    assert status == 1
    assert "tank has no host 'nowhere'" in err
    status, err = operator.run("stream", "tap", "nothing", "source", "--product", "recorder", "--host", "tank-a")
    assert status == 1
    assert "no graph 'nothing'; there is tank/spectra" in err
    status, err = operator.run(*TAP, "--reach", "db.example:5432")
    assert status == 1
    assert "vertex 'night': reach: 'db.example:5432' is a name" in err
    assert ada.run("stream", "drift", "spectra")[0] == 0


def test_an_edit_that_would_move_somebody_elses_part_is_refused(operator: Operator) -> None:  # noqa: F811
    """Without its sink on tank-b, the pair's merge would move to tank-a in mid-stream."""
    moved = GOOD.replace("product: recorder, hosts: [tank-a]", "product: recorder, hosts: [tank-b]")
    assert operator.run("apply", "-f", "-", text=moved)[0] == 0
    tap = ("stream", "tap", "spectra", "spectrometer", "--product", "recorder")
    for name in ("one", "two", "three"):
        assert operator.run(*tap, "--host", "tank-a", "--name", name)[0] == 0  # taps move nothing, however many
    status, err = operator.run("stream", "remove", "spectra", "sink")
    assert status == 1
    assert "spectrometer: what it produces would move from tank-b to tank-a" in err
