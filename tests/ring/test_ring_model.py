"""The fast ring and the C API against the reference ring: any sequence of calls gives the same results, errors, counts and bytes."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from halftrack_dataplane import reference
from halftrack_dataplane import ring as fast
from halftrack_dataplane.frames import Batch, Frame, RingError, RingFull
from tests.ring import c_ring
from tests.ring.ring_peers import payload

SIZES = st.one_of(st.integers(0, 200), st.integers(0, 2060))
EVEN = 48  # bytes of a frame in an even ring: some fit a record of a 64th of the ring, and none is a multiple of the alignment
Both = tuple[Any, Any]


def outcome(call: Callable[[], Any]) -> Any:
    """A result that can be compared: frames by content, errors by type, objects not at all."""
    try:
        result = call()
    except (RingError, ValueError, OverflowError) as error:
        return type(error)
    if isinstance(result, Frame):
        return (result.seq, result.epoch, result.timestamp_ns, bytes(result.payload), result.gap)
    if isinstance(result, Batch):
        payload = (
            result.payload if isinstance(result.payload, list) or result.payload is None else bytes(result.payload)
        )
        return (result.seq, result.count, result.epoch, result.timestamp_ns, result.frame_bytes, payload, result.gap)
    return len(result) if isinstance(result, memoryview) else result


class TwoRings(RuleBasedStateMachine):
    """Every rule is done to both."""

    readers = Bundle("readers")
    module: Any = fast
    options: ClassVar[dict[str, Any]] = {"capacity_bytes": 4096}
    even = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(
            tempfile.mkdtemp(prefix="halftrack-test-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        )
        self.path = self.folder / "ring"
        self.rings: Both = tuple(
            module.Ring.create(self.path, slots=8, base_seq=5, frame_bytes=self.even, **self.options)
            for module in (self.module, reference)
        )
        self.writers: Both = tuple(ring.writer(full="block") for ring in self.rings)
        self.others: list[Both] = []  # further writers, of a ring that is shared

    def same(self, call: Callable[..., Any], *pairs: Both) -> Any:
        ours, theirs = (outcome(lambda side=side: call(*(pair[side] for pair in pairs))) for side in (0, 1))
        assert ours == theirs
        return ours

    @rule(size=SIZES, epoch=st.integers(0, 3))
    def write(self, size: int, epoch: int) -> None:
        data = payload(self.rings[1].head)[:8] + bytes(size)
        if self.even and size:  # a wrong length now and then
            data = data[:8].ljust(self.even, b".")
        self.same(lambda writer: writer.write(data, epoch=epoch, timestamp_ns=size % 3, timeout_s=0), self.writers)

    @rule(
        count=st.integers(0, 40),
        size=st.integers(0, 60),
        odd=st.integers(0, 80),
        epoch=st.integers(0, 2),
        array=st.booleans(),
    )
    def write_many(self, count: int, size: int, odd: int, epoch: int, array: bool) -> None:
        frames = [bytes([at % 251]) * (self.even or size) for at in range(count)]
        if odd < count and not array:
            frames[odd] += b"!"  # of another length than the others
        rows = (
            memoryview(b"".join(frames)).cast("B", (count, len(frames[0]))) if array and count and frames[0] else None
        )

        def write(writer: Any) -> Any:
            try:
                if rows is not None:
                    return writer.write_array(rows, epoch=epoch, timeout_s=0)
                return writer.write_many(frames, epoch=epoch, timeout_s=0)
            except RingFull as error:
                return ("full", error.written)

        self.same(write, self.writers)

    @rule(size=SIZES, frames=st.integers(1, 4))
    def claim(self, size: int, frames: int) -> None:
        size = self.even * frames if self.even and size else size
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

    @rule(full=st.sampled_from(["block", "drop", "overwrite"]), spare=st.one_of(st.none(), st.integers(0, 2)))
    def another_writer(self, full: Any, spare: int | None) -> None:
        marks = {"full": full, "spare": spare if full == "overwrite" else None}
        if self.options.get("shared"):
            self.others.append(self.writers)
            if len(self.others) > 2:
                for writer in self.others.pop(0):
                    writer.close()
        else:
            self.same(lambda ring: ring.writer(), self.rings)
            for writer in self.writers:
                writer.close()
        self.writers = tuple(ring.writer(**marks) for ring in self.rings)

    @rule()
    def the_other_writer(self) -> None:
        if self.others:
            self.others.append(self.writers)
            self.writers = self.others.pop(0)

    @rule(
        target=readers,
        policy=st.sampled_from(["lossless", "lossy", "sample"]),
        start=st.one_of(st.sampled_from(["now", "oldest"]), st.integers(-20, 5)),
        every=st.integers(1, 4),
        latest=st.booleans(),
        verify=st.booleans(),
        priority=st.integers(0, 3),
    )
    def join(self, policy: Any, start: Any, every: int, latest: bool, verify: bool, priority: int) -> Any:
        if isinstance(start, int):
            start = max(0, self.rings[1].head + start)
        if len(self.rings[1].stats().readers) > 5:
            return multiple()
        marks: dict[str, Any] = {"policy": policy, "start": start, "verify": verify, "priority": priority}
        if policy == "sample" and self.module is not c_ring:
            marks |= {"every": every, "latest": latest}
        elif policy == "sample":
            marks["policy"] = "lossy"
        return tuple(ring.reader(**marks) for ring in self.rings)

    @rule(reader=readers, times=st.integers(1, 12))
    def read(self, reader: Both, times: int) -> None:
        for _ in range(times):
            self.same(lambda r: r.read(0), reader)

    @rule(reader=readers, limit=st.integers(0, 20))
    def read_many(self, reader: Both, limit: int) -> None:
        self.same(lambda r: r.read_many(limit, 0), reader)

    @rule(reader=readers, room=st.integers(0, 600))
    def read_into(self, reader: Both, room: int) -> None:
        def read(r: Any) -> Any:
            into = bytearray(room)
            return outcome(lambda: r.read_into(into, 0)), bytes(into)

        self.same(read, reader)

    @rule(reader=readers, limit=st.integers(0, 20))
    def view_many(self, reader: Both, limit: int) -> None:
        self.same(lambda r: r.view_many(limit, 0), reader)

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

    @rule(at=st.integers(-1, 4))
    def seq_at(self, at: int) -> None:
        self.same(lambda ring: ring.seq_at(at) if self.ordered() else None, self.rings)

    def ordered(self) -> bool:
        """Only times that never go back can be searched."""
        stamps = [record.timestamp_ns for record in self.rings[1]._state.records]
        return stamps == sorted(stamps)

    @rule(act=st.sampled_from(["propose", "apply", "withdraw"]), epoch=st.integers(0, 12), at=st.integers(0, 2))
    def cut(self, act: str, epoch: int, at: int) -> None:
        calls = {
            "propose": lambda ring: ring.propose_cut(epoch, at, at or None, "label"),
            "apply": lambda ring: ring.apply_cut(epoch, at),
            "withdraw": lambda ring: ring.withdraw_cut(epoch),
        }
        if self.module is not c_ring:
            self.same(calls[act], self.rings)

    @invariant()
    def look_the_same(self) -> None:
        self.same(lambda ring: (ring.stats(), ring.head, ring.tail, ring.cuts()), self.rings)

    def teardown(self) -> None:
        reference.forget(self.path)
        shutil.rmtree(self.folder)


class TwoEvenRings(TwoRings):
    """Frames of one length: records that grow."""

    even = EVEN
    options: ClassVar[dict[str, Any]] = {"capacity_bytes": 16384}


class TwoCheckedRings(TwoRings):
    """Each record with a checksum: none grows."""

    even = EVEN
    options: ClassVar[dict[str, Any]] = {"capacity_bytes": 16384, "checked": True}


class TwoSharedRings(TwoRings):
    """Up to three writers, whose claims are turns; and what is older than a nanosecond goes."""

    options: ClassVar[dict[str, Any]] = {"capacity_bytes": 4096, "shared": True, "retain_s": 1e-9}


class TwoSharedEvenRings(TwoRings):
    """Records that frames of several writers share."""

    even = EVEN
    options: ClassVar[dict[str, Any]] = {"capacity_bytes": 16384, "shared": True}


class CRings(TwoRings):
    module = c_ring


class SharedCRings(TwoSharedEvenRings):
    module = c_ring


class EvenCRings(TwoEvenRings):
    module = c_ring


# invariants: S1, S2
TestTwoRings = TwoRings.TestCase
TestTwoEvenRings = TwoEvenRings.TestCase
TestTwoCheckedRings = TwoCheckedRings.TestCase
TestTwoSharedRings = TwoSharedRings.TestCase
TestTwoSharedEvenRings = TwoSharedEvenRings.TestCase
TestCRings = CRings.TestCase
TestSharedCRings = SharedCRings.TestCase
TestEvenCRings = EvenCRings.TestCase
for case, examples in (
    (TestTwoRings, 100),
    (TestTwoEvenRings, 100),
    (TestTwoCheckedRings, 40),
    (TestTwoSharedRings, 80),
    (TestTwoSharedEvenRings, 80),
    (TestCRings, 40),
    (TestSharedCRings, 40),
    (TestEvenCRings, 40),
):
    case.settings = settings(max_examples=examples, stateful_step_count=60, deadline=None)
