"""Real `halftrack-stream` processes for the tests, joined by real pipes; none outlives its test."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.ring import Ring

PROGRAM = (sys.executable, "-m", "halftrack_dataplane.stream_cli")
LIMIT_S = 30.0


def words(*arguments: object) -> list[str]:
    """The command line of one `halftrack-stream`."""
    return [*PROGRAM, *map(str, arguments)]


def stream(*arguments: object, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run one to its end."""
    done = subprocess.run(words(*arguments), input=given, capture_output=True, timeout=LIMIT_S, check=False)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def told(*arguments: object, given: bytes = b"", status: int = 0) -> str:
    """What one says on standard error when it ends with that status."""
    done = stream(*arguments, given=given)
    assert done.returncode == status, (done.returncode, done.stderr.decode())
    return done.stderr.decode()


def out(*arguments: object, given: bytes = b"") -> bytes:
    """What one that succeeds writes."""
    done = stream(*arguments, given=given)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@contextmanager
def running(command: Sequence[str], **pipes: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is dead and waited for in the end, whatever happens."""
    child = subprocess.Popen(command, **pipes)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()


def records(path: Path) -> list[Frame]:
    """All that a ring retains."""
    with Ring.open(path, readonly=True) as ring:
        found, seq = [], ring.tail
        while seq < ring.head:
            record = ring.peek(seq)
            assert record is not None
            found.append(record)
            seq += record.gap or 1
    return found


def begun(path: Path) -> list[Frame]:
    """The same without the gap with which a ring begins whose first frame brought a number of its own."""
    found = records(path)
    return found[1:] if found and found[0].gap and not found[0].seq else found


def payloads(path: Path) -> list[bytes]:
    """The frames that a ring retains."""
    return [bytes(record.payload) for record in records(path) if not record.gap]
