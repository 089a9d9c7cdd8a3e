"""`capture` and `send`: packets of a real network, the loopback, into a ring and out of one; real processes."""

import importlib.util
import json
import re
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from halftrack_dataplane import vdif
from halftrack_dataplane.datagrams import Listening
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.stream_cli_capture import note_of_listening
from halftrack_dataplane.stream_cli_frame import Terminal
from tests.dataplane.commands import LIMIT_S, begun, out, payloads, records, running, told, words

needs_spead = pytest.mark.skipif(
    importlib.util.find_spec("spead2") is None, reason="the package spead2 is not here: pip install 'halftrack[spead]'"
)


@contextmanager
def capturing(*arguments: object) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A capture that has said which port it listens on, and that port."""
    command = words("capture", *arguments, "--listen", "127.0.0.1:0", "-o", "json", "--timeout", "20")
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        line = child.stderr.readline().decode()
        match = re.fullmatch(r"listening on port (\d+)\n", line)
        assert match, line + child.stderr.read().decode()
        yield child, int(match[1])


def ended(child: subprocess.Popen[bytes], status: int = 0) -> tuple[dict[str, int], str]:
    """What a capture says in the end."""
    told_out, told_err = child.communicate(timeout=LIMIT_S)
    assert child.returncode == status, told_err.decode()
    return json.loads(told_out.splitlines()[-1]), told_err.decode()


@contextmanager
def sending_to(port: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        yield sender


# invariant: S2
def test_numbered_packets_into_a_ring(folder: Path) -> None:
    path = folder / "a.ring"
    with capturing("udp", path, "--create", "--frame-bytes", "16", "--numbers", "be64", "--count", "17") as (
        child,
        port,
    ):
        with sending_to(port) as sender:
            for seq in (100, 101, 103, 102, *range(107, 120)):
                sender.send(struct.pack(">Q", seq) + bytes([seq]) * 16)
                if seq == 119:
                    for extra in range(120, 200):  # beyond the window: the hole is given up
                        sender.send(struct.pack(">Q", extra) + bytes([extra]) * 16)
        counted, said = ended(child)
    assert counted["frames"] >= 17
    assert (counted["lost"], counted["late"], counted["kernel_drops"]) == (3, 0, 0)
    assert "3 lost" in said
    found = begun(path)
    assert [record.seq + at for record in found for at in range(record.gap)] == [104, 105, 106]
    assert all(record.payload == bytes([record.seq]) * 16 for record in found if not record.gap)
    assert found[0].seq == 100


def test_a_capture_ends_on_a_signal_with_what_came(folder: Path) -> None:
    path = folder / "a.ring"
    with capturing("udp", path, "--create", "--frame-bytes", "8") as (child, port):
        with sending_to(port) as sender, Ring.open(path) as ring, ring.reader(start="oldest") as reader:
            sender.send(b"01234567")
            assert reader.read(20) is not None
        child.terminate()
        counted, _ = ended(child, 143)
    assert counted["frames"] == 1
    assert payloads(path) == [b"01234567"]


def test_silence_is_status_three(folder: Path) -> None:
    path = folder / "a.ring"
    with Ring.create(path, capacity_bytes=4096, frame_bytes=8):
        said = told("capture", "udp", path, "--listen", "127.0.0.1:0", "--timeout", "0.2", status=3)
    assert "no packet within 0.2 s" in said


def test_vdif_into_a_ring_and_into_a_file(folder: Path, tmp_path: Path) -> None:
    path = folder / "a.ring"
    frames = [vdif.Header(5 + at // 10, 53, at % 10, 40).to_bytes() + at.to_bytes(8, "little") for at in range(30)]
    options = ("--frame-bytes", "40", "--per-second", "10", "--prefixed", "--count", "30")
    with capturing("vdif", path, "--create", *options) as (child, port):
        with sending_to(port) as sender:
            for frame in frames:
                sender.send(bytes(8) + frame)
        counted, _ = ended(child)
    assert counted["next_seq"] == (vdif.epoch_s(53) + 8) * 10
    assert begun(path)[0].timestamp_ns == (vdif.unix_s(vdif.epoch_s(53)) + 5) * 10**9
    out("export", "raw", path, tmp_path / "x.vdif", "--start", "oldest", "--drain")
    assert (tmp_path / "x.vdif").read_bytes() == b"".join(frames)


def test_a_buffer_that_the_kernel_cuts_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        note_of_listening(Terminal("text"), Listening(made, 64 << 20, 208 << 10), 7148)
        said = " ".join(capsys.readouterr().err.split())
        assert "gives the socket 208KiB of buffer, not 64MiB" in said
        assert "sysctl -w net.core.rmem_max=67108864" in said
        note_of_listening(Terminal("text"), Listening(made, 64 << 20, 64 << 20), 7148)
        assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("udp", "--listen", "nowhere"), "write HOST:PORT"),
        (("udp", "--listen", "127.0.0.1:0"), "say --frame-bytes N"),
        (("vdif", "--listen", "127.0.0.1:0", "--frame-bytes", "40"), "--per-second N"),
        (
            ("vdif", "--listen", "127.0.0.1:0", "--frame-bytes", "40", "--per-second", "9999999", "--threads", "999"),
            "no VDIF stream",
        ),
    ],
)
def test_what_cannot_be_captured_says_what_to_write(folder: Path, arguments: tuple[str, ...], reason: str) -> None:
    with Ring.create(folder / "a.ring", capacity_bytes=4096):
        assert reason in told("capture", *arguments, folder / "a.ring", status=1)


# ----------------------------------------------------------------------------------------------------------------- SPEAD


# invariants: S1, S2
@needs_spead
def test_a_ring_through_spead_into_a_ring(folder: Path) -> None:
    source, target = folder / "a.ring", folder / "b.ring"
    with Ring.create(source, capacity_bytes=1 << 20, base_seq=50) as ring, ring.writer() as writer:
        for seq in range(50, 80):
            if seq == 60:
                writer.gap(3)
            elif not 60 <= seq < 63:
                writer.write(bytes([seq]) * (10 * seq))
        writer.write(b"x" * 30_000)  # several packets
    with capturing("spead", target, "--create", "--step", "16") as (child, port):
        out(
            "send",
            "spead",
            source,
            f"127.0.0.1:{port}",
            "--start",
            "oldest",
            "--drain",
            "--step",
            "16",
            "--rate",
            "20MB",
        )
        counted, _ = ended(child)  # the sender says that its stream ends
    assert (counted["frames"], counted["lost"], counted["incomplete"]) == (28, 3, 0)
    wanted = {record.seq: (record.gap, record.payload) for record in records(source)}
    assert {record.seq: (record.gap, record.payload) for record in begun(target)} == wanted


@needs_spead
def test_heaps_of_another_length_or_of_several_items_are_told(folder: Path) -> None:
    import numpy as np
    import spead2.send

    path = folder / "b.ring"
    with capturing("spead", path, "--create", "--frame-bytes", "8", "--item", "0x1001") as (child, port):
        stream = spead2.send.UdpStream(spead2.ThreadPool(1), [("127.0.0.1", port)])
        group = spead2.send.ItemGroup()
        for number in (0x1000, 0x1001):
            group.add_item(number, str(number), "", shape=(None,), format=[("u", 8)])
        for cnt, size in ((5, 8), (6, 9), (7, 8)):
            group[0x1000].value = np.zeros(100, np.uint8)
            group[0x1001].value = np.full(size, cnt, np.uint8)
            stream.send_heap(group.get_heap(descriptors="none", data="all"), cnt=cnt)
        stream.send_heap(group.get_end(), cnt=8)
        counted, _ = ended(child)
    assert counted["wrong_size"] == 1
    assert [(record.seq, record.gap) for record in begun(path)] == [(5, 0), (6, 1), (7, 0)]
    with capturing("spead", path) as (child, port):
        stream = spead2.send.UdpStream(spead2.ThreadPool(1), [("127.0.0.1", port)])
        stream.send_heap(group.get_heap(descriptors="none", data="all"), cnt=9)
        _, said = child.communicate(timeout=LIMIT_S)
    assert child.returncode == 1
    assert (
        "heap 9 has several items with bytes (0x1000, 0x1001): say which one is the frame, --item ID" in said.decode()
    )


def test_without_the_package_it_is_said_how_to_get_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from halftrack_dataplane.spead_heaps import SpeadMissing, package

    monkeypatch.setitem(sys.modules, "spead2", None)
    with pytest.raises(SpeadMissing, match=r"pip install 'halftrack\[spead\]'"):
        package("")
