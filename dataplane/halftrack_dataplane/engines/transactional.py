"""What sinks into whatever has transactions share: frames and the sequence that comes next are stored in one, so both are or neither is.

Owns the order of things around a transaction whose outcome may be unknown: ask what is stored, send only what is not. How to reach
an engine, where it keeps the sequence, and what a frame is there, is its sink's.
"""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from halftrack_dataplane.engines.in_flight import FRAMES, InFlight, end_of
from halftrack_dataplane.engines.retry import Retry
from halftrack_dataplane.engines.settings import Settings
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Away, Cut, Param

Statement = tuple[str, Sequence[object]]  # SQL and its parameters, for those whose engine is a database


class Elsewhere(Exception):  # noqa: N818 - says where the stream stands
    """The engine stands at another sequence than we believed: `next_seq`."""

    def __init__(self, next_seq: int) -> None:
        super().__init__(f"the engine stands at sequence {next_seq}")
        self.next_seq = next_seq


class TransactionalSink(ABC):
    """The way of frames into one engine. A database keeps the sequence in its table `halftrack_progress`, a row for each stream.

    Params: `stream`, the stream's name there, and `window_frames`.
    """

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        self.settings = Settings(params)
        self.stream = self.settings.text("stream", "stream")
        self._window = InFlight(self.settings.whole("window_frames", FRAMES, 1, 1 << 16))
        self._open = False
        self._begun = False
        self._retry = Retry()
        self._last = ""
        self._counts = {"stored": 0, "stored_before": 0, "connections": 0}

    # ---------------------------------------------------------------------------------------------- what an engine's sink says

    @abstractmethod
    def open(self) -> int:
        """Reach the engine and make what is needed there; the stream's next sequence there. May raise Away."""

    @abstractmethod
    def store(self, frames: Sequence[Frame], first: int, following: int) -> None:
        """One transaction: the frames, and the stream's next sequence from `first` to `following`.

        Elsewhere if it does not stand at `first`; Away if the engine is away or has no room, whether or not it has been done.
        """

    @abstractmethod
    def close(self) -> None:
        """Let the connection go, in whatever state it is."""

    # ----------------------------------------------------------------------------------------------------- what the runner calls

    def next_seq(self) -> int:
        """What the engine lacks."""
        self._reach()
        return self._window.first

    def consume(self, frame: Frame) -> None:
        """Keep it until the next transaction; makes one when enough are kept."""
        if self._window.full:
            self.flush()
        if not self._window.take(frame):
            self._counts["stored_before"] += 1

    def cuts(self, cuts: Sequence[Cut]) -> None:  # noqa: B027 - a sink that keeps the owner table says how
        """Nothing is kept of them."""

    def flush(self) -> None:
        """A transaction with all that is kept."""
        while len(self._window):
            self._reach()
            if not (frames := self._window.to_send(FRAMES)):
                continue  # what was without an answer had been done
            try:
                self.store(frames, frames[0].seq, end_of(frames[-1]))
            except Elsewhere as error:
                self._window.resumed(error.next_seq)
            except BaseException as error:
                self._last = str(error)
                self._let_go()
                raise
            else:
                self._retry = (
                    Retry()
                )  # not before: an engine that is reached and takes nothing is not to be asked without a pause
                self._counts["stored"] += len(frames)
                for frame in frames:
                    self._window.acknowledged(frame.seq)

    def counters(self) -> dict[str, int]:
        """For the status."""
        return self._counts | {"in_flight": len(self._window), "lost_by_engine": self._window.lost_frames}

    def _reach(self) -> None:
        if self._open:
            return
        now = time.monotonic()
        if now < self._retry.due_s:
            raise Away(f"{self._last or 'its place is away'}; trying again")
        self._retry = self._retry.failed(now, random.random())  # noqa: S311 - jitter, no secret
        try:
            stored = self.open()
        except BaseException as error:
            self._last = str(error)
            self.close()
            raise
        if not self._begun:
            self._begun = True
            self._window.begin(stored)
        self._window.resumed(stored)
        self._open = True
        self._counts["connections"] += 1

    def _let_go(self) -> None:
        self._open = False
        self.close()
