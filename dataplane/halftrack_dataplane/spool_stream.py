"""Which stream a spool holds, and whether a ring goes on with it: also one that was made anew, after the memory that the old one was in has gone (ADR 49).

Owns that decision, for the spooler and for all who read both. Joins nothing, changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

from halftrack_dataplane.beginning import begins_at
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.spool_cursor import Held, SpoolCursor
from halftrack_dataplane.spool_segments import Identity, SpoolMismatch


@dataclass(frozen=True, slots=True)
class Standing:
    """A ring as it stands. `begins`: its stream's first sequence; None once the ring has let go of that."""

    identity: Identity
    begins: int | None
    head: int


def identity_of(ring: Ring) -> Identity:
    """Whose stream it says that it has."""
    return Identity(ring.label, ring.schema, ring.frame_bytes, ring.generation, ring.base_seq)


def standing_of(ring: Ring) -> Standing:
    """The ring now. What it holds may go meanwhile, and then is not known any more."""
    head = ring.head
    return Standing(identity_of(ring), begins_at(ring), head)


def continued(
    spool: Identity, end_seq: int, ring: Standing, same: Callable[[int], bool | None], where: str = "the spool"
) -> bool:
    """Does the ring go on with a spool that ends at `end_seq`? SpoolMismatch if not; True if the ring was made anew, and has begun behind that end.

    `same`: have both the same frame of that sequence? None: one of them has no frame there. A ring made anew that has begun before the spool's end
    goes the same way again if its newest frame is the spool's, too.
    """
    who = ring.identity
    for what in ("label", "schema", "frame_bytes", "generation"):
        ours, theirs = getattr(spool, what), getattr(who, what)
        if ours != theirs:
            raise SpoolMismatch(
                f"{where} holds a stream of another ring: its {what} is {ours!r}, this ring's is {theirs!r}. "
                "Use another folder, or move this one away once its consumers are done"
            )
    if spool.base_seq != who.base_seq and who.base_seq >= end_seq:
        return True
    if ring.begins is not None and ring.begins > who.base_seq and ring.begins >= end_seq:
        return True
    again = ring.head < end_seq and ring.begins is not None and ring.begins < ring.head and same(ring.head - 1)
    if spool.base_seq != who.base_seq or (ring.head < end_seq and not again):
        raise SpoolMismatch(
            f"{where} goes up to sequence {end_seq}, and the ring, at {ring.head} now, began at {who.base_seq}: it was made anew, and "
            "would give numbers out again. Make it with a base of the spool's end or more, or use another folder"
        )
    if ring.head >= end_seq > 0 and same(end_seq - 1) is False:
        raise SpoolMismatch(
            f"{where} has another frame of sequence {end_seq - 1} than the ring: the ring was made anew, and gives numbers out "
            "again. Use another folder, or move this one away once its consumers are done"
        )
    return False


def compared(ring: Ring, cursor: SpoolCursor) -> Callable[[int], bool | None]:
    """`same`, as `continued` wants it."""

    def same(seq: int) -> bool | None:
        kept, held = ring.peek(seq), cursor.at(seq)
        if kept is None or not isinstance(held, Held) or held.entry.gap:
            return None
        entry = held.entry
        at = entry.at + (seq - entry.seq) * entry.frame_bytes
        data = held.file.data[at : at + entry.frame_bytes]
        return not kept.gap and kept.epoch == entry.epoch and kept.payload == data

    return same
