"""The sink that real streams of the test kit end in: a program as a user would write one, run by the runner.

Owns the ledger's form, a file of whole records; what a death leaves half-written is cut off by the next life. Imports nothing of the kit's but
the record's form.
"""

import os
import struct
from collections.abc import Mapping, Sequence

from halftrack_dataplane.sdk import Cut, Frame, Param
from halftrack_dataplane.testkit.checker import Record

HEAD = struct.Struct("<QQQQ")  # sequence, gap, epoch, bytes of the payload that follows
NAME = "ledger"


def records(data: bytes) -> tuple[list[Record], int]:
    """The whole records in a ledger's bytes, and where they end."""
    found, at = [], 0
    while at + HEAD.size <= len(data):
        seq, gap, epoch, size = HEAD.unpack_from(data, at)
        end = at + HEAD.size + size
        if end > len(data):
            break
        found.append(Record(seq, gap, epoch, data[at + HEAD.size : end]))
        at = end
    return found, at


class Ledger:
    """Appends a record for each frame and each declared gap, and goes on where the file ends."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        """Open it, and cut off what is not whole."""
        self._file = open(os.path.join(data_dir, NAME), "a+b")  # noqa: SIM115 - open as long as the process
        self._file.seek(0)
        found, end = records(self._file.read())
        self._file.truncate(end)
        self._next = found[-1].seq + max(found[-1].gap, 1) if found else 0

    def next_seq(self) -> int:
        """After the last record."""
        return self._next

    def consume(self, frame: Frame) -> None:
        """One record."""
        payload = bytes(frame.payload)
        self._file.write(HEAD.pack(frame.seq, frame.gap, frame.epoch, len(payload)) + payload)

    def cuts(self, cuts: Sequence[Cut]) -> None:
        """The owner table is read from the ring by whoever checks."""

    def flush(self) -> None:
        """To the kernel: processes are killed here, not machines."""
        self._file.flush()
