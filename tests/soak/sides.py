"""The processes of a soak: a writer, and readers that check every byte. Each is a fork whose counts lie in memory that outlives it.

Owns their lives and their counts. What is right is rounds.py's to say; who is killed when, run.py's.
"""

import ctypes
import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from halftrack_dataplane.ring import Reader, Ring
from tests.soak.rounds import Guest, Round, Seen

BUFFER_BYTES = 64 << 10
PATIENCE_S = 60  # for one frame, or for room: who waits longer is stuck, and that is a finding
COUNTS = ("frames", "bytes", "skipped", "lost", "duplicated", "reordered", "corrupt", "stuck", "next_seq")
_PR_SET_PDEATHSIG = 1
_COUNTS = struct.Struct(f"<{len(COUNTS)}q")


class Tally:
    """The counts of one process, in memory that it shares with who started it: a killed one's last word counts, too."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _COUNTS.size)

    def put(self, seen: Seen, stuck: int = 0) -> None:
        """So far. A process killed in the middle leaves some counts newer than others, and none of them wrong."""
        counts = (seen.frames, seen.bytes, seen.skipped, seen.lost, seen.duplicated, seen.reordered, seen.corrupt)
        _COUNTS.pack_into(self._memory, 0, *counts, stuck, seen.expected or 0)

    def get(self) -> dict[str, int]:
        """What was counted."""
        return dict(zip(COUNTS, _COUNTS.unpack_from(self._memory), strict=True))

    def close(self) -> None:
        """Done with the memory."""
        self._memory.close()


def started(life: Callable[[], None]) -> int:
    """A process that does `life` and is gone; its exit status is 1 if that raised."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us ends us, also by its own death
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        life()
        status = 0
    except BaseException as error:  # noqa: BLE001 - a fork has nobody else to tell
        print(f"soak: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def write(path: Path, of: Round) -> None:
    """The writer's life: from where the ring ends to where the stream does."""
    end = of.base_seq + of.frames
    with Ring.open(path) as ring, ring.writer(name="soak") as writer:
        while (seq := ring.head) < end:
            count = of.run(seq)
            content = of.content(seq, count)
            if of.claims:
                writer.claim(content.nbytes, PATIENCE_S)[:] = content.reshape(-1).data
                writer.commit()
            else:
                writer.write_array(content, timeout_s=PATIENCE_S)


def read(path: Path, of: Round, guest: Guest, tally: Tally, joined: int) -> None:
    """A reader's life: until it has what it came for, or the stream ends. Says on `joined` when it has joined."""
    end = of.base_seq + of.frames
    seen = Seen(of, guest.policy)
    buffer = bytearray(BUFFER_BYTES)
    options: Any = {"every": guest.every} if guest.policy == "sample" else {}
    with (
        Ring.open(path) as ring,
        ring.reader(policy=guest.policy, start=guest.start, verify=of.checked, name="soak", **options) as reader,
    ):
        seen.expected = None if guest.policy == "sample" else reader.cursor
        os.write(joined, b"j")
        waited = 0
        while seen.frames < guest.frames and reader.cursor < end:
            if _step(reader, guest, seen, buffer):
                tally.put(seen)
                waited = 0
            elif guest.policy == "sample" and ring.head >= end:
                return  # what it wants does not come any more
            elif (waited := waited + 1) == PATIENCE_S:
                tally.put(seen, stuck=1)
                return


def _step(reader: Reader, guest: Guest, seen: Seen, buffer: bytearray) -> bool:
    """One batch; False if none came within a second."""
    missed = reader.missed
    if guest.policy == "sample":
        frame = reader.read(1.0)
        if frame is not None:
            seen.batch(frame.seq, 1, len(frame.payload), frame.payload, 0)
        return frame is not None
    batch = reader.view_many(timeout_s=1.0) if guest.views else reader.read_into(buffer, 1.0)
    if batch is None:
        return False
    if batch.gap:
        seen.lost += batch.gap  # nobody declares any here
    else:
        payload = batch.payload if guest.views else memoryview(buffer)[: batch.count * batch.frame_bytes]
        seen.batch(batch.seq, batch.count, batch.frame_bytes, payload, reader.missed - missed)
    return True
