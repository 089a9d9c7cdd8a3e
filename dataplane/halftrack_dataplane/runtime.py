"""What every role's loop needs from its process: when to stop, why it ends, its rings, its program.

Owns the exit codes. Never moves a frame.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import sys
import time
import zipimport
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from halftrack_dataplane import native_vertex
from halftrack_dataplane.frames import RingMissing, WriterBusy
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import RunSpec, load_file

T = TypeVar("T")

EXIT_DONE = 0  # asked to stop, and stopped in order
EXIT_PROGRAM = 1  # the user's program raised
EXIT_SPEC = 2  # the spec, a key or the program file cannot be used
EXIT_NO_STATE = 3  # a member found nothing to begin from
EXIT_RING = 4  # a ring is missing, damaged, or taken
EXIT_GAP = 5  # a stateful member's input lost frames: it must begin again from another's state

RING_WAIT_S = 10.0  # a ring is made by the agent or by a predecessor's death; both are a matter of milliseconds
TICK_S = 0.1  # how long a loop may be blocked before it looks at its orders and its status


class Unable(Exception):  # noqa: N818 - reads as what it is where it is raised
    """This process cannot go on; `code` is its exit status, the message says what to do."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Orders:
    """The file that a process was started with. Who can take new orders in mid-life looks at it again: it is replaced whole."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known = self._seen = (0, 0)
        self._known = self._stamp()

    def changed(self) -> RunSpec | None:
        """The orders, if they are others than those that were taken; SpecError when they cannot be read."""
        self._seen = self._stamp()
        return None if self._seen == self._known else load_file(self._path)

    def taken(self) -> None:
        """What `changed` has returned is carried out."""
        self._known = self._seen

    def again(self) -> None:
        """Not all of it is carried out yet."""
        self._known = (0, 0)

    def _stamp(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path)
        except OSError:  # its folder is being put away: so shall we be
            return self._known
        return found.st_ino, found.st_mtime_ns


class Stop:
    """Whether the process was asked to end. Set by a signal handler or another thread, looked at by loops."""

    __slots__ = ("asked",)

    def __init__(self) -> None:
        self.asked = False

    def ask(self) -> None:
        """End at the next look."""
        self.asked = True

    def sleep(self, seconds: float, beat: Callable[[], None] | None = None) -> None:
        """Sleep, but not past a request to end by more than a twentieth of a second. `beat` says meanwhile that this is no hanging."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))
            if beat is not None:
                beat()


def open_ring(path: str, stop: Stop) -> Ring:
    """The ring at `path`, waiting for it to appear."""
    return _patiently(lambda: Ring.open(path), RingMissing, stop)


def ring_writer(ring: Ring, name: str, stop: Stop, full: Literal["block", "drop", "overwrite"] = "block") -> Writer:
    """The ring's writer, waiting for a predecessor that is just ending."""
    return _patiently(lambda: ring.writer(full=full, name=name), WriterBusy, stop)


def _patiently(attempt: Callable[[], T], error: type[Exception], stop: Stop) -> T:
    end = time.monotonic() + RING_WAIT_S
    while True:
        try:
            return attempt()
        except error:
            if stop.asked:
                raise Unable(EXIT_DONE, "asked to stop while waiting for a ring") from None
            if time.monotonic() >= end:
                raise
            time.sleep(0.01)


def load_program(path: str, entry: str) -> Callable[..., Any]:
    """The class that `entry` (module:Class) names in the file at `path`: a zipapp, a shared object, or else Python source.

    Artifacts are stored by content, so their names have no suffix: what they are is told by what they hold.
    """
    module_name, _, class_name = entry.partition(":")
    sys.dont_write_bytecode = True  # the artifact's folder is not ours to write to
    if not os.path.isfile(path):
        raise Unable(EXIT_SPEC, f"there is no program at {path}: the agent fetches artifacts before it starts anything")
    with open(path, "rb") as file:
        compiled = file.read(len(native_vertex.ELF)) == native_vertex.ELF
    if compiled:
        return _compiled(path, class_name)
    try:
        zipimport.zipimporter(path)
    except zipimport.ZipImportError:
        module = _source_module(path, module_name)
    else:
        sys.path.insert(0, path)
        module = importlib.import_module(module_name)
    try:
        found: Callable[..., Any] = getattr(module, class_name)
    except AttributeError:
        raise Unable(
            EXIT_PROGRAM, f"the program has no {class_name!r} in {module_name!r}; entry is {entry!r}"
        ) from None
    return found


def _compiled(path: str, name: str) -> Callable[..., Any]:
    try:
        return native_vertex.library(path, name)
    except native_vertex.VertexError as error:
        raise Unable(EXIT_SPEC, f"the program is a shared object: {error}") from None


def _source_module(path: str, name: str) -> Any:
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader)
    if spec is None:
        raise Unable(EXIT_SPEC, f"{path} cannot be loaded as the module {name!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module
