"""Inlets as real processes whose inputs change in mid-stream: killed at random, told other orders, and each number comes out once."""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from halftrack_dataplane.inlet_inputs import PIN_S
from halftrack_dataplane.ring import Ring, Writer
from halftrack_dataplane.runspec import InletInput, RunSpec, dump
from tests.dataplane.inlet_reference import read
from tests.dataplane.processes import Host, until

LONGEST = 64  # frames of a burst


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    host = Host(folder / "host")
    yield host
    host.close()


def inlet(host: Host, *inputs: InletInput) -> RunSpec:
    """Orders for an inlet that writes `g/out`."""
    status = str(host.folder / "status" / "g.out.in")
    return RunSpec("inlet", "g.out.in", output_ring=host.path("g/out"), status_path=status, inputs=inputs)


def edge(host: Host, generation: int, **values: object) -> InletInput:
    return InletInput(f"a{generation}", host.path(f"g/a{generation}"), generation=generation, **values)  # type: ignore[arg-type]


def reorder(host: Host, spec: RunSpec) -> None:
    """As the agent does: the file is replaced whole."""
    fresh = host.folder / "specs" / "fresh"
    fresh.write_bytes(dump(spec))
    os.replace(fresh, host.folder / "specs" / f"{spec.name}.json")


def publish(writer: Writer, ring: Ring, generation: int, count: int) -> None:
    """The next frames, which say whose they are."""
    for seq in range(ring.head, ring.head + count):
        writer.write(bytes([generation]) + seq.to_bytes(4, "big"), timestamp_ns=seq)


def applied(output: Ring) -> list[tuple[int, int]]:
    return [(cut.generation, cut.applied_at) for cut in output.cuts() if cut.applied_at is not None]


def judged(output: Ring) -> None:
    """Each number once, from the generation that the table names."""
    rows = applied(output)
    for seq, out in enumerate(read(output)):
        owner = max((generation for generation, first in rows if first <= seq), default=0)
        assert out is not None, f"{seq} was lost"
        assert out.payload == bytes([owner]) + seq.to_bytes(4, "big")


def told(host: Host) -> str:
    status = host.status("g.out.in")
    return "" if status is None else status.message


def test_inputs_change_twice_whoever_is_killed(host: Host) -> None:
    """The later ones lag behind, by a few frames or so, as whatever is made of a frame does."""
    # invariant: S1
    rng = random.Random(4)
    rings = [host.ring(f"g/a{each}", slots=1 << 14, capacity_bytes=4 << 20) for each in range(3)]
    output = host.ring("g/out", slots=1 << 14, capacity_bytes=4 << 20)
    writers = [ring.writer() for ring in rings]
    edges = [edge(host, each) for each in range(3)]
    steps = [edges[:1], edges[:2], edges[1:2], edges[1:], edges[2:]]
    host.start(inlet(host, *steps[0]))
    for number, inputs in enumerate(steps):
        spec = inlet(host, *inputs)
        reorder(host, spec)
        goal = inputs[-1].generation
        deaths = 0
        for burst in range(4000):
            for which, (ring, writer) in enumerate(zip(rings, writers, strict=True)):
                behind = rng.randint(0, 8) * which
                publish(
                    writer,
                    ring,
                    which,
                    max(rings[0].head + (which == 0) * rng.randint(1, LONGEST) - behind - ring.head, 0),
                )
            until(lambda: rings[0].head - output.head < 2 * LONGEST, "it keeps up")
            if deaths < 2 and rng.random() < 0.4:
                host.kill(spec.name)
                host.start(spec)
                deaths += 1
            if deaths == 2 and (goal == 0 or (applied(output) and applied(output)[-1][0] == goal)) and burst > 4:
                break
        else:
            raise AssertionError(f"step {number} does not come to an end: {told(host)}")
    for which, (ring, writer) in enumerate(zip(rings, writers, strict=True)):
        publish(writer, ring, which, rings[0].head - ring.head)
    until(lambda: output.head == rings[0].head, "to the end")
    host.check()
    assert [generation for generation, _ in applied(output)] == [1, 2]
    judged(output)
    for writer in writers:
        writer.close()


def test_who_never_catches_up_is_told_and_costs_nothing(host: Host) -> None:
    # invariant: S1
    rings = [host.ring(f"g/a{each}", slots=1 << 13, capacity_bytes=1 << 20) for each in range(2)]
    output = host.ring("g/out", slots=1 << 13, capacity_bytes=1 << 20)
    spec = inlet(host, edge(host, 0), edge(host, 1))
    with rings[0].writer() as quick, rings[1].writer() as slow:
        publish(quick, rings[0], 0, 1000)
        host.start(spec)
        until(lambda: output.head == 1000, "the one in force passes")
        publish(slow, rings[1], 1, 100)
        until(lambda: told(host) == "generation 1 is not in force yet: it is 900 frames behind", "it is told")
        for _ in range(20):
            publish(quick, rings[0], 0, 50)
            publish(slow, rings[1], 1, 10)
            until(lambda: output.head == rings[0].head, "it goes on")
        assert applied(output) == []
        publish(slow, rings[1], 1, rings[0].head - rings[1].head)
        until(lambda: applied(output) == [(1, 2000)], "it has caught up, and the stream rests")
        publish(slow, rings[1], 1, 5)
        until(lambda: output.head == 2005, "it counts now")
    host.check()
    judged(output)


def test_a_stream_that_is_not_in_force_yet_is_held_up_for_a_while_only(host: Host) -> None:
    """It begins further on, and the one in force rests: nobody knows when its frames will be wanted."""
    # invariant: S2
    rings = [host.ring("g/a0"), host.ring("g/a1", slots=64, capacity_bytes=1 << 14)]
    output = host.ring("g/out", slots=4096)
    host.start(inlet(host, edge(host, 0), edge(host, 1)))
    with rings[0].writer() as resting, rings[1].writer() as busy:
        publish(resting, rings[0], 0, 10)
        until(lambda: output.head == 10 and len(rings[1].stats().readers) == 1, "it passes, and holds the other")
        busy.start_at(100)
        began = time.monotonic()
        publish(busy, rings[1], 1, 500)
        assert time.monotonic() - began >= PIN_S, "it was not held"
        assert rings[1].stats().evicted == 1
        until(lambda: "it lacks 10 to" in told(host), "it is told")
        publish(busy, rings[1], 1, 500)
        assert rings[1].stats().evicted == 1, "and not again"
        publish(resting, rings[0], 0, rings[1].head - 20 - rings[0].head)
        until(lambda: applied(output) != [], "it goes over where both have frames")
        publish(busy, rings[1], 1, 20)
        until(lambda: output.head == rings[1].head, "to the end")
    host.check()
    judged(output)


def test_orders_that_cannot_be_carried_out_yet_change_nothing(host: Host) -> None:
    ring = host.ring("g/a0")
    output = host.ring("g/out")
    spec = inlet(host, edge(host, 0))
    process = host.start(spec)
    with ring.writer() as writer:
        publish(writer, ring, 0, 10)
        until(lambda: output.head == 10, "it passes")
        (host.folder / "specs" / "g.out.in.json").write_bytes(b"{")
        until(lambda: "not carried out yet: the spec is not JSON" in told(host), "it is told")
        reorder(host, inlet(host, edge(host, 0), edge(host, 1)))
        until(lambda: "not carried out yet: there is no ring" in told(host), "the ring is not there")
        publish(writer, ring, 0, 10)
        until(lambda: output.head == 20, "it goes on")
        later = host.ring("g/a1")
        with later.writer() as other:
            publish(other, later, 1, 20)
            until(lambda: applied(output) == [(1, 20)], "it is there now")
        reorder(host, replace(spec, inputs=(replace(spec.inputs[0], policy="sample", latest=True),)))
        until(lambda: process.poll() == 0, "what only a new life can do ends this one, in order")
    judged(output)
