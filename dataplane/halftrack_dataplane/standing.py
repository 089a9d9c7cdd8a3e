"""How a vertex stands on this host: does a member of it go on here, could one, and what has been published? For a twin that asks.

Reads rings' headers and snapshots' heads only. Decides nothing: what follows from it is `restarting`'s.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from halftrack_dataplane.frames import RingError
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.snapshots import SnapshotFolder

_RING = re.compile(r"(?P<vertex>[a-z0-9-]+)(\.(?P<member>[a-z0-9-]+)@(?P<release>[0-9A-Za-z.+-]+))?\.ring")


@dataclass(frozen=True, slots=True)
class Standing:
    """What one host can say. `hopes`: a member goes on from the state here, or could. `published`: outputs below it may be somewhere.

    `members` of the asked release have rings here, their own or their replicas.
    """

    hopes: bool
    published: int
    members: tuple[str, ...]


def of(
    rings: Path, snapshots: SnapshotFolder, vertex: str, input_ring: str, release: str, reads: tuple[str, ...]
) -> Standing:
    """The standing of `graph/vertex` here, whose members read `input_ring` (`graph/name`). A ring that cannot be read says nothing."""
    graph, _, name = vertex.partition("/")
    published, writers, members = 0, set[int](), set[str]()
    for path in sorted((rings / graph).glob(f"{name}*.ring")):
        found = _RING.fullmatch(path.name)
        if found is None or found["vertex"] != name:
            continue
        try:
            with Ring.open(str(path)) as ring:
                stats = ring.stats()
        except (RingError, OSError):
            continue
        writers.add(stats.writer_pid)
        if found["release"] in (None, release):  # of another release the numbers mean nothing until they are merged
            published = max(published, stats.head)
        if found["release"] == release:
            members.add(found["member"])
    hopes = _hopes(rings / f"{input_ring}.ring", snapshots, writers, release, reads)
    return Standing(hopes, published, tuple(sorted(members)))


def _hopes(path: Path, snapshots: SnapshotFolder, writers: set[int], release: str, reads: tuple[str, ...]) -> bool:
    """Who writes one of its rings and reads its input goes on; and a snapshot that the input still follows may be begun from."""
    try:
        with Ring.open(str(path)) as ring:
            stats = ring.stats()
    except (RingError, OSError):
        return False
    if any(reader.pid in writers for reader in stats.readers):
        return True
    begin = max(stats.tail, snapshots.gaps_end(stats.head))  # no member here can pass a gap in the input that it reads
    near = [entry for entry in snapshots.entries() if begin <= entry.next_in <= stats.head]
    heads = [(entry, head) for entry in near if (head := snapshots.head(entry)) is not None]
    return any((entry.release == release and not entry.form) or head.schema in reads for entry, head in heads)
