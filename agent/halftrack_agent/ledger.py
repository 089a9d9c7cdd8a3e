"""An append-only file of numbered, checked entries: what the journal and the outbox are written on.

Owns the format and its recovery, never what an entry means. An entry is on the disk when `append` returns.

    file  = magic, entry*
    entry = length (4 bytes), number (8), CRC-32 of those (4), SHA-256 of number and payload (32), payload

Because each append is synced before the next begins, a crash can only have harmed the last entry: bytes that are missing, or
sectors that read as zeros because the file grew before they were written. Exactly that is called *torn* and cut off; the entry
was never acknowledged. Everything else that does not check is *corrupt*: acknowledged data was lost, so the whole file is set
aside and none of it is used (D1). The length has a checksum of its own: else one flipped bit would pass for a torn end.
"""

import errno
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from halftrack_agent import files
from halftrack_model.errors import HostFault

MAX_ENTRY_BYTES = 8 << 20  # a plan is at most 4 MiB, its base64 form in an entry 4/3 of that
MAX_LEDGER_BYTES = 64 << 20  # eight of the largest entries; compaction keeps a ledger far below it
_SECTOR = 512  # what disks write whole; a hole left by a crash is at least this large
_HEAD = struct.Struct(">IQ")
_CHECK = struct.Struct(">I")
_PREFIX_BYTES = _HEAD.size + _CHECK.size + hashlib.sha256().digest_size


class End(Enum):
    """How the readable part of a ledger ends."""

    CLEAN = "clean"
    TORN = "torn"
    CORRUPT = "corrupt"


@dataclass(frozen=True, slots=True)
class Scan:
    """What a ledger's bytes hold: the entries that check, where they end, and the number that the next one gets."""

    payloads: tuple[bytes, ...]
    good_bytes: int
    next_number: int
    end: End


def magic_of(kind: str) -> bytes:
    """The first line of a ledger of this kind."""
    return f"halftrack {kind} ledger 1\n".encode("ascii")


def framed(number: int, payload: bytes) -> bytes:
    """One entry's bytes."""
    head = _HEAD.pack(len(payload), number)
    digest = hashlib.sha256(head[4:] + payload).digest()
    return head + _CHECK.pack(zlib.crc32(head)) + digest + payload


def scan(data: bytes, magic: bytes) -> Scan:
    """Read as far as everything checks, and say how it ends."""
    if not data.startswith(magic):
        torn = magic.startswith(data) or not data.strip(b"\0")
        return Scan((), 0, 1, End.TORN if torn else End.CORRUPT)
    payloads: list[bytes] = []
    at, number = len(magic), 0
    while at < len(data):
        step = _entry(data, at, number)
        if isinstance(step, End):
            return Scan(tuple(payloads), at, number + 1, step)
        payload, number, at = step
        payloads.append(payload)
    return Scan(tuple(payloads), at, number + 1, End.CLEAN)


def _entry(data: bytes, at: int, previous: int) -> tuple[bytes, int, int] | End:
    """The entry at `at`, its number and its end; or how the ledger ends there. `previous` is 0 before the first entry."""
    if len(data) - at < _PREFIX_BYTES:
        return End.TORN
    head = data[at : at + _HEAD.size]
    if _CHECK.unpack_from(data, at + _HEAD.size)[0] != zlib.crc32(head):
        return End.TORN if _hollow(data, at) else End.CORRUPT
    length, number = _HEAD.unpack(head)
    if length > MAX_ENTRY_BYTES or (previous and number != previous + 1):
        return End.CORRUPT
    start = at + _PREFIX_BYTES
    if start + length > len(data):
        return End.TORN
    payload = data[start : start + length]
    if hashlib.sha256(head[4:] + payload).digest() != data[at + _HEAD.size + _CHECK.size : start]:
        last = start + length == len(data)
        return End.TORN if last and _hollow(data, at) else End.CORRUPT
    return payload, number, start + length


def _hollow(data: bytes, at: int) -> bool:
    """Is a whole sector (or what the file has of it) zero, from the entry at `at` on? JSON payloads hold no zero bytes."""
    if not data[at:].strip(b"\0"):
        return True
    first = (at // _SECTOR + 1) * _SECTOR
    return any(not data[s : s + _SECTOR].strip(b"\0") for s in range(first, len(data), _SECTOR))


class Ledger:
    """One open ledger. Not for several threads at once; the state folder's lock keeps other processes away."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self.findings: tuple[str, ...] = ()  # what recovery had to do, for people
        self.quarantined: Path | None = None
        self.salvage_bytes = 0  # of a quarantined file, what lay behind its last good entry
        self.recovered: tuple[bytes, ...] = ()
        self._magic = magic_of(kind)
        self._broken = ""
        self._fd = -1
        self._size = 0
        self._next = 1
        try:
            self._open()
        except OSError as error:
            self.close()
            raise files.fault(error, path) from error

    @property
    def size_bytes(self) -> int:
        """The file's length."""
        return self._size

    @property
    def broken(self) -> str:
        """Why nothing can be appended any more, if so. `rewrite` mends it: what its file holds cannot be known then, so a whole one takes its place."""
        return self._broken

    @property
    def next_number(self) -> int:
        """The number of the next entry."""
        return self._next

    def append(self, payload: bytes) -> int:
        """Put one entry on the disk and return its number. HostFault, and nothing changed, when that is not possible."""
        if len(payload) > MAX_ENTRY_BYTES:
            raise HostFault(
                "entry-too-large", f"{self.path}: an entry of {len(payload)} bytes, {MAX_ENTRY_BYTES} allowed"
            )
        frame = framed(self._next, payload)
        if self._size + len(frame) > MAX_LEDGER_BYTES:
            raise HostFault("ledger-full", f"{self.path} would grow beyond {MAX_LEDGER_BYTES} bytes")
        self._write(frame)
        self._next += 1
        return self._next - 1

    def rewrite(self, payloads: Sequence[bytes]) -> None:
        """Replace all entries by these, in a new file that takes the old one's place; numbers go on rising."""
        first = self._next
        frames = [framed(first + n, payload) for n, payload in enumerate(payloads)]
        if not frames:
            raise HostFault("ledger-empty", f"{self.path}: a ledger without entries would forget its numbers")
        try:
            files.replace(self.path, self._magic + b"".join(frames))
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except (HostFault, OSError) as error:
            self._check_place()
            raise error if isinstance(error, HostFault) else files.fault(error, self.path) from error
        self.close()
        self._fd, self._size, self._next = fd, os.fstat(fd).st_size, first + len(frames)
        self._broken = ""

    def close(self) -> None:
        """Give the descriptor back; appended entries are on the disk already."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, frame: bytes) -> None:
        if self._broken:
            raise HostFault("disk-fault", f"{self.path}: {self._broken}")
        try:
            os.lseek(self._fd, self._size, os.SEEK_SET)
            files.write_all(self._fd, frame)
        except OSError as error:
            self._cut_back()
            raise files.fault(error, self.path) from error
        try:
            files.sync(self._fd, self.path)
        except OSError as error:
            # A disk with no room for what it had taken already: whether this entry is on it cannot be known any more by this process.
            self._broken = f"syncing failed ({error.strerror}); it has to be written anew"
            raise files.fault(error, self.path) from error
        self._size += len(frame)

    def _check_place(self) -> None:
        """Renaming may have worked and what follows it not: then our descriptor is of a file without a name, and what is appended
        to that is gone with this process."""
        if self._fd < 0:
            return  # there was none
        try:
            in_place = os.stat(self.path).st_ino == os.fstat(self._fd).st_ino
        except OSError:
            in_place = False
        if not in_place:
            self._broken = "it was replaced, and the new file cannot be relied on; it has to be written anew"

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            self._broken = f"a half written entry could not be taken back ({error.strerror}); it has to be written anew"

    def _open(self) -> None:
        data = self._read()
        found = Scan((), 0, 1, End.CORRUPT) if data is None else scan(data, self._magic)
        data = data or b""
        if found.end is End.CORRUPT:
            self._set_aside(data, found)
            data, found = b"", Scan((), 0, found.next_number, End.CLEAN)
        try:
            self._begin(found)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            self._size, self._broken = found.good_bytes, "the disk takes no change; what it has is used"
        if found.end is End.TORN and len(data) > self._size and not self._broken:
            self.findings += (f"{self.path.name}: {len(data) - self._size} bytes of an unfinished entry were cut off",)
        self.recovered, self._next = found.payloads, found.next_number

    def _begin(self, found: Scan) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if found.good_bytes == 0:
            os.ftruncate(self._fd, 0)
            files.write_all(self._fd, self._magic)
            self._size = len(self._magic)
        else:
            os.ftruncate(self._fd, found.good_bytes)
            self._size = found.good_bytes
        files.sync(self._fd, self.path)
        files.sync_folder(self.path.parent)

    def _read(self) -> bytes | None:
        """All of it; None where the disk does not give it back: as damaged as what does not check, and no reason not to start."""
        try:
            with self.path.open("rb") as file:
                files.from_disk(file.fileno())
                return file.read(MAX_LEDGER_BYTES + 1)  # one more than allowed: then the last entry does not check
        except FileNotFoundError:
            return b""
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return None

    def _set_aside(self, data: bytes, found: Scan) -> None:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.quarantined.{number}")).exists():
            number += 1
        text = f"{self.path.name} is damaged at byte {found.good_bytes}: nothing in it was used"
        self.salvage_bytes = len(data) - found.good_bytes
        try:
            self.path.rename(aside)
            files.sync_folder(self.path.parent)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            self.findings += (text,)
            return
        self.quarantined = aside
        self.findings += (f"{text}; it is kept as {aside.name}",)


def payload_bytes(payloads: Iterable[bytes]) -> int:
    """What these entries take in a file."""
    return sum(_PREFIX_BYTES + len(payload) for payload in payloads)
