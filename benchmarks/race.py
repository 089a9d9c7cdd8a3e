"""Who is timed against whom, and how: sides as processes, rounds that alternate, medians.

Owns the clock, the processes and the order of rounds. Never knows what is carried: a side is a generator that gets ready up to its
first `yield`, carries up to its second, where it may give a figure of its own, and then keeps its things until all are done. What it finds
wrong it raises as Wrong.
"""

import contextlib
import os
import select
import signal
import statistics
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

PATIENCE_S = 20  # for one side of one round; nothing here may hang
Side = Callable[[], Iterator[float | None]]
Measure = Callable[[], float]
_MOMENTS = struct.Struct("<ddd")


class Wrong(Exception):  # noqa: N818 - it is a finding, and the word that is printed
    """A carrier has lost, repeated or reordered a frame, or changed its bytes."""


class Missing(Exception):  # noqa: N818 - the same
    """A peer is not installed here."""


@dataclass(frozen=True)
class Seen:
    """What one side saw of the clock, which is the machine's and the same for all."""

    began: float
    ended: float
    figure: float


def timed(sides: Sequence[Side], *, pinned: bool = False) -> float:
    """Seconds from the first side's begin (the writer's) to the last end, each side a process of its own.

    `pinned`: side n stays on processor n, where there are as many. For sides of one thread each.
    """
    moments = seen(sides, pinned=pinned)
    return max(each.ended for each in moments) - moments[0].began


def seen(sides: Sequence[Side], *, pinned: bool = False) -> list[Seen]:
    """Runs the sides and returns what each saw; Wrong if any of them failed."""
    sys.stdout.flush()
    processors = sorted(os.sched_getaffinity(0))
    wires = [(os.pipe(), os.pipe()) for _ in sides]
    children = []
    for number, (side, (up, down)) in enumerate(zip(sides, wires, strict=True)):
        child = os.fork()
        if child == 0:
            _close_all_but((up[1], down[0]), wires)
            _live(side, processors[number] if pinned and len(processors) >= len(sides) else None, up[1], down[0])
        children.append(child)
    for up, down in wires:  # a side that ends must be seen to have ended
        os.close(up[1])
        os.close(down[0])
    ups, downs = [up[0] for up, _ in wires], [down[1] for _, down in wires]
    try:
        _all_say(ups, 1)
        _tell(downs)
        moments = _all_say(ups, _MOMENTS.size)
        _tell(downs)
    except Wrong:
        for child in children:
            os.kill(child, signal.SIGKILL)
        raise
    finally:
        statuses = [os.waitpid(child, 0)[1] for child in children]
        for wire in ups + downs:
            os.close(wire)
    if any(statuses):
        raise Wrong("a side could not end well; its reason is above")
    return [Seen(*_MOMENTS.unpack(moment)) for moment in moments]


def _close_all_but(own: tuple[int, int], wires: Sequence[tuple[tuple[int, int], tuple[int, int]]]) -> None:
    """In a child: whoever holds another side's wire hides that side's end from us all."""
    for up, down in wires:
        for end in {*up, *down} - set(own):
            os.close(end)


def _all_say(wires: list[int], size: int) -> list[bytes]:
    """What each side says, of `size` bytes; Wrong as soon as one ends without."""
    said: dict[int, bytes] = {}
    while len(said) < len(wires):
        for wire in select.select([wire for wire in wires if wire not in said], [], [])[0]:
            said[wire] = os.read(wire, size)
            if not said[wire]:
                raise Wrong("a side has failed; its reason is above")
    return [said[wire] for wire in wires]


def _tell(wires: list[int]) -> None:
    for wire in wires:
        with contextlib.suppress(BrokenPipeError):  # it has ended, and says why itself
            os.write(wire, b".")


def _live(side: Side, processor: int | None, up: int, down: int) -> None:
    """One side's whole life, in a forked child."""
    status = 1
    try:
        signal.alarm(PATIENCE_S)
        if processor is not None:
            os.sched_setaffinity(0, {processor})
        steps = side()
        next(steps)
        os.write(up, b".")
        os.read(down, 1)
        began = time.perf_counter()
        figure = next(steps, None)
        os.write(up, _MOMENTS.pack(began, time.perf_counter(), figure or 0.0))
        os.read(down, 1)
        steps.close()  # type: ignore[attr-defined]
        status = 0
    except BaseException as error:  # noqa: BLE001 - a forked child has nobody else to tell
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def medians(contenders: Mapping[str, Measure], rounds: int) -> tuple[dict[str, float | None], list[str]]:
    """The median of each contender, all of them once a round; None: missing; 0: wrong. With the reasons for these two."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    gone: dict[str, float | None] = {}
    reasons = []
    for number in range(rounds):
        for name, measure in contenders.items() if number % 2 == 0 else reversed(contenders.items()):
            if name in gone:
                continue
            try:
                figures[name].append(measure())
            except Missing as why:
                gone[name] = None
                reasons.append(f"{name} is missing: {why}")
            except Wrong as why:
                gone[name] = 0.0
                reasons.append(f"{name} is wrong: {why}")
    return {name: gone[name] if name in gone else statistics.median(got) for name, got in figures.items()}, reasons
