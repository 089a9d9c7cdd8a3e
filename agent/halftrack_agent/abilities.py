"""What this host can do: asked once at start, each answered by trying. Empty: it can; else why not, for the site's owner."""

import subprocess
import sys
from pathlib import Path

from halftrack_agent.drivers import confine

PROBE_S = 10.0
TRIES = 3  # a machine that is too busy to answer has not said no, and an instance that shares a network does so for as long as this agent runs


def own_network() -> str:
    """Can an instance get a network namespace of its own?"""
    trouble = ""
    for _ in range(TRIES):
        try:
            return _own_network()
        except (OSError, subprocess.TimeoutExpired) as error:
            trouble = f"no network namespaces for instances: {error}"
    return trouble


def _own_network() -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(Path(confine.__file__))],
        capture_output=True,
        check=False,
        timeout=PROBE_S,
        env={},
    )
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"exit status {done.returncode}"
    return f"no network namespaces for instances, they share the host's network: {reason}"
