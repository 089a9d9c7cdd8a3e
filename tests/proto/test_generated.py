"""The committed code is what the protos say."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_generated_code_is_current() -> None:
    """Somebody who edits a proto and forgets to generate is told so."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "proto/generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
