"""Compiles the C core and programs on top of it, for tests; gcc is what the project is built with anyway.

Owns no results: callers say where they go. Never touches the checkout.
"""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "dataplane/halftrack_dataplane/native"
CC, CXX = os.environ.get("CC", "gcc"), os.environ.get("CXX", "g++")
STRICT = ["-Wall", "-Wextra", "-Werror", f"-I{NATIVE}"]


def run(*words: object) -> str:
    """A command's output; its complaint if it fails."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def library(folder: Path) -> Path:
    """libhalftrack_ring.a by its own Makefile."""
    run("make", "-s", "-j2", "-f", NATIVE / "Makefile", f"BUILD={folder}")
    return folder / "libhalftrack_ring.a"


def compiled(program: Path, *words: object) -> Path:
    """A program or shared library, from the sources and options given."""
    run(CC, "-std=gnu11", "-O2", *STRICT, "-o", program, *words)
    return program
