"""Whatever lies in a ring's file: opening, reading, joining and writing refuse it or say that it is damaged, and never crash.

Each round is done by a forked child, seeded, so that a crash names the seed; everything a child does is bounded in time.
"""

import contextlib
import os
import random
import signal
import struct
import traceback
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane import ring as fast
from halftrack_dataplane.frames import RingError
from tests.ring import c_ring
from tests.ring import ring_words as words

CASES, BATCH, LIMIT_S = 4000, 250, 60
INTERESTING = [0, 1, 2, 7, 63, 64, 65, 4095, 4096, 2**16, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 64, 2**64 - 1]
MOVING = [
    words.HEAD,
    words.DATA_HEAD,
    words.RECORDS,
    words.TAIL,
    words.RECLAIM,
    words.TAIL_RECORD,
    words.WRITER,
    words.READER_LIMIT,
]


def rings(folder: Path) -> list[bytes]:
    """Rings as they are: of frames of any length, of one, with checksums, wrapped, with gaps and readers."""
    made = []
    for number, marks in enumerate([{}, {"frame_bytes": 48}, {"frame_bytes": 48, "checked": True}, {"checked": True}]):
        path = folder / f"whole-{number}"
        options: dict[str, Any] = {"capacity_bytes": 8192, "slots": 8, **marks}
        with (
            fast.Ring.create(path, **options) as ring,
            ring.writer() as writer,
            ring.reader(name="r"),
            ring.reader(policy="lossy"),
        ):
            ring.evict(0)
            for seq in range(40):
                writer.gap(3) if seq % 9 == 4 else writer.write(bytes([seq]) * 48)
            made.append(path.read_bytes())
        path.unlink()
    return made


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """Some words of the header or the descriptors replaced; now and then the checksum made to fit, or the file cut."""
    data = bytearray(whole)
    for _ in range(draw.choice([1, 1, 2, 5, 40])):
        where = draw.choice(["moving", "moving", "descriptor", "slot", "header", "static"])
        at = {
            "moving": draw.choice(MOVING),
            "descriptor": words.HEADER_BYTES + 8 * draw.randrange(64),
            "slot": words.OWNER + 8 * draw.randrange(2 * 16),
            "header": 4 * draw.randrange(words.HEADER_BYTES // 4 - 1),
            "static": 8 * draw.randrange(words.STATIC["checksum"] // 8),
        }[where]
        old = struct.unpack_from("<Q", data, at)[0]
        value = draw.choice([*INTERESTING, draw.getrandbits(64), (old + draw.randrange(-70, 70)) % 2**64])
        struct.pack_into("<Q", data, at, value)
    if draw.random() < 0.7:
        struct.pack_into("<Q", data, words.STATIC["checksum"], words.checksum(bytes(data)))
    return bytes(data[: draw.randrange(len(data))]) if draw.random() < 0.05 else bytes(data)


def use(module: Any, path: Path, draw: random.Random) -> bool:
    """Does everything once; was the ring accepted at all?"""
    accepted = False
    for readonly in (True, False):
        with contextlib.suppress(RingError, OSError), module.Ring.open(path, readonly=readonly) as ring:
            accepted = True
            for seq in (0, 20, ring.tail % 2**63, (ring.head - 1) % 2**63):
                attempt(ring.peek, seq)
            attempt(ring.seq_at, draw.randrange(100))
            attempt(ring.cuts)
            attempt(ring.stats)
            if not readonly:
                attempt(ring.reap)
                attempt(write, ring)
                attempt(read, ring, "lossless")
                attempt(read, ring, "lossy")
                attempt(write, ring)
    return accepted


def attempt(call: Any, *words: Any) -> None:
    with contextlib.suppress(RingError, ValueError):
        call(*words)


def write(ring: Any) -> None:
    with ring.writer(full="overwrite") as writer:
        for _ in range(30):
            writer.write(bytes(48), timeout_s=0)
        writer.write_many([bytes(48)] * 20, timeout_s=0)


def read(ring: Any, policy: str) -> None:
    with ring.reader(policy=policy, start="oldest", verify=True) as reader:
        for _ in range(4):
            reader.read(0)
        reader.read_many(20, 0)
        reader.read_into(bytearray(4096), 0)
        for look in (reader.view, reader.view_many):
            if (seen := look(timeout_s=0)) is not None:
                bytes(seen.payload)


@pytest.mark.parametrize("module", [fast, c_ring], ids=["fast", "c"])
def test_no_file_makes_a_process_crash(folder: Path, module: Any) -> None:
    whole, accepted = rings(folder), 0
    if module is c_ring:
        c_ring.core()  # once, before the forks
    for first in range(0, CASES, BATCH):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(LIMIT_S)
            os.close(reading)
            code = 1
            try:
                for seed in range(first, first + BATCH):
                    os.write(writing, struct.pack("<IB", seed, 2))
                    draw, path = random.Random(seed), folder / f"case-{first}"
                    path.write_bytes(damaged(draw.choice(whole), draw))
                    os.write(writing, struct.pack("<IB", seed, use(module, path, draw)))
                    path.unlink()
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading, "rb") as reports:
            said = [struct.unpack("<IB", line) for line in iter(lambda: reports.read(5), b"")]
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, (
            f"seed {said[-1][0]} ended with {os.waitstatus_to_exitcode(status)}"
        )
        accepted += sum(1 for _, what in said if what == 1)
    assert CASES // 4 < accepted < CASES  # some must get past the door
