"""A zygote with real processes: what it forks, what becomes of its forks when it ends, and what its owner is told when it cannot."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from halftrack_dataplane.runtime import EXIT_SPEC
from halftrack_dataplane.zygote import BENCH, MAX_FDS, MESSAGE_BYTES, Zygote, ZygoteGone

PATIENCE_S = 30.0
WAITS = """
import os, sys
from halftrack_dataplane import zygote
import socket

def begin(words, fds):
    zygote.entitle(["waits", *words])
    os.write(fds[0], b"up")
    os.read(fds[1], 1)
    os._exit(0)

zygote.serve(socket.socket(fileno=int(sys.argv[1])), begin)
"""


@pytest.fixture
def waits(tmp_path: Path) -> Iterator[Zygote]:
    """A zygote whose forks say that they are up, and wait until nobody holds the other end of their second descriptor."""
    (tmp_path / "waits.py").write_text(WAITS)
    with closing(Zygote("waits", dict(os.environ) | {"PYTHONPATH": str(tmp_path)}, isolated=False)) as zygote:
        yield zygote


class Waiting:
    """A fork of `waits`."""

    def __init__(self, zygote: Zygote, *words: str) -> None:
        self.up, told = os.pipe()
        kept, self.hold = os.pipe()
        try:
            forked = zygote.start(words, [told, kept])
        finally:
            os.close(told)
            os.close(kept)
        assert forked is not None
        self.pid, self.pidfd = forked.pid, forked.pidfd
        assert readable(self.up)
        assert os.read(self.up, 2) == b"up"

    def let_go(self) -> None:
        os.close(self.hold)
        assert readable(self.pidfd), "it ends when it is let go"
        for fd in (self.up, self.pidfd):
            os.close(fd)


def readable(fd: int, seconds: float = PATIENCE_S) -> bool:
    return bool(select.select([fd], [], [], seconds)[0])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_fork_does_what_its_words_say_and_tells_how_it_ended(tmp_path: Path) -> None:
    log, status = tmp_path / "log", os.pipe()
    with closing(Zygote(BENCH, dict(os.environ), isolated=False)) as zygote, log.open("wb") as out:
        forked = zygote.start([str(tmp_path / "none.json")], [out.fileno(), status[1]])
        assert forked is not None
        os.close(status[1])
        assert readable(forked.pidfd)
        assert os.read(status[0], 2) == bytes([EXIT_SPEC])
        assert "none.json" in log.read_text()
        for fd in (status[0], forked.pidfd):
            os.close(fd)


def test_forks_are_shown_by_their_own_words_and_outlive_their_zygote(waits: Zygote) -> None:
    first, second = Waiting(waits, "one"), Waiting(waits, "two", "words")
    assert Path(f"/proc/{first.pid}/cmdline").read_bytes().rstrip(b"\0") == b"waits\0one"
    assert Path(f"/proc/{second.pid}/cmdline").read_bytes().rstrip(b"\0") == b"waits\0two\0words"
    assert Path(f"/proc/{second.pid}/comm").read_text() == "waits\n"
    zygote = parent_of(first.pid)
    waits.close()
    assert not Path(f"/proc/{zygote}").exists()
    assert not readable(first.pidfd, 0), "it lives on"
    third = Waiting(waits, "three")
    assert parent_of(third.pid) not in (zygote, os.getpid()), "the next one is another zygote's"
    for each in (first, second, third):
        each.let_go()


def test_a_zygote_ends_with_its_owner(waits: Zygote) -> None:
    fork = Waiting(waits, "x")
    zygote = os.pidfd_open(parent_of(fork.pid))
    assert waits._channel is not None
    waits._channel.close()  # as the kernel does when the owner is killed
    assert readable(zygote)
    os.close(zygote)
    fork.let_go()


def test_who_ends_is_reaped_at_once(waits: Zygote) -> None:
    """A zombie would hold its process's number, and its slot in a ring would look as if it were held."""
    forks = [Waiting(waits, str(number)) for number in range(3)]
    children = Path(f"/proc/{parent_of(forks[0].pid)}/task/{parent_of(forks[0].pid)}/children")
    for fork in forks[:2]:
        fork.let_go()
    after = Waiting(waits, "after")  # its answer comes behind what there was to reap
    assert children.read_text().split() == [str(forks[2].pid), str(after.pid)]
    for fork in (forks[2], after):
        fork.let_go()


def test_a_killed_zygote_is_replaced(waits: Zygote) -> None:
    fork = Waiting(waits, "before")
    zygote = parent_of(fork.pid)
    pidfd = os.pidfd_open(zygote)
    os.kill(zygote, signal.SIGKILL)
    assert readable(pidfd)
    os.close(pidfd)
    after = Waiting(waits, "after")
    for each in (fork, after):
        each.let_go()


def test_a_fork_holds_nothing_of_its_zygote_s_or_its_siblings(waits: Zygote) -> None:
    forks = [Waiting(waits, str(number)) for number in range(3)]
    links = [os.readlink(f"/proc/{forks[2].pid}/fd/{fd}") for fd in os.listdir(f"/proc/{forks[2].pid}/fd")]
    assert sorted(link.partition(":")[0] for link in links) == ["/dev/null"] * 3 + ["pipe"] * 2
    status = Path(f"/proc/{forks[2].pid}/status").read_text()
    ignored = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigIgn"))
    assert not any(ignored >> number - 1 & 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    for fork in forks:
        fork.let_go()


def test_many_threads_may_ask_at_once(waits: Zygote) -> None:
    forks: list[Waiting] = []
    threads = [threading.Thread(target=lambda n: forks.append(Waiting(waits, str(n))), args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len({fork.pid for fork in forks}) == 8
    titles = {Path(f"/proc/{fork.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")[1] for fork in forks}
    assert titles == {str(number).encode() for number in range(8)}
    for fork in forks:
        fork.let_go()


@pytest.mark.parametrize(("words", "fds"), [(["x" * (MESSAGE_BYTES + 1)], 0), (["x"], MAX_FDS + 1)])
def test_what_no_message_has_room_for_is_refused_and_starts_nothing(waits: Zygote, words: list[str], fds: int) -> None:
    with pytest.raises(ZygoteGone, match="more than a message has room for"):
        waits.start(words, [0] * fds)
    assert waits._process is None


def test_a_zygote_that_cannot_start_says_so(tmp_path: Path) -> None:
    with closing(Zygote("no_such_module_here", dict(os.environ))) as zygote:
        with pytest.raises(ZygoteGone, match="no zygote"):
            zygote.start(["x"], [])
        assert zygote._process is None


def test_a_fork_that_fails_to_begin_is_told_by_its_end(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(WAITS.replace("os.write(fds[0]", "raise ValueError(fds[0]"))
    with closing(Zygote("fails", dict(os.environ) | {"PYTHONPATH": str(tmp_path)}, isolated=False)) as zygote:
        for _ in range(2):  # and the zygote goes on
            forked = zygote.start(["x"], [0, 1])
            assert forked is not None
            assert readable(forked.pidfd)
            os.close(forked.pidfd)
