"""The static library and the examples in C: they build without a warning and share rings with Python."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from halftrack_dataplane.ring import Ring
from tests.ring.native_build import CXX, NATIVE, ROOT, STRICT, compiled, library, run

EXAMPLES = ROOT / "examples/native"
BLOCK = struct.Struct("<Q256h")


def block(seq: int) -> bytes:
    """What the instrument samples."""
    first = seq * 256
    return BLOCK.pack(first, *((first + at + 32768) % 65536 - 32768 for at in range(256)))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library and both programs."""
    folder = tmp_path_factory.mktemp("native")
    archive = library(folder)
    for name in ("instrument", "consumer"):
        compiled(folder / name, EXAMPLES / f"{name}.c", archive)
    return folder


def ended(*words: object) -> str:
    return run(*words).strip()


def test_an_instrument_in_c_is_read_from_python(built: Path, path: Path) -> None:
    assert ended(built / "instrument", path, 300) == "300"
    with Ring.open(path) as ring, ring.reader(start="oldest") as reader:
        assert (ring.label, ring.frame_bytes) == ("saw tooth", BLOCK.size)
        for seq in range(300):
            assert reader.read(0).payload == block(seq)
        assert reader.read(0) is None
        assert ended(built / "instrument", path, 5) == "305"  # it goes on where its predecessor ended
        assert reader.read(0).payload == block(300)
    assert ended(built / "consumer", path, 305) == "305 0 0"


def test_python_and_c_wait_for_each_other(built: Path, path: Path) -> None:
    """More frames than the ring holds, written by Python and read by C, both at once."""
    with Ring.create(path, capacity_bytes=16384, slots=16, frame_bytes=BLOCK.size) as ring:
        consumer = subprocess.Popen([built / "consumer", path, "2000"], stdout=subprocess.PIPE, text=True)
        try:
            with ring.writer() as writer:
                while not ring.stats().readers:
                    assert consumer.poll() is None
                for seq in range(1990):
                    writer.write(block(seq), timeout_s=20)
                writer.gap(10)
            assert consumer.communicate(timeout=20)[0].split() == ["2000", "0", "10"]
            assert consumer.returncode == 0
        finally:
            consumer.kill()
            consumer.wait()


def test_what_is_no_ring_is_explained(built: Path, path: Path) -> None:
    path.write_bytes(bytes(100_000))
    for name in ("instrument", "consumer"):
        done = subprocess.run([built / name, path], capture_output=True, text=True, check=False, timeout=20)
        assert (done.returncode, done.stderr) == (1, f"{path}: this is no ring\n")


@pytest.fixture(scope="module")
def cxx() -> str:
    if shutil.which(CXX) is None:
        pytest.skip(f"no {CXX} here: the library itself needs none")
    return CXX


def test_the_headers_serve_cxx(built: Path, path: Path, cxx: str) -> None:
    """Linked, not only parsed: what C++ calls must have C's names."""
    run(cxx, "-std=c++17", *STRICT, "-x", "c++", EXAMPLES / "consumer.c", "-x", "none", built / "libhalftrack_ring.a",
        "-o", built / "consumer-cxx")  # fmt: skip
    small = built / "small.cc"
    small.write_text(
        '#include "halftrack_ring.h"\nint main() { return ht_abi() == HT_ABI_VERSION ? ht_crc32c("", 0) : 1; }\n'
    )
    run(cxx, "-std=c++17", *STRICT, small, built / "libhalftrack_ring.a", "-o", built / "small")
    assert ended(built / "small") == ""
    with Ring.create(path, capacity_bytes=16384, slots=16, checked=True) as ring, ring.writer() as writer:
        for seq in range(8):
            writer.write(block(seq))
    assert ended(built / "consumer-cxx", path, 8) == "8 0 0"


def test_each_header_stands_alone(cxx: str) -> None:
    for header in sorted(NATIVE.glob("*.h")):
        run("gcc", "-std=gnu11", *STRICT, "-fsyntax-only", "-x", "c", header)
        run(cxx, "-std=c++17", *STRICT, "-fsyntax-only", "-x", "c++", header)
