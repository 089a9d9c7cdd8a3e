"""What this host can do: asked once at start, each answered by trying. Empty: it can; else why not, for the site's owner."""

import subprocess
import sys
from pathlib import Path

from halftrack_agent.drivers import confine

PROBE_S = 10.0


def own_network() -> str:
    """Can an instance get a network namespace of its own?"""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(Path(confine.__file__))],
            capture_output=True,
            check=False,
            timeout=PROBE_S,
            env={},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no network namespaces for instances: {error}"
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else f"exit status {done.returncode}"
    return f"no network namespaces for instances, they share the host's network: {reason}"
