"""What a spool is on the disk, and every decision about it: what a segment's head says, how far a segment is whole, what may go.

Pure: bytes, numbers and times are arguments. A spool is a folder of segments, files of one size, each named by its first sequence: a head of
a page, then records (spool_record.pyx), then zeros. A segment appears under its name with its head on the disk, and never gets shorter, so
that a reader's mapping of it stays good. Only the newest one is written to.

    head    magic "HTRKSPOO", u32 version, u32 CRC-32C of the rest of the page, u64 salt, u64 first sequence, u64 generation,
            u64 frame_bytes, u64 base_seq (these three and the texts are the ring's), u64 lost, u64 lost_to, u64 missed, u64 corrupt (what
            the spool had counted until then), u32 bytes of label, u32 bytes of schema; label; schema; zeros
    place   how far a consumer has got: magic "HTRKCONS", u32 zero, u32 CRC-32C of the rest, u64 number, u64 sequence. A consumer's file
            has two, a page apart; the one with the higher number counts, and the other one is written next. Of one that keeps what it took in
            memory: magic "HTRKAGAI", and behind the sequence the one where it would begin without that memory, u64
"""

# ruff: noqa: N818 - these errors say what was met, and read better without a suffix
import mmap
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from halftrack_dataplane.frames import RingError
from halftrack_dataplane.spool_record import ALIGN, CORRUPT, FIELDS_BYTES, MAGIC, MISSED, Entry, crc32c, entry_at

VERSION = 1
HEAD_BYTES = PLACE_BYTES = 4096  # a page: frames begin on one, and two places never share what the disk writes at once
SUFFIX = ".seg"
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}"  # of a consumer: it is a file's name

_MAGIC = b"HTRKSPOO"
_HEAD = struct.Struct("<8sIIQQQQQQQQQII")
_REST = 16  # where the checksum's reach begins, behind itself
_PLACE_MAGIC, _AGAIN_MAGIC = b"HTRKCONS", b"HTRKAGAI"
_PLACE_HEAD, _PLACE_REST, _AGAIN_REST = struct.Struct("<8sII"), struct.Struct("<QQ"), struct.Struct("<QQQ")

assert ALIGN == FIELDS_BYTES and HEAD_BYTES % ALIGN == 0  # noqa: S101, PT018 - relations of constants, as they are read
assert _HEAD.size + 127 + 2047 <= HEAD_BYTES  # noqa: S101 - a ring's label and schema fit


class SpoolError(RingError):
    """Something about a spool. A ring's error, too: who reads a stream need not know where it comes from."""


class SpoolMissing(SpoolError):
    """There is no spool in that folder."""


class SpoolBusy(SpoolError):
    """A living process spools into that folder, or reads it under that name."""


class SpoolMismatch(SpoolError):
    """The spool holds another stream than the ring."""


class SpoolDamaged(SpoolError):
    """A segment's head is not whole, so nothing can be said about what is in it."""


class SpoolFailed(SpoolError):
    """The disk did not take what it was given: nothing after what was released can be relied on to be there."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The ring that a segment's records come from, as far as its header says who it is."""

    label: str = ""
    schema: str = ""
    frame_bytes: int = 0
    generation: int = 0
    base_seq: int = 0


@dataclass(frozen=True, slots=True)
class Losses:
    """Sequences that a spool does not have: `lost` to its limit before all consumers had them (counted up to `lost_to`), `missed` because
    the ring had reclaimed them, `corrupt` because they did not match the ring's checksum.
    """

    lost: int = 0
    lost_to: int = 0
    missed: int = 0
    corrupt: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """A segment's first page."""

    salt: int
    first: int
    identity: Identity = Identity()
    losses: Losses = Losses()


def pack_head(head: Head) -> bytes:
    """The page."""
    who, losses = head.identity, head.losses
    label, schema = who.label.encode(), who.schema.encode()
    numbers = (head.salt, head.first, who.generation, who.frame_bytes, who.base_seq)
    counts = (losses.lost, losses.lost_to, losses.missed, losses.corrupt)
    page = _HEAD.pack(_MAGIC, VERSION, 0, *numbers, *counts, len(label), len(schema)) + label + schema
    page = page.ljust(HEAD_BYTES, b"\0")
    return page[:12] + struct.pack("<I", crc32c(page[_REST:])) + page[_REST:]


def read_head(page: bytes, name: str) -> Head:
    """What a segment's first page says; SpoolDamaged when it is not what was written there."""
    if len(page) >= HEAD_BYTES and page[:8] == _MAGIC:
        fields = _HEAD.unpack_from(page)
        if fields[1] != VERSION:
            raise SpoolDamaged(
                f"segment {name} has format version {fields[1]}, and this Halftrack knows version {VERSION} only"
            )
        if fields[2] == crc32c(page[_REST:HEAD_BYTES]):
            _, _, _, salt, first, generation, frame_bytes, base_seq, lost, lost_to, missed, corrupt, label, schema = (
                fields
            )
            texts = page[_HEAD.size : _HEAD.size + label + schema]
            who = Identity(texts[:label].decode(), texts[label:].decode(), frame_bytes, generation, base_seq)
            return Head(salt, first, who, Losses(lost, lost_to, missed, corrupt))
    raise SpoolDamaged(
        f"the head of segment {name} is damaged; move the file out of the spool: what it held becomes a declared gap"
    )


def segment_name(first: int) -> str:
    """The file name of the segment that begins with sequence `first`; names sort as sequences do."""
    return f"{first:020d}{SUFFIX}"


def first_of(name: str) -> int | None:
    """The first sequence of the segment of that name; None for other files."""
    return int(name[:20]) if re.fullmatch(rf"[0-9]{{20}}{re.escape(SUFFIX)}", name) else None


# ------------------------------------------------------------------------------------------------------- how far it is whole


Bytes = bytes | bytearray | mmap.mmap  # what can be looked at in place, and searched


def next_whole(data: Bytes, at: int, salt: int, seq: int) -> int | None:
    """The offset of the first whole record from `at` on that begins at `seq` or later: where to go on behind damage."""
    while (at := data.find(MAGIC, at)) >= 0:
        if at % ALIGN == 0:
            entry = entry_at(data, at, salt)
            if entry is not None and entry.seq >= seq:
                return at
        at += 1
    return None


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a segment ends: the offset and the sequence behind its last whole record, that record, and what it counted as lost."""

    offset: int
    end_seq: int
    last: Entry | None
    missed: int
    corrupt: int


def tail_of(data: Bytes, head: Head) -> Tail:
    """How far a segment goes. What is damaged before its last whole record is a reader's gap; what lies behind it was never released."""
    at, seq, last, missed, corrupt = HEAD_BYTES, head.first, None, 0, 0
    while True:
        entry = entry_at(data, at, head.salt)
        if entry is None:
            behind = next_whole(data, at + ALIGN, head.salt, seq)
            if behind is None:
                return Tail(at, seq, last, missed, corrupt)
            at = behind
            continue
        at, seq, last = entry.end, entry.end_seq, entry
        missed += entry.count if entry.flags & MISSED else 0
        corrupt += entry.count if entry.flags & CORRUPT else 0


# -------------------------------------------------------------------------------------------------------------- what may go


Full = Literal["block", "drop-oldest"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a spool may hold: `bytes` of segments of `segment_bytes`; `keep_ns`: how long what all consumers have stays, room permitting.

    `full`: at the limit, stop reading the ring, or let the oldest go though a consumer has not had it.
    """

    bytes: int
    segment_bytes: int
    keep_ns: int = 0
    full: Full = "block"

    def __post_init__(self) -> None:
        if self.segment_bytes < 2 * HEAD_BYTES or self.segment_bytes % HEAD_BYTES or self.keep_ns < 0:
            raise ValueError(f"a segment is some whole pages of {HEAD_BYTES} bytes, at least two: {self.segment_bytes}")
        if self.bytes < 2 * self.segment_bytes:
            raise ValueError(f"a limit of {self.bytes} bytes; it must hold two segments of {self.segment_bytes}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment as the spooler keeps it in mind; `written_ns` is when its last record was written, by the wall clock."""

    first: int
    end: int
    bytes: int
    written_ns: int


@dataclass(frozen=True, slots=True)
class Room:
    """What to do for room: let the `go` oldest segments go; whether it `fits` then."""

    go: int
    fits: bool
    losses: Losses


def room_for(
    needed: int, segments: Sequence[Segment], places: Sequence["Place"], limits: Limits, losses: Losses, now_ns: int
) -> Room:
    """Which segments go so that `needed` bytes fit beside the rest; 0 only lets those go that have stayed long enough.

    `places`: up to where consumers have committed; what one of them holds in memory alone stays as long as there is room. While there is no
    consumer, nobody is known to be done with anything. The newest segment never goes: its end is where the spool goes on.
    """
    done = min((place.seq for place in places), default=0)
    safe = min((place.again for place in places), default=0)
    held = sum(segment.bytes for segment in segments)
    go = 0
    for segment in segments[:-1]:
        full = held + needed > limits.bytes
        aged = segment.end <= safe and now_ns - segment.written_ns >= limits.keep_ns
        free = segment.end <= done and (full or aged)
        forced = full and needed > 0 and limits.full == "drop-oldest"
        if not free and not forced:
            break
        held -= segment.bytes
        go += 1
    told = lost_below(segments[go].first, done, losses) if go else losses
    return Room(go, held + needed <= limits.bytes, told)


def lost_below(first: int, done: int, losses: Losses) -> Losses:
    """The count when the spool begins at `first`: what the slowest consumer, at `done`, did not have is lost, once."""
    if first <= losses.lost_to:
        return losses
    return replace(losses, lost=losses.lost + max(0, first - max(done, losses.lost_to)), lost_to=first)


# --------------------------------------------------------------------------------------------------------- consumers' places


@dataclass(frozen=True, slots=True)
class Place:
    """How far a consumer has got: everything below `seq`. It would begin at `again` if its memory were lost. `number` counts its commits."""

    number: int
    seq: int
    again: int


def pack_place(place: Place) -> bytes:
    """The bytes of a place. One that keeps nothing in memory has the form of earlier versions, which they read."""
    if place.again == place.seq:
        rest = _PLACE_REST.pack(place.number, place.seq)
        return _PLACE_HEAD.pack(_PLACE_MAGIC, 0, crc32c(rest)) + rest
    rest = _AGAIN_REST.pack(place.number, place.seq, place.again)
    return _PLACE_HEAD.pack(_AGAIN_MAGIC, 0, crc32c(rest)) + rest


def place_offset(number: int) -> int:
    """Where in the file the place of that number is written: not over the one before it, which counts until this one is whole."""
    return number % 2 * PLACE_BYTES


def read_place(data: bytes) -> Place | None:
    """The newest whole place of a consumer's file; None if there is none."""
    found = [place for at in (0, PLACE_BYTES) if (place := _place_at(data[at : at + PLACE_BYTES])) is not None]
    return max(found, key=lambda place: place.number, default=None)


def _place_at(page: bytes) -> Place | None:
    if len(page) < _PLACE_HEAD.size:
        return None
    magic, _, crc = _PLACE_HEAD.unpack_from(page)
    form = {_PLACE_MAGIC: _PLACE_REST, _AGAIN_MAGIC: _AGAIN_REST}.get(magic)
    rest = page[_PLACE_HEAD.size :][: 0 if form is None else form.size]
    if form is None or len(rest) < form.size or crc != crc32c(rest):
        return None
    number, seq, *again = form.unpack(rest)
    return Place(number, seq, *(again or [seq]))
