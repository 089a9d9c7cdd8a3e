"""A stretch of a stream in a file: written once from begin to end, and read back only as far as it is certainly whole.

Owns the format. Never replaces a file half way: a recording has another name until it is finished and on the disk. All numbers are
little-endian. The file is a head, records, and an end; each CRC-32 of a head goes on from that of the one before it, so that a
record that is missing, doubled or moved shows, and the end shows a file that was cut off between two.

    head    magic "HTRKDUMP", u32 version, u32 bytes of label, u32 bytes of schema, u32 zero, u64 frame_bytes, u64 generation,
            i64 wall clock at the beginning in ns; label; schema; u32 CRC-32 of all that
    record  "FRME", u32 length, u64 seq, u64 epoch, i64 timestamp_ns, i64 arrival_ns (since the beginning), u64 gap,
            u32 CRC-32 of the payload, u32 CRC-32 of these fields; the payload. With gap > 0 it declares [seq, seq + gap) as lost
    end     the same fields with "DONE": seq is the number of records, all others are 0
"""

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from typing_extensions import Buffer

VERSION = 1
MAGIC = b"HTRKDUMP"
PART = ".part"  # what a recording's name ends with until it is finished

_HEAD = struct.Struct("<8sIIIIQQq")
_FIELDS = struct.Struct("<4sIQQqqQI")
_CRC = struct.Struct("<I")
_FRAME, _END = b"FRME", b"DONE"
_TEXT_BYTES = 1 << 16  # labels and schemas are far shorter; a damaged length must not make us read the file as one


class RecordingError(Exception):
    """A file is no recording, or none that this version can read."""


class RecordingDamaged(RecordingError):  # noqa: N818 - reads as what it is
    """The file is cut off or altered from some byte on; all records that were given out before are whole."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The ring that was recorded, and when that began by the wall clock."""

    label: str = ""
    schema: str = ""
    frame_bytes: int = 0
    generation: int = 0
    began_ns: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One frame, or a declared gap. `arrival_ns` counts from the recording's beginning."""

    seq: int
    epoch: int
    timestamp_ns: int
    arrival_ns: int
    payload: bytes = b""
    gap: int = 0


class RecordingWriter:
    """Writes a recording. It appears under its name with `finish`, on the disk; without it, `path` + ".part" stays."""

    def __init__(self, path: Path, origin: Origin, *, replace: bool = False) -> None:
        if path.exists() and not replace:
            raise FileExistsError(f"{path} exists")
        self.path = path
        self.part = path.with_name(path.name + PART)
        self.records = 0
        self.bytes = 0
        self._file: BinaryIO = self.part.open("wb", buffering=1 << 20)
        label, schema = origin.label.encode(), origin.schema.encode()
        head = _HEAD.pack(
            MAGIC, VERSION, len(label), len(schema), 0, origin.frame_bytes, origin.generation, origin.began_ns
        )
        head += label + schema
        self._crc = zlib.crc32(head)
        self._file.write(head + _CRC.pack(self._crc))

    def add(
        self, seq: int, epoch: int, timestamp_ns: int, arrival_ns: int, payload: Buffer = b"", gap: int = 0
    ) -> None:
        """Append one frame, or a gap."""
        view = memoryview(payload)
        self._put(_FIELDS.pack(_FRAME, view.nbytes, seq, epoch, timestamp_ns, arrival_ns, gap, zlib.crc32(view)))
        self._file.write(view)
        self.records += 1
        self.bytes += view.nbytes

    def _put(self, fields: bytes) -> None:
        self._crc = zlib.crc32(fields, self._crc)
        self._file.write(fields + _CRC.pack(self._crc))

    def finish(self) -> None:
        """Write the end, and give the file its name once it is on the disk."""
        self._put(_FIELDS.pack(_END, 0, self.records, 0, 0, 0, 0, 0))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self.part.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the new name, too
        finally:
            os.close(folder)

    def abandon(self) -> None:
        """Close without finishing: what has been written stays in the part."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()


class RecordingReader:
    """Reads a recording: `origin`, then its records in order, for as often as it is iterated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("rb", buffering=1 << 20)
        self._size = os.fstat(self._file.fileno()).st_size
        try:
            self.origin, self._first_crc = self._head()
        except RecordingError:
            self._file.close()
            raise
        self._body = self._file.tell()

    def _head(self) -> tuple[Origin, int]:
        head = self._file.read(_HEAD.size)
        if head[: len(MAGIC)] != MAGIC[: len(head)] or not head:
            raise RecordingError(f"{self.path} is not a recording: it does not begin with {MAGIC.decode()}")
        if len(head) < _HEAD.size:
            raise self._damage(0, 0, "it ends inside its head")
        _, version, label, schema, _, frame_bytes, generation, began_ns = _HEAD.unpack(head)
        if version != VERSION:
            raise RecordingError(
                f"{self.path} has format version {version}, and this Halftrack knows version {VERSION} only"
            )
        if max(label, schema) > _TEXT_BYTES:
            raise self._damage(0, 0, "its head is altered")
        texts, crc = self._file.read(label + schema), self._file.read(_CRC.size)
        if len(texts) + len(crc) < label + schema + _CRC.size:
            raise self._damage(0, 0, "it ends inside its head")
        computed = zlib.crc32(texts, zlib.crc32(head))
        if computed != _CRC.unpack(crc)[0]:
            raise self._damage(0, 0, "its head is altered")
        origin = Origin(texts[:label].decode(), texts[label:].decode(), frame_bytes, generation, began_ns)
        return origin, computed

    def __iter__(self) -> Iterator[Record]:
        self._file.seek(self._body)
        at, crc, count = self._body, self._first_crc, 0
        while True:
            head = self._file.read(_FIELDS.size + _CRC.size)
            if len(head) < _FIELDS.size + _CRC.size:
                raise self._damage(at, count, "it ends there, before its end mark: it was cut off or never finished")
            fields = head[: _FIELDS.size]
            crc = zlib.crc32(fields, crc)
            kind, length, seq, epoch, timestamp_ns, arrival_ns, gap, payload_crc = _FIELDS.unpack(fields)
            if crc != _CRC.unpack_from(head, _FIELDS.size)[0] or kind not in (_FRAME, _END):
                raise self._damage(at, count, "the record there is altered")
            if kind == _END:
                if seq != count or self._file.read(1):
                    raise self._damage(at, count, "its end mark is not where its end is")
                return
            payload = self._file.read(length)
            if len(payload) < length:
                raise self._damage(at, count, "it ends inside the record there")
            if zlib.crc32(payload) != payload_crc:
                raise self._damage(at, count, "the payload of the record there is altered")
            yield Record(seq, epoch, timestamp_ns, arrival_ns, payload, gap)
            at, count = at + len(head) + length, count + 1

    def _damage(self, at: int, count: int, why: str) -> RecordingDamaged:
        return RecordingDamaged(
            f"{self.path} is damaged at byte {at} of {self._size}: {why}. The {count} records before it are whole."
        )

    def close(self) -> None:
        """Done with the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
