"""The rings of this host: made, removed, looked at, and freed of the dead.

Owns the files below RUN/rings. Never moves a frame, and never replaces a file that it does not understand: a ring of another version
or with a damaged header is refused and reported, for it may hold the only copy of a stream.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from halftrack_agent import clock, files
from halftrack_agent.events import CutSeen, RingSeen
from halftrack_dataplane.frames import RingError, RingMissing, RingStats, reader_name
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_pin import Pin
from halftrack_model.errors import HostFault, Refused
from halftrack_model.workload import RingSpec
from halftrack_proto.gauges import RingGauge

_SUFFIX = ".ring"
HOLD_MS = 15_000  # for a process that is started again, with the modules that its program imports; its writer was held up for longer before
BEHIND = 4  # a quarter of what the ring holds: whoever is killed begins a little before the place that it had got to


@dataclass(frozen=True, slots=True)
class _Held:
    ring: Ring
    inode: int


@dataclass(frozen=True, slots=True)
class _Place:
    """What was before a reader that is killed, kept for its next life."""

    ring: str
    reader: str
    pid: int  # of the life that is killed
    until_ms: int
    pin: Pin


class Rings:
    """All rings of one host, each opened once."""

    def __init__(self, folder: Path) -> None:
        self._folder = files.make_folder(folder)
        self._held: dict[str, _Held] = {}
        self._refused: dict[str, str] = {}
        self._places: list[_Place] = []
        self.rescan()

    @property
    def problems(self) -> tuple[str, ...]:
        """Ring files that were refused, and what to do about them."""
        return tuple(self._refused[name] for name in sorted(self._refused))

    def rescan(self) -> None:
        """Find what has come, gone or been replaced in the folder behind our back."""
        found: dict[str, int] = {}
        for folder, _, names in os.walk(self._folder):
            for name in names:
                if name.endswith(_SUFFIX) and not name.startswith("."):
                    path = Path(folder) / name
                    with contextlib.suppress(OSError):
                        found[str(path.relative_to(self._folder)).removesuffix(_SUFFIX)] = path.stat().st_ino
        for name in [name for name, held in self._held.items() if found.get(name) != held.inode]:
            self._let_go(name)
        self._refused = {name: text for name, text in self._refused.items() if name in found}
        for name in found.keys() - self._held.keys():
            with contextlib.suppress(HostFault):
                self._open(name)

    def seen(self) -> dict[str, RingSeen]:
        """The counters of every ring that could be opened."""
        return {name: _seen(name, held.ring) for name, held in self._held.items()}

    def gauges(self) -> tuple[RingGauge, ...]:
        """The same for people, with what was lost."""
        return tuple(_gauge(name, held.ring.stats()) for name, held in self._held.items())

    def path_of(self, name: str) -> Path | None:
        """Where the ring of that name is; None when we have none, whatever else the folder may hold."""
        return self._path(name) if name in self._held else None

    def create(self, spec: RingSpec) -> None:
        """Make the ring; a no-op when it is there. HostFault when it cannot be, or when what is there is no ring of ours."""
        if spec.name in self._held:
            return
        path = self._path(spec.name)
        member = spec.member
        try:
            files.make_folder(path.parent)
            Ring.create(
                path,
                capacity_bytes=spec.capacity_bytes,
                slots=spec.slots,
                label="" if member is None else member.version,
                generation=0 if member is None else member.generation,
                retain_s=spec.retain_ms / 1000 if spec.retain_ms else None,
            ).close()
        except FileExistsError:
            pass  # made by an agent before us; opening says whether it is sound
        except OSError as error:
            raise files.fault(error, path) from error
        except (RingError, ValueError) as error:
            raise HostFault("ring-refused", f"ring {spec.name} cannot be made: {error}") from error
        self._open(spec.name)

    def remove(self, name: str) -> None:
        """Take the ring away; whoever has it mapped keeps it until they let go. A no-op when it is gone."""
        self._let_go(name)
        path = self._path(name)
        path.unlink(missing_ok=True)
        for beside in (".place", ".place-draft"):  # how far a capture into it was: it means nothing without it
            path.with_suffix(beside).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # only when it was the last of its graph

    def reap(self) -> int:
        """Free what dead processes hold, so that they stall nobody; returns how many readers were freed."""
        freed = 0
        for held in self._held.values():
            with contextlib.suppress(RingError):
                freed += len(held.ring.reap())
        self._unhold()
        return freed

    def hold(self, workload: str) -> None:
        """It reads without loss, and is about to be killed for not moving: what its rings hold for it is there when it is back.

        A ring is full behind a reader that hangs, unlike behind one that just dies: its writer would be over it before the next life begins.
        """
        reader = reader_name(workload)
        for name, held in self._held.items():
            stats = held.ring.stats()
            for each in (each for each in stats.readers if (each.name, each.policy) == (reader, "lossless")):
                first = max(stats.tail, each.cursor - (stats.head - stats.tail) // BEHIND)
                # If it has moved after all, or there is no slot left, it is as for any death.
                with contextlib.suppress(RingError):
                    pin = held.ring.pin(first, hold_s=HOLD_MS / 1000, name=reader_name(f"{workload}/held"))
                    self._places.append(_Place(name, reader, each.pid, clock.boot_ms() + HOLD_MS, pin))

    def _unhold(self) -> None:
        """Let go of the places of those who are back, and of those that were held for long enough."""
        kept = []
        for place in self._places:
            held = self._held.get(place.ring)
            readers = held.ring.stats().readers if held is not None else ()
            back = any(each.name == place.reader and each.pid != place.pid for each in readers)
            late = clock.boot_ms() >= place.until_ms
            if held is not None and place.pin.held and not back and not late:
                kept.append(place)
            else:
                place.pin.close()
        self._places = kept

    def propose_cut(self, name: str, epoch: int, generation: int, fence: int | None, label: str) -> None:
        """Write a row into the owner table. Refused when the table has moved on: the next look shows how."""
        try:
            self._ring(name).propose_cut(epoch, generation, fence, label)
        except RingError as error:
            raise Refused("stale-cut", f"cut {epoch} of {name}: {error}") from error

    def withdraw_cut(self, name: str, epoch: int) -> None:
        """Take a row back; a no-op when it was applied already."""
        try:
            self._ring(name).withdraw_cut(epoch)
        except RingError as error:
            raise Refused("stale-cut", f"cut {epoch} of {name}: {error}") from error

    def close(self) -> None:
        """Let go of all rings; they stay."""
        for place in self._places:
            place.pin.close()
        self._places = []
        for name in list(self._held):
            self._let_go(name)

    def _ring(self, name: str) -> Ring:
        if name not in self._held:
            raise HostFault("ring-missing", f"there is no ring {name} here (any more)")
        return self._held[name].ring

    def _open(self, name: str) -> None:
        path = self._path(name)
        try:
            inode = path.stat().st_ino
            self._held[name] = _Held(Ring.open(path), inode)
            self._refused.pop(name, None)
        except (FileNotFoundError, RingMissing) as error:
            raise HostFault("ring-missing", f"ring {name} was removed in this moment") from error
        except (RingError, OSError) as error:
            self._refused[name] = f"ring {name} is refused: {error}"
            raise HostFault("ring-refused", self._refused[name]) from error

    def _let_go(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            held.ring.close()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_SUFFIX}"


def _gauge(name: str, stats: RingStats) -> RingGauge:
    return RingGauge(
        name=name,
        head=stats.head,
        tail=stats.tail,
        slots=stats.slots,
        lags={reader.name: reader.lag_frames for reader in stats.readers},
        lost=stats.gap_frames,
        dropped=stats.dropped,
        missed={reader.name: reader.missed for reader in stats.readers if reader.missed},
    )


def _seen(name: str, ring: Ring) -> RingSeen:
    stats = ring.stats()
    cuts = tuple(CutSeen(cut.epoch, cut.generation, cut.fence, cut.applied_at) for cut in ring.cuts())
    lags: dict[str, int] = {}
    for reader in stats.readers:  # an inlet that reads it in two generations has two
        lags[reader.name] = max(reader.lag_frames, lags.get(reader.name, 0))
    return RingSeen(name, stats.head, stats.tail, stats.slots, lags, cuts)
