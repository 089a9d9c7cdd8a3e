"""A driver on a scratch folder, with real processes, for the tests of the driver and of what it keeps processes from."""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from halftrack_agent import clock
from halftrack_agent.drivers import egress, traces
from halftrack_agent.drivers.cgroups import Cgroups
from halftrack_agent.drivers.exec import ExecDriver
from halftrack_agent.drivers.instances import Folder, Launch
from halftrack_agent.drivers.rooms import Room, Rooms
from halftrack_model.release import StateSchemas
from halftrack_model.workload import Kind, Runs, Workload
from tests.agent_shell.waiting import until


def command(name: str, *argv: str) -> Workload:
    return Workload(name, Kind.SERVICE, Runs.COMMAND, "", "", argv, {}, "", "", "", "1.0.0", StateSchemas("", ()), None)


def python(name: str, code: str) -> Workload:
    return command(name, sys.executable, "-I", "-S", "-c", code)


FOREVER = "import signal\nsignal.pause()"


class Bench:
    """A driver on a scratch folder, and what it has called us for."""

    def __init__(self, folder: Path, own_network: bool = False) -> None:
        self.folder = folder
        self.own_network = own_network
        self.doors: tuple[egress.Door, ...] = ()
        self.hidden: tuple[str, ...] = ()
        self.hosts = ""
        self.orders = b""
        self.spare = Room(folder / "spare", folder / "spare-logs")
        self.deaths: list[int] = []
        self.cgroup = "halftrack-test/" + hashlib.sha256(str(folder).encode()).hexdigest()[:12]

    def driver(self) -> ExecDriver:
        def launch(workload: Workload) -> Launch:
            path = {"PATH": os.environ["PATH"]}
            return Launch(
                workload.argv,
                path,
                self.own_network,
                self.orders,
                self.doors,
                self.hidden,
                resources=workload.resources,
                hosts=self.hosts,
            )

        return ExecDriver(
            Rooms(Room(self.folder / "run", self.folder / "logs"), self.spare),
            Cgroups(self.cgroup),
            launch,
            lambda: None,
            self.deaths.append,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ExecDriver]:
        """A driver whose instances are all ended afterwards."""
        driver = self.driver()
        try:
            yield driver
        finally:
            await ended(driver)


async def ended(driver: ExecDriver) -> None:
    for name in driver.seen():
        driver.stop(name)
    await until(lambda: not any(seen.running for seen in driver.seen().values()), "all ended")
    for name in list(driver.seen()):
        driver.forget(name)
    await until(lambda: not driver.busy, "all forgotten")
    await driver.close()


def killed(instances: Path) -> None:
    """Whatever a failed test has left running, by its record, and by its lock where that is damaged or gone."""
    pids = set[int]()
    for folder in map(Folder, instances.glob("*")):
        lock = folder.path / "lock"
        found = (folder.who(), traces.found(lock, clock.boot_id()) if lock.exists() else None)
        pids |= {pid for who in found if who for pid in (who.workload.pid, who.shim.pid)}
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def go(work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work

    asyncio.run(bounded())
