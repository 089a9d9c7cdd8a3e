"""The little that the shim needs beside the kernel: who a process is, files written whole, and errors that do not matter.

Imports `os` and what is in C, on purpose: the shim stands in the way of every restart, and a module such as `json`, `pathlib`,
`contextlib` or `dataclasses` costs more of it than all of the shim's own work (measured: 50 of 60 ms of processor time).

Orders and records end in a sum of all before it: no byte of them changes unseen. CRC-32, which `binascii` has (`hashlib` takes ten milliseconds), finds
every burst of up to 32 bits. It is no seal: who can write here is root, or the agent's own user.
"""

import os
from binascii import crc32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Ignoring:
    """`contextlib.suppress(OSError)`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> bool:
        return kind is not None and issubclass(kind, OSError)


def read(path: str) -> bytes:
    """All of a file."""
    with open(path, "rb") as file:
        return file.read()


def write(path: str, text: str) -> None:
    """Write to a file that is there, such as a kernel's."""
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode())


def boot_id() -> str:
    """The kernel's name for this boot."""
    return read("/proc/sys/kernel/random/boot_id").decode("ascii").strip()


def start_ticks(pid: int) -> int | None:
    """When `pid` started, in clock ticks since boot; None when it is gone, or dead and only waiting to be reaped."""
    try:
        stat = read(f"/proc/{pid}/stat").decode("utf-8", "replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the command in parentheses may hold anything, `)` included
    return None if fields[0] in "ZX" else int(fields[19])


def children(parent: str = "self") -> list[int]:
    """The children of a process, of whichever of its threads."""
    found: list[int] = []
    for task in os.listdir(f"/proc/{parent}/task"):
        with Ignoring():  # the thread has ended, or the kernel was built without
            found += [int(pid) for pid in read(f"/proc/{parent}/task/{task}/children").split()]
    return found


def sum_of(data: bytes) -> str:
    """What tells whether data has changed."""
    return f"{crc32(data):08x}"


RECORD_BYTES = 4096  # more than any record has: a line of a log, escaped, and a few numbers


def reserve_record(path: str) -> None:
    """Take the room for a record now: when it has to be written, the disk may be full."""
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, RECORD_BYTES)
    finally:
        os.close(fd)


_SUM = b',"sum":"'  # no text of a record has these bytes: its quotes are escaped


def record(tree: "Mapping[str, str | int | None]") -> bytes:
    """A flat JSON object's bytes, with its sum as the last field: who reads it for its others need not know of it."""
    text = ",".join(f"{_json(name)}:{_json(value)}" for name, value in tree.items()).encode()
    return b"{" + text + _SUM + sum_of(text).encode() + b'"}'


def is_whole(data: bytes) -> "bool | None":
    """Is this record what was written? None when it has no sum, as those of agents before."""
    text, mark, end = data.rpartition(_SUM)
    return data[:1] == b"{" and end == sum_of(text[1:]).encode() + b'"}' if mark else None


def write_record(path: str, tree: "Mapping[str, str | int | None]", *, durable: bool) -> None:
    """Put a flat JSON object at `path`, whole or not at all; `durable`: also if the power fails now."""
    data, fresh = record(tree), f"{path}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while data:  # over what was reserved, which is cut off only then
            data = data[os.write(fd, data) :]
        os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(fresh, path)
    if durable:
        sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Put the names in it on the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _json(value: str | int | None) -> str:
    """RFC 8259: escapes for quotes, backslashes, control characters and lone surrogates; everything else stands for itself."""
    if value is None:
        return "null"
    if isinstance(value, int):
        return str(value)
    return '"' + "".join(char if _plain(char) else f"\\u{ord(char):04x}" for char in value) + '"'


def _plain(char: str) -> bool:
    return char >= " " and char not in '"\\' and not "\ud800" <= char <= "\udfff"


_ORDER_SUM = b"sum\0"
_SUM_BYTES = len(_ORDER_SUM) + 8 + 1
_BEFORE_SUMS = {
    *("workload", "digest", "log", "log_bytes", "argv", "environment", "cgroup"),
    *("door", "hidden", "feed", "own_network", "hosts", "memory"),
}


def write_order(fields: "list[tuple[str, str]]") -> bytes:
    """An order's bytes: names and values, each ended by a zero byte, which no path, argument or variable can hold; the last is the sum.

    ValueError when one does all the same, or cannot be encoded: the kernel would not take it either.
    """
    if any("\0" in word for field in fields for word in field):
        raise ValueError("a zero byte in an argument, path or variable")
    data = b"".join(f"{name}\0{value}\0".encode("utf-8", "surrogateescape") for name, value in fields)
    return data + _ORDER_SUM + sum_of(data).encode() + b"\0"


def read_order(data: bytes) -> dict[str, list[str]]:
    """The values of an order, in order, by name. ValueError when it has changed since it was written."""
    rest, end = data[:-_SUM_BYTES], data[-_SUM_BYTES:]
    has_sum = end.startswith(_ORDER_SUM)
    if not data.endswith(b"\0") or (has_sum and end != _ORDER_SUM + sum_of(rest).encode() + b"\0"):
        raise ValueError("the order has changed since it was written")
    words = (rest if has_sum else data).decode("utf-8", "surrogateescape").split("\0")[:-1]
    found: dict[str, list[str]] = {}
    for name, value in zip(words[::2], words[1::2], strict=True):
        found.setdefault(name, []).append(value)
    # Without a sum: of an agent before, or one whose sum is no longer to be known as one.
    if not has_sum and set(found) - _BEFORE_SUMS:
        raise ValueError("the order has changed since it was written")
    return found


def look(whole: list[str]) -> None:
    """Each of these is a sum, and the file that must have it. ValueError when one has not."""
    for wanted, _, path in (each.partition(" ") for each in whole):
        if sum_of(read(path)) != wanted:
            raise ValueError(f"{path} has changed since it was written")
