"""Control groups: where an instance's processes are counted, bounded and killed together. Version 1, 2, or neither.

Owns the folders below its own root in each hierarchy; never touches a group that it did not make. Version 1 wants one folder in
each of four hierarchies; version 2 one folder; on a hybrid system (v1 with an almost empty v2 beside it) v1 does the bounding.
"""

import contextlib
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from halftrack_model.resources import Resources

V1_CONTROLLERS = ("cpu", "memory", "pids", "freezer")
CPU_PERIOD_US = 100_000  # the kernel's own
LIMIT_OF = {  # what a limit is called, by the file without which it is none; swap may be off, which bounds it, too
    "memory.limit_in_bytes": "memory",
    "memory.max": "memory",
    "cpu.cfs_quota_us": "cpu",
    "cpu.max": "cpu",
    "pids.max": "pids",
}
PIDS_MAX = 4096  # a vertex needs a few dozen threads; a fork bomb must not take the host's pids (32,768 by default)
REMOVE_ATTEMPTS = 50  # with 10 ms between: the kernel frees a group a moment after its last process was reaped


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders in which groups are made, one for each hierarchy in use; none when there is no usable hierarchy."""

    roots: tuple[Path, ...]
    unified: bool


def layout(mounts: str, name: str) -> Layout:
    """Where groups belong, from the text of `/proc/self/mounts`. `name` is our folder's path below each hierarchy's top.

    At the top, not below the agent's own service: systemd could not start a service again whose group still has sub-groups.
    """
    v1: dict[str, Path] = {}
    v2: Path | None = None
    for line in mounts.splitlines():
        _, point, kind, options, *_ = line.split(" ")
        if kind == "cgroup2":
            v2 = Path(point)
        elif kind == "cgroup":
            v1 |= {controller: Path(point) for controller in options.split(",") if controller in V1_CONTROLLERS}
    if len(v1) == len(V1_CONTROLLERS):
        return Layout(tuple(dict.fromkeys(v1[controller] / name for controller in V1_CONTROLLERS)), False)
    if v2 is not None and not v1:
        return Layout((v2 / name,), True)
    return Layout((), False)


class Cgroups:
    """The groups of one agent's instances. `problem` says why there are none, in words for the site's owner."""

    def __init__(self, name: str) -> None:
        self.problem = ""
        self._layout = layout(Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace"), name)
        if not self._layout.roots:
            self.problem = (
                "no control groups: neither cgroup v2 nor all of cpu, memory, pids and freezer of v1 are mounted"
            )
        try:
            for root in self._layout.roots:
                root.mkdir(parents=True, exist_ok=True)
                if self._layout.unified:
                    _enable(root)
        except OSError as error:
            self.problem = f"no control groups: {error.filename or self._layout.roots[0]}: {error.strerror}"
            self._layout = Layout((), False)

    def make(self, instance: str, resources: Resources | None = None) -> tuple[Path, ...]:
        """The group of `instance` in every hierarchy, bounded; returns the `cgroup.procs` files to enter. Empty when there is none.

        A bound that this host cannot give is told as a problem, and the instance runs without it: a stream that stands still for want of
        a limit would be the worse of the two.
        """
        folders = self._folders(instance)
        bounds = limits(resources or Resources(), self._layout.unified)
        try:
            for folder in folders:
                folder.mkdir(exist_ok=True)
            set_ = {
                name for name, value in ({"pids.max": str(PIDS_MAX)} | bounds).items() if _set(folders, name, value)
            }
        except OSError as error:
            self.problem = f"no control group for {instance}: {error.strerror}"
            return ()
        if lacking := sorted({LIMIT_OF[name] for name in bounds.keys() - set_ if name in LIMIT_OF}):
            what = " and ".join(lacking)
            self.problem = f"{instance} is not bounded in {what}: this host's control groups have no such limit"
        return tuple(folder / "cgroup.procs" for folder in folders)

    def procs(self, instance: str) -> tuple[str, ...]:
        """The files by which a process joins the instance's groups."""
        return tuple(str(folder / "cgroup.procs") for folder in self._folders(instance))

    def pids(self, instance: str) -> tuple[int, ...]:
        """The processes in the group now; none when there is no group."""
        for folder in self._folders(instance):
            with contextlib.suppress(OSError):
                return tuple(int(pid) for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split())
        return ()

    def kill(self, instance: str) -> None:
        """SIGKILL to every process in the group. Where the kernel cannot do it at once, until none is left that could fork."""
        for folder in self._folders(instance):
            if (switch := folder / "cgroup.kill").exists():
                with contextlib.suppress(OSError):
                    switch.write_text("1", encoding="ascii")
            with contextlib.suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)

    def remove(self, instance: str) -> bool:
        """Take the group away; blocks for up to half a second. False when a process keeps it."""
        for _ in range(REMOVE_ATTEMPTS):
            left = [folder for folder in self._folders(instance) if not _removed(folder)]
            if not left:
                return True
            self.kill(instance)
            time.sleep(0.01)
        return False

    def sweep(self, kept: Collection[str]) -> tuple[str, ...]:
        """Take away empty groups that belong to none of `kept`; returns the others, in which processes run that nobody knows."""
        found = {path.name for root in self._layout.roots for path in root.iterdir() if path.is_dir()} - set(kept)
        return tuple(name for name in sorted(found) if [True for folder in self._folders(name) if not _removed(folder)])

    def close(self) -> None:
        """Leave no empty folder behind; groups with processes in them stay."""
        for root in self._layout.roots:
            with contextlib.suppress(OSError):
                root.rmdir()
                root.parent.rmdir()

    def _folders(self, instance: str) -> tuple[Path, ...]:
        """None for who has no name: that would be the folder of all."""
        return tuple(root / instance for root in self._layout.roots) if instance else ()


def limits(resources: Resources, unified: bool) -> dict[str, str]:
    """The files of a group that hold these limits, in the order in which they must be written. What is not said is not bounded.

    Swap is no way around a limit of memory. Under version 2 all of the group dies together: half a program is of no use to anybody.
    """
    files: dict[str, str] = {}
    if resources.pids:
        files["pids.max"] = str(resources.pids)
    if resources.memory_bytes and unified:
        files |= {"memory.max": str(resources.memory_bytes), "memory.swap.max": "0", "memory.oom.group": "1"}
    elif resources.memory_bytes:
        names = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
        files |= dict.fromkeys(names, str(resources.memory_bytes))
    if resources.cpu_milli:
        quota = resources.cpu_milli * CPU_PERIOD_US // 1000
        files |= (
            {"cpu.max": f"{quota} {CPU_PERIOD_US}"}
            if unified
            else {"cpu.cfs_period_us": str(CPU_PERIOD_US), "cpu.cfs_quota_us": str(quota)}
        )
    return files


def _set(folders: Collection[Path], name: str, value: str) -> bool:
    """False where no hierarchy has such a file, or the kernel will not have the value."""
    for file in (folder / name for folder in folders):
        if file.exists():
            try:
                file.write_text(value, encoding="ascii")
            except OSError:
                return False
            return True
    return False


def _enable(root: Path) -> None:
    """Turn on what is offered, from the top down. A container's top has processes of its own and may not: it bounds nothing then.

    One by one: the kernel takes all of a line or nothing, and one real-time process on the host is enough to keep `cpu` off.
    """
    for folder in (root.parent.parent, root.parent, root):
        for name in ("cpu", "memory", "pids"):
            with contextlib.suppress(OSError):
                if name in (folder / "cgroup.controllers").read_text(encoding="ascii").split():
                    (folder / "cgroup.subtree_control").write_text(f"+{name}", encoding="ascii")


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
