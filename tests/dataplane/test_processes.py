"""The stream as real processes: whoever is killed, the sink's records show no loss, repeat or disorder."""

import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from halftrack_dataplane.runtime import EXIT_PROGRAM, EXIT_RING, EXIT_SPEC
from halftrack_dataplane.status import BEYOND, Diverged
from tests.dataplane.processes import PROGRAM, PairHost, until
from tests.dataplane.stream_program import RECORD, ledger, outputs_of


@pytest.fixture
def host(folder: Path) -> Iterator[PairHost]:
    host = PairHost(
        folder / "host", slots=8192
    )  # five seconds, as much as the bytes do: longer than a start on a busy machine
    yield host
    host.close()


def progressed(host: PairHost, count: int) -> None:
    """The sink has `count` records more than now."""
    goal = len(ledger(host.ledger)) + count
    until(lambda: len(ledger(host.ledger)) >= goal, f"{count} more outputs at the sink")


def check(host: PairHost, releases: dict[int, str]) -> None:
    """lost = duplicated = reordered = mismatched = 0, counted from what the sink wrote down."""
    rows = ledger(host.ledger)
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert sum(row[1] for row in rows) == 0
    expected = {
        epoch: [zlib.crc32(output) for output in outputs_of(len(rows), release)] for epoch, release in releases.items()
    }
    assert [row[3] for row in rows] == [expected[row[2]][row[0]] for row in rows]


def test_every_process_may_be_killed_in_turn(host: PairHost) -> None:
    # invariant: S1
    for spec in host.specs.values():
        host.start(spec)
    progressed(host, 20)
    for name, spec in host.specs.items():
        host.kill(name)
        if name.startswith("s.chain.a"):
            progressed(host, 10)  # with one member only
        host.start(spec)
        progressed(host, 20)
        host.check()
    check(host, {1: "1.0.0"})
    merge = host.status("s.chain.merge")
    assert merge is not None
    until(lambda: (host.status("s.chain.merge") or merge).counters["duplicates"] > 0, "twins are compared")
    assert all(compared.different == 0 for compared in merge.shadow.values())


def test_a_sink_whose_stream_has_begun_anew_says_that_it_writes_nothing(folder: Path) -> None:
    host = PairHost(folder / "host")
    try:
        host.ledger.write_bytes(b"".join(RECORD.pack(seq, 0, 1, 7) for seq in range(100)))
        host.start(host.specs["s.sink"])

        def beyond() -> int:
            status = host.status("s.sink")
            return -1 if status is None else status.counters.get(BEYOND, -1)

        with host.merged.writer() as writer:
            for _ in range(99):
                writer.write(b"again")
            until(lambda: beyond() == 100, "it tells its place")
            writer.write(b"again")
            until(lambda: beyond() == 0, "the stream is there again")
            writer.write(b"new")
        until(lambda: len(ledger(host.ledger)) == 101, "what is new is written")
        assert ledger(host.ledger)[-1] == (100, 0, 0, zlib.crc32(b"new"))
        host.check()
    finally:
        host.close()


def test_a_swap_by_hand_cuts_exactly_at_the_fence_and_back(host: PairHost) -> None:
    # invariant: S1
    for spec in host.specs.values():
        host.start(spec)
    progressed(host, 40)  # blue has a snapshot that green can begin from
    host.start(host.member("a", "1.1.0", 2))

    def shadowed() -> int:
        status = host.status("s.chain.merge")
        compared = status.shadow.get("s/chain.a@1.1.0") if status else None
        return compared.different if compared else 0

    until(lambda: shadowed() >= 4, "the merge compares green's outputs with blue's")
    fence = host.merged.head + 20
    host.merged.propose_cut(2, 2, fence, "1.1.0")
    until(lambda: host.merged.cuts()[-1].applied_at == fence, "the cut is applied at its fence")
    progressed(host, 20)
    host.kill("s.chain.merge")
    host.start(host.specs["s.chain.merge"])
    progressed(host, 10)
    host.merged.propose_cut(3, 1, None, "1.0.0")
    progressed(host, 20)
    cuts = host.merged.cuts()
    rows = ledger(host.ledger)
    assert [row[2] for row in rows] == [
        1 if row[0] < fence else 2 if row[0] < cuts[2].applied_at else 3 for row in rows
    ]
    check(host, {1: "1.0.0", 2: "1.1.0", 3: "1.0.0"})
    assert "(2, 2, " in (host.folder / "data" / "cuts").read_text()


def test_a_member_that_differs_is_counted_and_a_third_copy_names_it(host: PairHost) -> None:
    odd = host.specs["s.chain.b@1.0.0"]
    host.specs[odd.name] = replace(odd, params={**odd.params, "flavour": "odd"})
    for spec in host.specs.values():
        host.start(spec)

    def diverged(ring: str) -> Diverged:
        status = host.status("s.chain.merge")
        return (status.diverged if status else {}).get(ring, Diverged(0, (), 0))

    rings = [f"s/chain.{member}@1.0.0" for member in "ab"]
    until(lambda: sum(diverged(ring).frames for ring in rings) > 10, "the merge counts frames that differ")
    assert all(diverged(ring).odd == 0 for ring in rings), "two alone accuse each other"
    progressed(host, 40)  # blue has a snapshot that the third copy can begin from
    host.start(host.member("a", "1.1.0", 2, flavour="1.0.0"))
    until(lambda: diverged(rings[1]).odd > 0, "a third copy names the odd one")
    assert diverged(rings[0]).odd == diverged("s/chain.a@1.1.0").odd == 0


def test_a_program_that_raises_ends_with_its_error_in_the_last_line(host: PairHost) -> None:
    host.start(host.specs["s.source"])
    process = host.start(host.member("a", "1.2.0", 3, raise_after=30))
    assert process.wait(15) == EXIT_PROGRAM
    assert host.log("s.chain.a@1.2.0").splitlines()[-1] == "ArithmeticError: frame 30 is not to my taste"


def test_sigterm_ends_every_role_in_order(host: PairHost) -> None:
    processes = {name: host.start(spec) for name, spec in host.specs.items()}
    progressed(host, 10)
    for name, process in processes.items():
        process.terminate()
        assert process.wait(5) == 0, host.log(name)
        assert host.status(name) is not None
    assert all(ring.stats().writer_pid == 0 and not ring.stats().readers for ring in host._made)


def test_a_zipapp_runs_like_a_file_and_a_taken_ring_is_refused(host: PairHost) -> None:
    artifact = host.folder / "sha256-0123"
    with zipfile.ZipFile(artifact, "w") as archive:
        archive.write(PROGRAM, "stream_program.py")
    spec = replace(host.specs["s.source"], program=str(artifact))
    process = host.start(spec)
    source = host._made[0]
    until(lambda: source.head > 10, "the source in a zipapp writes")
    process.terminate()
    assert process.wait(5) == 0
    other = host.folder / "no.ring"
    other.write_bytes(b"not a ring" * 5000)
    broken = host.start(replace(spec, name="broken", output_ring=str(other)))
    assert broken.wait(15) == EXIT_RING
    assert "RingDamaged" in host.log("broken")
    with open("/dev/full", "wb") as full:  # a log without room
        argv = [sys.executable, "-m", "halftrack_dataplane.run", str(host.folder / "specs" / "broken.json")]
        assert subprocess.run(argv, stdout=full, stderr=full, check=False).returncode == EXIT_RING
    unreadable = host.start(replace(spec, name="unreadable", program=str(host.folder / "nowhere")))
    assert unreadable.wait(15) == EXIT_SPEC


def test_the_merge_costs_next_to_nothing_at_100_frames_a_second(folder: Path) -> None:
    host = PairHost(folder / "host", rate=100 * 4 * 256)
    try:
        for spec in host.specs.values():
            host.start(spec)
        progressed(host, 50)
        process = psutil.Process(host._running["s.chain.merge"].pid)
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        progressed(host, 200)
        share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - began)
        assert share < 0.2, f"{share:.1%} of a core"  # 3 % alone, 6 beside a busy neighbour; one that spins takes half
        source = host.status("s.source")
        assert source is not None
    finally:
        host.close()
