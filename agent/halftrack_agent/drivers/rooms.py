"""Where instances have their folders and logs: below STATE, and below RUN while the disk of STATE takes no change.

A disk that its kernel has found at fault is read-only from then on; a host whose services only compute and serve must not stand still for that, nor
after a reboot. What is begun then ends with the boot: how a job has ended is known for as long, and so is how one has that was begun before. Owns the choice, never what is in a folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from halftrack_agent import files
from halftrack_agent.drivers.instances import Folder
from halftrack_agent.places import Places


@dataclass(frozen=True, slots=True)
class Room:
    """A folder for folders of instances, and one for their logs."""

    instances: Path
    logs: Path

    def made(self) -> "Room":
        """Itself, once both are there."""
        for folder in (self.instances, self.logs):
            files.make_folder(folder)
        return self


@dataclass(frozen=True, slots=True)
class Rooms:
    """The usual one, and the other."""

    usual: Room
    spare: Room

    def now(self) -> Room:
        """For what is begun now."""
        return self.usual if files.takes_changes(self.usual.instances) else self.spare.made()

    def found(self) -> Iterator[Path]:
        """The folders of all instances; of two of one name the later one last."""
        for room in (self.usual, self.spare):
            if room.instances.is_dir():
                yield from sorted(room.instances.iterdir())

    def spare_of(self, instance: Path) -> Path | None:
        """Where it is told how the instance with that folder has ended, should the usual room not take it any more; None when it is not in that one."""
        return self.spare.instances / instance.name if instance.parent == self.usual.instances else None

    def folder(self, path: Path) -> Folder:
        """The folder at that path, which knows where else its ending may stand."""
        return Folder(path, self.spare_of(path))

    def log(self, instance: Path) -> Path:
        """Where the instance with that folder logs."""
        room = self.spare if instance.parent == self.spare.instances else self.usual
        return room.logs / f"{instance.name}.log"


def of(places: Places) -> Rooms:
    """An agent's."""
    return Rooms(Room(places.instances, places.logs), Room(places.spare_instances, places.spare_logs))
