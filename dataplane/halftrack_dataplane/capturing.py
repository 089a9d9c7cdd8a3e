"""What sources that fill their ring by themselves have in common: what they work with, their place beside the ring, their params.

Owns the place's file. Never reads a socket.
"""

import contextlib
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from halftrack_dataplane.feeds import Feeds
from halftrack_dataplane.numbering import Numbering
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runtime import EXIT_SPEC, Stop, Unable
from halftrack_dataplane.sdk import Param


@dataclass(frozen=True, slots=True)
class Taking:
    """What a capture works with. `place` is a file that lives and dies with the ring; `offer` shows counts. Who numbers frames as they come has
    its numbers from `numbering`, which outlives the ring."""

    name: str
    ring: Ring
    feeds: Feeds
    stop: Stop
    place: Path
    offer: Callable[[Mapping[str, int]], None]
    numbering: Numbering


@runtime_checkable
class Capturing(Protocol):
    """A source that fills its ring by itself, faster than frame by frame."""

    def capture(self, taking: Taking) -> None:
        """Until asked to stop. It calls `offer` ten times a second, whether anything comes or not: whoever does not is taken for one that hangs."""


def place_of(ring: str) -> Path:
    """The file beside a ring in which its capture says how far it is."""
    return Path(ring).with_suffix(".place")


@contextlib.contextmanager
def drafted(place: Path, size: int) -> Iterator[tuple[memoryview, Callable[[], None]]]:
    """Zeroed memory in a file that becomes `place` when it is settled: until then, what was there before is still to be read."""
    draft = place.with_suffix(".place-draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "rb+") as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a disk that is full says so now, not by a signal later
        mapped = mmap.mmap(file.fileno(), size)
    yield memoryview(mapped), lambda: os.replace(draft, place)
    # It stays mapped for as long as anybody refers to it; the file has all of it.


def read(place: Path) -> bytes:
    """What the place says; nothing when there is none."""
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return b""


def only(feeds: Feeds) -> str:
    """The name of the one feed that there is."""
    if len(feeds.names) != 1:
        raise Unable(EXIT_SPEC, f"param 'feed' must say which of {', '.join(feeds.names) or 'no feeds'} is read")
    return feeds.names[0]


def number(params: Mapping[str, Param], name: str, default: int | None, most: int) -> int:
    """A param that counts."""
    value: Any = params.get(name, default)
    if type(value) is not int or not 1 <= value <= most:
        raise Unable(EXIT_SPEC, f"param {name!r} must be an integer from 1 to {most}, not {value!r}")
    return value


def text(params: Mapping[str, Param], name: str, default: str, choices: tuple[str, ...] = ()) -> str:
    """A param that is a word."""
    value = params.get(name, default)
    if type(value) is not str or (choices and value not in choices):
        raise Unable(EXIT_SPEC, f"param {name!r} must be {' or '.join(choices) or 'a name'}, not {value!r}")
    return value
