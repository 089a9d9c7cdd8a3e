"""What an inlet's output must be, from its inputs' frames alone: slow, plain, and made from the words of ADR 16, not from the code.

A stream here is a list with a `Given` for each sequence from 0 on, None where it is declared lost. An output is a list of `Out`, None where lost.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from halftrack_dataplane.parts import ABSENT, LATE, LOST, NEXT, NONE, Row, dumped, loaded
from halftrack_dataplane.ring import Ring


@dataclass(frozen=True)
class Given:
    """One frame of an input."""

    time_ns: int
    epoch: int
    payload: bytes


@dataclass(frozen=True)
class Out:
    """One frame of the output: its time, its epoch, its bytes."""

    time_ns: int
    epoch: int
    payload: bytes


Stream = Sequence[Given | None]


def read(ring: Ring) -> list[Out | None]:
    """All that a ring holds, one entry for each number."""
    found: list[Out | None] = []
    while ring.base_seq + len(found) < ring.head:
        frame = ring.peek(ring.base_seq + len(found))
        assert frame is not None, "the output's ring is too small for the test"
        if frame.gap:
            found += [None] * frame.gap
        else:
            found.append(Out(frame.timestamp_ns, frame.epoch, bytes(frame.payload)))
    return found


def crc32c(data: bytes) -> int:
    """Bit by bit: the Castagnoli polynomial, reflected."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def partition(stream: Stream, offset: int, size: int, of: int, take: Sequence[int]) -> list[Given | None]:
    """Ours as they are, and "none here" for the others."""
    return [
        each if each is None or crc32c(each.payload[offset : offset + size]) % of in take else Given(each.time_ns, each.epoch, NONE)
        for each in stream
    ]  # fmt: skip


def single(stream: Stream) -> list[Out | None]:
    """One input passes as it is."""
    return [None if each is None else Out(each.time_ns, each.epoch, each.payload) for each in stream]


def row(which: int, seq: int, each: Given) -> Row:
    """The part of one frame."""
    if each.payload == NONE:
        return Row(which, ABSENT, 0, seq, each.time_ns, each.epoch)
    return Row(which, 0, len(each.payload), seq, each.time_ns, each.epoch, each.payload)


def sequence(streams: Sequence[Stream], partial: bool, every: Sequence[int]) -> list[Out | None]:
    """Frame n of each; of an input that takes every so many, its n-th."""
    sampled = [stream[::step] for stream, step in zip(streams, every, strict=True)]
    found: list[Out | None] = []
    for number, together in enumerate(zip(*sampled, strict=False)):
        there = [each for each in together if each is not None]
        if not there or (len(there) < len(together) and not partial):
            found.append(None)
            continue
        time_ns, epoch = max(each.time_ns for each in there), max(each.epoch for each in there)
        if all(each is not None and each.payload == NONE for each in together):
            found.append(Out(time_ns, epoch, NONE))
            continue
        rows = [
            Row(which, LOST, every[which], number * every[which], 0, 0) if each is None else row(which, number * every[which], each)
            for which, each in enumerate(together)
        ]  # fmt: skip
        found.append(Out(time_ns, epoch, dumped(rows)))
    return found


def union(streams: Sequence[Stream]) -> list[Out | None]:
    """The first that has a frame, as far as all are known."""
    found: list[Out | None] = []
    for together in zip(*streams, strict=False):
        real = [each for each in together if each is not None and each.payload != NONE]
        chosen = real[0] if real else None if None in together else together[0]
        found.append(None if chosen is None else Out(chosen.time_ns, chosen.epoch, chosen.payload))
    return found


@dataclass(frozen=True)
class Told:
    """One part of a joined output, without the inlet's own marks."""

    input: int
    seq: int
    time_ns: int
    epoch: int
    payload: bytes
    lost: int
    late: bool


def told(out: Out) -> list[Told]:
    """The parts of one joined output."""
    return [
        Told(
            each.input, each.seq, each.timestamp_ns, each.epoch, bytes(each.payload), each.length if each.flags & LOST else 0,
            bool(each.flags & LATE),
        )
        for each in loaded(out.payload).rows
        if not each.flags & NEXT
    ]  # fmt: skip


def flat(which: int, stream: Stream) -> list[list[Told]]:
    """A stream's frames, each behind the gap before it; those that say "none here" with their gap only."""
    found, lost = [], 0
    for seq, each in enumerate(stream):
        if each is None:
            lost += 1
            continue
        gap = [Told(which, seq - lost, 0, 0, b"", lost, False)] if lost else []
        mine = [] if each.payload == NONE else [Told(which, seq, each.time_ns, each.epoch, each.payload, 0, False)]
        found.append(gap + mine)
        lost = 0
    return found


def order(streams: Sequence[Stream]) -> list[list[Told]]:
    """By the least first frame, until one input has nothing more to show."""
    queues = [[each for each in stream if each is not None] for stream in streams]
    spelled = [flat(which, stream) for which, stream in enumerate(streams)]
    found, at = [], [0] * len(streams)
    while all(at[which] < len(queue) for which, queue in enumerate(queues)):
        least = min(range(len(queues)), key=lambda which: (queues[which][at[which]].time_ns, which))
        if parts := spelled[least][at[least]]:
            found.append(parts)
        at[least] += 1
    return found


def by_time(streams: Sequence[Stream], width_ns: int) -> dict[int, list[Told]]:
    """The buckets that all inputs have passed, for times that do not go back."""
    spelled = [flat(which, stream) for which, stream in enumerate(streams)]
    times = [[each.time_ns for each in stream if each is not None] for stream in streams]
    if not all(times):
        return {}
    closed = min(each[-1] // width_ns for each in times)
    found: dict[int, list[Told]] = {}
    for parts, moments in zip(spelled, times, strict=True):
        for part, moment in zip(parts, moments, strict=True):
            if moment // width_ns < closed and part:
                found.setdefault(moment // width_ns, []).extend(part)
    return dict(sorted(found.items()))


def noise(seed: int, size: int) -> bytes:
    """Bytes that look like nothing in particular, the same each time."""
    return b"".join(
        zlib.crc32(bytes([seed & 255, number & 255, seed >> 8 & 255])).to_bytes(4, "little")
        for number in range(-(-size // 4))
    )[:size]
