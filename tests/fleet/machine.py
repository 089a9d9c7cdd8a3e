"""A machine with a systemd of its own as its first process: a container of systemd-nspawn over this machine's files, which it cannot change.

What it writes is in memory and outlives its reboots, as a disk would; what its own programs had not yet written to the kernel is lost in a power cut, what the kernel
had is not (`tests/crash` loses that, too). Owns its root, its process and its control groups; knows nothing of Halftrack but where it is installed.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from examples.lab import kernel
from halftrack_agent.drivers import cgroups

HIERARCHIES = Path("/sys/fs/cgroup")
# What a container has no use for, and what would only make its boot longer.
MASKED = (
    "console-getty.service",
    "dbus.service",
    "dbus.socket",
    "getty.target",
    "machines.target",
    "systemd-logind.service",
    "systemd-random-seed.service",
    "systemd-sysusers.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-user-sessions.service",
)
REBOOTED = 133  # nspawn's way to say that its machine wants to be started again
WAIT_S = 60.0


class Failed(Exception):  # noqa: N818 - reads as what it is where it is raised
    """Something has not come about; the message says what, and what was seen."""


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_S) -> Any:
    """The first true answer."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)
    return found


class Machine:
    """One of the fleet. `unified`: it has control groups of version 2 alone, as a host of today, else those of version 1."""

    def __init__(self, name: str, folder: Path, group: str, unified: bool = True) -> None:
        self.name, self.folder, self.unified = name, folder, unified
        self.root, self.log = folder / "root", folder / "console.log"
        self.binds: dict[str, str] = {}  # a folder of the machine, and what is there, to be read only
        self.disks: dict[str, str] = {}  # the same, to be written
        self._group = group
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.switched_on_s = 0.0
        for part in ("written", "work", "root"):
            (folder / part).mkdir(parents=True)
        options = f"lowerdir=/,upperdir={folder}/written,workdir={folder}/work"
        kernel.mount("overlay", str(self.root), "overlay", 0, options)
        shutil.rmtree(self.root / "etc/systemd/system")
        self.units = self.root / "etc/systemd/system"
        self.units.mkdir()
        for unit in MASKED:
            (self.units / unit).symlink_to("/dev/null")
        shutil.rmtree(self.root / "var/log/journal", ignore_errors=True)
        (self.root / "var/log/journal").mkdir()
        (self.root / "etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        (self.root / "etc/hostname").write_text(f"{name}\n")
        if not unified:
            self._writable_groups()

    def _writable_groups(self) -> None:
        """nspawn gives controllers of version 1 to nobody inside; on a real host they are root's."""
        unit = "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n[Service]\nType=oneshot\n"
        lines = [f"ExecStart=/bin/mount -o remount,rw,bind /sys/fs/cgroup/{name}\n" for name in cgroups.V1_CONTROLLERS]
        (self.units / "groups.service").write_text(unit + "".join(lines))
        (self.units / "sysinit.target.wants").mkdir()
        (self.units / "sysinit.target.wants/groups.service").symlink_to("../groups.service")

    def install(self, unit: Path, *, enabled: bool) -> None:
        """A unit file, as it is; `enabled`: as by `systemctl enable`."""
        shutil.copy(unit, self.units / unit.name)
        if enabled:
            wants = self.units / "multi-user.target.wants"
            wants.mkdir(exist_ok=True)
            (wants / unit.name).symlink_to(f"../{unit.name}")

    # ----------------------------------------------------------------------------------------------------------- power

    def boot(self) -> None:
        """Switch it on; returns when its systemd answers."""
        self.switch_on()
        self.wait_booted()

    def switch_on(self) -> None:
        """Begin to boot."""
        self.switched_on_s = time.monotonic()
        self._leader, self._nspawn = 0, self._switched_on()

    def wait_booted(self) -> None:
        """Return when its systemd answers."""
        until(self._answers, f"{self.name} boots; see {self.log}")

    def _switched_on(self) -> subprocess.Popen[bytes]:
        options = [f"--bind-ro={source}:{target}" for target, source in self.binds.items()]
        options += [f"--bind={source}:{target}" for target, source in self.disks.items()]
        command = [
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--settings=no", "--link-journal=no"),
            "--capability=CAP_NET_ADMIN",  # of its own network only, as on a host; nspawn gives it with networks that it makes itself
            *("--resolv-conf=off", "--timezone=off", f"--hostname={self.name}", f"--directory={self.root}"),
            *(f"--network-namespace-path=/run/netns/{self.name}", *options),
            *("--boot", "systemd.unit=multi-user.target", "systemd.show_status=no"),
        ]
        environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": str(int(self.unified))}
        groups = [root / self._group / self.name for root in _roots()]
        for folder in groups:
            folder.mkdir(parents=True, exist_ok=True)

        def enter() -> None:
            for folder in groups:
                (folder / "cgroup.procs").write_text("0")

        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                preexec_fn=enter,  # noqa: PLW1509 - this process has no thread that holds anything
            )

    def _answers(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            raise Failed(f"{self.name} does not boot: {self.log.read_text(errors='replace')[-2000:]}")
        self._leader = self._first()
        return bool(self._leader) and Path(f"/proc/{self._leader}/root/run/systemd/private").exists()

    def _first(self) -> int:
        """The machine's first process, seen from outside: the one child of nspawn's that is number 1 in there."""
        assert self._nspawn is not None
        with contextlib.suppress(OSError, ValueError):
            for child in Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split():
                status = Path(f"/proc/{child}/status").read_text()
                numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
                if numbers[-1] == "1" and len(numbers) > 2:
                    return int(child)
        return 0

    def reboot(self) -> None:
        """In order, by its own systemd; returns when the next one answers."""
        self.run("systemctl", "--no-block", "reboot")
        assert self._nspawn is not None
        status = self._nspawn.wait(WAIT_S)
        if status != REBOOTED:
            raise Failed(f"{self.name} should reboot, and ended with {status}")
        self.boot()

    def power_cut(self) -> None:
        """Everything in it ends at once, in the middle of whatever it does."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        if self._leader:
            os.kill(
                self._leader, signal.SIGKILL
            )  # the kernel takes all the others with it, before anybody can say a word
        else:
            self._nspawn.kill()
        self._nspawn.wait(WAIT_S)

    # ---------------------------------------------------------------------------------------------------------- inside

    def run(self, *argv: str, check: bool = True) -> str:
        """A command in the machine, as its root; what it has printed."""
        enter = ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_IGNORE_CHROOT": "1"}
        done = subprocess.run(
            [*enter, "--root", "--wd", "--", *argv], env=environment, capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise Failed(f"{self.name}: {' '.join(argv)} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def path(self, path: str) -> Path:
        """A file of the running machine, its own mounts included."""
        return Path(f"/proc/{self._leader}/root{path}")

    def write(self, path: str, text: str) -> None:
        """To a kernel's file, by a process of the machine: numbers of processes are its own."""
        self.run("/usr/bin/python3", "-c", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", path, text)

    def property(self, unit: str, name: str) -> str:
        """What its systemd says of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str) -> str:
        """What a unit has said since it was installed, over all boots."""
        return self.run("journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={unit}", check=False)

    def signal(self, pid: int, number: int) -> None:
        """To a process by the number that it has in there."""
        self.run("kill", f"-{number}", str(pid))

    def drop_in(self, unit: str, settings: Mapping[str, str]) -> None:
        """Say something else of a unit's service, as its administrator would; none: take it back."""
        folder = self.units / f"{unit}.d"
        shutil.rmtree(folder, ignore_errors=True)
        if settings:
            folder.mkdir()
            lines = [f"{name}={value}\n" for name, value in settings.items()]
            (folder / "trial.conf").write_text("[Service]\n" + "".join(lines))
        self.run("systemctl", "daemon-reload")


def _roots() -> list[Path]:
    """The top of each hierarchy of control groups; `cpuset` of version 1 wants to be furnished first, and bounds nothing here."""
    found = [path.parent for path in sorted(HIERARCHIES.glob("*/cgroup.procs")) if path.parent.name != "cpuset"]
    unified = [path for path in found if (path / "cgroup.controllers").exists()]
    return unified + [path for path in found if path not in unified] if found else [HIERARCHIES]
