"""What an upgrade costs a thin link: zstd with the old version as its dictionary, beside content-defined chunks, on successive wheels of PyPI.

    python benchmarks/delta.py [--json] [--only WORD] [--folder DIR] [--write FILE]

Owns the pairs and the peer. Each pair is tried in the form in which it is published (its members deflated) and stored (as `python -m zipapp`
makes archives). Ours is packed and rebuilt by the very code of controller and agent. The peer is FastCDC's gear hash with 8 KiB chunks on average; it
is charged 32 bytes for each chunk's name and nothing for those that the host has, and its new chunks are packed together at the same level.
"""

import argparse
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from halftrack_agent.rebuilding import unpack
from halftrack_controller import parcels

PAIRS = (
    ("requests", "2.32.4", "2.32.5"),  # Python alone
    ("rich", "14.1.0", "14.2.0"),
    ("numpy", "2.3.4", "2.3.5"),  # compiled, many objects
    ("grpcio", "1.75.0", "1.75.1"),  # compiled, one large object
)
CHUNK_BYTES, MIN_BYTES, MAX_BYTES = 8 << 10, 2 << 10, 64 << 10
NAME_BYTES = 32
GEAR_BITS = 32


def fetched(product: str, version: str, folder: Path) -> bytes:
    """A wheel for CPython 3.11 on x86-64, from the index that pip uses."""
    place = folder / f"{product}-{version}"
    if not place.is_dir():
        tags = ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64"]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", *tags]
        subprocess.run([*command, "-d", str(place), f"{product}=={version}"], check=True)
    return next(place.glob("*.whl")).read_bytes()


def stored(wheel: bytes) -> bytes:
    """The same archive with nothing deflated."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(wheel)) as source, zipfile.ZipFile(out, "w") as target:
        for member in source.infolist():
            target.writestr(zipfile.ZipInfo(member.filename, member.date_time), source.read(member))
    return out.getvalue()


def chunks(data: bytes) -> Iterator[bytes]:
    """Cut where the gear hash of the last 32 bytes says so, within bounds."""
    gear = np.array([random.Random(byte).getrandbits(GEAR_BITS) for byte in range(256)], np.uint32)
    hashes: npt.NDArray[np.uint32] = np.zeros(len(data), np.uint32)
    values = gear[np.frombuffer(data, np.uint8)]
    for back in range(GEAR_BITS):
        hashes[back:] += values[: len(values) - back] << np.uint32(back)
    begin = 0
    for cut in np.flatnonzero(hashes >> np.uint32(GEAR_BITS - (CHUNK_BYTES - MIN_BYTES).bit_length()) == 0) + 1:
        while cut - begin > MAX_BYTES:
            yield data[begin : begin + MAX_BYTES]
            begin += MAX_BYTES
        if cut - begin >= MIN_BYTES:
            yield data[begin:cut]
            begin = int(cut)
    if begin < len(data):
        yield data[begin:]


def chunked(old: bytes, new: bytes, folder: Path) -> int:
    """What the peer sends."""
    known = {hashlib.sha256(chunk).digest() for chunk in chunks(old)}
    named, fresh = 0, bytearray()
    for chunk in chunks(new):
        named += 1
        if (digest := hashlib.sha256(chunk).digest()) not in known:
            known.add(digest)
            fresh += chunk
    return named * NAME_BYTES + packed(bytes(fresh), None, folder)[0]


def packed(new: bytes, old: bytes | None, folder: Path) -> tuple[int, float, float]:
    """What we send, the processor's seconds to pack it, and those to rebuild it, which is checked."""
    names = [folder / name for name in ("new", "old", "parcel", "built")]
    names[0].write_bytes(new)
    names[1].write_bytes(old or b"")
    began = time.process_time()
    with names[2].open("wb") as out:
        parcels.compressed(names[0], names[1] if old else None, out.write, 2 * len(new) + 1024)
    middle = time.process_time()
    descriptor = os.open(names[3], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    good = unpack(old, names[2], descriptor, len(new))
    os.close(descriptor)
    end = time.process_time()
    if not good or names[3].read_bytes() != new:
        raise SystemExit("a parcel was not rebuilt to what it was made of")
    return names[2].stat().st_size, middle - began, end - middle


def rows(pair: tuple[str, str, str], wheels: Path, scratch: Path) -> Iterator[dict[str, object]]:
    """The lines of one pair."""
    old, new = (fetched(pair[0], version, wheels) for version in pair[1:])
    for form, before, after in (("deflated", old, new), ("stored", stored(old), stored(new))):
        delta, pack_s, rebuild_s = packed(after, before, scratch)
        alone = packed(after, None, scratch)[0]
        cdc = chunked(before, after, scratch)
        yield {
            "case": f"{pair[0]} {pair[1]} -> {pair[2]}",
            "form": form,
            "bytes": len(after),
            "zstd": alone,
            "delta": delta,
            "chunks": cdc,
            "delta_of_wheel": round(delta / len(new), 4),
            "chunks_of_wheel": round(cdc / len(new), 4),
            "pack_s": round(pack_s, 2),
            "rebuild_s": round(rebuild_s, 2),
        }


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    parser.add_argument("--only", default="", metavar="WORD", help="pairs that have it in their name")
    parser.add_argument("--folder", type=Path, help="keep wheels here")
    parser.add_argument("--write", type=Path, help="and write the lines to this file")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="halftrack-bench-") as scratch:
        wheels = options.folder or Path(scratch) / "wheels"
        for pair in PAIRS:
            for row in rows(pair, wheels, Path(scratch)) if options.only in pair[0] else ():
                found.append(row)
                print(json.dumps(row) if options.json else text(row), flush=True)
    if options.write:
        options.write.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    best = [row for row in found if row["form"] == "stored"]
    print("bench-delta: of the published wheel, " + "; ".join(f"{r['case']} {r['delta_of_wheel']:.1%}" for r in best))
    return 0


def text(row: dict[str, object]) -> str:
    """A row for people."""
    return (
        f"{row['case']:28} {row['form']:8} {row['bytes']:>10} bytes; zstd {row['zstd']:>9}; delta {row['delta']:>9} "
        f"({row['delta_of_wheel']:.1%} of the wheel, {row['pack_s']} s); chunks {row['chunks']:>9} ({row['chunks_of_wheel']:.1%})"
    )


if __name__ == "__main__":
    sys.exit(main())
