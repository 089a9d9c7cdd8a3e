"""`apply` sends manifests as they are: the controller's reading of what is right is ours, and all else is told as before, from here."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from halftrack_controller import cli_frame, documents, galaxy, manifests, operator_link, reading
from halftrack_controller.documents import Declared
from halftrack_controller.operator_client import document_of
from halftrack_model.errors import HalftrackError, InvalidInput, Refused
from halftrack_proto import manifests_codec
from tests.cli.test_live import Operator, live, operator  # noqa: F401 - fixtures
from tests.cli.test_manifests import GOOD
from tests.cli.test_verbs import run
from tests.controller_shell.shell_harness import LiveController

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(
    path for path in (ROOT / "examples").rglob("*.yaml") if "kind: Release" not in path.read_text()
)  # what is applied
HEAVY = ("pydantic", "ruamel.yaml", "cryptography", "rich", "halftrack_controller.operator_client")


def read_there(*texts: tuple[str, str]) -> tuple[Declared, ...]:
    """What the controller applies of the texts."""
    taken: list[Declared] = []

    async def apply(declared: Sequence[Declared]) -> None:
        taken.extend(declared)

    asyncio.run(reading.applied(texts, apply))
    return tuple(taken)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_controller_reads_what_would_have_been_sent(path: Path) -> None:
    found = manifests.read([str(path)])
    sent = tuple(documents.declared(document_of(each)) for each in (*found.environments, *found.hosts, *found.graphs))
    assert read_there((str(path), path.read_text())) == sent != ()


RELEASE = "apiVersion: halftrack/v1\nkind: Release\nspec: {product: p, version: 1.0.0, entry: 'm:C', artifact: {file: /etc/hostname}}\n"


@pytest.mark.parametrize(
    "text", ["kind: Nonsense", "a: [", "", RELEASE, f"{GOOD}---\n{RELEASE}", f"{GOOD}# {'x' * (64 << 10)}\n"]
)
def test_what_is_not_right_or_not_for_it_is_not_applied_and_not_explained(text: str) -> None:
    with pytest.raises(Refused) as told:
        read_there(("x.yaml", text))
    assert told.value.reason == manifests_codec.NOT_READ


def test_what_is_wrong_as_things_stand_is_led_by_its_line() -> None:
    async def apply(_: Sequence[Declared]) -> None:
        raise InvalidInput("bad-documents", "host tank-a: there is no environment tank\nnothing was applied")

    with pytest.raises(InvalidInput) as told:
        asyncio.run(reading.applied([("x.yaml", GOOD)], apply))
    line, last = told.value.message.splitlines()
    assert line.startswith("x.yaml:")
    assert line.endswith(": host tank-a: there is no environment tank")
    assert last == "nothing was applied"


@pytest.mark.parametrize("reason", ["unimplemented", "not-read", "permission-denied"])
def test_a_controller_that_does_not_read_them_gets_documents(
    operator: Operator,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
) -> None:
    asked = []

    def refusing(*_: object) -> None:
        asked.append(reason)
        raise HalftrackError(reason, "not here")

    monkeypatch.setattr(operator_link, "apply_manifests", refusing)
    status, out = operator.run("apply", "-f", "-", text=GOOD)
    assert (status, out.splitlines()[-1], asked) == (0, "graph tank/spectra: created", [reason])


def test_a_text_too_long_for_the_controller_is_applied_all_the_same(operator: Operator) -> None:  # noqa: F811
    text = f"{GOOD}# {'x' * manifests_codec.MAX_TEXTS_BYTES}\n"
    assert operator.run("apply", "-f", "-", text=text)[1].splitlines()[-1] == "graph tank/spectra: created"


def test_whoever_knows_no_controller_is_told_first_what_is_wrong_with_the_files(tmp_path: Path) -> None:
    galaxy.init(tmp_path / "north", "north", ["127.0.0.1"], session_port=9, enrolment_port=10)  # nobody answers there
    config = str(tmp_path / "north/operator")
    status, _, err = run("apply", "-f", "-", config=config, text="kind: Nonsense")
    assert (status, "-:1: kind: 'Nonsense' is unknown" in err) == (1, True), err
    status, _, err = run("apply", "-f", "-", config=config, text=GOOD)
    assert (status, "no answer from the other side" in err, "What runs on hosts goes on" in err) == (1, True, True)


def test_an_operators_certificate_that_ends_soon_is_told(
    live: LiveController,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = str(live.folder / "operator")
    assert run("apply", "-f", "-", config=config, text=GOOD)[2] == ""
    monkeypatch.setattr(cli_frame, "NEAR_MS", 2 * galaxy.OPERATOR_CERTIFICATE_S * 1000)
    assert "the operator's certificate is good for 364 d more" in run("apply", "-f", "-", config=config, text=GOOD)[2]


@pytest.mark.parametrize("more", [(), ("-o", "json")])
def test_what_is_right_is_sent_before_anything_slow_is_imported(
    live: LiveController,  # noqa: F811
    tmp_path: Path,
    more: tuple[str, ...],
) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    program = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr))\n"
        "from halftrack_controller.cli import main\n"
        "main()\n"
    )
    words = ["apply", "-f", str(tmp_path / "good.yaml"), *more]
    environment = {**os.environ, "HALFTRACK_CONFIG": str(live.folder / "operator")}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr == "[]\n"
    if more:
        last = json.loads(done.stdout)[-1]
        assert last == {"kind": "graph", "name": "tank/spectra", "action": "created"}
    else:
        assert done.stdout.splitlines()[-1] == "graph tank/spectra: created"


def test_nothing_is_sent_when_a_file_cannot_be_read(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(operator_link, "apply_manifests", lambda *_: pytest.fail("sent"))
    status, out = operator.run("apply", "-f", "-", "-f", "/nowhere.yaml", text=GOOD)
    assert (status, "/nowhere.yaml:1: cannot be read: No such file" in out) == (1, True)
