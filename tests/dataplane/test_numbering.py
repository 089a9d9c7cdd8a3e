"""Numbers that outlive their ring: whatever is given before a power cut is given by nobody after it, unless it is the very same frames again."""

import errno
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane import numbering, source
from halftrack_dataplane.beginning import begins_at
from halftrack_dataplane.joining import Inlet
from halftrack_dataplane.numbering import Numbering, others_of, taken
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.runspec import InletInput, RunSpec
from halftrack_dataplane.runtime import Stop
from halftrack_dataplane.seam import Seam

SLOT = 4096


class Clock:
    """Seconds, by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


@contextmanager
def kept() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="halftrack-test-") as folder:
        yield Path(folder) / "adc"


lives = st.lists(
    st.tuples(st.integers(1, 3000), st.floats(0.0, 30.0), st.sampled_from(["cut", "torn", "end"])), max_size=8
)


@given(lives=lives)
@settings(max_examples=100, deadline=None)
def test_no_number_is_given_twice_whatever_a_power_cut_leaves(lives: list[tuple[int, float, str]]) -> None:
    # invariant: S1 D1
    given_so_far = 0
    with kept() as path:
        for count, pause_s, ending in lives:
            clock = Clock()
            life = Numbering(str(path), now=clock)
            first = life.begin(None)
            assert first >= given_so_far
            for number in range(first, first + count):
                life.give(number)
                assert taken(path).end > number, "on the disk before it is given"
                clock.s += pause_s / count
            given_so_far = first + count
            if ending == "end":
                life.close()
                assert taken(path).end == given_so_far, "an orderly end passes nothing over"
            life._taking and life._taking.join()  # a power cut is no end of this process
            if ending == "torn":  # the next slot to be written is half written
                with path.open("r+b") as file:
                    file.seek((taken(path).turn + 1) % 2 * SLOT)
                    file.write(b"\xff" * 40)


@given(rate=st.sampled_from([10, 50, 10_000]), seconds=st.integers(60, 200))
@settings(max_examples=10, deadline=None)
def test_blocks_last_for_some_seconds_and_what_a_power_cut_passes_over_is_bounded(rate: int, seconds: int) -> None:
    with kept() as path:
        clock, syncs = Clock(), list[float]()
        life = Numbering(str(path), sync=lambda fd: (syncs.append(clock.s), os.fdatasync(fd))[1], now=clock)
        life.begin(None)
        number = 0
        for _ in range(seconds * 10):  # ten looks a second, as a capture has
            clock.s += 0.1
            for _ in range(max(rate // 10, 1)):
                assert life.left(number) >= 1
                number += 1
            life._taking and life._taking.join()
        least = max(numbering.LEAST, rate * numbering.BLOCK_S)
        assert taken(path).end - number <= 3 * least
        late = [at for at in syncs if at > seconds / 2]
        assert len(late) <= seconds / 2 / numbering.BLOCK_S * 3 + 2, "one a block, and no more"


@given(
    begins=st.lists(
        st.tuples(st.sampled_from([(0, 0), (0, 7), (500,), None]), st.integers(1, 500)), min_size=1, max_size=8
    )
)
@settings(max_examples=60, deadline=None)
def test_frames_that_are_made_again_of_the_same_inputs_have_the_same_numbers_and_no_others(
    begins: list[tuple[tuple[int, ...] | None, int]],
) -> None:
    # invariant: S1
    with kept() as path:
        last: tuple[tuple[int, ...] | None, int] | None = None
        end = 0
        for origin, count in begins:
            with Numbering(str(path)) as life:
                first = life.begin(origin)
                again = last is not None and origin is not None and origin == last[0]
                assert first == last[1] if again and last is not None else first >= end
                life.give(first + count - 1)
            last, end = (origin, first), max(end, first + count)


def test_numbers_of_the_other_members_count_too() -> None:
    with kept() as path:
        a, b = (path.with_name(f"pair@{member}") for member in "ab")
        for each in (a, b, path.with_name("other@a")):
            with Numbering(str(each)) as life:
                life.give(life.begin(None) + {a: 10, b: 700}.get(each, 9_000))
        assert others_of(str(a)) == [b]
        assert Numbering(str(a)).begin(None, others_of(str(a))) == 701
        assert others_of("") == []


def test_a_disk_that_refuses_or_does_not_answer_holds_nobody_up_for_long_and_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numbering, "WAIT_S", 0.05)
    with kept() as path:

        def refuses(_: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        life = Numbering(str(path), sync=refuses)
        assert life.begin(None) == 0
        for number in range(1000):
            life.give(number)
        assert "may be given twice after a power cut: Input/output error" in life.trouble
        assert life.left(1000) > 1
        answer = threading.Event()
        hangs = Numbering(str(path.with_name("other")), sync=lambda _: answer.wait() and None)
        waits = list[float]()
        join = threading.Thread.join
        monkeypatch.setattr(threading.Thread, "join", lambda self, s=None: (waits.append(s), join(self, s))[1])
        for number in range(1000):
            hangs.give(number)
        assert waits == [0.05], "once, and not for each frame"
        assert "does not answer" in hangs.trouble
        answer.set()
        hangs.close()


def test_a_ring_that_goes_on_is_left_as_it_is() -> None:
    with kept() as path, Ring.create(path.with_suffix(".ring"), capacity_bytes=1 << 16, slots=16) as ring:
        with Numbering(str(path)) as life:
            life.give(41)
        with ring.writer(name="w") as writer, Numbering(str(path), ring) as life:
            life.start(writer)
            assert (ring.head, ring.stats().gap_frames) == (42, 0), "what was before is no loss of this ring"
            writer.write(b"x")
            life.start(writer)
            assert ring.head == 43
            life.give(43 + 1024)  # and then it is asked to stop
        assert taken(path).end == 43, "what the ring does not have was not given"


# ------------------------------------------------------------------------------------------------------------------ rings


class DeathError(Exception):
    """It has begun its ring, and put nothing into it."""


class Dying:
    """A seam that is never written."""

    def __init__(self, seam: Seam) -> None:
        self._seam = seam

    def __getattr__(self, name: str) -> object:
        if name in ("ordered", "placed"):
            raise DeathError
        return getattr(self._seam, name)


def boot(folder: Path, begins: tuple[int, ...], counts: list[int], join: str, dies: str) -> list[tuple[int, bytes]]:
    """What an inlet puts out whose inputs begin there, on rings that are made anew. It is there before them."""
    width = {"join_width_ns": 10} if join == "time" else {}
    inputs = tuple(InletInput(f"in{which}", str(folder / f"in{which}")) for which in range(len(begins)))
    spec = RunSpec(
        "inlet",
        "inlet",
        output_ring=str(folder / "out"),
        inputs=inputs,
        join=join,
        numbers_path=str(folder / "n"),
        **width,
    )
    rings = [Ring.create(each.ring, capacity_bytes=1 << 18, slots=1024) for each in inputs]
    output = Ring.create(spec.output_ring, capacity_bytes=1 << 18, slots=1024)
    writer = output.writer()
    inlet = Inlet(spec, rings, output, writer)
    try:
        for which, (ring, begin) in enumerate(zip(rings, begins, strict=True)):
            with ring.writer() as feeding:
                feeding.start_at(begin)
                for seq in range(begin, begin + max(counts)):
                    feeding.write(b"%d %d" % (which, seq), timestamp_ns=seq - begin)
        if dies == "with its first number":
            inlet._now.seam = Dying(inlet._now.seam)  # type: ignore[assignment]
        for number in range(200):
            try:
                inlet.step(0.0, 0)
                died = dies == "later" and number == 3
            except DeathError:
                died = True
            if died:
                inlet.close()
                writer.close()
                writer = output.writer()
                inlet = Inlet(spec, rings, output, writer)
        with output.reader(start="oldest") as reader:
            frames = list(iter(lambda: reader.read(0), None))
        return [(frame.seq, bytes(frame.payload)) for frame in frames if not frame.gap]
    finally:
        inlet._numbering._kept = False  # a power cut gives nothing back
        inlet.close()
        writer.close()
        for each in (*rings, output):
            each.close()
            Path(each.path).unlink()


@given(
    boots=st.lists(st.sampled_from([(0, 0), (0, 40), (700, 40), (900, 80)]), min_size=1, max_size=5),
    counts=st.lists(st.integers(20, 60), min_size=2, max_size=2),
    join=st.sampled_from(["order", "time"]),
    dies=st.sampled_from(["", "with its first number", "later"]),
)
@settings(max_examples=40, deadline=None)
def test_what_an_inlet_joins_again_after_a_power_cut_has_its_old_numbers_and_all_else_has_new_ones(
    boots: list[tuple[int, int]], counts: list[int], join: str, dies: str
) -> None:
    # invariant: S1
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-test-") as folder:
        given_to: dict[int, bytes] = {}
        last, first = None, 0
        for begins in boots:
            found = boot(Path(folder), begins, counts, join, dies)
            assert found
            assert [seq for seq, _ in found] == list(range(found[0][0], found[0][0] + len(found)))
            if begins != last:
                assert found[0][0] > max(given_to, default=-1), "nobody has had such a number"
                first = found[0][0]
            assert found[0][0] == first, "the same again"
            assert all(given_to.get(seq, payload) == payload for seq, payload in found)
            given_to |= dict(found)
            last = begins


PROGRAM = """
class Instrument:
    live = %s
    def __init__(self, params): pass
    def frames(self, next_seq):
        for number in range(next_seq, next_seq + 100):
            yield number.to_bytes(8, "big")
"""


@pytest.mark.parametrize("live", [True, False])
def test_a_source_that_cannot_give_its_frames_again_goes_on_behind_them_and_any_other_begins_anew(live: bool) -> None:
    # invariant: S1
    begun = []
    with kept() as path:
        program = path.with_name("instrument.py")
        program.write_text(PROGRAM % live)
        for boot_number in range(2):
            with Ring.create(path.with_name(f"{boot_number}.ring"), capacity_bytes=1 << 16, slots=256) as ring:
                spec = RunSpec(
                    "source", "s", str(program), "instrument:Instrument", output_ring=ring.path, numbers_path=str(path)
                )
                stop = Stop()
                thread = threading.Thread(target=source.run, args=(spec, stop))
                thread.start()
                begin = 0
                while not (begin := begins_at(ring) or begin) + 100 <= ring.head and thread.is_alive():
                    time.sleep(0.001)
                stop.ask()
                thread.join()
                with ring.reader(start="oldest") as reader:
                    frames = [frame for frame in iter(lambda reader=reader: reader.read(0), None) if not frame.gap]  # type: ignore[misc]
                assert [int.from_bytes(frame.payload, "big") for frame in frames] == [frame.seq for frame in frames]
                begun.append(frames[0].seq)
    assert begun == ([0, 100] if live else [0, 0]), "an orderly end passes nothing over"
