"""The crash matrix in short, and what a disk keeps: the model that decides what is left after a power cut is held against real files."""

from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import files
from halftrack_agent.drivers import procfs
from halftrack_agent.places import Places
from halftrack_model import canonical, seals
from halftrack_model.ids import digest_of
from halftrack_model.release import Artifact, Release
from halftrack_model.seals import Sealed
from tests.agent_core.plans import service_plan, service_release
from tests.crash.power import SECTOR, Disk, Kind, Record, unsynced_from
from tests.crash.run import HOWS, Matrix, Outcome, Point, added, boundary_of, drawn, points_of
from tests.crash.scenarios import brought, out_of_order
from tests.crash.stage import Stage, of_another_boot
from tests.sim import keys
from tests.soak.short_form import short_form

# What stands for the matrix in the suite: each kind of fault, in each of the programs that a host has. No update, which is three programs more.
FEW = (
    "enrolment, agent #9 power lost",
    "first plan, agent #40 power torn 1",
    "first plan, agent #60 half written",
    "swap, agent #210 power torn 1",
    "shim #8 killed",
    "shim #12 disk failed",
)


# invariants: P3, R1, R2, D1, S1
@pytest.mark.host
def test_a_program_killed_anywhere_converges(tmp_path: Path) -> None:
    report = short_form("tests.crash.run", "crash-matrix.json", tmp_path, ONLY=";".join(FEW))
    assert report["points"] == report["converged"] == len(FEW), report["examples"]
    assert sum(row["points"] for row in report["by_boundary"]) == len(FEW)


def change(kind: Kind, name: str, other: str = "", inode: int = 0, offset: int = 0, data: bytes = b"") -> Record:
    return Record(kind, inode, offset, name, other, data)


def replaced(*, synced: bool, named: bool) -> Disk:
    """A file written beside, synced or not, renamed, its folder synced or not: what `files.replace` does."""
    disk = Disk({"/s/a": (1, b"old")}, frozenset({"/s"}))
    steps = [change(Kind.CREATE, "/s/.a.new", inode=2), change(Kind.WRITE, "/s/.a.new", inode=2, data=b"new")]
    steps += [change(Kind.SYNC, "/s/.a.new", inode=2)] if synced else []
    steps += [change(Kind.RENAME, "/s/.a.new", "/s/a")]
    steps += [change(Kind.SYNC, "/s", inode=9, offset=1)] if named else []
    for step in steps:
        disk.apply(step)
    return disk


# invariant: D1
@given(st.integers(0, 1 << 32))
def test_what_was_synced_in_order_is_old_or_new_and_never_half(seed: int) -> None:
    for named in (False, True):
        disk = replaced(synced=True, named=named)
        assert disk.lost()["/s/a"] == (b"new" if named else b"old")
        assert disk.torn(Random(seed))["/s/a"] in ((b"new",) if named else (b"old", b"new"))


@given(st.lists(st.tuples(st.sampled_from([Kind.WRITE, Kind.SYNC]), st.sampled_from("ab"), st.integers(0, 9))))
def test_what_nobody_has_been_told_is_what_was_written_since_the_last_sync(steps: list[tuple[Kind, str, int]]) -> None:
    log = [change(kind, f"/s/{name}", offset=at if kind is Kind.WRITE else 0) for kind, name, at in steps]
    mine = [(kind, at) for kind, name, at in steps if name == "a"]
    synced = max((n for n, (kind, _) in enumerate(mine) if kind is Kind.SYNC), default=-1)
    assert unsynced_from(log, "/s/a") == min((at for _, at in mine[synced + 1 :]), default=None)


def test_a_name_without_its_bytes_is_found_out() -> None:
    """The model is no friend of a program that forgets a sync: this is what it is for."""
    assert replaced(synced=False, named=True).lost()["/s/a"] == b""
    found = {replaced(synced=False, named=True).torn(Random(seed))["/s/a"] for seed in range(50)}
    assert {b"", b"new"} <= found


@given(st.binary(min_size=1, max_size=3 * SECTOR), st.integers(0, 2 * SECTOR), st.integers(0, 1 << 32))
def test_a_torn_write_ends_at_a_sector(data: bytes, at: int, seed: int) -> None:
    before = bytes(at)
    disk = Disk({"/s/a": (1, before)}, frozenset({"/s"}))
    disk.apply(change(Kind.WRITE, "/s/a", inode=1, offset=at, data=data))
    found = disk.torn(Random(seed))["/s/a"]
    assert found is not None
    kept = found.removeprefix(before)
    whole = len(kept) if data.startswith(kept) else len(kept.rstrip(b"\0"))
    assert data.startswith(kept[:whole])
    assert disk.lost()["/s/a"] == before


def test_what_another_process_wrote_is_kept_by_our_sync_of_it() -> None:
    for synced in (True, False):
        disk = Disk({}, frozenset({"/s"}), {"/s/a": b"theirs"}.__getitem__)
        if synced:
            disk.apply(change(Kind.SYNC, "/s/.theirs", inode=7))
        disk.apply(change(Kind.RENAME, "/s/.theirs", "/s/a"))
        disk.apply(change(Kind.SYNC, "/s", inode=9, offset=1))
        assert disk.lost()["/s/a"] == (b"theirs" if synced else b"")


@given(st.integers(0, 1 << 32))
def test_a_second_name_of_a_file_lasts_with_its_folder_and_keeps_what_the_first_one_loses(seed: int) -> None:
    disk = Disk({"/s/a": (1, b"old")}, frozenset({"/s"}))
    disk.apply(change(Kind.LINK, "/s/a", "/s/a.before"))
    disk.apply(change(Kind.CREATE, "/s/.a.new", inode=2))
    disk.apply(change(Kind.RENAME, "/s/.a.new", "/s/a"))
    assert disk.lost() == {"/s": None, "/s/a": b"old"}
    torn = disk.torn(Random(seed))
    assert torn["/s/a"] == b"old" or torn["/s/a.before"] == b"old", "one of the two has it, whatever is kept"
    disk.apply(change(Kind.SYNC, "/s", inode=9, offset=1))
    assert disk.lost() == {"/s": None, "/s/a": b"", "/s/a.before": b"old"}


def test_what_bears_the_name_of_a_boot_is_whole_in_another() -> None:
    boot, tree = procfs.boot_id(), {"workload": "a", "boot_id": procfs.boot_id()}
    note = files.summed(b'{"boot_id":"%s"}' % boot.encode())
    for data in (note, procfs.record({**tree}), procfs.write_order(list(tree.items()))):
        other = of_another_boot(data)
        assert (len(other), boot.encode() in other) == (len(data), False)
    assert files.unsummed(of_another_boot(note)) != note
    assert procfs.is_whole(of_another_boot(procfs.record({**tree})))
    assert procfs.read_order(of_another_boot(procfs.write_order(list(tree.items()))))["workload"] == ["a"]
    assert of_another_boot(b"nothing of it") == b"nothing of it"


def test_a_name_below_a_folder_that_is_lost_is_lost_with_it() -> None:
    disk = Disk({}, frozenset({"/s"}))
    disk.apply(change(Kind.MKDIR, "/s/d"))
    disk.apply(change(Kind.CREATE, "/s/d/a", inode=1))
    disk.apply(change(Kind.SYNC, "/s/d", inode=8, offset=1))
    assert disk.lost() == {"/s": None}
    disk.apply(change(Kind.SYNC, "/s", inode=9, offset=1))
    assert disk.lost() == {"/s": None, "/s/d": None, "/s/d/a": b""}


@given(st.integers(1, 400), st.integers(0, 1 << 32))
def test_each_boundary_has_its_turn(points: int, seed: int) -> None:
    found = drawn({"a": 20, "b": 7}, {"a": 3, "b": 1}, {"a"}, points, seed)
    assert len(found) == points
    for name, count in (("a", 20), ("b", 7)):
        numbers = [point.number for point in found if point.scenario == name]
        turns = [numbers[at : at + count] for at in range(0, len(numbers), count)]
        assert all(len(set(turn)) == len(turn) and set(turn) <= set(range(1, count + 1)) for turn in turns)
    assert not any(point.how.startswith("power") for point in found if point.scenario == "b")
    assert found == drawn({"a": 20, "b": 7}, {"a": 3, "b": 1}, {"a"}, points, seed)


@given(
    st.lists(
        st.builds(
            Point,
            st.sampled_from(["first plan, agent", "swap, agent"]),
            st.integers(1, 999),
            st.sampled_from(sorted(HOWS)),
            st.integers(0, 1 << 32),
        ),
        max_size=3,
    )
)
def test_a_point_is_found_again_by_the_name_that_it_is_told_by(points: list[Point]) -> None:
    assert points_of("; ".join(map(str, points))) == points


def test_what_is_no_point_says_how_one_is_written() -> None:
    assert points_of("swap, agent #7 killed") == [Point("swap, agent", 7, "killed", 0)]
    with pytest.raises(ValueError, match="'swap, agent #7 burnt' is no point: write 'SCENARIO #NUMBER"):
        points_of("swap, agent #7 burnt")


@given(st.sets(st.sampled_from(["page", "packed", "packed, unpacked", "packed, being unpacked"])))
def test_nothing_is_judged_before_all_that_a_plan_names_has_come(here: set[str]) -> None:
    """What nothing runs comes last: of a version that was given up, the folder is made anew after a power cut, beside all that is as it must be again."""
    packed = replace(service_release(), product="agent", artifact=Artifact(digest_of(b"packed"), 6), unpack=True)
    plan = replace(service_plan(), releases=tuple(map(sealed_as, (service_release(), packed))))
    page, archive = (made.artifact.digest.removeprefix("sha256:") for made in (service_release(), packed))
    with TemporaryDirectory() as folder:
        places = Places(Path(folder), Path(folder) / "run")
        paths = {
            "page": places.artifacts / page,
            "packed": places.artifacts / archive,
            "packed, unpacked": places.unpacked / archive,
            "packed, being unpacked": places.unpacked / f".{archive}.new",
        }
        for name in here:
            paths[name].mkdir(parents=True)
        assert brought(plan, places) is (here >= {"page", "packed", "packed, unpacked"})


# invariant: S1
@given(st.lists(st.integers(0, 4), max_size=5), st.binary(max_size=8))
def test_an_output_that_is_missing_or_there_twice_is_told(numbers: list[int], half_an_output: bytes) -> None:
    with TemporaryDirectory() as folder:
        stage = Stage(Path(folder) / "stage", "")
        file = stage.places.data("line.sink") / "out"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"".join(number.to_bytes(8, "big") + b"1" for number in numbers) + half_an_output)
        assert len(list(out_of_order(stage))) == (numbers != list(range(len(numbers))))


def sealed_as(made: Release) -> Sealed:
    return keys.sealed(seals.RELEASE, canonical.encode(made), keys.RELEASE)


def test_what_did_not_converge_or_was_never_played_is_counted() -> None:
    points = [Point("a", n, "killed", 0) for n in range(4)]
    outcomes = [
        Outcome(points[0], "agent fsync journal", [], 1.0),
        Outcome(points[1], "agent fsync journal", ["why"], 1.0),
    ]
    outcomes += [Outcome(points[2], "", [], 1.0)]
    matrix = added(points, outcomes)
    assert isinstance(matrix, Matrix)
    assert (matrix.points, matrix.converged, matrix.missed) == (3, 1, 1)
    assert matrix.by_boundary == [{"boundary": "agent fsync journal", "points": 2, "converged": 1}]


def test_boundaries_have_names() -> None:
    assert boundary_of("agent", "/s", "fsync", "/s/journal") == "agent fsync journal"
    assert boundary_of("agent", "/s", "write", "/s/.revision.new") == "agent write revision"
    assert boundary_of("agent", "/s", "fsync", "/s") == "agent fsync state folder"
    assert boundary_of("agent", "/s", "spawn", "") == "agent spawn"
    assert boundary_of("agent", "/s", "write", "/s/instances/line.sink/.order.new") == "agent write instances/order"
