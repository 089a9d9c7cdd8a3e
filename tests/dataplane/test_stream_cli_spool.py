"""`spool`, `spooled` and `read --spool`, as processes."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.ring import Ring
from halftrack_dataplane.spool_segments import SpoolMissing
from halftrack_dataplane.stream_cli_spool import row_of
from tests.dataplane.commands import out, running, stream, told, words
from tests.dataplane.processes import until


@contextmanager
def _spooling(folder: Path, *more: str, limit: str = "1MiB") -> Iterator["subprocess.Popen[bytes]"]:
    command = words("spool", folder / "ring", "--to", folder / "spool", "--limit", limit, "--start", "oldest", *more)
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as spooler:
        yield spooler


def _standing(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out("spooled", folder / "spool", "-o", "json"))
    return found


def _spooled(folder: Path, end_seq: int) -> None:
    """Wait until a spool goes up to there."""

    def there() -> bool:
        try:
            return row_of(folder / "spool").end_seq == end_seq
        except SpoolMissing:
            return False

    until(there, f"it is spooled up to {end_seq}")


def _ring(folder: Path, frames: int) -> None:
    with Ring.create(folder / "ring", capacity_bytes=16384, slots=64, label="adc") as ring, ring.writer() as writer:
        for number in range(frames):
            writer.write(b"%d" % number, timestamp_ns=number, timeout_s=0)


def _ended(spooler: "subprocess.Popen[bytes]", by: int) -> tuple[bytes, bytes]:
    spooler.send_signal(by)
    said = spooler.communicate(timeout=20)
    return said[0], said[1]


def test_a_stream_is_spooled_shown_and_read_from_the_disk_and_on_from_the_ring(folder: Path) -> None:
    _ring(folder, 10)
    with _spooling(folder, "-o", "json") as spooler:
        until(lambda: (folder / "spool").is_dir() and stream("spooled", folder / "spool").stdout != b"", "it began")
        _spooled(folder, 10)
        standing = _standing(folder)
        assert standing["state"] == "spooling"
        assert standing["pid"] == spooler.pid
        assert (standing["label"], standing["oldest_seq"], standing["segments"]) == ("adc", 0, 1)
        assert out("read", "--spool", folder / "spool", "--lines", "--drain") == b"".join(
            b"%d\n" % number for number in range(10)
        )
        with Ring.open(folder / "ring") as ring, ring.writer() as writer:
            writer.write(b"more")
        assert out("read", folder / "ring", "--spool", folder / "spool", "--lines", "--count", "11").endswith(
            b"\nmore\n"
        )
        _spooled(folder, 11)
        said, _ = _ended(spooler, signal.SIGTERM)
        assert spooler.returncode == 143
        assert json.loads(said) == {"spool": str(folder / "spool"), "frames": 11, "durable_seq": 11}
    assert _standing(folder)["state"] == "gone"
    assert b"gone" in out("spooled", folder / "spool")
    # Without a spooler it can be read as well.
    assert out("read", "--spool", folder / "spool", "--start", "9", "--drain", "--lines") == b"9\nmore\n"


def test_a_consumer_goes_on_where_it_ended_and_is_forgotten_on_demand(folder: Path) -> None:
    _ring(folder, 10)
    with _spooling(folder) as spooler:
        _spooled(folder, 10)
        _ended(spooler, signal.SIGINT)
        assert spooler.returncode == 130
    spool = folder / "spool"
    assert out("read", "--spool", spool, "--consumer", "archive", "--count", "4", "--lines") == b"0\n1\n2\n3\n"
    assert _standing(folder)["consumers"] == [{"name": "archive", "committed": 4, "lag_frames": 6, "gone_frames": 0}]
    assert out("read", "--spool", spool, "--consumer", "archive", "--drain", "--lines") == b"4\n5\n6\n7\n8\n9\n"
    assert b"consumer archive: committed 10, 0 to come" in out("spooled", spool)
    assert _standing(folder)["consumers"][0]["committed"] == 10
    assert b"no consumer" in out("spooled", spool, "--forget", "archive")
    assert "no consumer 'archive'" in told("spooled", spool, "--forget", "archive", status=1)


def test_at_the_limit_the_oldest_go_and_the_loss_is_told(folder: Path) -> None:
    _ring(folder, 0)
    with _spooling(folder, "--full", "drop-oldest", "--segment", "16KiB", limit="48KiB") as spooler:
        _spooled(folder, 0)
        with Ring.open(folder / "ring") as ring, ring.writer() as writer:
            for _ in range(200):
                writer.write(bytes(1000), timeout_s=20)
        _spooled(folder, 200)
        _, said = _ended(spooler, signal.SIGTERM)
    standing = _standing(folder)
    assert standing["lost"] == standing["oldest_seq"] > 0
    assert standing["bytes"] <= 48 << 10
    assert b"dropped: " in said
    gap = stream("read", "--spool", folder / "spool", "--start", "0", "--drain", "-o", "json")
    assert json.loads(gap.stdout.splitlines()[0])["gap"] == standing["oldest_seq"]
    assert f"lost: {standing['oldest_seq']} frames" in gap.stderr.decode()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("spool", "ring", "--to", "new", "--limit", "9KiB"), "holds no two segments"),
        (("spool", "ring", "--to", "new", "--limit", "1MiB", "--keep", "2 weeks"), "is not a time"),
        (("spool", "none", "--to", "new", "--limit", "1MiB"), "there is no ring"),
        (("spooled", "none"), "there is no spool"),
        (("spooled", "."), "holds no segment"),
        (("read", "--spool", "none"), "there is no spool"),
        (("read",), "Say which RING"),
        (("read", "ring", "--consumer", "it"), "--consumer is for a spool"),
        (("read", "--spool", "none", "--policy", "lossy"), "--spool has all frames"),
    ],
)
def test_what_cannot_be_is_said(folder: Path, arguments: tuple[str, ...], why: str) -> None:
    _ring(folder, 0)
    names = {"ring", "new", "none", "."}
    assert why in told(*(folder / word if word in names else word for word in arguments), status=1).replace("\n", " ")
