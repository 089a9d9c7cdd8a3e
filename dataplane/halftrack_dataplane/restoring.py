"""Where a member begins: from its own release's snapshot, another's, from nothing, or from a peer host's.

The order is the rule: what costs the output least comes first, and what needs a link comes last. A choice counts only once the input is pinned at it, because
the ring moves on while we choose.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from halftrack_dataplane.frames import reader_name
from halftrack_dataplane.ring import Reader, Ring
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import EXIT_DONE, EXIT_NO_STATE, EXIT_SPEC, Stop, Unable
from halftrack_dataplane.sdk import Vertex
from halftrack_dataplane.snapshots import Snapshot, SnapshotFolder, fits

PEER_WAIT_S = 10.0  # a peer writes a snapshot every few hundred frames; who has none after this long has other troubles

Make = Callable[[Mapping[str, Any]], Vertex]


@dataclass(frozen=True, slots=True)
class Begin:
    """A vertex ready to go on, and from where."""

    vertex: Vertex
    next_in: int
    next_out: int
    suppress: int
    foreign: bool  # the state is another release's
    message: str
    whose: str = ""  # the release that wrote the state; empty when there was none


@dataclass(frozen=True, slots=True)
class Window:
    """The rings when we chose: inputs [oldest, head) are there, outputs below `published` are (None: none ever)."""

    oldest: int
    head: int
    slots: int
    gap_end: int
    published: int | None

    def covers(self, next_in: int, ahead: int = 0) -> bool:
        """Can a member go on from input `next_in`? A peer's may be `ahead` of this host's replica."""
        return max(self.oldest, self.gap_end) <= next_in <= self.head + ahead


def instance_of(spec: RunSpec) -> str:
    """`member@release`, from the output ring's name `vertex.member@release`; `m@release` for a ring named otherwise."""
    stem, at, _ = PurePath(spec.output_ring).name.partition("@")
    return f"{stem.rpartition('.')[2] if at else 'm'}@{spec.release}"


def vertex_of(spec: RunSpec) -> str:
    """`graph/vertex`, from the output ring's path; what peers know the vertex by."""
    path = PurePath(spec.output_ring)
    stem = path.name.partition("@")[0]
    return f"{path.parent.name}/{stem.rpartition('.')[0] or stem}"


def alone(spec: RunSpec) -> bool:
    """Does it write its vertex's ring itself? Then no other member brings an output that this one keeps to itself."""
    return "@" not in PurePath(spec.output_ring).name


def positive(spec: RunSpec, name: str, default: int) -> int:
    """The param `name`, an integer above 0."""
    value = spec.params.get(name, default)
    if type(value) is not int or value < 1:
        raise Unable(EXIT_SPEC, f"param {name!r} must be an integer above 0, not {value!r}")
    return value


def begin(
    spec: RunSpec, make: Make, source: Ring, target: Ring, folder: SnapshotFolder, stop: Stop
) -> tuple[Reader, Begin]:
    """The pinned input and the vertex to feed it to; Unable when there is nothing to begin from."""
    entries = folder.entries()
    head = source.head  # read after the folder: whoever wrote there has read less than this, or another life's ring
    folder.drop(entry for entry in entries if entry.next_in > head)
    deadline = time.monotonic() + PEER_WAIT_S
    while not stop.asked:
        window = look(spec, source, target, folder)
        for candidate in _candidates(spec, make, window, folder):
            reader = source.reader(policy="lossless", name=reader_name(spec.name), start=candidate.next_in)
            if reader.cursor == candidate.next_in:
                return reader, candidate
            reader.close()  # the ring has moved on since we looked
        if time.monotonic() >= deadline or not spec.snapshot_peers:
            raise Unable(EXIT_NO_STATE, _no_state(spec, window))
        stop.sleep(0.1)
    raise Unable(EXIT_DONE, "asked to stop before it began")


def look(spec: RunSpec, source: Ring, target: Ring, folder: SnapshotFolder) -> Window:
    """The window as it is now."""
    published = target.head  # what it retains of that does not matter: a death may have emptied it for a frame
    oldest, head = source.tail, source.head
    gap_end = folder.gap_end(instance_of(spec))
    # A mark beyond the head is from before the ring was made anew.
    return Window(
        oldest, head, source.slots, gap_end if gap_end <= head else 0, published if alone(spec) else published or None
    )


def _candidates(spec: RunSpec, make: Make, window: Window, folder: SnapshotFolder) -> Iterator[Begin]:
    if not spec.state_writes:
        next_in = max(window.oldest, window.published or 0)
        yield Begin(make(spec.params), next_in, next_in, 0, False, f"without state from input {next_in}")
        return
    local = [
        snapshot
        for entry in folder.entries()
        if window.covers(entry.next_in) and (snapshot := folder.read(entry)) is not None
    ]
    found = _own_first(spec, make, window, local, "")
    late = []
    for candidate in found:
        if alone(spec) and _leaves_gap(candidate, window):
            late.append(candidate)
        else:
            yield candidate
    if window.covers(0):
        yield Begin(make(spec.params), 0, 0, 0, False, "from nothing, with the stream's first frame")
    yield from late
    yield from _own_first(spec, make, window, list(_peers(spec, window)), " of a peer")


def _own_first(spec: RunSpec, make: Make, window: Window, snapshots: list[Snapshot], whose: str) -> Iterator[Begin]:
    """Restored vertices: those of the same release first, and of each kind those that leave no gap in our output."""
    usable = [snapshot for snapshot in snapshots if fits(snapshot, spec.release, spec.state_writes, spec.state_reads)]
    for same in (True, False):
        late = []
        for snapshot in usable:
            if (snapshot.release == spec.release) != same:
                continue
            found = _restored(spec, make, snapshot, same, whose)
            if _leaves_gap(found, window):
                late.append(found)
            else:
                yield found
        yield from late


def _leaves_gap(begin: Begin, window: Window) -> bool:
    """Would the output lack something between what was published and what this one brings first?"""
    return window.published is not None and begin.next_out + begin.suppress > window.published


def _restored(spec: RunSpec, make: Make, snapshot: Snapshot, same: bool, whose: str) -> Begin:
    vertex = make(spec.params)
    suppress = vertex.restore(snapshot.state, same_release=same)
    if type(suppress) is not int or suppress < 0:
        raise TypeError(f"restore must return how many outputs to suppress (an integer from 0 on), not {suppress!r}")
    if same:
        suppress = 0  # nothing is mixed
    message = f"from a snapshot{whose} of {snapshot.release}, input {snapshot.next_in}"
    foreign = not same or bool(whose)
    return Begin(vertex, snapshot.next_in, snapshot.next_out, suppress, foreign, message, snapshot.release)


def _peers(spec: RunSpec, window: Window) -> Iterator[Snapshot]:
    """What peers answer; asked only when everything before was no use, since it needs the link."""
    if not spec.snapshot_peers:
        return
    from halftrack_dataplane.bridge_snapshots import fetch  # ZeroMQ takes long to import, and is rarely needed here

    for peer in spec.snapshot_peers:
        found = fetch(spec, peer, vertex_of(spec), max(window.oldest, window.gap_end))
        if found is not None and window.covers(found.next_in, ahead=window.slots):
            yield found


def _no_state(spec: RunSpec, window: Window) -> str:
    needed = max(window.oldest, window.gap_end)
    return (
        f"{spec.name} has nothing to begin from: it needs a snapshot of {spec.release} ({spec.state_writes}), or one of "
        f"{', '.join(spec.state_reads) or 'no other schema'}, taken at input {needed} to {window.head}, which is what the "
        f"input ring still holds. Asked {len(spec.snapshot_peers)} peer(s). Wait for the other member's next snapshot "
        "and start it again, or make the input ring larger"
    )
