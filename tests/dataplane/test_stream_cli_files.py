"""`import` and `export`: what goes into a ring from an instrument's files comes out of it again, byte by byte; real processes."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from halftrack_dataplane import dada, vdif
from halftrack_dataplane.file_frames import FileFrames, Piece, ShortTail
from halftrack_dataplane.ring import Ring
from tests.dataplane.commands import begun, out, payloads, records, told

BYTES = random.Random(7).randbytes


@pytest.fixture
def ring(folder: Path) -> Path:
    return folder / "a.ring"


def answer(*arguments: object) -> dict[str, object]:
    """What a verb says of how it went."""
    value = json.loads(out(*arguments, "-o", "json").splitlines()[-1])
    assert isinstance(value, dict)
    return value


# ------------------------------------------------------------------------------------------------------------- raw files


@given(
    contents=st.lists(st.binary(max_size=200), max_size=5),
    size=st.integers(1, 50),
    skip=st.integers(0, 3),
    most=st.integers(0, 4),
    tail=st.sampled_from(["refuse", "pad", "drop"]),
)
@example(
    contents=[b"\1" * 5], size=2, skip=0, most=1, tail="pad"
)  # what the buffer held before must not be the padding
def test_frames_of_files_are_their_bytes_wherever_files_end(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], size: int, skip: int, most: int, tail: str
) -> None:
    folder = tmp_path_factory.mktemp("files")
    pieces = []
    for number, content in enumerate(contents):
        path = folder / str(number)
        path.write_bytes(bytes(skip) + content)
        pieces.append(Piece(path, skip))
    whole = b"".join(contents)
    rest = len(whole) % size
    frames = FileFrames(pieces, size, tail=tail, most=most)  # type: ignore[arg-type]
    got = b""
    try:
        for block in frames:
            assert len(block) % size == 0
            assert not most or len(block) <= most * size
            got += block
        assert not (tail == "refuse" and rest)
    except ShortTail:
        assert tail == "refuse"
        assert rest
    assert frames.rest_bytes == rest
    assert got == whole[: len(whole) - rest] + (
        whole[len(whole) - rest :].ljust(size, b"\0") if tail == "pad" and rest else b""
    )


def test_raw_files_go_in_and_come_out(ring: Path, tmp_path: Path) -> None:
    data = BYTES(100_000)
    (tmp_path / "1").write_bytes(b"head" + data[:33_333])
    (tmp_path / "2").write_bytes(b"head" + data[33_333:])
    done = answer(
        "import", "raw", tmp_path / "1", tmp_path / "2", ring, "--skip", "4", "--frame-bytes", "1000", "--create"
    )
    assert (done["frames"], done["bytes"], done["next_seq"]) == (100, 100_000, 100)
    exported = answer("export", "raw", ring, tmp_path / "3", "--start", "oldest", "--drain")
    assert (exported["frames"], exported["files"]) == (100, [str(tmp_path / "3")])
    assert (tmp_path / "3").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("3")] == ["3"]
    assert "3 exists" in told("export", "raw", ring, tmp_path / "3", status=1)
    out("export", "raw", ring, tmp_path / "3", "--force", "--start", "98", "--count", "1")
    assert (tmp_path / "3").read_bytes() == data[98_000:99_000]


def test_a_short_last_frame_is_refused_padded_or_dropped_and_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abcdefgh" * 3 + b"xyz")
    for tail, status, wanted in (("refuse", 1, 3), ("pad", 0, 4), ("drop", 0, 3)):
        target = folder / tail
        said = told(
            "import", "raw", tmp_path / "x", target, "--frame-bytes", "8", "--create", "--tail", tail, status=status
        )
        assert "3" in said
        assert {"refuse": "--tail pad or drop", "pad": "filled up with zeros", "drop": "left out"}[tail] in said
        assert payloads(target) == [b"abcdefgh"] * 3 + [b"xyz\0\0\0\0\0"] * (wanted - 3)


def test_an_import_keeps_its_pace(ring: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(40))
    out("import", "raw", tmp_path / "x", ring, "--frame-bytes", "1", "--create", "--rate", "100")
    times = [record.timestamp_ns for record in records(ring)]
    assert 0.29 <= (times[-1] - times[0]) / 1e9 < 5


def test_what_was_lost_is_zeros_left_out_or_refused(ring: Path, tmp_path: Path) -> None:
    with Ring.create(ring, capacity_bytes=1 << 16, frame_bytes=4) as made, made.writer() as writer:
        writer.write(b"aaaa")
        writer.gap(2)
        writer.write(b"bbbb")
    wanted = {"zeros": b"aaaa" + bytes(8) + b"bbbb", "skip": b"aaaabbbb", "refuse": b"aaaa"}
    for gaps, content in wanted.items():
        said = told(
            "export", "raw", ring, tmp_path / gaps, "--start", "0", "--drain", "--gaps", gaps, status=gaps == "refuse"
        )
        assert "sequences 1 to 2 are declared as lost" in said
        assert (tmp_path / gaps).read_bytes() == content


def test_a_gap_that_would_fill_a_disk_is_refused(ring: Path, tmp_path: Path) -> None:
    with Ring.create(ring, capacity_bytes=1 << 16, frame_bytes=4) as made, made.writer() as writer:
        writer.write(b"aaaa")
        writer.gap(1 << 40)
        writer.write(b"bbbb")
    said = told("export", "raw", ring, tmp_path / "x", "--start", "0", "--drain", status=1)
    assert f"--start {(1 << 40) + 1}" in said
    assert (tmp_path / "x").read_bytes() == b"aaaa"


# ------------------------------------------------------------------------------------------------------------------ dada


def _dada(path: Path, begin: int, data: bytes, **more: object) -> None:
    fields = {
        "HDR_SIZE": "4096",
        "UTC_START": "2026-11-25-01:00:00",
        "BYTES_PER_SECOND": "1000",
        "SOURCE": "J0437-4715",
    }
    header = dada.Header(fields).but(OBS_OFFSET=begin, **more)
    path.write_bytes(header.to_bytes() + data)


# invariant: S2
def test_files_of_an_observation_go_in_and_come_out(ring: Path, tmp_path: Path) -> None:
    data = BYTES(4000)
    _dada(tmp_path / "b", 7000, data[1000:2500])
    _dada(tmp_path / "a", 6000, data[:1000], FILE_SIZE=1000)
    _dada(tmp_path / "c", 9000, data[3000:])
    files = [tmp_path / name for name in "abc"]
    done = answer("import", "dada", *files, ring, "--frame-bytes", "100", "--create")
    assert (done["frames"], done["lost"], done["first_seq"], done["next_seq"]) == (35, 5, 60, 100)
    with Ring.open(ring, readonly=True) as made:
        assert dada.Header.parse(made.schema.encode()).fields["SOURCE"] == "J0437-4715"
        assert "OBS_OFFSET" not in made.schema
        record = made.peek(90)
        assert record is not None
        assert record.timestamp_ns == (1795568400 + 9) * 10**9
    options = ("--start", "oldest", "--drain", "--file-size", "1500", "--set", "OBSERVER=me")
    exported = answer("export", "dada", ring, tmp_path / "out.dada", *options)
    names = ["out.dada", "out.000001.dada", "out.000002.dada"]
    assert exported["files"] == [str(tmp_path / name) for name in names]
    assert exported["filled_bytes"] == 500
    parts = [(tmp_path / name).read_bytes() for name in names]
    headers = [dada.Header.parse(part[:4096]) for part in parts]
    assert [header.number("OBS_OFFSET") for header in headers] == [6000, 7500, 9000]
    assert [header.number("FILE_NUMBER") for header in headers] == [0, 1, 2]
    assert all(header.fields["OBSERVER"] == "me" for header in headers)
    assert b"".join(part[4096:] for part in parts) == data[:2500] + bytes(500) + data[3000:]
    again = answer("import", "dada", *exported["files"], ring.with_name("b"), "--frame-bytes", "100", "--create")  # type: ignore[misc]
    assert (again["frames"], again["lost"], again["first_seq"]) == (40, 0, 60)


def test_a_malformed_header_is_refused_with_file_line_and_reason(ring: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"HDR_SIZE 4096\nSOURCE\n".ljust(8192, b"\0"))
    said = told("import", "dada", tmp_path / "x", ring, "--create", "--frame-bytes", "8", status=1)
    assert f"{tmp_path / 'x'}: line 2: 'SOURCE' is not a key and its value" in said
    assert not ring.exists()
    (tmp_path / "x").write_bytes(b"HDR_SIZE 4096\n")
    assert "it was cut off" in told("import", "dada", tmp_path / "x", ring, "--create", status=1)


def test_another_observation_does_not_go_into_the_ring(ring: Path, tmp_path: Path) -> None:
    _dada(tmp_path / "a", 0, bytes(64))
    _dada(tmp_path / "b", 64, bytes(64), SOURCE="elsewhere")
    out("import", "dada", tmp_path / "a", ring, "--create", "--frame-bytes", "64")
    assert "another observation's" in told("import", "dada", tmp_path / "b", ring, status=1)
    assert len(payloads(ring)) == 1


def test_a_header_that_no_ring_can_keep_says_what_to_do(ring: Path, tmp_path: Path) -> None:
    _dada(tmp_path / "a", 0, bytes(64), COMMENT="x" * 2000)
    assert "--without KEY" in told("import", "dada", tmp_path / "a", ring, "--create", "--frame-bytes", "64", status=1)
    out("import", "dada", tmp_path / "a", ring, "--create", "--frame-bytes", "64", "--without", "COMMENT")
    assert len(payloads(ring)) == 1


# ------------------------------------------------------------------------------------------------------------------ vdif


def test_a_real_recording_goes_in_whole(ring: Path, tmp_path: Path) -> None:
    import baseband.data

    data = Path(baseband.data.SAMPLE_VDIF).read_bytes()
    frames = [data[at : at + 5032] for at in range(0, len(data), 5032)]
    done = answer("import", "vdif", baseband.data.SAMPLE_VDIF, ring, "--create", "--threads", "8")
    assert (done["frames"], done["lost"]) == (16, 0)
    assert sorted(payloads(ring)) == sorted(frames)
    numbering = vdif.Numbering(1600, 8)
    numbers = [numbering.number(vdif.Header.parse(frame)) for frame in payloads(ring)]
    assert numbers == list(range(numbers[0], numbers[0] + 16))
    assert begun(ring)[0].seq == numbers[0]


# invariant: S2
def test_frames_that_are_not_in_the_file_are_gaps(ring: Path, tmp_path: Path) -> None:
    def frame(number: int) -> bytes:
        return vdif.Header(*divmod(number, 10)[:1], 53, number % 10, 40).to_bytes() + number.to_bytes(8, "little")

    numbers = [at for at in range(5, 60) if at not in (17, 18, 40)]
    numbers[3], numbers[4] = numbers[4], numbers[3]
    (tmp_path / "x").write_bytes(b"".join(map(frame, numbers)))
    done = answer("import", "vdif", tmp_path / "x", ring, "--create")  # the rate is learned
    assert (done["frames"], done["lost"]) == (52, 3)
    first = vdif.epoch_s(53) * 10
    got = {record.seq - first: record for record in begun(ring)}
    assert {at: record.gap for at, record in got.items() if record.gap} == {17: 2, 40: 1}
    assert all(record.payload[32:] == at.to_bytes(8, "little") for at, record in got.items() if not record.gap)


def test_what_is_no_vdif_is_refused(ring: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(100))
    assert "this is no VDIF" in told("import", "vdif", tmp_path / "x", ring, "--create", status=1)
    (tmp_path / "x").write_bytes((vdif.Header(0, 0, 0, 40).to_bytes() + bytes(8)) * 3)
    assert "say --per-second N" in told("import", "vdif", tmp_path / "x", ring, "--create", status=1)
