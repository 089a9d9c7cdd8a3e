"""Parcels: an artifact as zstd, with another one as its dictionary, so that an upgrade moves about what has changed.

    parcels/WANTED.BASE.PARCEL   digests without their `sha256:`; BASE is `none` where there is no dictionary

Owns that folder and its bounds. A parcel is made when a host first asks for it, one at a time, and can always be made again. It vouches
for nothing: whoever rebuilds an artifact from it checks the artifact's own digest.
"""

import contextlib
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from halftrack_model.ids import checked_digest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 9  # measured: 19 takes ten times as long for a tenth less (ADR 38)
MAX_DICTIONARY_BYTES = 64 << 20  # a host holds the dictionary and as much again in memory while it rebuilds
WINDOW_LOG = (
    27  # 128 MiB, the most that a decoder takes unasked: a dictionary of the size above and the artifact behind it
)
WORTH = 0.9  # of the artifact's size: less saved than that is not worth a second file and the work at both ends
WORTH_BYTES = 1024  # nor is less than this, a packet: a host starts a process to rebuild it
CACHE_BYTES = 1 << 30
CACHED = 1024
REFUSED = 4096  # pairs that were not worth it, remembered
_BLOCK = 1 << 20
_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True)
class Parcel:
    """One that lies ready. `base` is empty where it has no dictionary."""

    digest: str
    size_bytes: int
    base: str


class Parcels:
    """All that were made. Blocking: call from a thread, and `packed` from one at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._worthless: dict[tuple[str, str], None] = {}
        for path in self._folder.iterdir():
            if path.name.count(".") != 2:
                path.unlink()  # half made

    def path(self, digest: str) -> Path | None:
        """The file of a parcel by its digest; None when there is none (any more)."""
        return next(self._folder.glob(f"*.{_bare(digest)}"), None)

    def forget(self, digest: str) -> None:
        """That one, if it is a parcel, is not what it was: it is made again when it is asked for."""
        if (path := self.path(digest)) is not None:
            path.unlink(missing_ok=True)

    def packed(self, wanted: Path, base: Path | None) -> Parcel | None:
        """The parcel of one artifact's file for who has another's, from the cache or made now; None when it is not worth it."""
        name = (wanted.name, base.name if base else "none")
        if name in self._worthless:
            return None
        if (found := next(self._folder.glob(f"{name[0]}.{name[1]}.*"), None)) is not None:
            os.utime(found)
            return _parcel(found)
        made = self._made(wanted, base, ".".join(name))
        if made is None:
            self._worthless[name] = None
            for old in list(self._worthless)[:-REFUSED]:
                del self._worthless[old]
            return None
        self._evict(made)
        return _parcel(made)

    def _made(self, wanted: Path, base: Path | None, name: str) -> Path | None:
        descriptor, scratch = tempfile.mkstemp(dir=self._folder)
        size = wanted.stat().st_size
        most = min(int(size * WORTH), size - WORTH_BYTES)
        try:
            with os.fdopen(descriptor, "wb") as out:
                digest = compressed(wanted, base, out.write, most)
            if digest is None:
                return None
            # Not synced: a torn one is rebuilt to nothing with the right digest, and then fetched whole.
            return Path(scratch).rename(self._folder / f"{name}.{digest}")
        finally:
            Path(scratch).unlink(missing_ok=True)

    def _evict(self, fresh: Path) -> None:
        """The least used go first, the one that was just made never."""
        files = sorted((path for path in self._folder.iterdir() if path != fresh), key=lambda path: -_used(path))
        room = CACHE_BYTES - fresh.stat().st_size
        for number, path in enumerate(files):
            room -= path.stat().st_size
            if room < 0 or number + 1 >= CACHED:
                path.unlink(missing_ok=True)


def compressed(wanted: Path, base: Path | None, write: Callable[[bytes], object], most: int) -> str | None:
    """Writes `wanted` as zstd; returns the SHA-256 of what it wrote, or None once that is more than `most` bytes."""
    size, hasher, wrote = wanted.stat().st_size, hashlib.sha256(), 0
    dictionary = zstd.ZstdDict(base.read_bytes(), is_raw=True).as_prefix if base else None
    reach = size + (base.stat().st_size if base else 0)
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: LEVEL,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
        zstd.CompressionParameter.window_log: max(10, min(WINDOW_LOG, reach.bit_length())),
    }
    packer = zstd.ZstdCompressor(options=options, zstd_dict=dictionary)
    with wanted.open("rb") as file:
        while True:
            block = file.read(_BLOCK)
            data = packer.compress(block) if block else packer.flush()
            wrote += len(data)
            if wrote > most:
                return None
            hasher.update(data)
            write(data)
            if not block:
                return hasher.hexdigest()


def bases(held: Iterable[str], kin: Sequence[str]) -> tuple[str, ...]:
    """Which of what a host holds may serve as dictionary, the likeliest first: `kin` are artifacts of the same product, newest first."""
    mine = set(held)
    return tuple(digest for digest in kin if digest in mine)


def usable(path: Path) -> bool:
    """May this artifact be a dictionary? It has to be there, and small enough for a host to hold it in memory."""
    with contextlib.suppress(OSError):
        return 0 < path.stat().st_size <= MAX_DICTIONARY_BYTES
    return False


def _parcel(path: Path) -> Parcel:
    _, base, digest = path.name.split(".")
    return Parcel(_PREFIX + digest, path.stat().st_size, "" if base == "none" else _PREFIX + base)


def _bare(digest: str) -> str:
    return checked_digest(digest).removeprefix(_PREFIX)


def _used(path: Path) -> int:
    return path.stat().st_mtime_ns
