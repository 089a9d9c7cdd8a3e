"""The shim: the parent of one workload, that outlives the agent. `python -I -S shim.py FOLDER READY_FD LOCK_FD`.

Starts the workload confined, writes who it is (`instance.json`), waits, keeps its log within bounds, and writes how it ended
(`ended.json`, `exit.json`). Decides nothing: never restarts, never stops on its own account (SIGTERM is passed on to the workload).
Standard library only; `-I -S` keeps `.pth` files and the environment out of a process that starts with all privileges. Few modules
even of that, for the reason that `procfs` gives.

The workload writes straight into its log file, so that it does not notice when its shim dies. The price: rotation copies the
file and cuts it to nothing, and lines written in the microseconds between the two are lost.
"""

import os
import select
import signal
import sys
import time

if __name__ == "__main__":  # started by path: make our own package importable, behind the standard library
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from halftrack_agent.drivers import confine, procfs
from halftrack_agent.drivers.procfs import Ignoring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from socket import socket

    Execute = Callable[[list[str], dict[str, str], int], None]

LOG_CHECK_MS = 1000
LOG_BUSY_MS = 50  # while the log grows fast: at 500 MB/s it overshoots by 25 MB, not by 500
GONE_TRIES = 100  # with 5 ms between: what does not die of SIGKILL in half a second hangs in the kernel
DETAIL_BYTES = 8192  # of the log's end, where the last meaningful line is looked for
DETAIL_CHARS = 300
SHUTDOWN = b"systemd-shutdown"[:15]  # the kernel keeps so much of a name


class Order:
    """What the agent ordered: the file `order` in the instance's folder (`instances.Folder.write_order` writes it)."""

    def __init__(self, folder: str) -> None:
        words = procfs.read_order(procfs.read(f"{folder}/order"))
        self.folder = folder
        self.pid = 0  # of the workload, once it may execute
        self.workload, self.digest, self.log = words["workload"][0], words["digest"][0], words["log"][0]
        self.argv = words["argv"]
        self.environment = dict(item.split("=", 1) for item in words.get("environment", ()))
        self.log_bytes = int(words["log_bytes"][0])
        self.own_network = "own_network" in words
        self.hidden = words.get("hidden", [])
        self.hosts = words.get("hosts", [""])[0]
        self.feeds = words.get("feed", [])
        self.spare = words.get("spare", [""])[0]
        self.cgroups = words.get("cgroup", [])  # `cgroup.procs` files
        self.memory = int(words.get("memory", ["0"])[0])  # its limit, which the kernel kills for
        procfs.look(words.get("whole", []))
        self.doors = [(near, far) for near, _, far in (door.partition("=") for door in words.get("door", ()))]


def executed(argv: list[str], environment: dict[str, str], _trouble_fd: int) -> None:
    """Become another program, which closes the descriptor."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the interpreter ignores it, and exec would pass that on
    os.execvpe(argv[0], argv, environment)  # noqa: S606 - an argument list; no shell is meant


def child(order: Order, go_fd: int, trouble_fd: int, doors: "socket | None", execute: "Execute") -> None:
    """The forked child: confine, then `execute`. Whatever fails is written to `trouble_fd`, which is closed once nothing can."""
    stage = "host"
    try:
        os.setsid()
        if (
            os.read(go_fd, 1) != b"1"
        ):  # the shim has written who we are; its death in between leaves nothing to find us by
            os._exit(127)
        for procs in order.cgroups:
            procfs.write(procs, "0")
        output = os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open("/dev/null", os.O_RDONLY)
        if order.feeds:  # with the host's rights, in the host's network: the workload has neither
            _bind_feeds(order)
        if order.own_network:
            confine.enter_own_network()
        if doors is not None:
            _send_doors(order, doors)
        confine.hide(order.hidden, order.hosts)
        confine.drop_all_capabilities()
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.chdir("/")
        os.closerange(3, trouble_fd)
        os.closerange(trouble_fd + 1, 256)
        stage = "exec"
        execute(order.argv, order.environment, trouble_fd)
    except BaseException as error:  # noqa: BLE001 - the only way to tell is the pipe; then this process ends
        os.write(trouble_fd, f"{stage}:{error}".encode())
    finally:
        os._exit(127)


def _bind_feeds(order: Order) -> None:
    from halftrack_agent.drivers import binding

    order.environment[binding.DESCRIPTORS] = ",".join(str(binding.bound(words)) for words in order.feeds)


def _send_doors(order: Order, doors: "socket") -> None:
    import socket

    from halftrack_agent.drivers import egress

    listeners = egress.listen(order.doors)
    socket.send_fds(doors, [b"1"], [listener.fileno() for listener in listeners])


def _open_doors(order: Order, doors: "socket") -> None:
    import socket

    from halftrack_agent.drivers import egress

    if listeners := socket.recv_fds(doors, 1, len(order.doors))[1]:  # none: the child has failed before
        egress.open_doors([socket.socket(fileno=fd) for fd in listeners], order.doors)


def tail_line(log: str, since: int) -> str:
    """The last line of the log, from byte `since` on, that says something: markers under a traceback's source do not."""
    try:
        with open(log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - DETAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    spoken = (line.strip() for line in reversed(lines) if any(char.isalnum() for char in line))
    return next(spoken, "")[:DETAIL_CHARS]


def rotated(log: str, limit: int) -> bool:
    """Move the log's content to `LOG.1` when it has grown beyond `limit`; at most `limit` bytes of it are kept."""
    try:
        if os.stat(log).st_size <= limit:
            return False
        with open(log, "r+b") as source, open(f"{log}.1", "wb") as target:
            source.seek(max(0, source.seek(0, os.SEEK_END) - limit))
            target.write(source.read(limit))
            source.truncate(0)
    except OSError:
        return False  # a full disk costs log lines, never the workload
    return True


def watch(order: Order, pid: int) -> None:
    """Return when the workload has ended; until then reap orphans and keep the log within bounds."""
    poller = select.poll()
    poller.register(os.pidfd_open(pid), select.POLLIN)
    pause = LOG_CHECK_MS
    while not poller.poll(pause):
        pause = LOG_BUSY_MS if rotated(order.log, order.log_bytes) else LOG_CHECK_MS
        reap(pid)


def reap(but: int) -> None:
    """Collect dead children, except the workload itself."""
    while (done := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None and done.si_pid not in (
        0,
        but,
    ):
        os.waitpid(done.si_pid, os.WNOHANG)


def end_group(order: Order, pid: int) -> None:
    """End what the workload has left behind: its process group, whatever is still in its cgroups, and who has become ours by losing
    its parent: without cgroups nothing else finds a process that has left the group."""
    for _ in range(GONE_TRIES):
        with Ignoring():
            os.killpg(pid, signal.SIGKILL)
        for procs in order.cgroups:
            with Ignoring():
                for line in procfs.read(procs).split():
                    os.kill(int(line), signal.SIGKILL)
        for child in procfs.children():
            with Ignoring():
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # no descendant is left
        time.sleep(0.005)


def run(order: Order, ready_fd: int, lock_fd: int, execute: "Execute") -> None:
    """One workload, from start to its record of exit."""
    go_read, go_write = os.pipe()
    trouble_read, trouble_write = os.pipe()
    doors, doors_inside = _door_pair() if order.doors else (None, None)
    with Ignoring():
        since = 0
        since = os.stat(order.log).st_size
    pid = os.fork()
    if pid == 0:
        for fd in (ready_fd, lock_fd, go_write, trouble_read):
            os.close(fd)
        child(order, go_read, trouble_write, doors_inside, execute)
    for fd in (go_read, trouble_write):
        os.close(fd)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda got, _frame: _pass_on(pid, got))
    who: dict[str, str | int | None] = {
        "workload": order.workload,
        "digest": order.digest,
        "boot_id": procfs.boot_id(),
        "pid": pid,
        "start_ticks": procfs.start_ticks(pid),
        "shim_pid": os.getpid(),
        "shim_start_ticks": procfs.start_ticks(os.getpid()),
    }
    for name in ("ended.json", "exit.json"):
        procfs.reserve_record(f"{order.folder}/{name}")
    # Not durable: it speaks of processes, which do not outlive the machine's power either.
    procfs.write_record(f"{order.folder}/instance.json", who, durable=False)
    order.pid = pid
    confine.drop_all_capabilities()  # from here on it waits, writes files of its own and signals processes of its own user
    os.write(go_write, b"1")
    with Ignoring():  # the agent may have been killed meanwhile: the next one finds instance.json
        os.write(ready_fd, b"1")
    os.close(ready_fd)
    if doors is not None and doors_inside is not None:
        doors_inside.close()
        _open_doors(order, doors)
    trouble = os.read(trouble_read, 4096).decode("utf-8", "replace")
    watch(order, pid)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    killed = out_of_memory(order)  # before its group is let go
    end_group(order, pid)
    if host_ends():
        return  # as after a power cut: nothing is said, and the next boot starts it again
    record = ending(status, trouble, told(status, killed, order.memory, tail_line(order.log, since)))
    whose: dict[str, str | int | None] = {
        "workload": order.workload,
        "digest": order.digest,
        "boot_id": procfs.boot_id(),
    }
    tell(order.folder, whose, record, order.spare)


def tell(folder: str, whose: dict[str, str | int | None], record: dict[str, str | int | None], spare: str = "") -> None:
    """Write how it ended: an exit of its own twice, and once so that nothing else need be read to know whose it was.

    It ends a job, and condemns a release on trial, after a reboot too, and when years have changed a byte. A death by signal is only tried again.
    On a disk that takes no change, as one does that its kernel has found at fault, in the `spare` folder: known for as long as this boot lasts.
    """
    own, ended = record["code"] is not None, f"{folder}/ended.json"
    with Ignoring():
        if own:
            procfs.write_record(ended, {**whose, **record}, durable=True)
        else:
            os.unlink(f"{ended}.new")  # the room for it
    try:
        procfs.write_record(f"{folder}/exit.json", record, durable=own)
    except OSError:  # a disk that fails to keep it: until the next boot, which is more than that "the shim failed"
        _tell_until_the_next_boot(folder, whose, record, spare)
    if own:
        with Ignoring():
            procfs.sync_folder(os.path.dirname(folder))  # its own name: nobody has waited for a disk when it began


def _tell_until_the_next_boot(
    folder: str, whose: dict[str, str | int | None], record: dict[str, str | int | None], spare: str
) -> None:
    try:
        procfs.write_record(f"{folder}/exit.json", record, durable=False)
    except OSError:
        if not spare:
            raise
        os.makedirs(spare, 0o700, exist_ok=True)
        procfs.write_record(f"{spare}/ended.json", {**whose, **record}, durable=False)


def host_ends(first: str = "/proc/1/comm") -> bool:
    """Is the host being shut down? It is no exit of the workload's own, then, whatever it answers to SIGTERM.

    Units end first, ours with its workloads left alone; all other processes are ended by systemd-shutdown(8), which process 1 has become by then.
    """
    with Ignoring():
        return procfs.read(first).strip() == SHUTDOWN
    return False


def out_of_memory(order: Order) -> bool:
    """Has the kernel killed anything in its control group for want of memory?"""
    for procs in order.cgroups if order.memory else ():
        for name in ("memory.events", "memory.oom_control"):  # of version 2, and of version 1
            with Ignoring():
                for line in procfs.read(f"{os.path.dirname(procs)}/{name}").decode("ascii", "replace").splitlines():
                    word, _, count = line.partition(" ")
                    if word == "oom_kill" and count.strip() not in ("", "0"):
                        return True
    return False


def told(status: int, out_of_memory: bool, limit: int, line: str) -> str:
    """What is said of an exit: its log's last line, and whether the limit of memory had to do with it."""
    size = f"{limit / (1 << 20):g} MiB"
    if not out_of_memory:
        return line
    if status == -signal.SIGKILL:
        return f"killed by its memory limit of {size}"
    return f"a process of it was killed by its memory limit of {size}; its log's last line: {line}"[:DETAIL_CHARS]


def _door_pair() -> "tuple[socket, socket]":
    import socket

    return socket.socketpair()


def ending(status: int, trouble: str, line: str) -> dict[str, str | int | None]:
    """The record of an exit. What the host could not do is not the workload's exit: it has neither a code nor a signal."""
    if trouble.startswith("host:"):
        return {"code": None, "signal": None, "detail": f"this host could not confine it: {trouble[5:]}"}
    if trouble.startswith("exec:"):
        return {"code": 127, "signal": None, "detail": f"could not be executed: {trouble[5:]}"}
    if status < 0:
        return {"code": None, "signal": -status, "detail": line}
    return {"code": status, "signal": None, "detail": line}


def _pass_on(pid: int, number: int) -> None:
    with Ignoring():
        os.killpg(pid, number)


def main(folder: str, ready_fd: int, lock_fd: int, execute: "Execute" = executed) -> None:
    """The process. A failure of the shim itself is a record too: the agent must not guess."""
    order = None
    try:
        order = Order(folder)
        confine.become_subreaper()
        run(order, ready_fd, lock_fd, execute)
    except Exception as error:  # noqa: BLE001
        if order is not None and order.pid:  # the record says that it has ended, so it has
            end_group(order, order.pid)
        text = f"the shim failed: {type(error).__name__}: {error}"
        procfs.write_record(f"{folder}/exit.json", {"code": None, "signal": None, "detail": text}, durable=False)
    os._exit(0)  # all is written; taking the interpreter apart would only delay the news


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
