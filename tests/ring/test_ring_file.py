"""What the fast ring accepts as a file, and what it says to whom meets something else."""

import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from halftrack_dataplane.frames import RingDamaged, RingError, RingVersion
from halftrack_dataplane.ring import Ring
from tests.ring.native_build import run
from tests.ring.ring_peers import peer

VERSION_AT, SLOTS_AT, CHECKSUM_AT, SCHEMA_AT, SCHEMA_BYTES, HEADER_BYTES = 8, 32, 0x1F8, 0x500, 2048, 0x5000


@pytest.fixture
def written(path: Path) -> Path:
    with Ring.create(path, capacity_bytes=8192, slots=16, label="sky") as ring, ring.writer() as writer:
        writer.write(b"frame")
    return path


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def checksum(whole: bytes) -> int:
    """FNV-1a of the static part and the schema, written again from its definition, so that the header's own is checked too."""
    total = 0xCBF29CE484222325
    for byte in whole[:CHECKSUM_AT] + whole[SCHEMA_AT : SCHEMA_AT + SCHEMA_BYTES]:
        total = (total ^ byte) * 0x100000001B3 % 2**64
    return total


def test_the_header_is_what_the_layout_says(written: Path) -> None:
    data = written.read_bytes()
    assert data[:8] == b"HTRKRING"
    version, header, total, index, slots, frames, capacity = struct.unpack_from("<II5Q", data, 8)
    assert (version, header, total) == (3, HEADER_BYTES, len(data))
    assert (index, slots, frames, capacity) == (HEADER_BYTES, 16, HEADER_BYTES + 4096, 8192)
    assert struct.unpack_from("<Q", data, CHECKSUM_AT)[0] == checksum(data)
    assert data[frames : frames + 5] == b"frame"


def test_the_file_has_its_mode_and_no_draft_stays(path: Path) -> None:
    Ring.create(path, mode=0o660, capacity_bytes=1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with pytest.raises(FileExistsError, match="remove it first"):
        Ring.create(path, capacity_bytes=1)
    with pytest.raises(ValueError, match="label"):
        Ring.create(path.with_name("other"), capacity_bytes=1, label="x" * 200)
    assert os.listdir(path.parent) == [path.name]


NO_NAMELESS_FILES = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = va_arg(more, int);
    va_end(more);
    if ((flags & O_TMPFILE) == O_TMPFILE) return errno = EOPNOTSUPP, -1;
    return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64"))(path, flags, mode);
}
int open(const char *path, int flags, ...) __attribute__((alias("open64")));
"""


def test_a_file_system_without_nameless_files_will_do(folder: Path, tmp_path: Path) -> None:
    """As some containers have it: open(2) says EOPNOTSUPP to O_TMPFILE."""
    source, shim, path = tmp_path / "shim.c", tmp_path / "shim.so", folder / "ring"
    source.write_text(NO_NAMELESS_FILES)
    run("gcc", "-shared", "-fPIC", "-o", shim, source, "-ldl")
    code = (
        "import sys; from halftrack_dataplane.ring import Ring\n"
        "for _ in range(2):\n"
        "    try: Ring.create(sys.argv[1], capacity_bytes=4096, slots=8, label='sky', mode=0o640)\n"
        "    except FileExistsError: print('kept')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], env={**os.environ, "LD_PRELOAD": str(shim)}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "kept\n"), done.stderr
    assert Ring.open(path).label == "sky"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(folder) == ["ring"]


# invariant: D1
def test_any_damaged_static_byte_is_refused(written: Path) -> None:
    whole = written.read_bytes()
    for at in [
        *range(0, CHECKSUM_AT + 8, 5),
        *range(CHECKSUM_AT, CHECKSUM_AT + 8),
        *range(SCHEMA_AT, SCHEMA_AT + SCHEMA_BYTES, 97),
    ]:
        overwrite(written, at, bytes([whole[at] ^ 0x40]))
        with pytest.raises((RingDamaged, RingVersion), match="remove the file and create the stream anew"):
            Ring.open(written)
        overwrite(written, at, whole[at : at + 1])
    assert Ring.open(written).head == 1


def test_another_version_is_told_apart_from_damage(written: Path) -> None:
    overwrite(written, VERSION_AT, struct.pack("<I", 1))
    with pytest.raises(RingVersion, match=r"version 1.*knows version 3 only.*Run the Halftrack that made it"):
        Ring.open(written)


@pytest.mark.parametrize("size", [0, 100, HEADER_BYTES, HEADER_BYTES + 4096 + 8191])
def test_a_truncated_file_is_refused(written: Path, size: int) -> None:
    os.truncate(written, size)
    for readonly in (False, True):
        with pytest.raises(RingDamaged, match=r"(too short|truncated).*Remove|remove the file"):
            Ring.open(written, readonly=readonly)


def test_a_header_that_lies_consistently_is_refused(written: Path) -> None:
    overwrite(written, SLOTS_AT, struct.pack("<Q", 17))
    overwrite(written, CHECKSUM_AT, struct.pack("<Q", checksum(written.read_bytes())))
    with pytest.raises(RingDamaged, match="contradicts itself"):
        Ring.open(written)


# invariant: D1
@pytest.mark.parametrize("word", [0, 1, 2], ids=["seq", "offset", "length"])
def test_a_descriptor_that_was_written_over_is_never_followed(written: Path, word: int) -> None:
    ring = Ring.open(written)
    reader = ring.reader(start=0)
    overwrite(written, HEADER_BYTES + 8 * word, struct.pack("<Q", 2**40 + 8191))
    for look in (lambda: reader.read(0), lambda: reader.view(0), lambda: ring.peek(0)):
        with pytest.raises(RingDamaged, match="wrote over the ring's memory"):
            look()


def test_a_read_only_hold_leaves_no_trace(written: Path) -> None:
    written.chmod(0o400)
    before = written.read_bytes()
    with Ring.open(written, readonly=True) as ring:
        assert ring.peek(0).payload == b"frame"
        assert ring.stats().head == 1
        with pytest.raises(RingError, match="read-only"):
            ring.reader()
    assert written.read_bytes() == before


def test_objects_made_before_a_fork_stay_the_parents(path: Path) -> None:
    ring = Ring.create(path, capacity_bytes=4096, slots=8)
    writer, reader = ring.writer(), ring.reader()

    def child(report: int) -> None:
        for act in (lambda: writer.write(b"x"), lambda: reader.read(0)):
            with pytest.raises(RingError, match="before a fork"):
                act()
        writer.close()
        reader.close()
        os.write(report, b"ok")

    with peer(child) as (_, reports):
        assert os.read(reports, 2) == b"ok"
    assert writer.write(b"mine still") == 0
    assert reader.read(0).payload == b"mine still"
