"""A small galaxy that is killed again and again: one real controller, one real agent, their folders, and what is on the disk of both.

Each program is forked from a process that has imported both, which saves a second for each of thousands of starts; what runs is the program's own
`main`. Whoever forks never opens a channel of gRPC itself, which does not outlive a fork: operators are forked, too. Owns processes and folders;
judges nothing (`judging`).
"""

import contextlib
import ctypes
import dataclasses
import functools
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from halftrack_agent import daemon as agent_daemon
from halftrack_agent import files, journal, ledger
from halftrack_agent import outbox as outbox_file
from halftrack_agent.agent import Agent  # noqa: F401 - imported before the fork
from halftrack_agent.drivers import procfs
from halftrack_agent.enrol import enrol  # noqa: F401 - likewise
from halftrack_agent.events import JournalPlan
from halftrack_agent.places import Places
from halftrack_controller import daemon as controller_daemon
from halftrack_controller import galaxy
from halftrack_controller.operator_client import OperatorClient
from halftrack_model import canonical
from halftrack_model.errors import InvalidInput
from halftrack_model.observed import Observed
from halftrack_model.plan import Plan
from halftrack_model.report import Report
from halftrack_model.seals import Sealed
from halftrack_proto.tokens import token_of  # noqa: F401 - likewise
from tests.crash.power import Disk, Kind, Record, records, unsynced_from

HOST = "tank-a"
AGENT, CONTROLLER = "agent", "controller"
DISK_LOST = 3  # the exit status of a program that can rely on its disk no more
WAIT_S = 60.0  # on a machine that others use, too: measured on a quiet one, two
LOOK_S = 0.05


class Stuck(Exception):  # noqa: N818
    """What had to come about did not; the message says what."""


@dataclass(frozen=True, slots=True)
class Strike:
    """Where a program is to be struck: at its boundary of this number (0: nowhere), how (`boundaries.c`), and by which library."""

    number: int
    how: int


UNHARMED = Strike(0, 0)


class Child:
    """One forked program, and the log of its boundaries."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self.log = pid, log
        self._fd = os.pidfd_open(pid)
        self.status: int | None = None

    def ended(self) -> bool:
        """Has it? Then `status` says how, as `waitstatus_to_exitcode` does."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                os.close(self._fd)
        return self.status is not None

    def end(self, number: int = signal.SIGKILL) -> int:
        """Send it a signal and wait."""
        if not self.ended():
            signal.pidfd_send_signal(self._fd, number)
            until(self.ended, "a program that was killed ends")
        assert self.status is not None
        return self.status

    def records(self) -> tuple[Record, ...]:
        """What it has done to its folder."""
        return tuple(records(self.log.read_bytes()))


def until(condition: Callable[[], object], what: str, seconds: float = WAIT_S) -> None:
    """Wait; Stuck when it takes longer than that."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Stuck(f"not within {seconds:.0f} s: {what}")
        time.sleep(LOOK_S)


def of_another_boot(data: bytes) -> bytes:
    """A file's bytes, had they been written in another boot, which has another name. Those that bear it have sums: an order, a record, a note."""
    boot = procfs.boot_id().encode()
    other = data.replace(boot, b"0" * len(boot))
    if other == data:
        return data
    if procfs.is_whole(data):
        return procfs.record({name: value for name, value in json.loads(other).items() if name != "sum"})
    with contextlib.suppress(ValueError):
        words = procfs.read_order(data)
        return procfs.write_order(
            [(n, v.replace(boot.decode(), "0" * len(boot))) for n, vs in words.items() for v in vs]
        )
    with contextlib.suppress(InvalidInput):  # without a line's end it has no sum
        return other if b"\n" not in data else files.summed(files.unsummed(data).replace(boot, b"0" * len(boot)))
    return other  # damaged, and so it stays


class Stage:
    """One galaxy below `folder`, which `copied` fills."""

    def __init__(self, folder: Path, cgroup: str) -> None:
        self.folder, self._cgroup = folder, cgroup
        self.places = Places(folder / "agent/state", folder / "agent/run")
        self.roots = {AGENT: self.places.state, CONTROLLER: folder / "galaxy/controller"}
        self._children: list[Child] = []
        self._daemons: dict[str, Child] = {}
        self._forks = 0
        folder.mkdir(parents=True)
        self.places.state.mkdir(parents=True, mode=0o700)

    # ------------------------------------------------------------------------------------------------------- programs

    def controller(self, strike: Strike = UNHARMED) -> Child:
        """The controller, ready unless it was struck before."""
        log = self.folder / "controller.log"
        log.touch()
        said = log.read_bytes().count(b"ready session=")
        words = ["serve", "--state", str(self.roots[CONTROLLER]), "--listen", "127.0.0.1"]
        child = self._daemons[CONTROLLER] = self._forked(lambda: controller_daemon.main(words), log, CONTROLLER, strike)
        until(lambda: child.ended() or log.read_bytes().count(b"ready session=") > said, "the controller is ready")
        return child

    def agent(
        self,
        strike: Strike = UNHARMED,
        *more: str,
        after: Child | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> Child:
        """The agent. `after` has ended by itself: this one goes on counting where it stopped. `before` is done in its process first."""
        words = ["run", "--listen", "127.0.0.1", "--agent-port", "0", "--bridge-port", "0", "--cgroup", self._cgroup]
        words += ["--restarted-by", "manager"]  # which this stage is
        words += [*more, *self._places()]

        def work() -> int:
            sys.orig_argv = [sys.executable, "-m", agent_daemon.__name__, *words]  # how it begins anew
            before()
            return agent_daemon.main(words)

        child = self._daemons[AGENT] = self._forked(work, self.folder / "agent.log", AGENT, strike, after)
        return child

    def running(self, side: str) -> bool:
        """Does that daemon run?"""
        return side in self._daemons and not self._daemons[side].ended()

    def enrolment(self, strike: Strike = UNHARMED) -> Child:
        """`halftrack-agent enrol`, with the token that lies there."""
        words = ["enrol", "--token-file", str(self.folder / "token"), *self._places()]
        return self._forked(lambda: agent_daemon.main(words), self.folder / "enrol.log", AGENT, strike)

    def operated(self, work: Callable[[OperatorClient], object]) -> bool:
        """Let an operator do that; was it acknowledged?"""

        def operate() -> int:
            mine = galaxy.load_operator(self.folder / "galaxy/operator")
            with OperatorClient(mine, deadline_s=5.0) as client:
                work(client)
            return 0

        child = self._forked(operate, self.folder / "operator.log", "", UNHARMED)
        until(child.ended, "an operator's command ends")
        return child.status == 0

    def _places(self) -> list[str]:
        return ["--state", str(self.places.state), "--run", str(self.places.run)]

    def _forked(
        self, work: Callable[[], int], output: Path, side: str, strike: Strike, after: Child | None = None
    ) -> Child:
        self._forks += 1
        log = after.log if after else self.folder / f"boundaries.{self._forks}"
        log.touch()
        output.touch()
        passed = sum(record.kind is Kind.POINT for record in records(log.read_bytes()))
        pid = os.fork()
        if pid == 0:
            _become(work, output, str(self.roots[side]) if side else "", log, strike, passed)
        child = Child(pid, log)
        self._children.append(child)
        return child

    # ----------------------------------------------------------------------------------------------------------- disks

    def disk(self, side: str) -> Disk:
        """What is there now, all of it taken for synced."""
        root = self.roots[side]
        paths = [root, *root.rglob("*")]
        files = {str(path): (path.stat().st_ino, path.read_bytes()) for path in paths if path.is_file()}
        return Disk(
            files, frozenset(str(path) for path in paths if path.is_dir()), lambda path: Path(path).read_bytes()
        )

    def forget_unsynced(self, log: Sequence[Record]) -> None:
        """The power has failed where the controller's store was to be synced: what that is, a reader sees in memory, and nobody has been told."""
        path = self.roots[CONTROLLER] / "store.db-wal"
        if (size := unsynced_from(log, str(path))) is not None:
            os.truncate(path, size)
            path.with_name("store.db-shm").unlink(missing_ok=True)  # it says how much there is

    def put(self, side: str, image: dict[str, bytes | None]) -> None:
        """The power is back: this is what the disk has, memory has nothing, and it is another boot."""
        self.end_all()
        root = self.roots[side]
        modes = {str(path): path.stat().st_mode & 0o777 for path in root.rglob("*") if path.exists()}
        shutil.rmtree(root)
        for path, data in image.items():
            if data is None:
                Path(path).mkdir(mode=0o700)
            elif not path.endswith("-shm"):  # shared memory of SQLite's, which it makes anew
                Path(path).write_bytes(of_another_boot(data))
                Path(path).chmod(modes.get(path, 0o600))
        if side == AGENT:
            shutil.rmtree(self.places.run, ignore_errors=True)

    # --------------------------------------------------------------------------------------------------- what is there

    def asked(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """Rows of the controller's store; none while it has none."""
        path = self.roots[CONTROLLER] / "store.db"
        try:
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
                return db.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            return []

    def plan(self) -> tuple[int, Plan] | None:
        """The newest made for our host, with its revision."""
        rows = self.asked("select revision, sealed from plans where host = ? order by revision desc limit 1", HOST)
        for revision, sealed in rows:
            return int(str(revision)), _plan(_bytes(sealed))
        return None

    def accepted(self) -> int:
        """The revision that the agent has said it holds."""
        return sum(int(str(row[0])) for row in self.asked("select accepted_revision from answers where host = ?", HOST))

    def observed(self) -> Observed | None:
        """The host's last state, as the controller knows it."""
        rows = self.asked("select canonical from observed where host = ?", HOST)
        return _observed(_bytes(rows[0][0])) if rows else None

    def consumed(self) -> list[Report]:
        """The host's reports that the controller has."""
        rows = self.asked("select canonical from reports where host = ? order by number", HOST)
        return [_report(_bytes(row[0])) for row in rows]

    def journaled(self) -> int:
        """The revision of the plan in the agent's journal; 0 for none."""
        entries = map(journal.decoded, _payloads(self.places.state / "journal", "journal"))
        plans = [entry for entry in entries if isinstance(entry, JournalPlan)]
        return canonical.decode(Plan, plans[-1].sealed.payload).revision if plans else 0

    def unsent(self) -> tuple[int, list[Report]]:
        """The agent's outbox: the number of its next report, and those in the file, acknowledged or not."""
        number, found = 1, []
        for payload in _payloads(self.places.state / "outbox", "outbox"):
            line = _line(payload)
            if line.report is not None:
                number = max(number, line.report.number + 1)
                found.append(line.report)
            elif line.mark is not None:
                number = line.mark.next_number
        return number, found

    def processes(self) -> Iterator[tuple[int, str]]:
        """All that has to do with this folder."""
        needle = str(self.folder).encode() + b"/"
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    line = (entry / "cmdline").read_bytes()
                    if needle in line or needle in (entry / "environ").read_bytes():
                        yield int(entry.name), line.replace(b"\0", b" ").decode(errors="replace")

    def end_all(self) -> None:
        """Nothing of it runs any more."""
        for child in self._children:
            child.end()
        self._children.clear()
        self._daemons.clear()

        def none() -> bool:
            found = [pid for pid, _ in self.processes()]
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not found

        until(none, "all processes end")

    def clear(self) -> None:
        """Away with it."""
        self.end_all()
        shutil.rmtree(self.folder)


def _become(work: Callable[[], int], output: Path, root: str, log: Path, strike: Strike, passed: int) -> None:
    """In the fork: be that program."""
    status = 1
    try:
        Path("/proc/self/comm").write_text(f"crash-{output.stem}"[:15])  # for people
        out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if root:
            library = ctypes.CDLL(os.environ["LD_PRELOAD"])
            library.crash_arm.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_long)
            said = os.open(log, os.O_WRONLY | os.O_APPEND)
            library.crash_arm(root.encode(), said, strike.number, strike.how, passed)
        status = work()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - this process must not return into its parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _payloads(path: Path, kind: str) -> tuple[bytes, ...]:
    try:
        return ledger.scan(path.read_bytes(), ledger.magic_of(kind)).payloads
    except FileNotFoundError:
        return ()


# What is looked at until it is so is mostly what it was the last time. Measured: two thirds of a point's processor time went into reading it again.


@functools.lru_cache(maxsize=64)
def _plan(sealed: bytes) -> Plan:
    return canonical.decode(Plan, canonical.decode(Sealed, sealed).payload)


@functools.lru_cache(maxsize=64)
def _observed(data: bytes) -> Observed:
    return canonical.decode(Observed, data)


@functools.lru_cache(maxsize=16_384)
def _line(payload: bytes) -> outbox_file._Line:
    return canonical.decode(outbox_file._Line, payload)


@functools.lru_cache(maxsize=16_384)
def _report(data: bytes) -> Report:
    return canonical.decode(Report, data)


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


def copied(source: Path, stage: Stage) -> None:
    """Fill a stage with what was prepared."""
    shutil.copytree(source, stage.folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.log", "boundaries.*"))


def made_anew(report: Report) -> Report:
    """A report without its number, which an outbox without a past may change."""
    return dataclasses.replace(report, number=0)
