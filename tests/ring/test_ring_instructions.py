"""Death between any two instructions: of a write, a reclaim, a gap, a join, a proposal. See single_step.py."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane.frames import Cut
from halftrack_dataplane.ring import Ring
from tests.ring.ring_peers import payload
from tests.ring.single_step import moments

SMALL = {"capacity_bytes": 4096, "slots": 8}


def each(path: Path, contents: list[bytes], check: Callable[[Ring], Any]) -> list[Any]:
    """Opens every moment as a ring of its own."""
    results = []
    for number, content in enumerate(contents):
        copy = path.with_name(f"moment-{number}")
        copy.write_bytes(content)
        with Ring.open(copy) as ring:
            results.append(check(ring))
        copy.unlink()
    return results


def writes(path: Path, sizes: list[int]) -> Callable[[], Callable[[], object]]:
    """Prepares a writer whose every act writes frames of these sizes (0: a gap of three, negative: by a claim)."""

    def prepare() -> Callable[[], object]:
        ring = Ring.open(path)
        writer = ring.writer()

        def act() -> None:
            for size in sizes:
                if size == 0:
                    writer.gap(3)
                elif size > 0:
                    writer.write(payload(ring.head, size), epoch=ring.head)
                else:
                    writer.claim(len(payload(ring.head, -size)))[:] = payload(ring.head, -size)
                    writer.commit(epoch=ring.head)

        return act

    return prepare


def check_then_resume(ring: Ring, sizes: dict[int, int]) -> int:
    """Everything retained is whole and consecutive; a new writer goes on from there. Returns the head it found."""
    found, writer = ring.head, ring.writer(full="overwrite")
    reader = ring.reader(start="oldest")
    assert reader.cursor == ring.tail
    while (frame := reader.read(0)) is not None:
        if not frame.gap:
            assert frame.payload == payload(frame.seq, sizes[frame.seq])
            assert frame.epoch == frame.seq
    assert reader.cursor == found
    for number in range(20):
        assert writer.write(payload(number)) == found + number
        assert reader.read(0).payload == payload(number)
    assert (reader.missed, reader.overruns) == (0, 0)
    assert ring.stats().evicted == 0
    return found


# invariants: S1, S2, D1
@pytest.mark.parametrize(
    "sizes", [[200], [1900, 700], [0, 50], [-600, 0, 900]], ids=["full", "wrapping", "gap", "claim"]
)
def test_a_writer_may_die_at_any_instruction(path: Path, sizes: list[int]) -> None:
    ring, expected = Ring.create(path, **SMALL), {}
    with ring.writer() as writer:
        while ring.head < 20:
            expected[ring.head] = 300
            writer.write(payload(ring.head, 300), epoch=ring.head)
    seq = ring.head
    for size in sizes * 2:
        expected[seq] = abs(size)
        seq += 1 if size else 3
    lossy = ring.reader(policy="lossy")
    contents = moments(path, writes(path, sizes))
    lossy.close()
    heads = each(path, contents, lambda moment: check_then_resume(moment, expected))
    assert heads == sorted(heads)
    assert len(set(heads)) == len(sizes) + 1  # each record became visible at one instruction
    assert len(contents) > 8 * len(sizes)


# invariant: S2
@pytest.mark.parametrize("policy", ["lossless", "lossy"])
def test_a_reader_may_die_at_any_instruction_of_joining_reading_and_leaving(path: Path, policy: Any) -> None:
    ring = Ring.create(path, **SMALL)
    with ring.writer() as writer:
        for seq in range(8):
            writer.write(payload(seq))

    def prepare() -> Callable[[], object]:
        held = Ring.open(path)

        def act() -> None:
            with held.reader(policy=policy, name="doomed", start="oldest") as reader:
                reader.read(0)

        return act

    def check(moment: Ring) -> int:
        gone = moment.reap()
        assert all(reader.name == "doomed" and reader.pid > 0 for reader in gone)
        assert moment.stats().readers == ()
        readers = [moment.reader(start="oldest") for _ in range(64)]  # no slot is lost
        for reader in readers:
            reader.close()
        with moment.writer() as again:
            for _ in range(20):
                again.write(b"x", timeout_s=0)  # nothing gates it
        return len(gone)

    gone = each(path, moments(path, prepare), check)
    assert len(gone) > 6
    assert sum(gone) >= 2


# invariant: S1
def test_an_agent_or_a_merge_may_die_at_any_instruction_of_a_cut(path: Path) -> None:
    ring = Ring.create(path, **SMALL)

    def prepare() -> Callable[[], object]:
        held = Ring.open(path)
        epochs = iter(range(1, 9))

        def act() -> None:
            epoch = next(epochs)
            held.propose_cut(epoch, 5, 700, "green")
            held.apply_cut(epoch, 700)
            epoch = next(epochs)
            held.propose_cut(epoch, 6, None, "blue")
            held.withdraw_cut(epoch)

        return act

    applied, proposed = Cut(1, 5, 700, 700, "green"), Cut(3, 5, 700, None, "green")
    steps = [
        (applied,),
        (applied, proposed),
        (applied, Cut(3, 5, 700, 700, "green")),
        (applied, Cut(3, 5, 700, 700, "green"), Cut(4, 6, None, None, "blue")),
        (applied, Cut(3, 5, 700, 700, "green")),
    ]

    def check(moment: Ring) -> tuple[Cut, ...]:
        found = moment.cuts()
        moment.propose_cut(9, 1, None, "next")  # whatever state it was left in, the agent that follows can go on
        moment.apply_cut(9, 1)
        assert moment.cuts()[-1] == Cut(9, 1, None, 1, "next")
        return found

    seen = each(path, moments(path, prepare), check)
    assert [cuts for before, cuts in zip([None, *seen], seen, strict=False) if cuts != before] == steps
    ring.close()
    assert os.path.exists(path)
