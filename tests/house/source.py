"""The project's source as the house tests read it: files by component, what they import, how long their functions are."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMPONENTS = ("model", "proto", "controller", "agent", "dataplane")
OUTSIDE = ("tests", "benchmarks", "examples", "tools")

_PYX_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s|c?import\s+([\w.]+))", re.MULTILINE)
_PYX_FUNCTION = re.compile(r"^(\s*)(?:async\s+)?(?:def|cdef|cpdef)\s[^=]*?(\w+)\s*\(.*$")


@dataclass(frozen=True, slots=True)
class Import:
    """One import: the whole dotted name (`from a.b import c` is `a.b.c`), and where."""

    module: str
    line: int


def package(component: str) -> Path:
    """The folder of a component's import package."""
    return ROOT / component / f"halftrack_{component}"


def shown(path: Path) -> str:
    """The path as people write it."""
    return str(path.relative_to(ROOT))


def sources(*components: str) -> list[Path]:
    """Every source file that somebody wrote in these components; generated code left out."""
    found = [path for name in components for kind in ("*.py", "*.pyx") for path in sorted(package(name).rglob(kind))]
    return [path for path in found if package("proto") / "v1" not in path.parents]


def outside() -> list[Path]:
    """Python that is not part of the distribution: tests, benchmarks, examples, tools, set-up."""
    found = [path for name in OUTSIDE for path in sorted((ROOT / name).rglob("*.py"))]
    return [ROOT / "setup.py", *found]


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a Python file."""
    return ast.parse(path.read_text(), shown(path))


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """All imports of a file, those inside of functions too."""
    if path.suffix == ".pyx":
        text = path.read_text()
        matches = _PYX_IMPORT.finditer(text)
        return tuple(Import(m[1] or m[2], text.count("\n", 0, m.start()) + 1) for m in matches)
    return tuple(_python_imports(tree(path)))


def _python_imports(module: ast.Module) -> Iterator[Import]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (Import(f"{node.module or ''}.{alias.name}", node.lineno) for alias in node.names)


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, first line and length of every function."""
    if path.suffix == ".pyx":
        yield from _cython_functions(path.read_text().splitlines())
        return
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def _cython_functions(lines: list[str]) -> Iterator[tuple[str, int, int]]:
    """By indentation: a function ends before the next line that is not deeper than its first."""
    for first, line in enumerate(lines):
        match = _PYX_FUNCTION.match(line)
        if match is None:
            continue
        last = first
        for number in range(first + 1, len(lines)):
            text = lines[number]
            if text.strip() and len(text) - len(text.lstrip()) <= len(match[1]) and not text.lstrip().startswith(")"):
                break
            last = number if text.strip() else last
        yield match[2], first + 1, last - first + 1
