"""The lab must be real (cuts, loss, delay are felt by TCP and UDP) and must vanish, however its launcher ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.host
PATIENCE_S = 20.0
HOME = os.readlink("/proc/self/ns/net")

# Runs in a world of its own and prints one line of JSON for each answer. UDP echo on the far host; the near one measures.
SCENE = """
import json, os, socket, subprocess, sys, time
from pathlib import Path
from examples.lab import jail
from examples.lab.network import Link, Network
from examples.lab.wire import Control, Fault

ECHO = '''
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("10.77.0.3", 9)); print("up", flush=True)
while True:
    d, a = s.recvfrom(9000); s.sendto(d, a)
'''
ASK = '''
import socket, sys, time
n = int(sys.argv[1]); s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(float(sys.argv[2])); got, best = 0, 9.0
for i in range(n):
    t = time.monotonic(); s.sendto(b"x" * 2000, ("10.77.0.3", 9))
    try: s.recv(9000)
    except TimeoutError: continue
    got += 1; best = min(best, time.monotonic() - t)
print(got, best)
'''

def ask(net, count, timeout):
    p = net.start("near", [sys.executable, "-c", ASK, str(count), str(timeout)], stdout=subprocess.PIPE)
    got, best = p.communicate()[0].split()
    return int(got), float(best)

def main():
    net = Network({"near": "10.77.0.2", "far": "10.77.0.3"}, [Link("n-f", "near", "far")])
    wire = subprocess.Popen([sys.executable, "-m", "examples.lab.wire", "/run/wire", "7", "n-f=n-f.0,n-f.1"])
    while not os.path.exists("/run/wire"):
        time.sleep(0.01)
    control = Control(Path("/run/wire"))
    echo = net.start("far", [sys.executable, "-c", ECHO], stdout=subprocess.PIPE)
    echo.stdout.readline()
    ask(net, 1, 1.0)  # resolves addresses
    answers = {"good": ask(net, 50, 1.0)}
    control.set({"n-f": Fault(cut=True)})
    answers["cut"] = ask(net, 3, 0.05)
    control.set({"n-f": Fault(delay_ms=30.0)})
    answers["delay"] = ask(net, 3, 1.0)
    control.set({"n-f": Fault(loss_percent=30.0)})
    answers["loss"] = ask(net, 100, 0.02)
    counters = control.set({"n-f": Fault()})["n-f"]
    answers["after"] = ask(net, 20, 1.0)
    answers["counters"] = [counters.cut, counters.lost]
    try:
        control.set({"no-such-link": Fault()})
    except ValueError as error:
        answers["refused"] = str(error)
    print(json.dumps(answers), flush=True)
    return 0

sys.exit(jail.run_isolated(main))
"""

# A world with a daemon of its own session in it, as agents and workloads are, that says when it is up and then stays.
LINGERING = """
import subprocess, sys, time
from examples.lab import jail
from examples.lab.network import Link, Network

def main():
    net = Network({"near": "10.77.0.2", "far": "10.77.0.3"}, [Link("n-f", "near", "far")])
    net.start("near", ["sleep", MARK])
    print("up", flush=True)
    time.sleep(600)

sys.exit(jail.run_isolated(main))
"""


def launch(code, **options):
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)


def cannot_isolate():
    from examples.lab import jail

    return jail.missing()


@pytest.fixture(autouse=True)
def isolation():
    if reason := cannot_isolate():
        pytest.skip(reason)


def marked(mark):
    """The processes whose command line has `mark` in it, with their network namespaces."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "cmdline").read_bytes():
                    found[int(entry.name)] = os.readlink(entry / "ns/net")
            except OSError:
                continue
    return found


def inhabited(namespace):
    """Does any process live in it? One that is gone keeps none alive; bind mounts would show in our mount table."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "ns/net") == namespace:
                return True
        except OSError:
            continue
    return False


def until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def test_the_wire_cuts_delays_and_loses_for_real():
    process = launch(SCENE)
    answers = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    assert answers["good"][0] == 50
    assert answers["cut"][0] == 0
    assert answers["delay"][1] >= 0.06  # both ways
    assert 25 <= answers["loss"][0] <= 75  # 49 of 100 come back on average
    assert answers["after"][0] == 20
    assert answers["counters"][0] >= 3
    assert answers["counters"][1] >= 25
    assert "no-such-link" in answers["refused"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_however_the_launcher_ends(number):
    mark = f"600.{os.getpid()}{int(number):02}"
    mounts = Path("/proc/self/mounts").read_text()
    process = launch(LINGERING.replace("MARK", repr(mark)))
    assert process.stdout.readline() == "up\n"
    until(lambda: any(namespace != HOME for namespace in marked(f"sleep\0{mark}").values()), "the daemon runs")
    (namespace,) = marked(f"sleep\0{mark}").values()
    process.send_signal(number)
    process.wait(PATIENCE_S)
    process.stdout.close()
    until(lambda: not marked(mark), "every process of the world is gone")
    assert not inhabited(namespace)
    assert Path("/proc/self/mounts").read_text() == mounts
    assert not Path("/run/netns/near").exists()


def test_the_status_of_what_ran_is_handed_on():
    code = "import sys\nfrom examples.lab import jail\nsys.exit(jail.run_isolated(lambda: 7))"
    assert launch(code).wait(PATIENCE_S) == 7
    code = "import sys\nfrom examples.lab import jail\ndef main():\n    raise ValueError('no')\nsys.exit(jail.run_isolated(main))"
    assert launch(code, stderr=subprocess.DEVNULL).wait(PATIENCE_S) == 1


def test_the_world_hides_its_segments():
    code = (
        "import sys, os\nfrom examples.lab import jail\n"
        "def main():\n    open('/dev/shm/halftrack-lab-test', 'w').close()\n    return len(os.listdir('/dev/shm'))\n"
        "sys.exit(jail.run_isolated(main))"
    )
    assert launch(code).wait(PATIENCE_S) == 1
    assert not Path("/dev/shm/halftrack-lab-test").exists()
