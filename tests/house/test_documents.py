"""Documents are code: what they name exists, what exists is named, and what they show can be typed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.house.source import COMPONENTS, ROOT, shown

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "*/README.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
    if ".venv" not in path.parts
)
ADRS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))

_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
_PATH = re.compile(r"`([\w.@/-]+\.(?:py|pyx|pxd|pyi|h|proto|service|toml|md|yaml))`")
_FENCE = re.compile(r"^```(?:sh|console|shell|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_links_lead_somewhere(document: Path) -> None:
    broken = [
        link
        for link in _LINK.findall(document.read_text())
        if "://" not in link and not link.startswith("mailto:") and not (document.parent / link).exists()
    ]
    assert not broken, f"{shown(document)} links to {broken}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_files_that_are_named_exist(document: Path) -> None:
    if document.name == "manifests.md":
        return  # its file names are a user's
    missing = [name for name in _PATH.findall(document.read_text()) if not _exists(name, document)]
    assert not missing, f"{shown(document)} names {missing}, which are not there"


def _exists(name: str, document: Path) -> bool:
    places = (ROOT / name, document.parent / name, *ROOT.glob(f"*/{name}"), *ROOT.glob(f"*/halftrack_*/{name}"))
    return any(place.exists() for place in places) or ("/" not in name and any(_named(name)))


def _named(name: str) -> list[Path]:
    """Files of that bare name, wherever they are: a table below a component's heading need not repeat its folder."""
    folders = (*COMPONENTS, "tests", "examples", "benchmarks", "docs", "tools")
    return [path for folder in folders for path in (ROOT / folder).rglob(name)]


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    assert [int(path.name[:4]) for path in ADRS] == list(range(1, len(ADRS) + 1))
    index = (ROOT / "docs/adr/README.md").read_text()
    unlisted = [path.name for path in ADRS if path.name not in index]
    assert not unlisted, f"docs/adr/README.md does not list {unlisted}"


@pytest.mark.parametrize("adr", ADRS, ids=shown)
def test_decisions_say_why_and_what_follows(adr: Path) -> None:
    text = adr.read_text()
    assert text.startswith(f"# {int(adr.name[:4])}. ")
    missing = [part for part in ("Status:", "## Context", "## Decision", "## Consequences") if part not in text]
    assert not missing, f"{shown(adr)} lacks {missing}"


def _commands(document: Path) -> list[list[str]]:
    """The commands of a document's shell examples, continuation lines joined, prompts and comments taken off."""
    found = []
    text = document.read_text()
    help_examples = re.findall(r"^Examples:\n((?:  .*\n)+)", text, re.MULTILINE)
    for block in [*_FENCE.findall(text), *help_examples]:
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            found += [words] if words else []
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_make_targets_in_examples_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wrong = []
    for words in _commands(document):
        if words[:1] == ["make"]:
            wrong += [word for word in words[1:] if "=" not in word and word not in targets]
    assert not wrong, f"{shown(document)} shows make {wrong}"


def test_every_make_target_is_explained() -> None:
    seen = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    readme = (ROOT / "README.md").read_text()
    for target in re.findall(r"^  make ([\w-]+)", seen, re.MULTILINE):
        assert f"make {target}" in readme, f"README.md does not mention make {target}"


# -------------------------------------------------------------------------------------------------------- the command line


def _verbs(command: click.Command, words: tuple[str, ...]) -> dict[tuple[str, ...], click.Command]:
    if not isinstance(command, click.Group):
        return {words: command}
    found: dict[tuple[str, ...], click.Command] = {}
    for name in command.list_commands(click.Context(command)):
        child = command.get_command(click.Context(command), name)
        assert child is not None
        found |= _verbs(child, (*words, name))
    return found


PROGRAMS = ("halftrack", "halftrack-stream")


def _halftrack() -> dict[tuple[str, ...], click.Command]:
    """Every verb of both programs."""
    from halftrack_controller.cli import main
    from halftrack_dataplane.stream_cli import main as stream

    assert isinstance(main, click.Command)
    return _verbs(main, ("halftrack",)) | _verbs(stream, ("halftrack-stream",))


def _pipelines(words: list[str]) -> list[list[str]]:
    """The programs of a pipeline, each with its own words: no redirections, and not what it is to run."""
    found: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            found.append([])
        else:
            found[-1].append(word)
    ends = ("<", ">", "--", "&")
    return [part[: next((at for at, word in enumerate(part) if word in ends), len(part))] for part in found]


def test_the_reference_pages_are_what_the_program_says() -> None:
    checked = [sys.executable, "tools/reference.py", "--check"]
    seen = subprocess.run(checked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stdout + seen.stderr


def test_every_verb_has_an_example_and_a_place_in_the_reference() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    for words in _halftrack():
        section = text.partition(f"## `{' '.join(words)}`")[2].partition("\n## ")[0]
        assert f"  {' '.join(words)}" in section.partition("Examples:")[2], f"{' '.join(words)}: no example"


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_halftrack_commands_in_examples_parse(document: Path) -> None:
    verbs = _halftrack()
    wrong = []
    for words in [part for line in _commands(document) for part in _pipelines(line) if part]:
        if words[0] not in PROGRAMS:
            continue
        known = next((verbs[tuple(words[:n])] for n in range(len(words), 1, -1) if tuple(words[:n]) in verbs), None)
        flags = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        if known is None and "--help" not in flags:
            wrong.append(" ".join(words))
        elif known is not None:
            options = {name for param in known.params for name in (*param.opts, *param.secondary_opts)} | {"--help"}
            wrong += [f"{' '.join(words)}: no {flag}" for flag in flags - options]
    assert not wrong, f"{shown(document)}: {wrong}"
