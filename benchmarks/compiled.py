"""The compiled half of the benchmarks: C, Cython and Java, built on the fly into build/bench, where `make clean` finds them.

Owns how each is built, and what a program's last line means. A tool or library that is not here makes its peer Missing.
"""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType

from benchmarks.race import PATIENCE_S, Missing, Wrong

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "benchmarks/native"
CORE = ROOT / "dataplane/halftrack_dataplane/native"
BUILT = ROOT / "build/bench"
DISRUPTOR = Path("/usr/share/java/disruptor.jar")  # Debian's libdisruptor-java
CC = ("gcc", "-O3", "-march=native", "-D_GNU_SOURCE", "-Wall", "-Wextra")


def _newer_than(made: Path, sources: list[Path]) -> bool:
    return not made.exists() or any(source.stat().st_mtime > made.stat().st_mtime for source in sources)


def _sources() -> list[Path]:
    return [*SOURCE.iterdir(), *CORE.glob("*.[ch]")]


def _build(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise Missing(f"no {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.splitlines() or ["it said nothing"]
        raise Missing(f"{command[0]} cannot build it: {next((line for line in lines if 'error' in line), lines[0])}")


@cache
def program(name: str) -> Path:
    """A C program of benchmarks/native; `ours` is built with the ring's own C core, `zeromq` with libzmq."""
    made = BUILT / name
    if _newer_than(made, _sources()):
        BUILT.mkdir(parents=True, exist_ok=True)
        more = {
            "ours": ["-I", str(CORE), *map(str, sorted(CORE.glob("*.c")))],
            "zeromq": ["-lzmq"],
        }
        _build([*CC, "-o", str(made), str(SOURCE / f"{name}.c"), *more.get(name, [])])
    return made


def answer(name: str, *arguments: object) -> float:
    """What a C program measured: the number that it prints."""
    return _number([str(program(name)), *map(str, arguments)])


@cache
def _disruptor() -> list[str]:
    made = BUILT / "DisruptorPeer.class"
    if not DISRUPTOR.exists() or shutil.which("java") is None:
        raise Missing("no libdisruptor-java or no java")
    if _newer_than(made, [SOURCE / "DisruptorPeer.java"]):
        BUILT.mkdir(parents=True, exist_ok=True)
        _build(["javac", "-cp", str(DISRUPTOR), "-d", str(BUILT), str(SOURCE / "DisruptorPeer.java")])
    return ["java", "-cp", f"{DISRUPTOR}:{BUILT}", "DisruptorPeer"]


def disruptor(count: int) -> float:
    """Seconds that the Disruptor takes for `count` frames of 64 B."""
    return _number([*_disruptor(), str(count)])


def _number(command: list[str]) -> float:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise Wrong(f"{command[0]} did not end within {PATIENCE_S} s") from None
    if done.returncode:
        raise Wrong(done.stderr.strip() or f"exit status {done.returncode}")
    return float(done.stdout.split()[-1])


@cache
def checks() -> ModuleType:
    """checks.pyx, imported."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    made = BUILT / f"checks{suffix}"
    if _newer_than(made, [SOURCE / "checks.pyx", SOURCE / "payload.h"]):
        BUILT.mkdir(parents=True, exist_ok=True)
        written = BUILT / "checks.c"
        _build([sys.executable, "-m", "cython", "-3", str(SOURCE / "checks.pyx"), "-o", str(written)])
        include = sysconfig.get_paths()["include"]
        flags = ["-w", "-shared", "-fPIC", "-I", include, "-I", str(SOURCE)]
        _build([*CC, *flags, "-o", str(made), str(written)])
    spec = importlib.util.spec_from_file_location("checks", made)
    if spec is None or spec.loader is None:
        raise Missing(f"{made} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
