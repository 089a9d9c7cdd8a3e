"""The few facts of one agent that stand in files of their own: each with a sum, and beside it the one that it has replaced.

A byte that has changed is seen, and then the note before it is read: a minute older (`contact`), a revision lower than the journal's (`revision`), some
hours lower (`clock.json`), a plan older (`retained.json`). Never decides what a note means.

A version of the agent that is on trial writes them as every version has read them, with neither, and one that hands over to another leaves them so:
whoever comes next, or comes back, can read them (ADR 44).
"""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from halftrack_agent import files
from halftrack_agent.cutoff import Contact
from halftrack_agent.places import Places
from halftrack_agent.retention import Retained
from halftrack_agent.timekeeping import Floor
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput

T = TypeVar("T")
BEFORE = ".before"


class Note(Generic[T]):
    """One of them: a line of text. `finding` says what was wrong with it when it was read, in words for Observed.problems."""

    def __init__(
        self,
        path: Path,
        parsed: Callable[[bytes], T],
        spelt: Callable[[T], bytes],
        if_lost: str,
        *,
        lasts: bool = True,
        end: bytes = b"",
    ) -> None:
        """`parsed` raises InvalidInput for what cannot be one. `if_lost` follows "it is damaged; ". `lasts`: it outlives reboots. `end` is what
        stands behind the line in the form without a sum."""
        self._path, self._before = path, path.with_name(path.name + BEFORE)
        self._parsed, self._spelt, self._if_lost, self._lasts, self._end = parsed, spelt, if_lost, lasts, end
        self._whole = b""  # what is at the path, when it may become the note before
        self.sums = True
        self.finding = ""

    def read(self) -> T | None:
        """What it says; None when nobody has written it, or nothing of it is left."""
        found, damaged, self._whole = None, False, b""
        for path in (self._path, self._before):
            try:
                data = path.read_bytes()
                found = self._parsed(self._line(data))
                self._whole = data if path == self._path else b""
                break
            except FileNotFoundError:
                continue
            except (OSError, InvalidInput):
                damaged = True
        name = self._path.name
        if damaged and found is not None:
            self.finding = f"{name} was damaged; the one before it is used"
        elif damaged:
            self.finding = f"{name} is damaged; {self._if_lost}"
        return found

    def write(self, value: T) -> None:
        """Put it on the disk, whole or not at all; HostFault when that cannot be."""
        if self.sums and self._whole and self._lasts:
            with contextlib.suppress(OSError):  # a disk without links: then there is none before
                self._before.unlink(missing_ok=True)
                os.link(self._path, self._before)
        data = self._form(value)
        if not self._over(data):
            files.replace(self._path, data, durable=self._lasts)
        self._whole = data
        if not self.sums:
            with contextlib.suppress(
                OSError
            ):  # others will write here, and leave it: it would be older than anybody thinks
                self._before.unlink(missing_ok=True)

    def settle(self, *, sums: bool) -> None:
        """From here on with or without; what is there is rewritten when it is in the other form, or damaged."""
        self.sums = sums
        value = self.read()
        if value is not None and self._whole != self._form(value):
            self.write(value)

    def copy(self, into: Path) -> None:
        """Put a copy there, without a sum."""
        if (value := self.read()) is not None:
            into.write_bytes(self._spelt(value) + self._end)

    def _over(self, data: bytes) -> bool:
        """Over one that ends with the boot and is as long: one call, made or not made by a process that is killed, and a tenth of what a new file costs."""
        if self._lasts or len(data) != len(self._whole):
            return False
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return os.pwrite(fd, data, 0) == len(data)
        except OSError:
            return False
        finally:
            os.close(fd)

    def _form(self, value: T) -> bytes:
        line = self._spelt(value)
        return files.summed(line) if self.sums else line + self._end

    def _line(self, data: bytes) -> bytes:
        plain = data.removesuffix(self._end)
        return plain if b"\n" not in plain else files.unsummed(data)


class Notes:
    """All of one agent's. `beat` is `contact` as of a second ago, and ends with the boot."""

    def __init__(self, places: Places, *, sums: bool) -> None:
        self.sums = sums
        self.floor = floor_of(places.state)
        self.contact = contact_of(places.contact)
        self.beat = contact_of(places.beat, lasts=False)
        self.clock = clock_of(places.clock)
        self.retained = retained_of(places.retained)
        for note in self._all:
            note.sums = sums

    @property
    def findings(self) -> tuple[str, ...]:
        """What was wrong with them; of the floor, its journal says it."""
        return tuple(note.finding for note in self._all[1:] if note.finding)

    def settle(self, *, sums: bool) -> None:
        """All of them with sums, or all without. HostFault when one cannot be written."""
        self.sums = sums
        for note in self._all:
            note.settle(sums=sums)

    def settled(self, *, sums: bool) -> None:
        """The same, as far as it can be: what finds no room now gets its form when it is written next."""
        self.sums = sums
        for note in self._all:
            with contextlib.suppress(HostFault):
                note.settle(sums=sums)

    def copy(self, into: Places) -> None:
        """What stands on the disk, as every version reads it."""
        for note, path in (
            (self.floor, into.state / "revision"),
            (self.contact, into.contact),
            (self.clock, into.clock),
            (self.retained, into.retained),
        ):
            note.copy(path)

    @property
    def _all(self) -> "tuple[Note[int], Note[Contact], Note[Contact], Note[Floor], Note[Retained]]":
        return self.floor, self.contact, self.beat, self.clock, self.retained


def floor_of(state: Path) -> Note[int]:
    """The highest revision that was accepted: a file of its own, since what damages the journal must not take this with it."""
    lost = "only the journal tells which revisions are too old"
    return Note(state / "revision", _revision, lambda revision: str(revision).encode(), lost, end=b"\n")


def contact_of(path: Path, *, lasts: bool = True) -> Note[Contact]:
    """When this host was last in step with its controller."""
    lost = "work that stops when cut off waits for the controller" if lasts else "the one on the disk is used"
    return Note(path, lambda line: canonical.decode(Contact, line), canonical.encode, lost, lasts=lasts)


def clock_of(path: Path) -> Note[Floor]:
    """The floor under the wall clock."""
    lost = "a clock that is wrong may go unseen until the controller is heard"
    return Note(path, lambda line: canonical.decode(Floor, line), canonical.encode, lost)


def retained_of(path: Path) -> Note[Retained]:
    """Which artifacts must not go."""
    lost = "what the host would go back to may have to be fetched again"
    return Note(path, lambda line: canonical.decode(Retained, line), canonical.encode, lost)


def _revision(line: bytes) -> int:
    if re.fullmatch(rb"[0-9]{1,19}", line) is None:
        raise InvalidInput("bad-number", "it is no revision")
    return int(line)
