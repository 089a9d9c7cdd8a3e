"""Ed25519 keys that seal plans and releases: made, kept in files of mode 0600, used. Never logged, never printed.

The controller holds the plan key and only the *public* release keys; a release is sealed where the operator keeps its key.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from halftrack_controller.papers import read
from halftrack_model.errors import HostFault, InvalidInput, Refused
from halftrack_model.seals import Seal, Sealed, key_id_of, signing_input


@dataclass(frozen=True)
class SealingKey:
    """A private key that seals documents. Its repr shows the key's id only."""

    private: Ed25519PrivateKey = field(repr=False)
    public: bytes
    key_id: str

    def sealed(self, kind: str, payload: bytes) -> Sealed:
        """`payload` with our seal on it."""
        return Sealed(kind, payload, (Seal(self.key_id, self.private.sign(signing_input(kind, payload))),))


def sealing_key(private: Ed25519PrivateKey) -> SealingKey:
    """The sealing key around a private key."""
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return SealingKey(private, public, key_id_of(public))


def new_key() -> SealingKey:
    """A fresh key from the system's randomness."""
    return sealing_key(Ed25519PrivateKey.generate())


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Is the signature genuine (`halftrack_model.seals.Verify`)? Malformed keys and signatures are not."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def save_key(key: SealingKey, path: Path) -> None:
    """The private key into a new file that only its owner can read."""
    pem = key.private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_new(path, pem)


def load_key(path: Path) -> SealingKey:
    """The key in `path`."""
    try:
        private = serialization.load_pem_private_key(read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # not PEM, locked with a password, another library's key
        private = None
    if not isinstance(private, Ed25519PrivateKey):
        raise InvalidInput("wrong-key", f"{path} holds no Ed25519 key: put the galaxy's own back from a copy")
    return sealing_key(private)


def write_new(path: Path, data: bytes) -> None:
    """A new file of mode 0600, on disk when this returns; an existing one is never replaced."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fsync_folder(path.parent)
    except FileExistsError:
        raise Refused("exists", f"{path} is there already and will not be overwritten") from None
    except OSError as error:
        raise HostFault("cannot-write", f"{path}: {error.strerror}") from None


def replace(path: Path, data: bytes) -> None:
    """Put `data` in place of the file at `path`, whole or not at all, on disk when this returns; it keeps its mode, 0600."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        write_new(fresh, data)
        fresh.rename(path)
        fsync_folder(path.parent)
    except OSError as error:
        raise HostFault("cannot-write", f"{path}: {error.strerror}") from None


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
