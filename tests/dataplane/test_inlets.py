"""Inlets as real processes: killed at random, their output is what a plain reference makes of their inputs; and what silence and eviction cost."""

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from halftrack_dataplane.parts import NONE
from halftrack_dataplane.ring import Writer
from halftrack_dataplane.runspec import InletInput, RunSpec
from halftrack_dataplane.status import Status
from tests.dataplane import inlet_reference as reference
from tests.dataplane.inlet_reference import Given, Out, Stream, noise, told
from tests.dataplane.processes import PROGRAM, Host, until
from tests.dataplane.stream_program import WINDOW

FRAMES = 12_000
KILLS = 5


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    host = Host(folder / "host")
    yield host
    host.close()


def inlet(host: Host, name: str, inputs: tuple[InletInput, ...], join: str = "", **values: object) -> RunSpec:
    """Orders for an inlet that writes the ring `name`."""
    status = str(host.folder / "status" / f"{name}.in".replace("/", "."))
    return RunSpec(
        role="inlet",
        name=f"{name}.in".replace("/", "."),
        output_ring=host.path(name),
        status_path=status,
        inputs=inputs,
        join=join,
        **values,  # type: ignore[arg-type]
    )


def edge(host: Host, ring: str, **values: object) -> InletInput:
    return InletInput(ring.rpartition("/")[2], host.path(ring), **values)  # type: ignore[arg-type]


def stream_of(seed: int, count: int = FRAMES) -> list[Given | None]:
    """Frames of some lengths and epochs, bursts of one time, and now and then a declared loss; the same for a seed."""
    rng = random.Random(seed)
    found: list[Given | None] = []
    time_ns = 0
    while len(found) < count:
        time_ns += rng.choice([0, 1, 700, 5000])
        if rng.random() < 0.01:
            found += [None] * rng.randint(1, 4)
        found += [Given(time_ns, rng.randint(0, 1), noise(len(found), rng.choice([0, 24, 64, 200])))] * rng.choice(
            [1, 1, 3]
        )
    return found[:count]


def publish(writer: Writer, stream: Stream, first: int, count: int) -> None:
    for each in stream[first : first + count]:
        if each is None:
            writer.gap(1)
        else:
            writer.write(each.payload, epoch=each.epoch, timestamp_ns=each.time_ns)


def played(host: Host, spec: RunSpec, streams: list[Stream], wanted: int) -> list[Out | None]:
    """The output: all streams are published, a little at a time, while the inlet is killed and started again; until `wanted` came out."""
    rng = random.Random(spec.join)
    rings = [host.ring(f"g/{each.name}", slots=1 << 14, capacity_bytes=8 << 20) for each in spec.inputs]
    output = host.ring("g/out", slots=1 << 15, capacity_bytes=32 << 20)
    writers = [ring.writer() for ring in rings]
    host.start(spec)
    try:
        for life in range(KILLS + 1):
            before = output.head
            for _ in range(8):
                for writer, ring, stream in zip(writers, rings, streams, strict=True):
                    publish(writer, stream, ring.head, rng.randint(0, 2 * FRAMES // (8 * (KILLS + 1))))
                if life < KILLS and rng.random() < 0.2:
                    break
            if life < KILLS:
                until(lambda seen=before: output.head > seen, "something comes out")  # type: ignore[misc]
                host.kill(spec.name)
                host.start(spec)
        for writer, ring, stream in zip(writers, rings, streams, strict=True):
            publish(writer, stream, ring.head, FRAMES)
        until(lambda: output.head >= wanted, f"all {wanted} outputs, of which there are {output.head}", 60.0)
        host.check()
    finally:
        for writer in writers:
            writer.close()
    return reference.read(output)


@pytest.mark.parametrize("join", ["sequence", "order", "time", "union"])
def test_a_killed_inlet_costs_nothing(host: Host, join: str) -> None:
    # invariant: S1
    streams: list[Stream] = [stream_of(1), stream_of(2)]
    if join == "union":
        streams = [reference.partition(streams[0], 0, 4, 2, [part]) for part in (0, 1)]
    spec = inlet(
        host, "g/out", (edge(host, "g/a"), edge(host, "g/b")), join, join_width_ns=20_000 if join == "time" else 0
    )
    if join in ("sequence", "union"):
        wanted = reference.sequence(streams, False, [1, 1]) if join == "sequence" else reference.union(streams)
        assert played(host, spec, streams, len(wanted))[: len(wanted)] == wanted
        return
    parts = reference.order(streams) if join == "order" else list(reference.by_time(streams, 20_000).values())
    found = played(host, spec, streams, len(parts))
    assert [told(out) for out in found if out][: len(parts)] == parts


def test_parts_meet_again_behind_vertices_whoever_is_killed(host: Host) -> None:
    # invariant: S1
    stream = [each or Given(0, 0, noise(seq, 8)) for seq, each in enumerate(stream_of(3, 4000))]
    stream = [Given(each.time_ns, 0, noise(seq, 24)) for seq, each in enumerate(stream)]
    source = host.ring("g/source", slots=1 << 13, capacity_bytes=4 << 20)
    specs = []
    for part in (0, 1):
        host.ring(f"g/half{part}.in", slots=1 << 13, capacity_bytes=4 << 20)
        host.ring(f"g/half{part}", slots=1 << 13, capacity_bytes=4 << 20)
        taken = edge(host, "g/source", key_bytes=8, key_of=2, key_take=(part,))
        specs += [inlet(host, f"g/half{part}.in", (taken,)), vertex(host, f"g/half{part}", "Echo")]
    union = (edge(host, "g/half0"), edge(host, "g/half1"))
    output = host.ring("g/out", slots=1 << 13, capacity_bytes=4 << 20)
    specs.append(inlet(host, "g/out", union, "union"))
    for spec in specs:
        host.start(spec)
    with source.writer() as writer:
        for number, spec in enumerate(specs):
            publish(writer, stream, source.head, len(stream) // (len(specs) + 1))
            until(lambda least=200 * number: output.head > least, "the union goes on")  # type: ignore[misc]
            host.kill(spec.name)
            host.start(spec)
        publish(writer, stream, source.head, len(stream))
        until(lambda: output.head == len(stream), "all have met again")
    host.check()
    found = reference.read(output)
    assert [out and out.payload for out in found] == [each.payload for each in stream]
    assert [out and out.time_ns for out in found] == [each.time_ns for each in stream]


def vertex(host: Host, ring: str, entry: str, **values: object) -> RunSpec:
    """A member without a twin that reads `ring`.in and writes `ring`."""
    name = ring.replace("/", ".")
    return RunSpec(
        role="member",
        name=name,
        program=str(PROGRAM),
        entry=f"stream_program:{entry}",
        input_ring=host.path(f"{ring}.in"),
        output_ring=host.path(ring),
        status_path=str(host.folder / "status" / name),
        snapshot_dir=str(host.folder / "snapshots"),
        release="1.0.0",
        **values,  # type: ignore[arg-type]
    )


def test_a_vertex_with_state_takes_the_part_of_others_for_no_loss(host: Host) -> None:
    # invariant: S2
    mine = [Given(0, 0, NONE if seq % 5 else noise(seq, 16)) for seq in range(1000)]
    ring = host.ring("g/chain.in")
    output = host.ring("g/chain")
    spec = vertex(host, "g/chain", "Chain", state_writes="chain/1", params={"snapshot_every": 64})
    host.start(spec)
    with ring.writer() as writer:
        publish(writer, mine, 0, 500)
        until(lambda: output.head >= 100 // WINDOW, "its own frames are processed")
        host.kill(spec.name)
        host.start(spec)
        publish(writer, mine, 500, 500)
        until(lambda: output.head == 200 // WINDOW, "a fifth of all frames are its own")
        until(lambda: (host.status(spec.name) or Status("", "")).seq_in == 1000, "it has counted the others' as well")
    host.check()
    status = host.status(spec.name)
    assert status is not None
    assert status.counters["gap_frames"] == 0
    assert output.stats().gap_frames == 0


def test_who_is_silent_is_left_out_and_told(host: Host) -> None:
    streams = [[Given(seq, 0, noise(seq, 8)) for seq in range(300)] for _ in range(2)]
    rings = [host.ring("g/a"), host.ring("g/b")]
    output = host.ring("g/out")
    inputs = (edge(host, "g/a", evict_after_ms=200), edge(host, "g/b", evict_after_ms=200))
    spec = inlet(host, "g/out", inputs, "order")
    host.start(spec)
    with rings[0].writer() as loud, rings[1].writer() as silent:
        publish(loud, streams[0], 0, 100)
        until(lambda: output.head == 100, "the silent one is left out")
        until(lambda: "left out, since silent: b" in told_by(host, spec), "it is told")
        publish(silent, streams[1], 0, 50)  # it comes back: what is past is marked as late, and nothing is dropped
        publish(loud, streams[0], 100, 200)
        until(lambda: output.head >= 151, "it takes part again")
        publish(silent, streams[1], 50, 250)
        until(lambda: output.head == 600, "both to the end")
    parts = [each for out in reference.read(output) if out for each in told(out)]
    for which in (0, 1):
        assert [each.seq for each in parts if each.input == which] == list(range(300))
    assert all(each.late for each in parts if each.input == 1 and each.seq < 50)
    assert not any(each.late for each in parts if each.input == 0)


def told_by(host: Host, spec: RunSpec) -> str:
    status = host.status(spec.name)
    return "" if status is None else status.message


def test_an_inlet_that_hangs_is_evicted_and_declares_exactly_what_it_lost(host: Host) -> None:
    # invariant: S2
    stream = [Given(seq, 0, noise(seq, 64)) for seq in range(2000)]
    ring, other = host.ring("g/a", slots=64, capacity_bytes=1 << 14), host.ring("g/b", slots=4096)
    output = host.ring("g/out", slots=4096)
    spec = inlet(host, "g/out", (edge(host, "g/a", evict_after_ms=100), edge(host, "g/b")), "sequence")
    process = host.start(spec)
    with ring.writer() as writer, other.writer() as second:
        publish(second, stream, 0, 2000)
        publish(writer, stream, 0, 20)
        until(lambda: output.head == 20, "it reads")
        publish(writer, stream, 20, 80)
        until(lambda: output.head == 100, "it keeps up")
        os.kill(process.pid, signal.SIGSTOP)
        try:
            publish(writer, stream, 100, 900)  # waits a tenth of a second, then goes on without it
            assert ring.stats().evicted == 1
        finally:
            os.kill(process.pid, signal.SIGCONT)
        until(lambda: output.head == 1000, "it has joined again")
        publish(writer, stream, 1000, 1000)
        until(lambda: output.head == 2000, "to the end")
    host.check()
    found = reference.read(output)
    lost = [seq for seq, out in enumerate(found) if out is None]
    assert lost == list(range(lost[0], lost[-1] + 1))
    assert lost[0] >= 100
    assert lost[-1] < 1000
    assert [out for out in found if out] == [
        out for seq, out in enumerate(reference.sequence([stream, stream], False, [1, 1])) if seq not in set(lost)
    ]
    until(
        lambda: (status := host.status(spec.name)) is not None and status.counters["gap_frames"] == len(lost),
        "it is counted",
    )


def test_a_replay_begins_so_far_back_once(host: Host) -> None:
    stream = [Given(seq * 1_000_000_000, 0, bytes([seq])) for seq in range(100)]
    ring = host.ring("g/a")
    output = host.ring("g/out")
    spec = inlet(host, "g/out", (edge(host, "g/a", replay_ms=30_000),))
    with ring.writer() as writer:
        publish(writer, stream, 0, 100)
        host.start(spec)
        until(lambda: output.head == 100, "the replay is over")
        until(lambda: "a begins at 69, 30.000 s back" in told_by(host, spec), "it is told")
        host.kill(spec.name)
        host.start(spec)
        publish(writer, [*stream, Given(0, 0, b"new")], 100, 1)
        until(lambda: output.head == 101, "it goes on where it was")
    found = reference.read(output)
    assert found[:69] == [None] * 69
    assert [out and out.payload for out in found[69:]] == [*(bytes([seq]) for seq in range(69, 100)), b"new"]
    assert output.stats().gap_frames == 0, "what was before the beginning is no loss"


def test_a_full_output_holds_only_its_own_inlet_back(host: Host) -> None:
    stream = [Given(seq, 0, noise(seq, 64)) for seq in range(400)]
    ring = host.ring("g/a", slots=4096)
    small, large = host.ring("g/small", slots=16, capacity_bytes=4096), host.ring("g/large", slots=4096)
    with small.reader(policy="lossless", start=0, name="slow") as slow, ring.writer() as writer:
        for name in ("g/small", "g/large"):
            host.start(inlet(host, name, (edge(host, "g/a"),)))
        publish(writer, stream, 0, 400)
        until(lambda: large.head == 400, "the other branch is not held back")
        assert small.head < 400
        taken: list[bytes] = []
        while len(taken) < 400:
            frame = slow.read(10)
            assert frame is not None
            assert not frame.gap
            taken.append(bytes(frame.payload))
    assert taken == [each.payload for each in stream]
    host.check()
