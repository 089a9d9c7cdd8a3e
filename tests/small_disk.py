"""A real file system that is soon full: a tmpfs of so many bytes, which goes with its block. Skips where nobody may mount one."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SETTLE_S = 10.0


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
        _unmounted(disk)


@contextmanager
def loop_disk(disk: Path) -> Iterator[Path]:
    """A real ext4 at `disk`, which is made, on a file beside it; one that its kernel can be made to find at fault (`found_at_fault`)."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        pytest.skip("only root mounts a disk, and e2fsprogs makes it")
    disk.mkdir()
    image = disk.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-O", "^has_journal", str(image)], check=True)
    command = ["mount", "-o", "loop,errors=remount-ro", str(image), str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine has no loop devices for us")
    try:
        yield disk
    finally:
        _unmounted(disk)


def _unmounted(disk: Path) -> None:
    """Whoever was killed there is gone once the kernel has taken it apart, a moment later."""
    end = time.monotonic() + SETTLE_S
    while subprocess.run(["umount", str(disk)], check=False, capture_output=True).returncode:
        if time.monotonic() > end:
            subprocess.run(["umount", str(disk)], check=True)
        time.sleep(0.05)


def found_at_fault(disk: Path) -> None:
    """The kernel has met an error on it: from now on it is read-only, for files that are open, too."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] == str(disk):
            device = fields[fields.index("-") + 2].removeprefix("/dev/")
            Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("1")
            return
    raise AssertionError(f"nothing is mounted at {disk}")
