"""Where a member begins: from its own release's snapshot, another's, from nothing, or from a peer host's.

The order is the rule: what costs the output least comes first, and what needs a link comes last. A choice counts only once the input is pinned at it, because
the ring moves on while we choose. A state of another schema is migrated first, by functions of this member's own release.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from halftrack_dataplane import replaying
from halftrack_dataplane.frames import reader_name
from halftrack_dataplane.ring import Reader, Ring
from halftrack_dataplane.runspec import RESUME, RunSpec, StateWay
from halftrack_dataplane.runtime import EXIT_DONE, EXIT_NO_STATE, EXIT_PROGRAM, EXIT_SPEC, Stop, Unable, load_program
from halftrack_dataplane.sdk import ByView, Vertex
from halftrack_dataplane.snapshot_form import parts_of, size_of
from halftrack_dataplane.snapshots import Entry, Head, SnapshotFolder, State, fits, joined

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
    whose: str  # the release that wrote the state; empty when there was none


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
    spec: RunSpec,
    make: Make,
    source: Ring,
    target: Ring,
    folder: SnapshotFolder,
    stop: Stop,
    patience_s: float = PEER_WAIT_S,
) -> tuple[Reader, Begin]:
    """The pinned input and the vertex to feed it to; Unable when there is nothing to begin from, with peers after `patience_s`."""
    entries = folder.entries()
    head = source.head  # read after the folder: whoever wrote there has read less than this, or another life's ring
    folder.drop(entry for entry in entries if entry.next_in > head or _outlived(spec, entry, entries, source.tail))
    deadline = time.monotonic() + patience_s
    while not stop.asked:
        window, known = look(spec, source, target, folder), folder.entries()
        for candidate in _candidates(spec, make, source, window, folder):
            reader = source.reader(policy="lossless", name=reader_name(spec.name), start=candidate.next_in)
            if reader.cursor == candidate.next_in:
                return reader, candidate
            reader.close()  # the ring has moved on since we looked
        outrun = (
            folder.entries() != known
        )  # another member writes here: what we listed may be gone before we have read it
        if time.monotonic() >= deadline or not (spec.snapshot_peers or outrun):
            raise Unable(EXIT_NO_STATE, _no_state(spec, window))
        stop.sleep(0.0 if outrun else 0.1)
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


def readable(spec: RunSpec) -> tuple[str, ...]:
    """The schemas of others' snapshots that it can go on from."""
    return (*spec.state_reads, *(way.schema for way in spec.state_inward))


def window_of(spec: RunSpec) -> replaying.Window | None:
    """The window that its state is a function of; None when it is not replayed."""
    if not spec.replay_frames and not spec.replay_ms:
        return None
    return replaying.Window(spec.replay_frames, spec.replay_ms * 1_000_000)


def converted(spec: RunSpec, way: StateWay, state: State) -> State:
    """The state after a chain of migrations, each a pure function of the release from bytes to bytes."""
    for entry in way.entries:
        state = _function(spec, entry)(joined(state))
    return state


def _function(spec: RunSpec, entry: str) -> Callable[[bytes], State]:
    module, _, name = entry.partition(":")
    if module not in sys.modules:  # another than the vertex's own
        load_program(spec.program, entry)
    found: Callable[[bytes], State] | None = getattr(sys.modules[module], name, None)
    if found is None:
        raise Unable(
            EXIT_PROGRAM, f"the program has no {name!r} in {module!r}, which its release declares as a migration"
        )
    return found


def _outlived(spec: RunSpec, entry: Entry, entries: tuple[Entry, ...], oldest: int) -> bool:
    """Is it another release's, and behind all that the ring still holds? Then it is only of use to who resumes, and has no newer one."""
    newest = max((each.next_in for each in entries if each.release == spec.release), default=0)
    kept = spec.state_on_loss == RESUME and entry.next_in > newest
    return entry.release != spec.release and entry.next_in < oldest and not kept


def _candidates(spec: RunSpec, make: Make, source: Ring, window: Window, folder: SnapshotFolder) -> Iterator[Begin]:
    replayed = window_of(spec)
    if replayed is not None:
        yield _replayed(spec, make, source, window, replayed)
        return
    if not spec.state_writes:
        next_in = max(window.oldest, window.published or 0)
        yield Begin(make(spec.params), next_in, next_in, 0, False, f"without state from input {next_in}", "")
        return
    local = [entry for entry in folder.entries() if window.covers(entry.next_in)]
    late = []
    for candidate in _own_first(spec, make, window, folder, local, ""):
        if alone(spec) and _leaves_gap(candidate, window):
            late.append(candidate)
        else:
            yield candidate
    if window.covers(0):
        yield Begin(make(spec.params), 0, 0, 0, False, "from nothing, with the stream's first frame", "")
    yield from late
    for peers in _peers(spec, window, folder):
        yield from _own_first(spec, make, window, folder, [peers], " of a peer")


def _replayed(spec: RunSpec, make: Make, source: Ring, window: Window, replayed: replaying.Window) -> Begin:
    """A life whose first output that counts is the next that nobody has published, if the ring reaches back far enough."""
    wanted = window.oldest if window.published is None else window.published
    newest = source.peek(min(wanted, window.head - 1)) if window.head > window.oldest else None
    earlier = window.oldest if newest is None else source.seq_at(newest.timestamp_ns - replayed.ns) - 1
    next_in = replaying.first_input(replayed, window.oldest, wanted, earlier)
    return Begin(make(spec.params), next_in, next_in, 0, False, f"replays from input {next_in} for output {wanted}", "")


def _own_first(
    spec: RunSpec, make: Make, window: Window, folder: SnapshotFolder, entries: list[Entry], whose: str
) -> Iterator[Begin]:
    """Restored vertices: those of the same release first, and of each kind those that leave no gap in our output."""
    heads = [(entry, head) for entry in entries if (head := folder.head(entry)) is not None]
    usable = [(entry, head) for entry, head in heads if fits(head, spec.release, spec.state_writes, readable(spec))]

    def gapless(head: Head, suppress: int) -> bool:
        return window.published is None or head.next_out + suppress <= window.published

    for same in (True, False):
        late: list[Entry] = []
        for entry, head in usable:
            if (head.release == spec.release) != same:
                continue
            found = restored(spec, make, folder, entry, same, whose) if gapless(head, 0) else None
            if found is not None and gapless(head, found.suppress):
                yield found
            else:
                late.append(entry)
        for entry in late:
            found = restored(spec, make, folder, entry, same, whose)
            if found is not None:
                yield found


def _leaves_gap(begin: Begin, window: Window) -> bool:
    """Would the output lack something between what was published and what this one brings first?"""
    return window.published is not None and begin.next_out + begin.suppress > window.published


def restored(spec: RunSpec, make: Make, folder: SnapshotFolder, entry: Entry, same: bool, whose: str) -> Begin | None:
    """A vertex that goes on from that snapshot; None when it is gone or damaged."""
    snapshot = folder.read(entry)
    if snapshot is None:
        return None  # dropped meanwhile, or damaged: then the next one is tried, and this one is counted
    state, told = snapshot.state, ""
    if not same and snapshot.schema not in spec.state_reads:
        way = next(way for way in spec.state_inward if way.schema == snapshot.schema)
        state, told = converted(spec, way, state), f", migrated from {snapshot.schema}"
    folder.prepare(instance_of(spec), size_of(parts_of(state)))  # our first snapshot shall find its memory there
    vertex = make(spec.params)
    if isinstance(vertex, ByView):
        whole = state if isinstance(state, (bytes, memoryview)) else joined(state)
        suppress = vertex.restore_view(memoryview(whole).toreadonly(), same_release=same)
    else:
        suppress = vertex.restore(joined(state), same_release=same)
    if type(suppress) is not int or suppress < 0:
        raise TypeError(f"restore must return how many outputs to suppress (an integer from 0 on), not {suppress!r}")
    if same:
        suppress = 0  # nothing is mixed
    message = f"from a snapshot{whose} of {snapshot.release}, input {snapshot.next_in}{told}"
    foreign = not same or bool(whose)
    return Begin(vertex, snapshot.next_in, snapshot.next_out, suppress, foreign, message, snapshot.release)


def _peers(spec: RunSpec, window: Window, folder: SnapshotFolder) -> Iterator[Entry]:
    """What peers give us; asked only when everything before was no use, since it needs the link."""
    if not spec.snapshot_peers:
        return
    from halftrack_dataplane.snapshot_fetch import fetch  # ZeroMQ takes long to import, and is rarely needed here

    for peer in spec.snapshot_peers:
        found = fetch(
            spec, peer, vertex_of(spec), max(window.oldest, window.gap_end), readable(spec), instance_of(spec), folder
        )
        if found is not None and window.covers(found.next_in, ahead=window.slots):
            yield found


def _no_state(spec: RunSpec, window: Window) -> str:
    needed = max(window.oldest, window.gap_end)
    return (
        f"{spec.name} has nothing to begin from: it needs a snapshot of {spec.release} ({spec.state_writes}), or one of "
        f"{', '.join(readable(spec)) or 'no other schema'}, taken at input {needed} to {window.head}, which is what the "
        f"input ring still holds. Asked {len(spec.snapshot_peers)} peer(s). Wait for the other member's next snapshot "
        "and start it again, or make the input ring larger"
    )
