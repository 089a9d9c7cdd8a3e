"""The owner table in a ring's header: proposed by the agent, applied by the merge, withdrawn only before that."""

import mmap
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from halftrack_dataplane import ring as fast
from halftrack_dataplane.frames import Cut, RingError, StaleCut
from tests.ring.ring_peers import peer


@pytest.fixture
def ring(rings: Any, path: Path) -> Any:
    return rings.Ring.create(path, capacity_bytes=4096, slots=8)


# invariant: S1
def test_a_cut_goes_from_proposed_to_applied_once(rings: Any, ring: Any, path: Path) -> None:
    ring.propose_cut(0, 3, None, "blue")
    ring.propose_cut(1, 4, 700, "green")
    merge = rings.Ring.open(path)
    assert merge.cuts() == (Cut(0, 3, None, None, "blue"), Cut(1, 4, 700, None, "green"))
    merge.apply_cut(0, 12)
    merge.apply_cut(1, 700)
    merge.apply_cut(1, 700)  # a merge that died after applying does so again
    assert ring.cuts() == (Cut(0, 3, None, 12, "blue"), Cut(1, 4, 700, 700, "green"))
    with pytest.raises(StaleCut, match="700"):
        merge.apply_cut(1, 701)
    with pytest.raises(StaleCut, match="in force"):
        merge.apply_cut(0, 12)
    with pytest.raises(StaleCut, match="never proposed"):
        merge.apply_cut(9, 1)
    assert not ring.withdraw_cut(1)


# invariant: S1
def test_epochs_never_come_again(ring: Any) -> None:
    ring.propose_cut(5, 1, 10, "green")
    for epoch in (5, 4, 0):
        with pytest.raises(StaleCut, match="not above 5"):
            ring.propose_cut(epoch, 1, 10, "green")
    assert ring.withdraw_cut(5)
    assert ring.withdraw_cut(5)
    assert not ring.withdraw_cut(6)
    assert ring.cuts() == ()
    with pytest.raises(StaleCut, match="withdrawn"):
        ring.apply_cut(5, 10)
    with pytest.raises(StaleCut, match="not above 5"):
        ring.propose_cut(5, 1, 20, "green")
    ring.propose_cut(6, 1, 20, "green")
    assert [cut.epoch for cut in ring.cuts()] == [6]


def test_labels_are_kept_whole_or_refused(ring: Any) -> None:
    ring.propose_cut(1, 1, 0, "ü" * 43)
    assert ring.cuts()[0].label == "ü" * 43
    assert ring.cuts()[0].fence == 0
    with pytest.raises(ValueError, match="at most 87 bytes"):
        ring.propose_cut(2, 1, 0, "ü" * 44)
    assert len(ring.cuts()) == 1


def test_the_table_recycles_the_oldest_settled_rows_and_never_a_pending_one(ring: Any) -> None:
    ring.propose_cut(0, 0, None, "pending")
    for epoch in range(1, 200):
        ring.propose_cut(epoch, 0, None, "settled")
        if epoch % 2:
            ring.apply_cut(epoch, epoch)
        else:
            assert ring.withdraw_cut(epoch)
    assert ring.cuts()[0].label == "pending"
    assert ring.cuts()[-1].applied_at == 199
    for epoch in range(200, 262):
        ring.propose_cut(epoch, 0, None, "pending")
    assert len(ring.cuts()) == 64
    ring.withdraw_cut(261)
    with pytest.raises(RingError, match="all 64 rows"):
        # Epoch 261 is withdrawn, but its row is what refuses 261 from now on; 199 stayed for the same reason until 200.
        [ring.propose_cut(epoch, 0, None, "pending") for epoch in range(262, 270)]
    assert 199 not in [cut.epoch for cut in ring.cuts()]


# invariant: S1
def test_apply_and_withdraw_never_both_win(rings: Any, ring: Any, path: Path) -> None:
    merge, start, applied = rings.Ring.open(path), threading.Barrier(2), []

    def apply() -> None:
        for epoch in range(400):
            start.wait()
            try:
                merge.apply_cut(epoch, epoch)
                applied.append(epoch)
            except StaleCut:
                pass
            start.wait()

    thread = threading.Thread(target=apply, daemon=True)
    thread.start()
    for epoch in range(400):
        ring.propose_cut(epoch, 0, None, "green")
        start.wait()
        withdrawn = ring.withdraw_cut(epoch)
        start.wait()
        assert withdrawn != (epoch in applied)
        assert any(cut.epoch == epoch for cut in ring.cuts()) != withdrawn
    thread.join(10)


# invariant: S1
def test_apply_and_withdraw_never_both_win_between_processes(path: Path) -> None:
    """Two processes side by side, each trying at a slightly different moment of the other's call each time."""
    rounds, draw = 1500, random.Random(2026)
    ring = fast.Ring.create(path, capacity_bytes=4096, slots=8)
    board = mmap.mmap(-1, 8 + rounds)  # whose turn it is, and what became of each
    turn = memoryview(board)[:8].cast("Q")

    def merge(_: int) -> None:
        held = fast.Ring.open(path)
        for epoch in range(rounds):
            while turn[0] <= epoch:
                pass
            try:
                held.apply_cut(epoch, epoch)
                board[8 + epoch] = 1
            except StaleCut:
                board[8 + epoch] = 2

    applied = 0
    with peer(merge):
        for epoch in range(rounds):
            ring.propose_cut(epoch, 0, None, "green")
            turn[0] = epoch + 1
            for _ in range(draw.randrange(400)):
                pass
            withdrawn = ring.withdraw_cut(epoch)
            while not board[8 + epoch]:
                os.sched_yield()
            assert withdrawn == (board[8 + epoch] == 2)
            applied += not withdrawn
    assert 0 < applied < rounds
