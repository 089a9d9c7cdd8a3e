"""What a test run could leave behind on a machine, listed before and after so that the difference can be held against it.

Owns the looking, and no cleaning: a leak is a bug of the code under test, to be seen, not swept up. Standard library only, since
`.ci/run` looks (`python3 -m tests.residue`) before anything is installed.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

Footprint = Mapping[str, frozenset[str]]

RUN_MARK = "HALFTRACK_TEST_RUN"
PROCESS = "process"
# Python's own servants, which live as long as the interpreter that they serve.
_SERVANTS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")


def footprint(mark: str, scratch: str) -> Footprint:
    """All that is there now. Processes are only those of the run named `mark` or with `scratch` in their command line."""
    return {
        "network namespace": frozenset(_names(Path("/run/netns"))),
        "mount": frozenset(_mounts()),
        "loop device": frozenset(_loops()),
        "cgroup": frozenset(_cgroups()),
        "shared memory segment": frozenset(_names(Path("/dev/shm"))),
        "nftables table": frozenset(_tables()),
        PROCESS: frozenset(_processes(mark, scratch)),
    }


def left_behind(before: Footprint, after: Footprint) -> list[str]:
    """What `after` has that `before` had not, one sentence each."""
    return [f"{kind} {name}" for kind in after for name in sorted(after[kind] - before.get(kind, frozenset()))]


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        yield line.split()[4]


def _loops() -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        yield f"{backing.parts[3]} ({backing.read_text().strip()})"


def _cgroups() -> Iterator[str]:
    """Whole trees of ours that nobody is in: one with living processes is another run's, or its processes are the trace."""
    root = Path("/sys/fs/cgroup")
    for folder, folders, _ in os.walk(root):
        for name in [name for name in folders if "halftrack" in name]:
            folders.remove(name)  # judged as a whole
            if not _inhabited(Path(folder) / name):
                yield str((Path(folder) / name).relative_to(root))


def _inhabited(group: Path) -> bool:
    try:
        return any(procs.read_text() for procs in group.rglob("cgroup.procs"))
    except OSError:  # it goes while we look
        return True


def _tables() -> list[str]:
    nft = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if nft is None or os.geteuid() != 0:
        return []
    return subprocess.run([nft, "list", "tables"], capture_output=True, text=True, check=False).stdout.splitlines()


def _processes(mark: str, scratch: str) -> Iterator[str]:
    parents: dict[int, int] = {}
    marked: set[int] = set()
    commands: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            commands[pid] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            parents[pid] = int(parent)
            if state == "Z" and parents[pid] != os.getpid():
                continue  # an orphan that has ended: init will reap it
            if scratch in commands[pid] or f"{RUN_MARK}={mark}".encode() in (entry / "environ").read_bytes():
                marked.add(pid)
        except OSError:  # gone meanwhile, or somebody else's
            continue
    for pid in sorted(commands):
        ours = pid in marked or _descends(pid, os.getpid(), parents)
        if (
            ours
            and not _descends(os.getpid(), pid, parents)
            and pid != os.getpid()
            and not any(servant in commands[pid] for servant in _SERVANTS)
        ):
            yield f"{pid} ({commands[pid][:120] or 'ended, not waited for'})"


def _descends(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


if __name__ == "__main__":
    seen = footprint(os.environ.get(RUN_MARK, "none"), "halftrack")
    print("\n".join(sorted(left_behind({}, seen))))
