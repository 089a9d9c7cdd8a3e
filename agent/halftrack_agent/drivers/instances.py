"""An instance's folder, `STATE/instances/WORKLOAD`: the only thing that agent and shim share, and what adoption reads.

    order          what the shim executes (written before it starts, as spec.json); and the sums of run.json and hosts
    spec.json      what the agent wants to know about it later
    lock           held by the shim for as long as it lives: no pid can be mistaken for it
    instance.json  who the workload and the shim are (written before the workload executes)
    leaving        there once it was told to stop: it will end, whoever wants it again meanwhile
    exit.json      how it ended (written by the shim, last; the room for it is taken before the workload executes)
    ended.json     the same of an exit of its own, and whose it was
    run.json       the data plane's own orders
    hosts          what stands where its /etc/hosts is, if it is to know other names

and below RUN, where an ending is told that the disk of STATE did not take (`rooms`):

    ended.json

Each has a sum (`procfs`), or is named with its sum in the order. A shim executes nothing of which a byte has changed; of a damaged record, another one tells
the same: `order` what spec.json says, the processes themselves (`traces`) what instance.json says, `ended.json` what both spec.json and exit.json say.

The folder lies below STATE, not below RUN, although it speaks about processes: how an instance ended must outlive a reboot, else
a finished job would run again, and a release that has failed its trial would be tried again. Everything else in it is void after
a reboot, which the boot id tells.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any

from halftrack_agent import files
from halftrack_agent.drivers import procfs
from halftrack_agent.drivers.egress import Door
from halftrack_agent.drivers.processes import Process
from halftrack_model.errors import HostFault
from halftrack_model.resources import Resources

GONE_TRIES = 100  # with 10 ms between: from a shim's last line to its end, on a host that does much else
_INT_MAX = (1 << 63) - 1
_ENDING: dict[str, type | tuple[type, ...]] = {"code": (int, NoneType), "signal": (int, NoneType), "detail": str}


@dataclass(frozen=True, slots=True)
class Launch:
    """How a workload is to be run. `orders`, when not empty, is written to `run.json` in the instance's folder first.

    `doors` lead out of a network of its own: nothing else does. `hidden` files of the host look empty to it. `feeds` are sockets that it
    inherits, bound in the host's network (`drivers.binding`). `resources` bound it where the host has control groups. `stream`: `argv` is the data
    plane's runner, and need not be executed where a process that has loaded it can fork. `hosts`, when not empty, is its /etc/hosts.
    """

    argv: tuple[str, ...]
    environment: dict[str, str]
    own_network: bool
    orders: bytes = b""
    doors: tuple[Door, ...] = ()
    hidden: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    resources: Resources | None = None
    stream: bool = False
    hosts: str = ""


@dataclass(frozen=True, slots=True)
class Ordered:
    """What `spec.json` says that outlives the agent that wrote it."""

    workload: str
    digest: str
    cgroup: str
    started_ms: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Who:
    """What `instance.json` says."""

    workload: Process
    shim: Process


@dataclass(frozen=True, slots=True)
class Ending:
    """What `exit.json` says; neither a code nor a signal when nobody saw how it ended."""

    code: int | None
    signal: int | None
    detail: str


class Folder:
    """One instance's folder. Reading methods return None for what is not there (yet). `spare`: where its ending stands if it could not be written here."""

    def __init__(self, path: Path, spare: Path | None = None) -> None:
        self.path, self._spare = path, spare

    def write_order(
        self, ordered: Ordered, launch: Launch, log: Path, log_bytes: int, cgroups: tuple[Path, ...]
    ) -> None:
        """Begin a new instance: nothing of an earlier one stays."""
        self.remove()
        self.path.mkdir(
            mode=0o700, parents=True, exist_ok=True
        )  # not durable, as all that follows: a start must not wait for a disk
        beside = {"run.json": launch.orders, "hosts": launch.hosts.encode(errors="surrogateescape")}
        beside = {name: data for name, data in beside.items() if data}
        for name, data in beside.items():
            files.replace(self.path / name, data, mode=0o644 if name == "hosts" else 0o600, durable=False)
        fields = [
            ("workload", ordered.workload),
            ("digest", ordered.digest),
            ("log", str(log)),
            ("log_bytes", str(log_bytes)),
            ("boot_id", ordered.boot_id),
            ("started_ms", str(ordered.started_ms)),
        ]
        fields += [("argv", word) for word in launch.argv]
        fields += [("environment", f"{name}={value}") for name, value in launch.environment.items()]
        fields += [("cgroup", str(procs)) for procs in cgroups]
        fields += [("door", f"{near}={target}") for near, target in launch.doors]
        fields += [("hidden", path) for path in launch.hidden]
        fields += [("feed", words) for words in launch.feeds]
        fields += [("own_network", "")] if launch.own_network else []
        fields += [("spare", str(self._spare))] if self._spare is not None else []
        fields += [("hosts", str(self.path / "hosts"))] if launch.hosts else []
        fields += [("whole", f"{procfs.sum_of(data)} {self.path / name}") for name, data in beside.items()]
        if launch.resources is not None and launch.resources.memory_bytes and cgroups:
            fields += [("memory", str(launch.resources.memory_bytes))]
        files.replace(self.path / "order", procfs.write_order(fields), durable=False)
        self._write_ordered(ordered)

    def write_orders(self, orders: bytes, before: Ordered, digest: str) -> Ordered:
        """Other orders for who runs. In this sequence: an agent that dies in between does it again, never too little."""
        ordered = replace(before, digest=digest)
        files.replace(self.path / "run.json", orders, durable=False)
        if words := self._order():
            fields = [(name, value) for name, values in (words | {"digest": [digest]}).items() for value in values]
            files.replace(self.path / "order", procfs.write_order(fields), durable=False)
        self._write_ordered(ordered)
        return ordered

    def _write_ordered(self, ordered: Ordered) -> None:
        tree: dict[str, str | int | None] = {
            "workload": ordered.workload,
            "digest": ordered.digest,
            "cgroup": ordered.cgroup,
            "started_ms": ordered.started_ms,
            "boot_id": ordered.boot_id,
        }
        files.replace(self.path / "spec.json", procfs.record(tree), durable=False)

    def ordered(self) -> Ordered | None:
        """The order; from what the shim was told where `spec.json` is damaged, which is then mended."""
        tree = self._read("spec.json", workload=str, digest=str, cgroup=str, started_ms=int, boot_id=str)
        if tree is not None:
            return Ordered(tree["workload"], tree["digest"], tree["cgroup"], tree["started_ms"], tree["boot_id"])
        words = self._order() if (self.path / "spec.json").exists() else {}
        try:
            (name,), (digest,), (boot_id,) = words["workload"], words["digest"], words["boot_id"]
            ordered = Ordered(name, digest, self.group(), int(words["started_ms"][0]), boot_id)
        except (KeyError, ValueError):
            if (tree := self._ended()) is None:
                return None
            ordered = Ordered(tree["workload"], tree["digest"], "", 0, tree["boot_id"])
        with contextlib.suppress(HostFault):
            self._write_ordered(ordered)
        return ordered

    def found(self, boot: str, now_ms: int) -> tuple[Ordered, Ending | None] | None:
        """What an agent that starts finds here; None for what nobody needs: half written, half removed, or cut short by a reboot."""
        ordered, ending = self.ordered(), self.ending()
        if ordered is None or ordered.workload != self.path.name or (ordered.boot_id != boot and ending is None):
            if not self.held():
                return None
            # Somebody runs there, whatever a damaged record says. As nothing that is wanted, so that it is replaced in order.
            return Ordered(self.path.name, "", self.group(), now_ms, boot), None
        if ending is not None and ending.code is not None:
            self._mend(ordered, ending)
        if ordered.boot_id != boot:
            ordered = replace(ordered, started_ms=0)  # another boot's clock
        return ordered, ending

    def group(self) -> str:
        """The name of its control group as its shim was told, for when nothing else says it; empty when that is not one of this instance."""
        name = Path(self._order().get("cgroup", [""])[0]).parent.name
        prefix, _, number = name.rpartition(".")
        return name if prefix == self.path.name and number.isdecimal() else ""

    def _order(self) -> dict[str, list[str]]:
        """What the shim was told; nothing when that is damaged."""
        try:
            return procfs.read_order(procfs.read(f"{self.path}/order"))
        except (OSError, ValueError):
            return {}

    def who(self) -> Who | None:
        """The processes, once they are known."""
        fields = {"pid": int, "start_ticks": int, "shim_pid": int, "shim_start_ticks": int}
        tree = self._read("instance.json", workload=str, digest=str, boot_id=str, **fields)
        if tree is None:
            return None
        boot = tree["boot_id"]
        return Who(
            Process(tree["pid"], tree["start_ticks"], boot), Process(tree["shim_pid"], tree["shim_start_ticks"], boot)
        )

    def told(self) -> bool:
        """Is there a record of who they are, damaged or not?"""
        return (self.path / "instance.json").exists()

    def leave(self) -> None:
        """It is about to be told to stop; an agent that comes after this one shall know."""
        files.replace(self.path / "leaving", b"", durable=False)

    def leaves(self) -> bool:
        """Was it told to stop?"""
        return (self.path / "leaving").exists()

    def ending(self) -> Ending | None:
        """How it ended, if the shim could still tell."""
        tree = self._ended() or self._read("exit.json", **_ENDING)
        if tree is None and self._spare is not None:
            tree = Folder(self._spare)._ended()
        return None if tree is None else Ending(tree["code"], tree["signal"], tree["detail"])

    def _ended(self) -> dict[str, Any] | None:
        return self._read("ended.json", workload=str, digest=str, boot_id=str, **_ENDING)

    def _mend(self, ordered: Ordered, ending: Ending) -> None:
        """Both records of an exit of its own, where one was damaged: the next byte that changes may be the other's."""
        tree: dict[str, str | int | None] = {"code": ending.code, "signal": ending.signal, "detail": ending.detail}
        whose: dict[str, str | int | None] = {
            "workload": ordered.workload,
            "digest": ordered.digest,
            "boot_id": ordered.boot_id,
        }
        with contextlib.suppress(HostFault):
            if self._read("exit.json", **_ENDING) is None:
                files.replace(self.path / "exit.json", procfs.record(tree))
            if self._ended() is None:
                files.replace(self.path / "ended.json", procfs.record(whose | tree))

    def lock(self) -> int | None:
        """The lock's descriptor, locked; None while a shim holds it."""
        fd = files.lockable(self.path / "lock")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return fd

    def held(self) -> bool:
        """Does a shim live here? Asked of a folder of which nothing may be believed, and made no file in."""
        if self.path.name.startswith(".") or not (self.path / "lock").exists():
            return False
        lock = self.lock()
        if lock is not None:
            os.close(lock)
        return lock is None

    def free(self) -> bool:
        """Does nobody live here any more? A shim that has written how it ended is given the moment that it needs to be gone."""
        for _ in range(GONE_TRIES):
            if not self.held():
                return True
            if not any((self.path / name).exists() for name in ("ended.json", "exit.json")):
                return False
            time.sleep(0.01)
        return False

    def set_aside(self, name: str) -> "Folder":
        """Out of the way of the next one; what is left of it, to be removed."""
        aside = self.path.with_name(name)
        with contextlib.suppress(OSError):
            self.path.rename(aside)
        return Folder(aside, self._spare)

    def remove(self) -> None:
        """Take the folder away, and what was told elsewhere of who lived in it."""
        for path in (self.path, self._spare):
            if path is not None:
                shutil.rmtree(path, ignore_errors=True)

    def _read(self, name: str, **fields: type | tuple[type, ...]) -> dict[str, Any] | None:
        """What a file says that has these fields. What is damaged is as if it were not there; without a sum it must have these and no others."""
        try:
            data = (self.path / name).read_bytes()
            tree = json.loads(data)
        except (OSError, ValueError):
            return None
        if not isinstance(tree, dict) or not (procfs.is_whole(data) or tree.keys() == fields.keys()):
            return None
        whole = all(
            field in tree and isinstance(tree[field], kind) and (kind is not int or 0 <= tree[field] <= _INT_MAX)
            for field, kind in fields.items()
        )
        return tree if whole else None
