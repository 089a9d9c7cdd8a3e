"""Inlets whose edge has a spool: what the ring has let go comes from the disk, in order and once, whoever dies and whoever is away.

invariant: S1
invariant: S2
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane import spooling
from halftrack_dataplane.refill import AT_WORK, CONSUMER
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import InletInput, RunSpec, SpecError, dump, load
from halftrack_dataplane.runtime import Stop, Unable
from halftrack_dataplane.spool_files import Folder
from halftrack_dataplane.spool_orders import SpoolOrders
from tests.dataplane import inlet_reference as reference
from tests.dataplane.inlet_reference import Given, Stream, noise, told
from tests.dataplane.processes import PROGRAM, Host, until
from tests.dataplane.spooled_inlets import Powered, Spooled
from tests.dataplane.stream_program import ledger
from tests.dataplane.test_inlet_rings import Act, spec_of
from tests.small_disk import grown, small_disk

COUNT = 150
STREAMS = [
    [None if which and seq % 17 == 3 else Given(seq, 0, noise(seq + 1000 * which, 40)) for seq in range(COUNT)]
    for which in range(2)
]


def played(acts: Sequence[Act], streams: Sequence[Stream], spec: RunSpec, full: str = "block") -> Spooled:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-inlet-") as folder:
        size = (8 if full == "block" else 3) * 8192  # segments of two pages; three of them hold less than flows
        made = Spooled(Path(folder), streams, spec, size, full)
        try:
            made.play(acts)
            made.finish()
            made.found = reference.read(made.output)  # type: ignore[attr-defined]
            made.status = made.inlet._status()  # type: ignore[attr-defined]
            return made
        finally:
            made.close()


acts = st.lists(
    st.tuples(st.sampled_from(["0", "1", "0", "1", "spool", "spool", "step", "die", "crash"]), st.integers(1, 24)),
    max_size=40,
)


@settings(max_examples=40)
@given(acts)
def test_a_sequence_comes_whole_from_rings_and_spools_whoever_dies(acts: list[Act]) -> None:
    calm = [act for act in acts if act[0] != "crash"]
    made = played(calm, STREAMS, spec_of(2, "sequence"))
    assert made.found == reference.sequence(STREAMS, False, [1, 1])  # type: ignore[attr-defined]


@settings(max_examples=25)
@given(acts)
def test_in_order_each_input_comes_whole_from_rings_and_spools(acts: list[Act]) -> None:
    begun = [("step", 1), *((what, number) for what, number in acts if what not in ("crash", "die"))]
    made = played(begun, STREAMS, spec_of(2, "order"))
    parts = reference.order(STREAMS)
    assert [told(out) for out in made.found if out][: len(parts)] == parts  # type: ignore[attr-defined]


rounds = st.lists(  # how many are published, and the inlet's steps, and what the sink takes; who dies then, and what the power passes over
    st.tuples(
        st.integers(0, 8),
        st.integers(0, 24),
        st.integers(0, 12),
        st.sampled_from(["", "", "die", "power"]),
        st.integers(1, 6),
    ),
    max_size=16,
)


@settings(max_examples=60)
@given(rounds)
def test_what_has_come_to_a_disk_comes_after_a_power_cut(rounds: list[tuple[int, int, int, str, int]]) -> None:
    acts: list[Act] = []
    for count, steps, taken, what, number in rounds:
        acts += [("0", count), ("spool", 1), ("step", steps), ("consume", taken), ("spool", 1), (what, number)]
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="halftrack-inlet-") as folder:
        made = Powered(Path(folder), STREAMS[:1], spec_of(1), 8 * 8192, "block")
        try:
            made.play(acts)
            made.finish()
        finally:
            made.close()
    assert len(made.kept) == COUNT or made.rings[0].head == len(made.kept)
    for seq, kept in enumerate(made.kept):
        assert kept == STREAMS[0][seq] or (kept is None and seq in made.taken_away), seq


@settings(max_examples=40)
@given(acts, st.sampled_from(["block", "drop-oldest"]))
def test_what_neither_ring_nor_spool_has_is_declared_and_nothing_else(acts: list[Act], full: str) -> None:
    made = played(acts, STREAMS[:1], spec_of(1), full)
    found, whole = made.found, reference.single(STREAMS[0])  # type: ignore[attr-defined]
    assert len(found) == COUNT
    assert all(out is None or out == wanted for out, wanted in zip(found, whole, strict=True))
    lives = any(what == "die" for what, _ in acts)
    counts = made.status.inputs["in0"]  # type: ignore[attr-defined]
    assert lives or counts["missed"] + counts["lost"] == found.count(None)
    if full == "block" and not any(what == "crash" for what, _ in acts):
        assert found == whole


def wrote(ring: Ring, writer: Writer) -> Ring:
    """With one frame in it: which stream it has is known then."""
    writer.write(b"frame")
    return ring


def test_a_spool_of_another_stream_is_set_aside_and_one_such_is_kept(folder: Path) -> None:
    orders = SpoolOrders(str(folder / "spool"), 1 << 20, 0, "block")
    said: list[str] = []
    for life in range(3):
        with (
            Ring.create(folder / f"ring{life}", capacity_bytes=1 << 14, slots=64, generation=life) as ring,
            ring.writer() as writer,
            spooling.begun(wrote(ring, writer), orders, "s", said.append, Stop()) as spooler,
        ):
            spooler.step(0)
            assert spooler.end_seq == 1
    assert sum("set aside in" in text for text in said) == 2
    assert sorted(path.name for path in (folder / "spool").iterdir()) == ["aside", AT_WORK]


def test_a_spool_that_could_not_hold_two_segments_is_refused(folder: Path) -> None:
    with (
        Ring.create(folder / "ring", capacity_bytes=1 << 20, slots=64) as ring,
        pytest.raises(Unable, match="write a size of at least"),
    ):
        spooling.limits_of(ring, SpoolOrders("/spool", 1 << 20, 0, "block"))


def test_orders_of_a_spool_go_to_a_spool_alone_and_come_back_as_they_were() -> None:
    spec = RunSpec("spool", "s", input_ring="/ring", spool=SpoolOrders("/spool", 1 << 20, 5, "drop-oldest"))
    assert load(dump(spec)) == spec
    for wrong, why in (
        (replace(spec, spool=None), "orders for a spool"),
        (replace(spec, role="keeper", feed_dir="/feeds"), "orders for a spool"),
        (replace(spec, spool=SpoolOrders("spool", 1, 0, "block")), "absolute path"),
        (replace(spec, spool=SpoolOrders("/spool", 0, 0, "block")), "a size from 1 on"),
        (replace(spec, spool=SpoolOrders("/spool", 1, 0, "burst")), "spool.full"),
    ):
        with pytest.raises(SpecError, match=why):
            dump(wrong)
    with pytest.raises(SpecError, match="whole number"):
        load(dump(spec).replace(b'"keep_ms": 5', b'"keep_ms": true'))


# ------------------------------------------------------------------------------------------------------------ processes


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    host = Host(folder / "host")
    yield host
    host.close()


def specs_of(host: Host, size_bytes: int = 64 << 20, full: str = "block") -> tuple[RunSpec, RunSpec, RunSpec]:
    """The spool, the inlet and the sink of one edge."""
    folder, status = str(host.folder / "spool"), host.folder / "status"
    orders = SpoolOrders(folder, size_bytes, 0, full)
    spool = RunSpec("spool", "g.spool", input_ring=host.path("g/a"), status_path=str(status / "g.spool"), spool=orders)
    reads = InletInput("a", host.path("g/a"), spool=folder)
    inlet = RunSpec("inlet", "g.in", output_ring=host.path("g/in"), status_path=str(status / "g.in"), inputs=(reads,))
    sink = RunSpec(
        "sink",
        "g.sink",
        program=str(PROGRAM),
        entry="stream_program:Ledger",
        input_ring=host.path("g/in"),
        data_dir=str(host.folder / "data"),
        status_path=str(status / "g.sink"),
    )
    return spool, inlet, sink


def reads(ring: Ring, name: str) -> bool:
    return any(each.name == name for each in ring.stats().readers)


def poured(ring: Ring, writer: Writer, count: int) -> None:
    for seq in range(ring.head, ring.head + count):
        writer.write(noise(seq, 64), timeout_s=20)


def test_a_consumer_that_is_away_or_slow_gets_every_number_once_whoever_is_killed(host: Host) -> None:
    frames, rng = 80_000, random.Random(11)
    ring = host.ring("g/a", slots=1024, capacity_bytes=1 << 18)
    held = host.ring("g/in", slots=1 << 14, capacity_bytes=2 << 20)
    spool, inlet, sink = specs_of(host)
    host.start(spool)
    host.start(inlet)
    until(lambda: reads(ring, "g.spool") and reads(held, "g.in.anchor"), "both are there")
    with ring.writer() as writer:
        poured(ring, writer, 60_000)  # nobody reads the inlet's ring: it fills up, and then the spool
        until(lambda: (at := host.status("g.spool")) is not None and at.seq_out == 60_000, "all went to the disk")
        until(lambda: held.head > 16_000, "the inlet's ring is full, of records if not of bytes")
        assert (held.tail, held.head < 60_000) == (0, True), "it waits, and passes nothing over"
        host.start(sink)
        for _ in range(4):
            name = rng.choice(["g.spool", "g.in", "g.sink"])
            host.kill(name)
            poured(ring, writer, 100)
            host.start({"g.spool": spool, "g.in": inlet, "g.sink": sink}[name])
            until(lambda: reads(ring, "g.spool"), "a spooler is there")
            poured(ring, writer, 3000)
        poured(ring, writer, frames - ring.head)
    ledgered = host.folder / "data" / "ledger"
    until(lambda: held.head == frames, "all have come", 30)
    until(lambda: len(ledger(ledgered)) >= frames, f"the sink has all of {frames}", 30)
    host.check()
    rows = ledger(ledgered)
    assert [(row[0], row[1]) for row in rows] == [(seq, 0) for seq in range(frames)]
    at_work = Folder(host.folder / "spool" / AT_WORK)
    until(lambda: at_work.consumers()[CONSUMER].seq == frames, "what was passed on need not be kept")


def test_what_a_full_spool_drops_is_one_gap_of_exactly_those_numbers(host: Host) -> None:
    ring = host.ring("g/a", slots=1024, capacity_bytes=1 << 18)
    held = host.ring("g/in", slots=1024, capacity_bytes=1 << 14)  # 256 frames, so that one gap is more than all of it
    spool, inlet, sink = specs_of(host, 1 << 20, "drop-oldest")
    host.start(spool)
    host.start(inlet)
    until(lambda: reads(ring, "g.spool") and reads(held, "g.in.anchor"), "both are there")
    with ring.writer() as writer:
        poured(ring, writer, 30_000)  # 2 MB and more into a spool of one
        until(lambda: (at := host.status("g.spool")) is not None and at.seq_out == 30_000, "all went to the disk")
    host.start(sink)
    until(lambda: held.head == 30_000, "all that is left has come", 30)
    rows: list[tuple[int, int, int, int]] = []

    def whole() -> bool:
        rows[:] = ledger(host.folder / "data" / "ledger")
        return bool(rows) and rows[-1][0] + max(rows[-1][1], 1) == 30_000

    until(whole, "the sink has it")
    host.check()
    gaps = [(seq, gap) for seq, gap, _, _ in rows if gap]
    expected = 0
    for seq, gap, _, _ in rows:
        assert seq == expected, "neither a hole nor twice"
        expected += gap or 1
    assert len(gaps) == 1
    assert gaps[0][1] > 5000
    counted = gaps[0][1]
    until(lambda: (at := host.status("g.in")) is not None and at.inputs["a"]["missed"] == counted, "it is counted")


def test_a_disk_that_is_full_holds_the_source_back_until_there_is_room_and_loses_nothing(host: Host) -> None:
    ring = host.ring("g/a", slots=1024, capacity_bytes=1 << 18)
    held = host.ring("g/in", slots=1 << 14, capacity_bytes=2 << 20)
    spool, inlet, sink = specs_of(host, 8 << 20)  # in segments of 1 MiB
    frames = 60_000
    with small_disk(host.folder / "spool", "1500k") as disk, ring.writer() as writer:
        host.start(spool)
        host.start(inlet)
        until(lambda: reads(ring, "g.spool") and reads(held, "g.in.anchor"), "both are there")
        pouring = Thread(target=poured, args=(ring, writer, frames))
        pouring.start()
        until(lambda: (at := host.status("g.spool")) is not None and at.message.startswith("disk full"), "it is told")
        until(lambda: ring.head == ring.stats().readers[0].cursor + 1024, "the source waits")
        assert ring.head < frames
        host.check()
        grown(disk, "16m")
        pouring.join(20)
        assert ring.head == frames
        host.start(sink)
        until(lambda: len(ledger(host.folder / "data" / "ledger")) >= frames, "all have come", 30)
        assert [(row[0], row[1]) for row in ledger(host.folder / "data" / "ledger")] == [
            (seq, 0) for seq in range(frames)
        ]
        until(lambda: (at := host.status("g.spool")) is not None and at.message == "", "it has room again")
        for name in ("g.spool", "g.in", "g.sink"):
            host.kill(name)
