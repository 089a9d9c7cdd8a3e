"""A real file system that is soon full: a tmpfs of so many bytes, which goes with its block. Skips where nobody may mount one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def grown(disk: Path, size: str) -> None:
    """Somebody makes room."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@contextmanager
def small_disk(disk: Path, size: str) -> Iterator[Path]:
    """Mounted at `disk`, which is made; `size` as mount(8) reads it."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a disk")
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets us mount nothing")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)
