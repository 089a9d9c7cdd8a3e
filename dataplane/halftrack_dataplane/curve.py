"""CurveZMQ keys: made, written, read, and whom a bridge admits by them. Never logs a secret."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

import zmq

_Z85 = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
MAX_PEERS_BYTES = 1 << 20


class KeyFileError(ValueError):
    """A key or the list of peers cannot be used; the message names the file and never its content."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both keys, each as 40 characters of Z85."""

    public: str
    secret: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"KeyPair(public={self.public!r})"


def generate() -> KeyPair:
    """A new pair."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def public_of(secret: str) -> str:
    """The public key that belongs to `secret`."""
    return zmq.curve_public(secret.encode()).decode()


def write_secret(path: str, secret: str) -> None:
    """Write a secret key for its owner only; it never replaces one."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, secret.encode() + b"\n")
        os.fsync(file)
    finally:
        os.close(file)


def read_secret(path: str) -> str:
    """The secret key in the file at `path`; KeyFileError when there is none, or others may read it."""
    try:
        with open(path, "rb") as file:
            shared = os.fstat(file.fileno()).st_mode & 0o077
            text = file.read(64).decode("ascii", "replace").strip()
    except OSError as error:
        raise KeyFileError(f"cannot read the secret key {path}: {error.strerror}") from None
    if shared:
        raise KeyFileError(
            f"the secret key {path} may be read by others than its owner: chmod 600 it, or make a new one"
        )
    return checked(text, path)


def checked(text: str, what: str) -> str:
    """`text`, if it is a Z85 key."""
    if not _Z85.fullmatch(text):
        raise KeyFileError(f"{what} does not hold a CurveZMQ key (40 characters of Z85)")
    return text


class Admission:
    """Whom a server admits: the hosts in a JSON file, {host: public key}, read again whenever it changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._hosts: Mapping[str, str] = {}  # public key -> host
        self.refresh()

    def refresh(self) -> bool:
        """Read the file if it changed; True when it did. A file that cannot be understood changes nothing."""
        try:
            stat = os.stat(self._path)
            seen = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
            if seen == self._seen or stat.st_size > MAX_PEERS_BYTES:
                return False
            with open(self._path, "rb") as file:
                tree = json.load(file)
            if not isinstance(tree, dict):
                return False
            hosts = {checked(str(key), self._path): str(host) for host, key in tree.items()}
        except (OSError, ValueError):
            return False  # half written, or gone: the hosts admitted before stay, as the last thing we were told
        self._seen, self._hosts = seen, hosts
        return True

    def host_of(self, public: str) -> str | None:
        """The host whose key that is, or None: not admitted."""
        return self._hosts.get(public)
