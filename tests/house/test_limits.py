"""The limits of the house: what fits in one sitting, and what a module owes its reader."""

import ast
import re
from pathlib import Path

import pytest

from tests.house.source import COMPONENTS, ROOT, functions, outside, shown, sources, tree

FILE_LINES = 400
FUNCTION_LINES = 60
VAGUE = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}

_EVERYTHING = [*sources(*COMPONENTS), *outside()]
_UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


@pytest.mark.parametrize("path", _EVERYTHING, ids=shown)
def test_files_and_functions_can_be_read_in_one_sitting(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES, f"{shown(path)} has {lines} lines, {FILE_LINES} are readable: it hides two ideas"
    long = [
        f"{name} (line {first}) has {length} lines"
        for name, first, length in functions(path)
        if length > FUNCTION_LINES
    ]
    assert not long, f"{shown(path)}: {'; '.join(long)}; a function fits a screen of {FUNCTION_LINES}"


def test_file_names_say_what_is_in_them() -> None:
    vague = [shown(path) for path in _EVERYTHING if path.stem in VAGUE]
    assert not vague, f"{vague}: a file is a noun of the field, not a drawer"


def test_modules_say_what_they_own() -> None:
    silent = [
        shown(p) for p in _EVERYTHING if p.suffix == ".py" and not ast.get_docstring(tree(p)) and p.read_text().strip()
    ]
    assert not silent, (
        f"{silent}: begin with a docstring that says what the module decides or owns, and what it never does"
    )


def test_nothing_is_left_for_later() -> None:
    here = ROOT / "tests/house/test_limits.py"
    marked = [shown(path) for path in _EVERYTHING if path != here and _UNFINISHED.search(path.read_text())]
    assert not marked, f"{marked}: finish it or open an issue; the source is not a list of wishes"
