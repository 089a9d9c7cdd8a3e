"""A soak in short, as its make target runs it: a process of its own, in a folder of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 290  # ten to fifteen seconds on a machine of one's own


def short_form(module: str, writes: str, folder: Path, **settings: object) -> Any:
    """What it has written; its exit status was 0."""
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", module]
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return json.loads((folder / writes).read_text())
