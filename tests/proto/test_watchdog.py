"""The pulse of a daemon: it is heard where somebody listens, and missed where it stops."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from halftrack_proto import watchdog
from halftrack_proto.watchdog import Watchdog

WEDGED = """
import sys, time
from halftrack_proto.watchdog import Watchdog
dog = Watchdog(float(sys.argv[1]))
dog.ready()
for _ in range(3):
    time.sleep(float(sys.argv[1]) / 2)
    dog.beat()
def hanging(): open(sys.argv[2]).read()
if sys.argv[3] == "closed": dog.close()
else: hanging()
"""


ANEW = """
import ctypes, os, signal, sys, threading, time
from halftrack_proto.watchdog import Watchdog
how, life = sys.argv[1], len(sys.argv) - 1
kept = os.open("/dev/null", os.O_RDONLY)
os.set_inheritable(kept, True)
mask = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(os.getpid(), life, mask, sorted(os.listdir("/proc/self/fd"))[:-1], signal.getitimer(signal.ITIMER_REAL)[0], flush=True)
if life == 3: sys.exit(5)
Watchdog(0.4, [sys.executable, "-c", os.environ["PROGRAM"], *sys.argv[1:], "again"]).ready()
os.environ["PROGRAM"] = "of no use"
def hang():
    ctypes.PyDLL(None).pause()  # in the kernel, with the interpreter's lock
if how == "thread":
    threading.Thread(target=hang).start()
    time.sleep(600)
hang()
"""


@pytest.mark.parametrize("how", ["loop", "thread"])
def test_where_nobody_else_starts_it_again_it_begins_anew_as_the_same_process(how: str) -> None:
    """Twice: it hears its alarm in its next life, too, and has nothing open of the one before."""
    words, environment = [sys.executable, "-c", ANEW, how], {**os.environ, "PROGRAM": ANEW}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        told, written = child.communicate(timeout=60)
    assert child.returncode == 5
    lives = [line.split(maxsplit=2) for line in told.splitlines()]
    assert [life[:2] for life in lives] == [[str(child.pid), str(number)] for number in (1, 2, 3)]
    assert len({life[2] for life in lives}) == 1, told
    assert written.count("in hang") == 2, "each time it tells where it hung"
    assert written.count("it begins anew, as the same process\n") == 2


@pytest.mark.parametrize("begins", ["['/bin/sh', '-c', 'exit 7']", "[]"])
def test_an_alarm_waits_for_nobody_who_does_not_read_what_it_tells(begins: str) -> None:
    """That may be what the program hangs in: it has filled its stderr."""
    hanging = f"import os; from halftrack_proto.watchdog import Watchdog; Watchdog(0.4, {begins}).ready(); os.write(2, bytes(1 << 22))"
    with subprocess.Popen([sys.executable, "-c", hanging], stderr=subprocess.PIPE) as child:
        assert child.wait(30) == (7 if "sh" in begins else -signal.SIGALRM)


def test_a_program_that_cannot_begin_anew_ends_of_its_alarm() -> None:
    hanging = "import time; from halftrack_proto.watchdog import Watchdog; Watchdog(0.4, ['/no/such']).ready(); time.sleep(600)"
    assert subprocess.run([sys.executable, "-c", hanging], capture_output=True, check=False, timeout=60).returncode == (
        -signal.SIGALRM
    )


def test_a_start_that_hangs_is_noticed_too() -> None:
    hanging = "import time; from halftrack_proto import watchdog; watchdog.START_S = 0.4; watchdog.Watchdog(); time.sleep(600)"
    assert subprocess.run([sys.executable, "-c", hanging], capture_output=True, check=False, timeout=60).returncode == (
        -signal.SIGALRM
    )


def test_it_is_said_once_how_a_program_begins_anew() -> None:
    """What a handler may be reading is not changed."""
    twice = (
        "import os; from halftrack_proto import anew; anew.on_signal(14, [b'x'], {}); anew.on_signal(14, [b'y'], {})"
    )
    done = subprocess.run([sys.executable, "-c", twice], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "RuntimeError: it is said already what comes of that signal",
    )


def ended(tmp_path: Path, how: str) -> "subprocess.CompletedProcess[str]":
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)  # nobody writes: whoever opens it waits in the kernel
    words = [sys.executable, "-c", WEDGED, "0.4", str(fifo), how]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_a_loop_that_hangs_ends_the_program_and_tells_where(tmp_path: Path) -> None:
    done = ended(tmp_path, "hanging")
    assert done.returncode == -signal.SIGALRM
    assert "in hanging" in done.stderr


def test_who_ends_in_order_is_not_missed(tmp_path: Path) -> None:
    assert ended(tmp_path, "closed").returncode == 0


@pytest.mark.parametrize("name", ["path", "abstract"])
def test_the_service_manager_hears_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    address = str(tmp_path / "notify") if name == "path" else f"@halftrack-notify-{os.getpid()}"
    monkeypatch.setattr(watchdog, "EVERY_S", 0.0)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0", 1))
        manager.settimeout(5)
        dog = Watchdog(0)
        dog.ready()
        dog.beat()
        dog.close()
        assert [manager.recv(64) for _ in range(4)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_a_manager_that_does_not_listen_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify")
    monkeypatch.setattr(watchdog, "EVERY_S", 0.0)
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    dog = Watchdog(0)
    dog.beat()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        for _ in range(2_000):
            dog.beat()
