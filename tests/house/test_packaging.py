"""What a distribution must carry, seen from its declarations; `.ci/run` builds, installs and runs the real thing."""

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house.source import COMPONENTS, ROOT, imports, package, shown, sources, tree

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
UNITS = {
    "halftrack-agent": package("agent") / "halftrack-agent.service",
    "halftrack-controller": package("controller") / "halftrack-controller.service",
}


@pytest.mark.parametrize("name", PROJECT["scripts"])
def test_console_scripts_lead_somewhere(name: str) -> None:
    module, _, function = PROJECT["scripts"][name].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


# Import names that are not the distribution's name with underscores.
_PROVIDES = {
    "backports": "backports.zstd",
    "google": "protobuf",
    "pydantic_core": "pydantic",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "ruamel": "ruamel.yaml",
    "zmq": "pyzmq",
}


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[ ]", text, maxsplit=1)[0] for text in requirements}


def _tried(path: Path) -> set[int]:
    """Lines of imports whose failure is seen to: what they import may be an extra's."""
    if path.suffix == ".pyx":
        return set()
    tries = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Try)]
    caught = [
        node
        for node in tries
        if any(isinstance(h.type, ast.Name) and h.type.id == "ImportError" for h in node.handlers)
    ]
    return {statement.lineno for node in caught for statement in node.body}


def test_everything_that_is_imported_is_a_declared_dependency() -> None:
    declared = _names(PROJECT["dependencies"])
    extras = _names(
        [text for name, texts in PROJECT["optional-dependencies"].items() if name != "dev" for text in texts]
    )
    later = {"compression"}  # the standard library's, from Python 3.14 on
    known = set(sys.stdlib_module_names) | later | {f"halftrack_{component}" for component in COMPONENTS}
    undeclared = set()
    for path in sources(*COMPONENTS):
        tried = _tried(path)
        for entry in imports(path):
            top = entry.module.partition(".")[0]
            allowed = declared | extras if entry.line in tried else declared
            if top not in known and _distribution(top) not in allowed and not _cython(path, top):
                undeclared.add(f"{shown(path)}: {top}")
    assert not undeclared, f"{sorted(undeclared)}: a user's installation has only what pyproject.toml asks for"


def _distribution(top: str) -> str:
    return _PROVIDES.get(top, top.replace("_", "-"))


def _cython(path: Path, top: str) -> bool:
    return path.suffix == ".pyx" and top in ("libc", "cpython", "cython", "posix")


@pytest.mark.parametrize("component", COMPONENTS)
def test_components_are_typed_and_introduce_themselves(component: str) -> None:
    assert (package(component) / "py.typed").exists(), "without it, no user's type checker believes our annotations"
    assert (ROOT / component / "README.md").exists(), "a component says at its door what it owns"


def test_the_changelog_knows_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert PROJECT["version"] in headings or headings[:1] == ["Unreleased"]


def test_the_licence_is_what_the_metadata_says() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]


@pytest.mark.parametrize("script", ["tools/bootstrap", "tools/test", ".ci/run"])
def test_scripts_are_executable_and_parse(script: str) -> None:
    path = ROOT / script
    assert path.stat().st_mode & 0o111, f"chmod +x {script}"
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert "set -euo pipefail" in path.read_text()


@pytest.mark.parametrize("name", UNITS)
def test_units_are_what_systemd_accepts(name: str, tmp_path: Path) -> None:
    unit = UNITS[name].read_text()
    started = re.search(r"^ExecStart=(\S+)", unit, re.MULTILINE)
    assert started is not None
    assert Path(started[1]).name == name
    assert name in PROJECT["scripts"]
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("systemd-analyze is not here")
    # The unit names the place where the documented installation puts the program: this machine has it elsewhere.
    copy = tmp_path / f"{name}.service"
    copy.write_text(unit.replace(started[1], sys.executable))
    seen = subprocess.run([verifier, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    complaints = [line for line in seen.stderr.splitlines() if copy.name in line]
    assert seen.returncode == 0, seen.stderr
    assert not complaints
