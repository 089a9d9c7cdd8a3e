"""The source release: real telescope recordings, decoded with baseband and played in a loop.

Owns the playlist: which recordings, in which order, and how decoded samples become frames. It never paces (the runner does,
by `rate_bytes_per_s`) and never repairs: a recorded frame that does not verify is refused and counted, and the file goes on.

A release is one self-contained file, because that file is what is published, addressed by its content and fetched by agents.

Samples are what baseband decodes, as little-endian float32; complex ones are interleaved (real, imaginary), channels and
polarisations follow each other as they do in the recording. The concatenation of all files is cut into blocks of
`SAMPLES` values; what does not fill a last block is left out. Frame `s` of the stream is block `s` modulo their number.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from halftrack_dataplane.sdk import Param, Source

SAMPLES = 16384  # float32 values in a frame: 64 KiB, the size at which copying costs more than any call

# Formats in their own right: VDIF (VLBI networks: VLBA, MWA, ARO/CHIME), DADA (Effelsberg), GUPPI (Arecibo's PUPPI).
# The DRAO file is a real recording whose headers do not verify.
RECORDINGS = (
    ("vdif", "SAMPLE_VDIF"),
    ("vdif", "SAMPLE_MWA_VDIF"),
    ("vdif", "SAMPLE_DRAO_CORRUPT"),
    ("vdif", "SAMPLE_AROCHIME_VDIF"),
    ("vdif", "SAMPLE_BPS1_VDIF"),
    ("dada", "SAMPLE_DADA"),
    ("guppi", "SAMPLE_PUPPI"),
)

Samples = npt.NDArray[np.float32]
MIN_FRAME_BYTES = 32  # the shortest VDIF frame: a legacy header and two words of payload


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording, decoded: the samples of the frames that verified, and how many did and did not."""

    name: str
    samples: Samples
    frames: int
    refused: int


def recordings() -> tuple[Recording, ...]:
    """All recordings of the playlist, decoded."""
    from baseband import data

    return tuple(decoded(kind, Path(getattr(data, name))) for kind, name in RECORDINGS)


def decoded(kind: str, path: Path) -> Recording:
    """The recording at `path`, frame by frame; a frame that does not verify is counted and passed over."""
    from baseband import dada, guppi, vdif

    opener, skip = {
        "vdif": (vdif.open, _skip_vdif),
        "dada": (dada.open, _skip_rest),
        "guppi": (guppi.open, _skip_rest),
    }[kind]
    parts: list[Samples] = []
    refused, end = 0, path.stat().st_size
    with opener(str(path), "rb") as file:
        while (start := file.tell()) < end:
            try:
                parts.append(_flat(file.read_frame(), first=not parts))
            except Exception:  # noqa: BLE001 - a header that lies can make a decoder raise anything, even ZeroDivisionError
                refused += 1
                file.seek(min(skip(file, start, end), end))
    samples = np.concatenate(parts) if parts else np.empty(0, np.float32)
    return Recording(path.name, samples, len(parts), refused)


def _flat(frame: Any, *, first: bool) -> Samples:
    """The frame's samples as one row of float32, without those that a GUPPI block repeats of the one before (its overlap)."""
    repeated = 0 if first or not hasattr(frame.header, "get") else int(frame.header.get("OVERLAP", 0))
    return np.ascontiguousarray(frame.data[repeated:]).view(np.float32).ravel().astype("<f4")


def _skip_vdif(file: Any, start: int, end: int) -> int:
    """Where the frame after the bad one at `start` begins: by the bad header's own length, if that is believable."""
    from baseband.vdif import VDIFHeader

    file.seek(start)
    try:
        length = int(VDIFHeader.fromfile(file, edv=False, verify=False)["frame_length"]) * 8
    except (AssertionError, ValueError, EOFError):
        return end
    return start + length if MIN_FRAME_BYTES <= length <= end - start else end


def _skip_rest(_file: BinaryIO, _start: int, end: int) -> int:
    """DADA and GUPPI headers are text of no fixed size: after a bad one nothing says where the next frame begins."""
    return end


def blocks(found: tuple[Recording, ...]) -> Samples:
    """The playlist: one row of `SAMPLES` values for each frame of one turn of the loop."""
    joined = np.concatenate([recording.samples for recording in found])
    count = len(joined) // SAMPLES
    if count == 0:
        raise ValueError("the recordings do not fill one frame: is the package `baseband` complete?")
    return joined[: count * SAMPLES].reshape(count, SAMPLES)


class Player(Source):
    """Plays the playlist for ever, from any sequence number on: frame `s` never depends on when the source started."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        """Decode the recordings once; `params` has nothing for us, the runner reads `rate_bytes_per_s`."""
        found = recordings()
        self._blocks = [bytes(row) for row in blocks(found)]
        self._refused = sum(recording.refused for recording in found)

    def counters(self) -> dict[str, int]:
        """What the agent reports as FRAMES_REFUSED."""
        return {"refused": self._refused}

    def frames(self, next_seq: int) -> Iterator[bytes]:
        """The stream from `next_seq` on."""
        while True:
            yield self._blocks[next_seq % len(self._blocks)]
            next_seq += 1
