"""The vertex SDK: what a user's source, vertex or sink looks like to the runner, and nothing of how it is run.

A program is one Python file or zipapp, or for a vertex a shared object (`native_vertex.pyx`); a release names its class as `module:Class`. These
are protocols: subclass them or not, as you like. The runner calls every method from one thread, and catches none of the errors that they
raise: a program that raises ends its process with exit status 1, which is evidence against its release.

Both members of a pair run the same program over the same frames, so `process` must be deterministic: what it returns may
depend on `params`, on the state, and on the frames, never on time, randomness or the host.
"""

import socket as sockets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from typing_extensions import Buffer

from halftrack_dataplane.frames import Cut, Frame
from halftrack_dataplane.parts import Part, is_none, parts

__all__ = [
    "Away", "Buffer", "ByView", "Counting", "Cut", "Fed", "Fetched", "Frame", "Param", "Part", "Sink", "Source", "Vertex", "is_none", "parts",
]  # fmt: skip

Param = str | int | bool


class Away(Exception):  # noqa: N818 - says what is the case
    """A sink's or a source's place cannot be reached, or has no room now. The one error that is no evidence against a release.

    `next_seq`, `consume`, `flush` and `fetch` may raise it, having done nothing: the runner asks for the same again until it works, shows
    the message in the status, and holds the stream back meanwhile. Whoever is asked decides how often to really try.
    """


@runtime_checkable
class Counting(Protocol):
    """Any program may also count; the counts appear in its status and in `halftrack stream top`."""

    def counters(self) -> dict[str, int]:
        """Counts by name, since the process began."""


class Vertex(Protocol):
    """A step of a graph: frames in, numbered frames out, state between."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        """Begin with the state of one that has seen nothing."""

    def process(self, frame: Frame) -> bytes | Sequence[bytes] | None:
        """Take the next frame in; return an output, or None when there is none yet. The runner numbers the outputs.

        Who takes longer for one than the vertex's `hangAfter` (60 s) is taken for a process that hangs, and killed.

        Behind an inlet that joins or samples, `parts(frame)` says what the frame is made of; behind a partition only frames of this vertex's
        own parts come here.

        A vertex with state may return a list or tuple of them, none included; each gets a number of its own.
        """

    def snapshot(self) -> Buffer | Sequence[Buffer]:
        """All that the next `process` depends on. Called between frames, quick: the stream waits meanwhile.

        A large state is best returned as the buffers that it lies in (a NumPy array, or a list of these): they are copied once.
        """

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """Go on from a snapshot; return how many of the coming outputs to suppress because they would mix two releases."""


@runtime_checkable
class ByView(Protocol):
    """A vertex with a large state may restore it from the snapshot's own memory, with no copy in between."""

    def restore_view(self, state: memoryview, *, same_release: bool) -> int:
        """As `restore`, which is then not called. `state` is read-only; what refers to it keeps its memory."""


class Source(Protocol):
    """Where a stream begins. The runner numbers the frames and paces them by the param `rate_bytes_per_s`."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        """Open what the frames come from."""

    def frames(self, next_seq: int) -> Iterator[Buffer]:
        """The frames from `next_seq` on. After a restart it is asked again: frame `s` must be the same each time.

        A source that cannot have its frames again says `live = True` (one that is `Fed` is live anyway). Then it is not asked for old frames, and after
        a power cut, which takes the ring, `next_seq` is behind every number that it may have given.

        It may wait for the next one for as long as it likes, unless its vertex declares `hangAfter`: whoever is silent for longer is killed then.
        """


@runtime_checkable
class Fetched(Protocol):
    """A source whose frames are numbered where they come from, and can be had again there. In place of `frames`."""

    def fetch(self, next_seq: int, wait_s: float) -> Sequence[Frame]:
        """The next frames, `next_seq` first, in order and without a hole; none if there are none within `wait_s`. May raise Away.

        What is lost there is said by a frame with `gap`; a stream that has not begun begins behind it. `next_seq` is where the ring ends:
        what was fetched before, and did not come so far, is asked for again. A time of 0 is replaced by now.
        """


class Context(Protocol):
    """What a source gets of its sockets: those that its vertex declares as `feeds`. They are bound already, and outlive its process."""

    def socket(self, name: str) -> sockets.socket:
        """The datagram socket of that name. Packets that nobody reads wait in its buffer; never close it."""

    def connections(self, name: str) -> Sequence[Any]:
        """The connections that were made to the feed of that name and are open: each has `.socket` and `.peer`."""

    def done(self, connection: Any) -> None:
        """The connection has ended, and all of it was read."""

    def attend(self) -> None:
        """Hear of new connections. The runner does it with every frame; a source that waits without one does it itself, ten times a second."""


@runtime_checkable
class Fed(Protocol):
    """A source that reads sockets. What it has read and not yielded is lost with its process; `captures` has sources that lose nothing."""

    def use(self, context: Context) -> None:
        """Called once, before `frames`: `context.socket("data")`."""


class Sink(Protocol):
    """Where a stream ends: it puts frames somewhere durable, and knows how far it got. `data_dir` outlives restarts."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        """Open what is already there."""

    def next_seq(self) -> int:
        """The first sequence that is not durable; asked once, at the start. Frames below it are not delivered again."""

    def consume(self, frame: Frame) -> None:
        """Take the next frame, or with `frame.gap` > 0 the declared loss of [seq, seq + gap). Order is guaranteed.

        Behind a partition, frames of others' parts come as `is_none(frame.payload)`, so that the sink's place says that they were passed.
        """

    def cuts(self, cuts: Sequence[Cut]) -> None:
        """The owner table of the stream, at the start and before the first frame of a changed one is consumed."""

    def flush(self) -> None:
        """Make durable what was consumed. Called at least every 100 ms, and before the end."""
