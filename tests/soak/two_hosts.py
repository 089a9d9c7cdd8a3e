"""What all soaks on two hosts begin with: the manifest of the hosts, and a private world to play in, from which nothing is left."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from examples.demo.run import clear_cgroups
from examples.lab import jail

HOSTS = """apiVersion: halftrack/v1
kind: Environment
metadata: {name: soak}
spec: {track: stable}
---
apiVersion: halftrack/v1
kind: Host
metadata: {name: tank-a}
spec: {environment: soak, address: 10.77.0.2}
---
apiVersion: halftrack/v1
kind: Host
metadata: {name: tank-b}
spec: {environment: soak, address: 10.77.0.3}
---
"""


def isolated(name: str, played: Callable[[str, Path], int]) -> int:
    """Isolate, play, clear up: the exit status of `played`, which is given a control group and where `name`.json is to be written."""
    if reason := jail.missing():
        print(f"{name}: {reason}", file=sys.stderr)
        return 1
    clear_cgroups()
    cgroup = f"halftrack-demo-{os.getpid()}"  # ours out here: inside, everybody is number 3
    out = Path(f"{name}.json").absolute()
    try:
        return jail.run_isolated(lambda: played(cgroup, out))
    finally:
        clear_cgroups()
