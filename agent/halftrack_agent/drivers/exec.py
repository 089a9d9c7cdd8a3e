"""The exec driver: instances as processes, each below a shim that outlives the agent.

Owns the instances' folders, logs, control groups and descriptors, and the truth about who runs: `seen()` costs no system call,
because the death of a process wakes the loop through its pidfd. Every order is idempotent and returns at once; what takes time
goes on in tasks. Never decides that something should run or stop.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Awaitable, Callable

from halftrack_agent import clock
from halftrack_agent.drivers import processes, traces
from halftrack_agent.drivers.cgroups import Cgroups
from halftrack_agent.drivers.instances import Ending, Folder, Launch, Ordered, Who
from halftrack_agent.drivers.meter import Used, used
from halftrack_agent.drivers.processes import Process
from halftrack_agent.drivers.rooms import Rooms
from halftrack_agent.drivers.shim import rotated, tail_line
from halftrack_agent.drivers.starting import Shim, Starter, readable
from halftrack_agent.events import InstanceSeen
from halftrack_model.errors import HostFault, InvalidInput
from halftrack_model.workload import Workload

GRACE_S = 2.0  # between SIGTERM and SIGKILL: a member writes a last snapshot in it, a swap drains for a second
READY_S = 10.0  # a shim that has not told who it is by then never will; measured: 30 ms
LOOK_S = 0.2  # between two looks for who cannot be waited for
LOG_BYTES = 4 << 20  # per file; two files an instance
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.@+_-]{0,199}")


class _Instance:
    """One instance. `ending` is None while it runs (or is being started); `shim` and `work` are pidfds, -1 when not held."""

    def __init__(self, folder: Folder, ordered: Ordered) -> None:
        self.folder = folder
        self.ordered = ordered
        self.who: Who | None = None
        self.ending: Ending | None = None
        self.shim = -1
        self.work = -1
        self.started: Shim | None = None  # by us; None for those that an earlier agent started
        self.known = asyncio.Event()  # who it is, or that it ended
        self.ended = asyncio.Event()
        self.leaving = False  # it was told to stop
        self.stopping: asyncio.Task[None] | None = None


class ExecDriver:
    """All instances of this host. `launch` says how to run a workload; `woken` is called when anything has changed, `died` with
    the pid when a workload's process is gone (rings held by it can then be freed)."""

    def __init__(
        self,
        rooms: Rooms,
        cgroups: Cgroups,
        launch: Callable[[Workload], Launch],
        woken: Callable[[], None],
        died: Callable[[int], None],
    ) -> None:
        self._rooms = rooms
        rooms.usual.made()
        self._cgroups, self._launch, self._woken, self._died = cgroups, launch, woken, died
        self._starter = Starter()
        self._instances: dict[str, _Instance] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._boot = clock.boot_id()
        self._troubles: dict[str, str] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """What this host cannot do for its instances, in words for the site's owner."""
        return tuple(filter(None, (self._cgroups.problem, *(self._troubles[key] for key in sorted(self._troubles)))))

    def seen(self) -> dict[str, InstanceSeen]:
        """Every instance that runs, is being started, or has ended and was not forgotten."""
        return {name: _seen(instance) for name, instance in self._instances.items()}

    @property
    def busy(self) -> bool:
        """Is any order still being carried out, clearing up included?"""
        return bool(self._tasks)

    def pids(self) -> dict[str, int]:
        """The processes of running instances."""
        return {n: i.who.workload.pid for n, i in self._instances.items() if i.who is not None and i.ending is None}

    def groups(self, name: str) -> tuple[str, ...]:
        """The files by which a process joins the groups of a running instance."""
        instance = self._instances.get(name)
        return () if instance is None else self._cgroups.procs(instance.ordered.cgroup)

    def used(self, name: str) -> Used | None:
        """What the processes of a running instance have used so far; None when it does not run."""
        instance = self._instances.get(name)
        if instance is None or instance.who is None or instance.ending is not None:
            return None
        return used(self._cgroups.pids(instance.ordered.cgroup) or (instance.who.workload.pid,))

    # ----------------------------------------------------------------------------------------------------- adoption

    async def adopt(self) -> tuple[str, ...]:
        """Find the instances that an earlier agent started; returns the names of those that still run (R2)."""
        for path in self._rooms.found():
            folder = self._rooms.folder(path)
            found = folder.found(self._boot, clock.boot_ms())
            if found is None:
                # Half written, half removed, or cut short by a reboot: nothing was told elsewhere.
                Folder(path).remove()
                continue
            ordered, ending = found
            instance = self._instances[ordered.workload] = _Instance(folder, ordered)
            if ending is not None:
                self._end(instance, ending)
            elif folder.held():
                await self._adopt_shimmed(instance)
            else:
                self._adopt_orphan(instance)
            if instance.ending is None and folder.leaves():
                self.stop(ordered.workload)  # the agent before us may not have lived to insist
        known = [instance.ordered.cgroup for instance in self._instances.values()]
        # R3: what is not known is reported, not killed.
        for group in await asyncio.to_thread(self._cgroups.sweep, known):
            self._troubles[group] = f"processes that no instance accounts for run in the control group {group}"
        return tuple(name for name, instance in self._instances.items() if instance.ending is None)

    async def _adopt_shimmed(self, instance: _Instance) -> None:
        """A shim is alive. The agent before us may have died so early that it has not told yet who it is; or what it has told is damaged."""
        folder, end_ms = instance.folder, clock.boot_ms() + int(READY_S * 1000)
        while clock.boot_ms() < end_ms:
            if not folder.held():
                return self._adopt_orphan(instance)
            who, told = folder.who(), folder.told()
            if told and (who is None or not processes.alive(who.shim, self._boot)):
                who = await asyncio.to_thread(traces.found, folder.path / "lock", self._boot)
            if who is not None:
                return self._know(instance, who)
            await asyncio.sleep(LOOK_S if told else 0.02)
        await asyncio.to_thread(self._cgroups.kill, instance.ordered.cgroup)
        name = instance.ordered.workload
        self._trouble(instance, f"{name}: its shim lives and cannot be found; until it ends no other is started")
        self._spawn(self._outlive(instance))
        return None

    async def _outlive(self, instance: _Instance) -> None:
        """Whoever holds that lock may have begun the workload, or may yet."""
        while instance.folder.held():  # noqa: ASYNC110 - the kernel tells nobody of a lock that is let go
            await asyncio.sleep(LOOK_S)
        self._adopt_orphan(instance, "its shim never told who it is")

    def _adopt_orphan(self, instance: _Instance, else_text: str = "it vanished while no agent was running") -> None:
        """No shim. The workload may live on all the same; then it runs, and only its exit will go unseen."""
        who = instance.folder.who()
        if instance.folder.ending() is None and who is not None and processes.alive(who.workload, self._boot):
            self._know(instance, who)
        else:
            self._end(instance, instance.folder.ending() or Ending(None, None, else_text))

    # -------------------------------------------------------------------------------------------------------- start

    def start(self, workload: Workload) -> None:
        """Start an instance; a no-op while one of this name runs or is being started."""
        held = self._instances.get(workload.name)
        if held is not None and held.ending is None:
            return
        if not _SAFE_NAME.fullmatch(workload.name):
            raise InvalidInput("bad-name", f"{workload.name!r} cannot name an instance: it becomes a folder")
        now = clock.boot_ms()
        ordered = Ordered(workload.name, workload.digest(), f"{workload.name}.{now}", now, self._boot)
        instance = _Instance(self._rooms.folder(self._rooms.now().instances / workload.name), ordered)
        self._instances[workload.name] = instance
        self._spawn(self._start(instance, workload))

    async def _start(self, instance: _Instance, workload: Workload) -> None:
        ready: list[int] = []
        try:
            ready += os.pipe()
            launch = self._launch(workload)
            instance.started = await asyncio.to_thread(self._begin, instance, launch, ready[1])
            os.close(ready.pop())
            async with asyncio.timeout(READY_S):
                await readable(ready[0])
        except Exception as error:  # noqa: BLE001 - a host without a descriptor or thread left as well: what has not begun must not look as if it ran
            if instance.started is not None:
                return await self._give_up(instance)
            return self._end(instance, Ending(None, None, f"not started: {error}"))
        finally:
            for fd in ready:
                os.close(fd)
        who = instance.folder.who()
        if who is None:
            return self._end(instance, instance.folder.ending() or Ending(None, None, "its shim ended at once"))
        return self._know(instance, who)

    async def _give_up(self, instance: _Instance) -> None:
        """The shim has not answered in time. It must not start the workload after all, beside the one that is started next."""
        if instance.started is not None:
            await asyncio.to_thread(instance.started.kill)
        self._adopt_orphan(instance, "not started: its shim did not answer")

    def _begin(self, instance: _Instance, launch: Launch, ready: int) -> Shim:
        """Write the order and start the shim. Runs in a thread: it may wait for a disk."""
        ordered = instance.ordered
        if not instance.folder.free():
            raise HostFault("instance-lives", f"{instance.folder.path}: the shim of one before still holds its lock")
        log = self._rooms.log(instance.folder.path)
        groups = self._cgroups.make(ordered.cgroup, launch.resources)
        instance.folder.write_order(ordered, launch, log, LOG_BYTES, groups)
        lock = instance.folder.lock()
        if lock is None:
            raise HostFault("instance-lives", f"{instance.folder.path}: another shim holds the lock of this new folder")
        try:
            return self._starter.start(instance.folder.path, ready, lock, stream=launch.stream)
        finally:
            os.close(lock)

    def reorder(self, workload: Workload) -> None:
        """Put other orders where a running instance looks for them; a no-op while it is being started: then it is too early."""
        held = self._instances.get(workload.name)
        if held is None or held.ending is not None or held.who is None:
            return
        held.ordered = held.folder.write_orders(self._launch(workload).orders, held.ordered, workload.digest())

    # --------------------------------------------------------------------------------------------------------- stop

    def stop(self, name: str) -> None:
        """End an instance: SIGTERM to its process group, SIGKILL to all of it after the grace; a no-op when it does not run."""
        instance = self._instances.get(name)
        if instance is None or instance.ending is not None:
            return
        if instance.stopping is None or instance.stopping.done():
            instance.leaving = True
            instance.stopping = self._spawn(self._stop(instance))

    async def _stop(self, instance: _Instance) -> None:
        await instance.known.wait()
        with contextlib.suppress(HostFault):  # a full disk must not keep it running
            instance.folder.leave()
        if instance.ending is not None or instance.who is None:
            return
        self._signal_group(instance.who.workload, signal.SIGTERM)
        await _ended(instance)
        if instance.ending is None:
            await self._kill(instance, instance.who)

    def kill(self, name: str) -> None:
        """End an instance that does not listen: SIGKILL to all of it; a no-op while it is not known, is told to stop, or has ended."""
        instance = self._instances.get(name)
        if instance is None or instance.ending is not None or instance.who is None or instance.stopping is not None:
            return
        self._spawn(self._kill(instance, instance.who))

    async def _kill(self, instance: _Instance, who: Who) -> None:
        self._signal_group(who.workload, signal.SIGKILL)
        await asyncio.to_thread(self._cgroups.kill, instance.ordered.cgroup)
        await _ended(instance)
        if instance.ending is None:
            name = instance.ordered.workload
            self._trouble(instance, f"{name} does not end, not even by SIGKILL: it hangs in the kernel")

    def _signal_group(self, process: Process, number: int) -> None:
        if processes.alive(process, self._boot):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    # ------------------------------------------------------------------------------------------------------- forget

    def forget(self, name: str) -> None:
        """Drop what is left of an ended instance (its log stays); a no-op while it runs."""
        instance = self._instances.get(name)
        if instance is None or instance.ending is None:
            return
        del self._instances[name]
        self._troubles.pop(name, None)
        self._release(instance)
        # Not by a group's name, which a damaged record lacks: "." would be the folder of all.
        aside = instance.folder.set_aside(f".{name}.{instance.ordered.started_ms}")
        self._spawn(self._clear(aside, instance.ordered.cgroup))

    async def _clear(self, folder: Folder, cgroup: str) -> None:
        await asyncio.to_thread(folder.remove)
        await asyncio.to_thread(self._cgroups.remove, cgroup)

    async def close(self) -> None:
        """Let go of everything; instances run on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for instance in self._instances.values():
            self._release(instance)
        self._instances.clear()
        await asyncio.to_thread(self._starter.close)
        self._cgroups.close()

    # ------------------------------------------------------------------------------------------------------ watching

    def _know(self, instance: _Instance, who: Who) -> None:
        """We know who it is: watch both processes."""
        instance.who = who
        loop = asyncio.get_running_loop()
        shim, work = processes.opened(who.shim, self._boot), processes.opened(who.workload, self._boot)
        instance.known.set()
        if work is not None:
            instance.work = work
            loop.add_reader(work, self._workload_ended, instance)
        if shim is not None:
            instance.shim = shim
            loop.add_reader(shim, self._shim_ended, instance)
        elif (ending := instance.folder.ending()) is not None or work is None:
            self._end(instance, ending or Ending(None, None, "it vanished, and its shim with it"))
        else:
            self._orphaned(instance)
        self._woken()

    def _shim_ended(self, instance: _Instance) -> None:
        instance.shim = _dropped(instance.shim)
        if instance.started is not None:
            instance.started.ended()
        if (ending := instance.folder.ending()) is not None:
            self._end(instance, ending)
        elif instance.work < 0:
            self._vanished(instance)
        else:
            self._orphaned(instance)

    def _workload_ended(self, instance: _Instance) -> None:
        instance.work = _dropped(instance.work)
        if instance.who is not None:
            self._died(instance.who.workload.pid)
        if instance.shim < 0:
            self._vanished(instance)
        self._woken()

    def _orphaned(self, instance: _Instance) -> None:
        name = instance.ordered.workload
        self._trouble(instance, f"{name}: its shim was killed; it runs on, but how it ends will not be known")

    def _vanished(self, instance: _Instance) -> None:
        line = tail_line(str(self._rooms.log(instance.folder.path)), 0)
        self._end(instance, Ending(None, None, f"it ended without a shim to see how; its log's last line: {line}"))

    def _end(self, instance: _Instance, ending: Ending) -> None:
        if instance.ending is None:
            instance.ending = ending
            self._troubles.pop(instance.ordered.workload, None)
        instance.known.set()
        instance.ended.set()
        self._woken()

    def keep_logs(self) -> None:
        """Within their bounds, of those that have lost their shims: it is the shims' work."""
        for instance in self._instances.values():
            if instance.who is not None and instance.ending is None and instance.shim < 0:
                rotated(str(self._rooms.log(instance.folder.path)), LOG_BYTES)

    def _trouble(self, instance: _Instance, text: str) -> None:
        self._troubles[instance.ordered.workload] = text
        self._woken()

    def _release(self, instance: _Instance) -> None:
        instance.shim, instance.work = _dropped(instance.shim), _dropped(instance.work)
        if instance.started is not None:
            instance.started.let_go()

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        async def done() -> None:
            await work

        task = asyncio.get_running_loop().create_task(done())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _seen(instance: _Instance) -> InstanceSeen:
    ordered, ending = instance.ordered, instance.ending
    code, number, detail = (ending.code, ending.signal, ending.detail) if ending else (None, None, "")
    runs = ending is None
    leaving = runs and instance.leaving
    return InstanceSeen(ordered.workload, ordered.digest, runs, code, number, ordered.started_ms, detail, leaving)


async def _ended(instance: _Instance) -> None:
    """Return when it has ended, or the grace is over."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await instance.ended.wait()


def _dropped(fd: int) -> int:
    """Watch `fd` no longer and close it; -1, what the field then holds."""
    if fd >= 0:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)
    return -1
