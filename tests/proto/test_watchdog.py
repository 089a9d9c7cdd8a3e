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
