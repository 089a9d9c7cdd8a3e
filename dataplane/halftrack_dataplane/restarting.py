"""When nobody can go on from the state any more: may a member begin without all inputs, with which state, and under which number?

The release says whether with the newest snapshot that there is (`onLoss: resume`) or with an empty state (`restart`); by one member only, and when
everybody who could still go on has said that he cannot: a host that is silent may (O1). What the others then need, a snapshot of that state, is there
before the first output. All numbers that may have been published stay as they are; the next one is declared lost, and stands for what is missing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from halftrack_dataplane import restoring, standing
from halftrack_dataplane.frames import RingError, reader_name
from halftrack_dataplane.merge import owner_of
from halftrack_dataplane.numbering import Numbering, others_of
from halftrack_dataplane.restoring import Begin, Make
from halftrack_dataplane.ring import Reader, Ring
from halftrack_dataplane.runspec import RESUME, WAIT, RunSpec, SnapshotPeer
from halftrack_dataplane.runtime import EXIT_NO_STATE, Stop, Unable
from halftrack_dataplane.snapshots import Entry, SnapshotFolder, Young, fits
from halftrack_dataplane.standing import Standing

NONE_KNOWN = 1  # what `restart_at` says when nobody has ever seen an output
AGAIN_S = 0.2  # between two looks at whether somebody has the state after all


@dataclass(frozen=True, slots=True)
class Place:
    """What the deciding member knows of itself: which one it is, and whether the merge passes its release (None: there is no merge)."""

    member: str
    in_force: bool | None


def refusal(place: Place, here: Standing, twins: Sequence[tuple[str, Standing | None]]) -> str:
    """Why it must not begin without all inputs now, in prose; empty when it may."""
    if place.in_force is not None and here.members and place.member != here.members[0]:
        return f"member {here.members[0]} decides whether to go on without, and has not"
    if place.in_force is False:
        return "its release is not the one that counts, so it waits for that one's state"
    if here.hopes:
        return "another member on this host goes on with the state, or can"
    for address, twin in twins:
        if twin is None:
            return f"the other member's host at {address} is silent, and may have the state"
        if twin.hopes:
            return f"the other member, on the host at {address}, goes on with the state, or can"
    return ""


def restart_at(here: Standing, twins: Sequence[Standing]) -> int:
    """The first number that such a state may put out: behind the one that stands for what is missing."""
    return max([here.published, *(twin.published for twin in twins)]) + 1


def begin(
    spec: RunSpec,
    make: Make,
    source: Ring,
    target: Ring,
    folder: SnapshotFolder,
    stop: Stop,
    passed: Callable[[int], object] = lambda _: None,
    numbering: Numbering | None = None,
) -> tuple[Reader, Begin]:
    """As `restoring.begin`; and where that finds nothing and the release says so, with the newest state that there was, or an empty one.

    While it waits for another's state, `passed` is told up to which number it will bring nothing: the merge may wait for that very word,
    the other member for the merge, and the input, full of what that one has not read, would never show a snapshot that could be begun from.
    """
    if spec.state_on_loss == WAIT:
        return restoring.begin(spec, make, source, target, folder, stop)
    deadline = time.monotonic() + restoring.PEER_WAIT_S
    while True:
        try:
            return restoring.begin(spec, make, source, target, folder, stop, patience_s=0.0)
        except Unable as error:
            if error.code != EXIT_NO_STATE:
                raise
            reason, at = _asked(spec, target, folder)
            if not reason:
                return _anew(spec, make, source, target, folder, at, numbering or Numbering(""))
            passed(_known_out(spec, folder))
            if time.monotonic() >= deadline or stop.asked:
                raise Unable(EXIT_NO_STATE, f"{error}. It may go on without these inputs, but {reason}") from None
        stop.sleep(AGAIN_S)


def _known_out(spec: RunSpec, folder: SnapshotFolder) -> int:
    """The next output of the newest state of this release here. Who has nothing to begin from now begins from that one, or a later one."""
    own = (entry for entry in folder.entries() if entry.release == spec.release and not entry.form)
    return max((head.next_out for entry in own if (head := folder.head(entry)) is not None), default=0)


def _asked(spec: RunSpec, target: Ring, folder: SnapshotFolder) -> tuple[str, int]:
    """Why not, or under which number."""
    rings, vertex, input_ring = Path(spec.input_ring).parents[1], restoring.vertex_of(spec), _name_of(spec.input_ring)
    here = standing.of(rings, folder, vertex, input_ring, spec.release, restoring.readable(spec))
    here = replace(here, published=max(here.published, target.head))
    place = Place(restoring.instance_of(spec).partition("@")[0], _in_force(spec))
    if reason := refusal(place, here, ()):
        return reason, 0
    asked = [(peer.connect, _standing_of(spec, peer, vertex, input_ring)) for peer in spec.snapshot_peers if peer.twin]
    if reason := refusal(place, here, asked):
        return reason, 0
    return "", restart_at(here, [twin for _, twin in asked if twin is not None])


def _standing_of(spec: RunSpec, peer: SnapshotPeer, vertex: str, input_ring: str) -> Standing | None:
    from halftrack_dataplane.snapshot_fetch import standing_of  # ZeroMQ takes long to import, and is rarely needed here

    return standing_of(spec, peer, vertex, input_ring, restoring.readable(spec))


def _in_force(spec: RunSpec) -> bool | None:
    """Does the merge pass this release's outputs? None when the member writes the vertex's ring itself."""
    if restoring.alone(spec):
        return None
    path = Path(spec.output_ring)
    stem = path.name.partition("@")[0].rpartition(".")[0]
    try:
        with Ring.open(str(path.with_name(f"{stem}.ring"))) as merged:
            owner = owner_of(merged.head, merged.cuts())
    except (RingError, OSError):
        return False
    return owner is not None and owner.generation == spec.generation


def _name_of(path: str) -> str:
    return f"{Path(path).parent.name}/{Path(path).name.removesuffix('.ring')}"


def _anew(
    spec: RunSpec, make: Make, source: Ring, target: Ring, folder: SnapshotFolder, at: int, numbering: Numbering
) -> tuple[Reader, Begin]:
    """From the oldest input that is still there. The mark comes first: a life that ends right after it is told of all the same.

    Where no ring knows an output, as after a power cut, the numbers on the disk say which there may have been.
    """
    instance = restoring.instance_of(spec)
    window = restoring.look(spec, source, target, folder)
    start = max(window.oldest, window.gap_end)
    reader = source.reader(policy="lossless", name=reader_name(spec.name), start=start)
    first = reader.cursor
    known = max((entry.next_in for entry in folder.entries() if entry.next_in <= first), default=0)
    try:
        found = _resumed(spec, make, folder, first) if spec.state_on_loss == RESUME else None
        if at == NONE_KNOWN:
            at += numbering.begin((first,) if found is None else None, others_of(spec.numbers_path))
        young = Young(folder.young(instance).losses + 1, known, first, at)
        if found is not None:
            young = replace(young, known_in=found.next_in, kept=True)
        folder.mark_young(instance, young)
        vertex = make(spec.params) if found is None else found.vertex
    except BaseException:
        reader.close()
        raise
    suppress, whose = (0, spec.release) if found is None else (found.suppress, found.whose)
    return reader, Begin(vertex, first, at, suppress, True, young.text(), whose)


def _resumed(spec: RunSpec, make: Make, folder: SnapshotFolder, first: int) -> Begin | None:
    """The newest state of before input `first` that this host or the twin's has; None when there is none that it can read."""
    readable = restoring.readable(spec)

    def usable() -> list[Entry]:
        heads = [(entry, folder.head(entry)) for entry in folder.entries() if entry.next_in <= first]
        return [
            entry for entry, head in heads if head is not None and fits(head, spec.release, spec.state_writes, readable)
        ]

    for peer in [peer for peer in spec.snapshot_peers if peer.twin]:
        _fetch(spec, peer, max((entry.next_in + 1 for entry in usable()), default=0), folder)
    for entry in usable():  # the newest first
        found = restoring.restored(spec, make, folder, entry, entry.release == spec.release, "")
        if found is not None:
            return found
    return None


def _fetch(spec: RunSpec, peer: SnapshotPeer, least: int, folder: SnapshotFolder) -> None:
    """What that host has of `least` on comes into the folder, if it has any."""
    from halftrack_dataplane.snapshot_fetch import fetch

    vertex, instance = restoring.vertex_of(spec), restoring.instance_of(spec)
    fetch(spec, peer, vertex, least, restoring.readable(spec), instance, folder)
