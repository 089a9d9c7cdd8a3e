"""What a disk holds after the power has failed: everything that was synced, and of the rest nothing, or whatever a seed says.

Pure: from the folder before and the log of changes (`boundaries.c` writes it) to the folder after. As strict as POSIX allows: a file's bytes are
durable by a sync of that file, a name by a sync of its folder, and neither brings the other about. Of what was not synced, a file and a folder each keep
a part of its own, in order; the last write that is kept may be torn at a sector, with zeros behind it.
"""

import itertools
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from random import Random

SECTOR = 512
_HEAD = struct.Struct("=IQQIII")


class Kind(IntEnum):
    """Of records; the numbers are `boundaries.c`'s."""

    POINT = 1
    WRITE = 2
    CUT = 3
    SYNC = 4
    RENAME = 5
    UNLINK = 6
    MKDIR = 7
    RMDIR = 8
    CREATE = 9
    LINK = 10


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the log. Of a point, `name` says what it is and `other` to which file."""

    kind: Kind
    inode: int
    offset: int
    name: str
    other: str
    data: bytes


def records(log: bytes) -> Iterator[Record]:
    """All of a log; its process may have been killed, but never while it wrote this."""
    at = 0
    while at < len(log):
        kind, inode, offset, *lengths = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        ends = [at + sum(lengths[:n]) for n in range(4)]
        name, other, data = (log[start:end] for start, end in itertools.pairwise(ends))
        yield Record(Kind(kind), inode, offset, name.decode(), other.decode(), data)
        at = ends[-1]


def unsynced_from(log: Iterable[Record], path: str) -> int | None:
    """The first byte of a file that was written and not synced since; None when there is none."""
    found: int | None = None
    for record in log:
        if record.name == path and record.kind is Kind.WRITE:
            found = record.offset if found is None else min(found, record.offset)
        elif record.name == path and record.kind is Kind.SYNC:
            found = None
    return found


@dataclass
class _File:
    """Bytes on the disk, and changes that are not."""

    durable: bytearray
    pending: list[Record] = field(default_factory=list)


FOLDER = -1  # in the place of a file's number


class Disk:
    """`files` before, by path, with their inodes; `folders` are paths too. All of that counts as synced. What another process has written, of which
    the log knows nothing, `found` reads where it has come to lie, if our program has synced it."""

    def __init__(
        self,
        files: Mapping[str, tuple[int, bytes]],
        folders: frozenset[str],
        found: Callable[[str], bytes] = lambda _path: b"",
    ) -> None:
        self._found, self._synced_of_others = found, set[str]()
        self._files = {n: _File(bytearray(data)) for n, (_, data) in enumerate(files.values())}
        self._by_inode = {inode: n for n, (inode, _) in enumerate(files.values())}
        self._now: dict[str, int] = {path: n for n, path in enumerate(files)} | dict.fromkeys(folders, FOLDER)
        self._durable = dict(self._now)
        self._pending: dict[str, list[tuple[Record, int]]] = {}  # of each folder, with the file that is named

    def apply(self, record: Record) -> None:
        """One change, or one sync."""
        match record.kind:
            case Kind.WRITE | Kind.CUT:
                if (number := self._by_inode.get(record.inode)) is not None:
                    self._files[number].pending.append(record)
            case Kind.SYNC if record.offset:
                for change, number in self._pending.pop(record.name, ()):
                    _rename(self._durable, change, number)
            case Kind.SYNC:
                if (number := self._by_inode.get(record.inode)) is not None:
                    file = self._files[number]
                    for change in file.pending:
                        _change(file.durable, change)
                    file.pending.clear()
                else:
                    self._synced_of_others.add(record.name)
            case Kind.POINT:
                pass
            case _:
                self._name(record)

    def _name(self, record: Record) -> None:
        number = FOLDER
        if record.kind is Kind.CREATE:
            number = len(self._files)
            self._files[number], self._by_inode[record.inode] = _File(bytearray()), number
        elif record.kind in (Kind.RENAME, Kind.LINK):
            if record.name not in self._now:
                self._now[record.name] = len(self._files)
                data = self._found(record.other) if record.name in self._synced_of_others else b""
                self._files[len(self._files)] = _File(bytearray(data))
            number = self._now[record.name]
        _rename(self._now, record, number)
        self._pending.setdefault(_parent(record.other or record.name), []).append((record, number))

    def lost(self) -> dict[str, bytes | None]:
        """Files (and folders: None) when nothing survives but what was synced."""
        return self._image(self._durable, {})

    def torn(self, random: Random) -> dict[str, bytes | None]:
        """The same when a part of the rest does."""
        names = dict(self._durable)
        for folder in sorted(self._pending):
            changes = self._pending[folder]
            for change, number in changes[: random.randint(0, len(changes))]:
                _rename(names, change, number)
        contents = {}
        for number, file in self._files.items():
            if file.pending:
                contents[number] = _torn(file, random)
        return self._image(names, contents)

    def _image(self, names: Mapping[str, int], contents: Mapping[int, bytes]) -> dict[str, bytes | None]:
        """What can be reached: a name below a folder that is not there is lost with it."""
        roots = {path for path, number in names.items() if number == FOLDER}
        top = min(roots, key=len)
        found: dict[str, bytes | None] = {}
        for path in sorted(names):
            if path == top or _parent(path) in found:
                number = names[path]
                found[path] = None if number == FOLDER else contents.get(number, bytes(self._files[number].durable))
        return found


def _torn(file: _File, random: Random) -> bytes:
    data = bytearray(file.durable)
    kept = random.randint(0, len(file.pending))
    for change in file.pending[:kept]:
        _change(data, change)
    if kept < len(file.pending) and file.pending[kept].kind is Kind.WRITE:
        last = file.pending[kept]
        sector = (last.offset // SECTOR + random.randint(0, len(last.data) // SECTOR + 1)) * SECTOR
        whole = max(0, min(len(last.data), sector - last.offset))
        rest = random.choice((b"", bytes(len(last.data) - whole)))
        _change(data, Record(Kind.WRITE, last.inode, last.offset, "", "", last.data[:whole] + rest))
    return bytes(data)


def _change(data: bytearray, change: Record) -> None:
    end = change.offset + len(change.data)
    if change.kind is Kind.CUT:
        del data[change.offset :]
        end = change.offset
    data.extend(bytes(max(0, end - len(data))))
    if change.kind is Kind.WRITE:
        data[change.offset : end] = change.data


def _rename(names: dict[str, int], change: Record, number: int) -> None:
    """One change of names: those below a folder go with it."""
    match change.kind:
        case Kind.CREATE | Kind.MKDIR:
            names[change.name] = number
        case Kind.UNLINK | Kind.RMDIR:
            for path in [path for path in names if path == change.name or path.startswith(f"{change.name}/")]:
                del names[path]
        case Kind.LINK:
            names[change.other] = number
        case Kind.RENAME:
            names[change.other] = number
            names.pop(change.name, None)
            for path in [path for path in names if path.startswith(f"{change.name}/")]:
                names[change.other + path[len(change.name) :]] = names.pop(path)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
