"""The header of a VDIF data frame: what its words say, which number the frame has in its stream, and when it was sampled. Pure.

Source: "VLBI Data Interchange Format (VDIF) Specification", release 1.1.1 (2014). Owns the layout (eight 32-bit little-endian words, four in the
legacy form) and the arithmetic of numbers and times. Never looks at samples. packet_capture.pyx does the same sums in C, and a test
holds them together.

A frame is numbered by its second, its number in it, and its thread: `((seconds - base) * per_second + frame) * threads + thread`.
Seconds are counted from a half-year's beginning, leap seconds included, and recorders may stay with one epoch for years: so numbers are made of
seconds that passed, and only times know of leap seconds.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

HEADER_BYTES, LEGACY_BYTES = 32, 16
FRAME_BYTES_MOST = (1 << 24) * 8 - 8
EPOCHS = 64
THREADS = 1024
NUMBERS_MOST = 1 << 30  # a second: all seconds up to 2063 then have numbers below 2**62, as a ring's sequences are
_WORDS = struct.Struct("<IIII")
_EXTENDED = struct.Struct("<IIII")
_RATE_VERSIONS = (1, 3)  # extended data versions whose first word is the sample rate: 23 bits, and whether it is in MHz


class VdifError(ValueError):
    """What should be a VDIF header is none, or does not fit the stream that it came in."""


def _unix_s(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp())


# Seconds that passed (POSIX time and the leap seconds since 2000) when each leap second was over. IERS Bulletin C: none since 2017.
LEAPS = tuple(
    _unix_s(year, month) + number
    for number, (year, month) in enumerate(((2006, 1), (2009, 1), (2012, 7), (2015, 7), (2017, 1)), 1)
)


def epoch_s(epoch: int) -> int:
    """When the reference epoch (half-years since 2000) began: POSIX time in seconds and the leap seconds since 2000."""
    began = _unix_s(2000 + epoch // 2, 1 + epoch % 2 * 6)
    return began + sum(leap - number <= began for number, leap in enumerate(LEAPS, 1))


def unix_s(passed_s: int) -> int:
    """POSIX time, which has no leap seconds, of so many seconds that passed."""
    return passed_s - sum(leap <= passed_s for leap in LEAPS)


@dataclass(frozen=True, slots=True)
class Header:
    """The words of a header. `bits` of a sample's component; `rate_hz` is 0 where the extended words do not say it."""

    seconds: int
    epoch: int
    frame: int
    frame_bytes: int
    thread: int = 0
    channels: int = 1
    bits: int = 2
    station: int = 0
    complex_data: bool = False
    invalid: bool = False
    legacy: bool = False
    version: int = 1
    extended_version: int = 0
    rate_hz: int = 0

    @property
    def header_bytes(self) -> int:
        """How long the header itself is."""
        return LEGACY_BYTES if self.legacy else HEADER_BYTES

    @property
    def per_second(self) -> int:
        """Frames a second of one thread by the header's own rate; 0 where it has none.

        That rate is of complex samples, or half of the rate of real ones: both have two numbers for each.
        """
        return self.rate_hz * 2 * self.bits * self.channels // (8 * (self.frame_bytes - self.header_bytes))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From the first bytes of a frame; VdifError says what is wrong with them."""
        if len(data) < LEGACY_BYTES:
            raise VdifError(f"a VDIF header has {LEGACY_BYTES} bytes at least, and here are {len(data)}")
        words = _WORDS.unpack_from(data)
        legacy = bool(words[0] >> 30 & 1)
        frame_bytes = (words[2] & 0xFFFFFF) * 8
        least = LEGACY_BYTES if legacy else HEADER_BYTES
        if frame_bytes <= least:
            raise VdifError(
                f"its frame length is {frame_bytes} bytes, and the header alone has {least}: this is no VDIF"
            )
        extended = (0, 0, 0, 0)
        if not legacy:
            if len(data) < HEADER_BYTES:
                raise VdifError(f"the header has {HEADER_BYTES} bytes, and here are {len(data)}")
            extended = _EXTENDED.unpack_from(data, LEGACY_BYTES)
        version = extended[0] >> 24
        rate = (extended[0] & 0x7FFFFF) * (10**6 if extended[0] >> 23 & 1 else 1000) if version in _RATE_VERSIONS else 0
        return cls(
            seconds=words[0] & 0x3FFFFFFF,
            epoch=words[1] >> 24 & 0x3F,
            frame=words[1] & 0xFFFFFF,
            frame_bytes=frame_bytes,
            thread=words[3] >> 16 & 0x3FF,
            channels=1 << (words[2] >> 24 & 0x1F),
            bits=(words[3] >> 26 & 0x1F) + 1,
            station=words[3] & 0xFFFF,
            complex_data=bool(words[3] >> 31),
            invalid=bool(words[0] >> 31),
            legacy=legacy,
            version=words[2] >> 29,
            extended_version=version,
            rate_hz=rate,
        )

    def to_bytes(self) -> bytes:
        """The header as it is sent."""
        if self.frame_bytes % 8 or not self.header_bytes < self.frame_bytes <= FRAME_BYTES_MOST:
            raise VdifError(
                f"a VDIF frame's length is a multiple of 8 and more than its header, not {self.frame_bytes}"
            )
        words = _WORDS.pack(
            self.invalid << 31 | self.legacy << 30 | self.seconds,
            self.epoch << 24 | self.frame,
            self.version << 29 | (self.channels.bit_length() - 1) << 24 | self.frame_bytes // 8,
            self.complex_data << 31 | (self.bits - 1) << 26 | self.thread << 16 | self.station,
        )
        if self.legacy:
            return words
        rate = 0
        if self.rate_hz:
            mega = self.rate_hz % 10**6 == 0
            rate = mega << 23 | self.rate_hz // (10**6 if mega else 1000)
        return words + _EXTENDED.pack(self.extended_version << 24 | rate, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Numbering:
    """How the frames of one stream are numbered: so many a second in each of `threads` threads, of one length.

    `base` is the second (as of `epoch_s`) from which numbers count.
    """

    per_second: int
    threads: int = 1
    base: int = 0

    def __post_init__(self) -> None:
        """No stream has none of either."""
        most = NUMBERS_MOST // self.threads if 1 <= self.threads <= THREADS else 0
        if not 1 <= self.per_second <= min(1 << 24, most):
            raise VdifError(
                f"{self.per_second} frames a second in {self.threads} threads are no VDIF stream: up to 16777216 a second in 1 to "
                f"{THREADS} threads, and {NUMBERS_MOST} in all"
            )

    def number(self, header: Header) -> int:
        """The sequence of the frame with that header; VdifError for a frame that no such stream has."""
        if header.frame >= self.per_second or header.thread >= self.threads:
            raise VdifError(
                f"frame {header.frame} of thread {header.thread} does not fit {self.per_second} frames a second in "
                f"{self.threads} threads, numbered from 0: see --per-second and --threads"
            )
        seconds = epoch_s(header.epoch) + header.seconds - self.base
        return (seconds * self.per_second + header.frame) * self.threads + header.thread

    def time_ns(self, header: Header) -> int:
        """When the frame's first sample was taken, in nanoseconds since 1970."""
        seconds = unix_s(epoch_s(header.epoch) + header.seconds)
        return seconds * 10**9 + header.frame * 10**9 // self.per_second
