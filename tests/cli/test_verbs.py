"""The command line by itself: help, schema, completion, usage errors and their exit statuses. No controller."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from halftrack_controller.cli import main
from halftrack_controller.cli_frame import BLOCKED, DONE, EXIT_STATUS, PENDING, Terminal, Verb
from halftrack_controller.cli_rollout import standing_of
from halftrack_model.errors import HostFault
from halftrack_proto import messages as said

EXPECTED = {
    "galaxy init", "controller serve", "host list", "host show", "host token", "apply",
    "delete", "plan", "release publish", "release list",
    "rollout status", "rollout pause", "rollout resume", "rollout promote", "rollout abort", "stream top", "stream graph", "stream tap", "stream remove", "stream insert", "stream replace", "stream reroute", "stream set-policy", "stream split", "stream drift", "stream adopt", "stream revert", "galaxy operator", "galaxy renew", "explain", "schema",
    "completion",
}  # fmt: skip


def verbs(group: click.Group = main, words: tuple[str, ...] = ()) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        assert command.name == name
        if isinstance(command, click.Group):
            found |= verbs(command, (*words, name))
        else:
            found[" ".join((*words, name))] = command
    return found


def run(*words: str, config: str = "", text: str = "") -> tuple[int, str, str]:
    outcome = CliRunner(env={"HALFTRACK_CONFIG": config}).invoke(main, words, input=text)
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exc_info
    return outcome.exit_code, outcome.stdout, outcome.stderr


def test_all_verbs_are_there() -> None:
    assert set(verbs()) == EXPECTED


@pytest.mark.parametrize("words", sorted(EXPECTED))
def test_help_has_an_example_that_parses_and_the_exit_statuses(words: str) -> None:
    command = verbs()[words]
    assert isinstance(command, Verb)
    assert command.examples
    for example in command.examples:
        assert f"halftrack {words}" in example
        flags = {word.partition("=")[0] for word in example.split() if word.startswith("-") and word != "-"}
        known = {name for param in command.params for name in param.opts}
        if example.startswith("halftrack "):
            assert flags <= known, example
    status, out, _ = run(*words.split(), "--help")
    assert status == DONE
    assert all(example in out for example in command.examples)
    assert EXIT_STATUS in " ".join(out.split())
    assert all(param.help for param in command.params if isinstance(param, click.Option))


@pytest.mark.parametrize(
    "words", [("nonsense",), ("apply",), ("host", "show"), ("host", "token", "a", "--ttl", "soon")]
)
def test_usage_errors_are_errors_and_not_pending_changes(words: tuple[str, ...]) -> None:
    status, out, err = run(*words)
    assert (status, out) == (1, "")
    assert "Usage:" in err
    assert "Error:" in err


def test_without_a_configuration_it_says_what_to_pass() -> None:
    assert run("host", "list") == (
        1,
        "",
        "error: which galaxy? Nothing names the operator's folder that `galaxy init` made\nPass --config DIR or set HALFTRACK_CONFIG.\n",
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--address", ""), "write one such as 10.0.0.1"),
        (("--address", "10.0.0.1:7443"), "ports have options of their own"),
        (("--address", "https://controller.example/"), "neither an IP address nor a host name"),
        (("--address", "10.0.0.256"), "neither an IP address nor a host name"),
        (("--address", "ünï.example"), "neither an IP address nor a host name"),
        (("--address", "::1", "--address", "a b"), "--address 'a b'"),
        (("--address", "::1", "--session-port", "7444"), "7444 cannot be both"),
    ],
)
def test_a_galaxy_that_nobody_could_reach_is_not_made(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    status, out, err = run("galaxy", "init", str(tmp_path / "g"), "--name", "n", *words)
    assert (status, out) == (1, "")
    assert told in err
    assert not (tmp_path / "g").exists()


def test_a_galaxy_is_shown_with_paths_that_hold_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("galaxy", "init", "g", "--name", "n", "--address", "controller.dome.example")
    assert status == DONE
    assert f"export HALFTRACK_CONFIG={tmp_path}/g/operator" in out


def test_an_unreachable_controller_is_one_clear_line_and_a_hint(tmp_path: Path) -> None:
    status, out, _ = run(
        "galaxy", "init", str(tmp_path / "g"), "--name", "n", "--address", "127.0.0.1", "--session-port", "1"
    )
    assert status == DONE
    assert "halftrack controller serve" in out
    status, out, err = run("host", "list", config=str(tmp_path / "g/operator"))
    assert (status, out) == (1, "")
    assert err.startswith("error: no answer from the other side")
    assert "Is the controller running" in err
    assert "Traceback" not in err


def test_bad_manifests_are_told_before_anything_is_asked_of_the_controller(tmp_path: Path) -> None:
    status, out, err = run("apply", "-f", "-", config=str(tmp_path), text="kind: Hots\n---\nkind: Environmnt\n")
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        "error: -:1: kind: 'Hots' is unknown; did you mean Host?",
        "-:3: kind: 'Environmnt' is unknown; did you mean Environment?",
        "2 errors; nothing was applied",
    ]


def test_standard_input_that_is_not_text_is_told(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(main, ["--config", str(tmp_path), "apply", "-f", "-"], input=b"\x00\xff\xfe")
    assert outcome.exit_code == 1
    assert "-:1: is not UTF-8 text" in outcome.stderr


def test_releases_are_published_and_nothing_else_is(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("")
    release = tmp_path / "r.yaml"
    release.write_text(
        "apiVersion: halftrack/v1\nkind: Release\nspec: {product: x, version: 1.0.0, entry: 'a:B', artifact: {file: main.py}}\n"
    )
    status, _, err = run("apply", "-f", str(release))
    assert status == 1
    assert f"{release}:1: Release x 1.0.0; publish it with `halftrack release publish`" in err
    status, _, err = run(
        "release", "publish", "-", text="apiVersion: halftrack/v1\nkind: Environment\nmetadata: {name: t}\n"
    )
    assert status == 1
    assert "bring the rest with `halftrack apply -f`" in err


def test_the_schema_is_json() -> None:
    status, out, _ = run("schema")
    assert status == DONE
    assert json.loads(out)["title"] == "Halftrack manifest, halftrack/v1"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_program(shell: str) -> None:
    status, out, _ = run("completion", shell)
    assert status == DONE
    assert "_HALFTRACK_COMPLETE" in out


def test_completion_knows_the_verbs() -> None:
    from click.shell_completion import ShellComplete

    complete = ShellComplete(main, {}, "halftrack", "_HALFTRACK_COMPLETE")
    assert {item.value for item in complete.get_completions(["rollout"], "p")} == {"pause", "promote"}


def test_a_watch_that_is_piped_is_printed_as_it_happens(capsys: pytest.CaptureFixture[str]) -> None:
    """In place is for terminals: a log that shows nothing until its end is of no use."""
    with Terminal("text", None).watching() as show:
        show(1, "one")
        assert capsys.readouterr().out == "one\n"
        show(2, "two")
        assert capsys.readouterr().out == "two\n"
    with Terminal("json", None).watching() as show:
        show({"rings": 1}, "one")
    assert capsys.readouterr().out == '{"rings": 1}\n'


def test_a_controller_that_goes_away_is_waited_for_and_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    away = HostFault("unreachable", "no answer")
    answers: list[object] = ["first", away, away, "second", away, HostFault("disk-full", "no room")]

    def look() -> object:
        answer = answers.pop(0)
        if isinstance(answer, HostFault):
            raise answer
        return answer

    looks = Terminal("text", None).looks(look, every_s=0)
    assert [next(looks), next(looks)] == ["first", "second"]
    assert capsys.readouterr().err == "the controller does not answer; hosts go on without it\n"
    with pytest.raises(HostFault, match="no room"):
        next(looks)
    answers[:] = [away]
    with pytest.raises(HostFault, match="no answer"):  # nothing was ever seen: a wrong address, more likely
        next(Terminal("text", None).looks(look, every_s=0))


def test_output_in_another_encoding_loses_letters_and_no_more(tmp_path: Path) -> None:
    told = []
    for folder, more in (("ü", []), ("ö", ["-o", "json"])):
        words = ["galaxy", "init", str(tmp_path / folder), "--name", "n", "--address", "127.0.0.1", *more]
        command = [sys.executable, "-m", "halftrack_controller.cli", *words]
        told.append(subprocess.run(command, capture_output=True, check=True, env={"PYTHONIOENCODING": "ascii"}).stdout)
    assert f"{tmp_path}/?/controller".encode() in told[0]
    assert json.loads(told[1])["controller"] == f"{tmp_path}/ö/controller"


def test_output_that_cannot_be_written_is_an_error_in_one_line() -> None:
    command = [sys.executable, "-m", "halftrack_controller.cli", "schema"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


def entry(vertex: str, generation: int, phase: str) -> said.RolloutEntry:
    name = f"tank.spectra.{vertex}.{generation}"
    return said.RolloutEntry(name, "tank", "spectra", vertex, "p", "", "1.0.0", 0, generation, phase, "", 0, None)


@pytest.mark.parametrize(
    ("phases", "status"),
    [
        ([], DONE),
        (["succeeded"], DONE),
        (["aborted"], DONE),
        (["failed", "succeeded"], DONE),
        (["succeeded", "running"], PENDING),
        (["pending"], PENDING),
        (["succeeded", "failed"], BLOCKED),
        (["waiting-approval"], BLOCKED),
        (["running", "paused"], BLOCKED),
    ],
)
def test_the_newest_rollout_of_a_vertex_decides_the_exit_status(phases: list[str], status: int) -> None:
    assert standing_of([entry("sink", number, phase) for number, phase in enumerate(phases, 1)]) == status
    assert (
        standing_of([entry("source", 1, "succeeded"), *(entry("sink", n, p) for n, p in enumerate(phases, 1))])
        == status
    )


def test_a_verb_waits_for_no_import_of_another_family() -> None:
    asked = "import sys; from halftrack_controller.cli import main\ntry: main(['host', 'list', '--help'])\nfinally: print(*sys.modules)"
    seen = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    read = set(seen.stdout.split("\n")[-2].split())
    assert "halftrack_controller.cli_host" in read
    assert not read & {"halftrack_controller.cli_stream", "halftrack_controller.cli_apply", "pydantic", "grpc"}
