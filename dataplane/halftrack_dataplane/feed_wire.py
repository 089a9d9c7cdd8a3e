"""What a keeper of sockets and whoever takes them say to each other: short words over a Unix socket, descriptors beside them.

Owns the form of a word and the socket's place in a folder that only its owner may enter. Decides nothing.

    take               →  what is kept?
                       ←  feed NAME, and its descriptor; connection NAME NUMBER PEER, and its descriptor; then all, with the names that are missing
    return NAME        →  the descriptor of a feed that the keeper lacks: it has been killed, and who takes still has it
    again NAME NUMBER  →  the same for a connection
    done NAME NUMBER   →  the connection has ended, and everything of it was taken
"""

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

SOCKET = "keeper"
MAX_WORD_BYTES = 4096
_CREDENTIALS = struct.Struct("iII")  # struct ucred


class Malformed(Exception):  # noqa: N818 - says what the word is
    """Whoever is at the other end does not speak this language."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word. `number` is a connection's, or the bytes of a feed's buffer."""

    say: str
    name: str = ""
    number: int = 0
    text: str = ""


@contextlib.contextmanager
def _short(folder: str) -> Iterator[str]:
    """A path of the socket that fits an address, however long the folder's is."""
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{inside}/{SOCKET}"
    finally:
        os.close(inside)


def listening(folder: str) -> socket.socket:
    """A keeper's socket in `folder`, which is made for its owner only; one that a dead keeper has left there is replaced."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.chmod(folder, 0o700)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(folder, SOCKET))
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(folder) as path:
            made.bind(path)
            os.chmod(path, 0o600)
        made.listen(8)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made


def leave(folder: str) -> None:
    """Take the socket away, and the folder with it. A no-op when they are gone."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(folder, SOCKET))
        os.rmdir(folder)


def connected(folder: str) -> socket.socket | None:
    """A line to the keeper of `folder`; None while there is none."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(folder) as path:
            made.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        made.close()
        return None
    except BaseException:
        made.close()
        raise
    made.setblocking(False)
    return made


def peer(line: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end, as the kernel knows them."""
    pid, uid, _ = _CREDENTIALS.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def send(line: socket.socket, word: Word, *descriptors: int) -> None:
    """Say a word. OSError when nobody hears it, or does not listen."""
    socket.send_fds(line, [json.dumps(asdict(word)).encode()], descriptors)


def receive(line: socket.socket) -> tuple[Word, list[int]] | None:
    """The next word and its descriptors, which are the caller's to close; None when the other end is gone. BlockingIOError: nothing yet."""
    try:
        data, found, _, _ = socket.recv_fds(line, MAX_WORD_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
    except ConnectionError:
        return None
    if not data:
        return None
    try:
        return _word(data), found
    except Malformed:
        for descriptor in found:
            os.close(descriptor)
        raise


def _word(data: bytes) -> Word:
    try:
        tree = json.loads(data)
        word = Word(**tree)
    except (ValueError, TypeError, RecursionError):
        raise Malformed("not a word of a keeper") from None
    if any(type(getattr(word, entry.name)) is not type(getattr(Word(""), entry.name)) for entry in fields(Word)):
        raise Malformed("not a word of a keeper")
    return word
