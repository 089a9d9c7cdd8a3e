"""The folders of this host's spools: found, and taken away once nobody wants them.

Owns what lies below STATE/spools; what is in a folder is its spool's. Removing takes as long as the disk does, so it happens beside the loop: a
folder is renamed, and gone by that. One that an earlier agent had not finished with is finished with at the next removal or start.
"""

import contextlib
import shutil
import threading
from pathlib import Path

from halftrack_agent import files

_GOING = ".going-"


class Spools:
    """All spools of one host, by the names of their workloads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sweep()

    def seen(self) -> frozenset[str]:
        """Those that have a folder."""
        try:
            return frozenset(path.name for path in self._folder.iterdir() if not path.name.startswith("."))
        except FileNotFoundError:
            return frozenset()

    def remove(self, name: str) -> None:
        """Take a spool away; a no-op when it is gone. HostFault when it cannot be."""
        path = self._folder / name
        try:
            path.rename(self._folder / f"{_GOING}{name}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise files.fault(error, path) from error
        self._sweep()

    def _sweep(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            going = [path for path in self._folder.iterdir() if path.name.startswith(_GOING)]
            for path in going:
                threading.Thread(target=shutil.rmtree, args=(path, True), daemon=True).start()
