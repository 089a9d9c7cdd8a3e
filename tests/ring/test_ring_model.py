"""The fast ring against the reference ring: any sequence of calls gives the same results, errors, counts and bytes."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from halftrack_dataplane import reference
from halftrack_dataplane import ring as fast
from halftrack_dataplane.frames import Frame, RingError
from tests.ring.ring_peers import payload

SIZES = st.one_of(st.integers(0, 200), st.integers(0, 2060))
Both = tuple[Any, Any]


def outcome(call: Callable[[], Any]) -> Any:
    """A result that can be compared: frames by content, errors by type, objects not at all."""
    try:
        result = call()
    except (RingError, ValueError, OverflowError) as error:
        return type(error)
    if isinstance(result, Frame):
        return (result.seq, result.epoch, result.timestamp_ns, bytes(result.payload), result.gap)
    return len(result) if isinstance(result, memoryview) else result


class TwoRings(RuleBasedStateMachine):
    """Every rule is done to both."""

    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(
            tempfile.mkdtemp(prefix="halftrack-test-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        self.path = self.folder / "ring"
        self.rings: Both = tuple(
            module.Ring.create(self.path, capacity_bytes=4096, slots=8, base_seq=5) for module in (fast, reference)
        )
        self.writers: Both = tuple(ring.writer(full="block") for ring in self.rings)

    def same(self, call: Callable[..., Any], *pairs: Both) -> Any:
        ours, theirs = (outcome(lambda side=side: call(*(pair[side] for pair in pairs))) for side in (0, 1))
        assert ours == theirs
        return ours

    @rule(size=SIZES, epoch=st.integers(0, 3))
    def write(self, size: int, epoch: int) -> None:
        data = payload(self.rings[1].head)[:8] + bytes(size)
        self.same(lambda writer: writer.write(data, epoch=epoch, timestamp_ns=size, timeout_s=0), self.writers)

    @rule(size=SIZES)
    def claim(self, size: int) -> None:
        views: list[memoryview] = []

        def claim(writer: Any) -> int:
            views.append(writer.claim(size, timeout_s=0))
            return len(views[-1])

        if isinstance(self.same(claim, self.writers), int):
            for view in views:
                view[:] = bytes([size % 251]) * size

    @rule(epoch=st.integers(0, 3))
    def commit(self, epoch: int) -> None:
        self.same(lambda writer: writer.commit(epoch=epoch), self.writers)

    @rule()
    def abort(self) -> None:
        self.same(lambda writer: writer.abort(), self.writers)

    @rule(count=st.integers(0, 30))
    def gap(self, count: int) -> None:
        self.same(lambda writer: writer.gap(count, timeout_s=0), self.writers)

    @rule(ahead=st.integers(-2, 30))
    def start_at(self, ahead: int) -> None:
        seq = self.rings[1].head + ahead
        self.same(lambda writer: writer.start_at(seq), self.writers)

    @rule(full=st.sampled_from(["block", "drop", "overwrite"]))
    def another_writer(self, full: Any) -> None:
        self.same(lambda ring: ring.writer(), self.rings)
        for writer in self.writers:
            writer.close()
        self.writers = tuple(ring.writer(full=full) for ring in self.rings)

    @rule(
        target=readers,
        policy=st.sampled_from(["lossless", "lossy"]),
        start=st.one_of(st.sampled_from(["now", "oldest"]), st.integers(-20, 5)),
    )
    def join(self, policy: Any, start: Any) -> Any:
        if isinstance(start, int):
            start = max(0, self.rings[1].head + start)
        if len(self.rings[1].stats().readers) > 5:
            return multiple()
        return tuple(ring.reader(policy=policy, start=start) for ring in self.rings)

    @rule(reader=readers, times=st.integers(1, 12))
    def read(self, reader: Both, times: int) -> None:
        for _ in range(times):
            self.same(lambda r: r.read(0), reader)

    @rule(reader=readers)
    def view(self, reader: Both) -> None:
        self.same(lambda r: r.view(0), reader)

    @rule(reader=readers)
    def release(self, reader: Both) -> None:
        self.same(lambda r: r.release(), reader)

    @rule(reader=readers, back=st.integers(-3, 20))
    def seek(self, reader: Both, back: int) -> None:
        seq = max(0, self.rings[1].head - back)
        self.same(lambda r: r.seek(seq), reader)

    @rule(reader=readers)
    def counts(self, reader: Both) -> None:
        self.same(lambda r: (r.slot, r.cursor, r.overruns, r.missed), reader)

    @rule(slot=st.integers(0, 5))
    def evict(self, slot: int) -> None:
        self.same(lambda ring: ring.evict(slot), self.rings)

    @rule(reader=consumes(readers))
    def close(self, reader: Both) -> None:
        self.same(lambda r: r.close(), reader)

    @rule(back=st.integers(0, 20))
    def peek(self, back: int) -> None:
        seq = max(0, self.rings[1].head - back)
        self.same(lambda ring: ring.peek(seq), self.rings)

    @rule(act=st.sampled_from(["propose", "apply", "withdraw"]), epoch=st.integers(0, 12), at=st.integers(0, 2))
    def cut(self, act: str, epoch: int, at: int) -> None:
        calls = {
            "propose": lambda ring: ring.propose_cut(epoch, at, at or None, "label"),
            "apply": lambda ring: ring.apply_cut(epoch, at),
            "withdraw": lambda ring: ring.withdraw_cut(epoch),
        }
        self.same(calls[act], self.rings)

    @invariant()
    def look_the_same(self) -> None:
        self.same(lambda ring: (ring.stats(), ring.head, ring.tail, ring.cuts()), self.rings)

    def teardown(self) -> None:
        reference.forget(self.path)
        shutil.rmtree(self.folder)


# invariants: S1, S2
TestTwoRings = TwoRings.TestCase
TestTwoRings.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
