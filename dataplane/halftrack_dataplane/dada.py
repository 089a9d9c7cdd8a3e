"""The header of a PSRDADA file: `KEY value` lines in a block of HDR_SIZE bytes, then data. Pure; opens no file.

Owns reading and writing that text, and what of it Halftrack needs: where the file's data lie in the observation (OBS_OFFSET), how many
fit a file (FILE_SIZE), the time of a byte. Source: the PSRDADA sources' ascii_header.c and the header keywords of its manual. All other
keys pass through unchanged, in order. A comment (from `#`) is no part of a value and is not kept.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Self

SIZE = 4096  # of a header that does not say it
SIZE_MOST = 1 << 20  # a damaged HDR_SIZE must not make us read the data as a header
_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_.\-]*)[ \t]+(\S.*)")
_UTC = "%Y-%m-%d-%H:%M:%S"


class DadaError(ValueError):
    """A header is malformed; the message has the line and the reason."""


@dataclass(frozen=True, slots=True)
class Header:
    """Keys and values as text, in the file's order."""

    fields: Mapping[str, str]

    @classmethod
    def parse(cls, block: bytes) -> Self:
        """From a file's first HDR_SIZE bytes, or from lines alone."""
        text = block.partition(b"\0")[0]
        fields: dict[str, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            key, value = _key_and_value(number, line)
            if not key:
                continue
            if key in fields:
                raise DadaError(f"line {number}: {key} was there before, as {fields[key]!r}; take one of them out")
            fields[key] = value
        header = cls(fields)
        for key in ("HDR_SIZE", "OBS_OFFSET", "FILE_SIZE", "RESOLUTION", "PICOSECONDS"):
            header.number(key)
        if not 0 < header.size <= SIZE_MOST:
            raise DadaError(f"HDR_SIZE {header.size} is no header's size; the usual one is {SIZE}")
        return header

    @property
    def size(self) -> int:
        """Bytes before the data."""
        return self.number("HDR_SIZE") if "HDR_SIZE" in self.fields else SIZE

    def number(self, key: str) -> int:
        """A key's value as a count; 0 where it is not said."""
        text = self.fields.get(key, "0")
        if not re.fullmatch(r"[0-9]{1,18}", text):
            raise DadaError(f"{key} is {text!r}, and has to be a whole number of up to 18 digits")
        return int(text)

    def time_ns(self, offset: int) -> int:
        """When the byte at `offset` of the observation was sampled, in ns since 1970; 0 where the header does not say.

        UTC_START and PICOSECONDS are the observation's first byte's; the pace is BYTES_PER_SECOND, or what the sampling makes of it.
        """
        whole, _, part = self.fields.get("UTC_START", "").partition(".")
        try:
            began = datetime.strptime(whole, _UTC).replace(tzinfo=UTC)
            pace = self._bytes_per_second()
            if not 0 < pace < 10**15:
                return 0
        except (ValueError, ZeroDivisionError):
            return 0
        picoseconds = self.number("PICOSECONDS") + (int(part[:12].ljust(12, "0")) if part.isdigit() else 0)
        return int(began.timestamp()) * 10**9 + picoseconds // 1000 + int(Fraction(offset * 10**9) / pace)

    def _bytes_per_second(self) -> Fraction:
        if "BYTES_PER_SECOND" in self.fields:
            return Fraction(self.fields["BYTES_PER_SECOND"])
        bits = 1
        for key in ("NBIT", "NDIM", "NPOL", "NCHAN"):
            bits *= int(self.fields.get(key, "1" if key != "NBIT" else "8"))
        return Fraction(bits * 10**6, 8) / Fraction(self.fields.get("TSAMP", "0"))

    def text(self) -> str:
        """Line by line, without padding: what goes into a ring's schema."""
        return "".join(f"{key} {value}\n" for key, value in self.fields.items())

    def but(self, **changed: object) -> "Header":
        """The same with some keys changed or added."""
        return Header({**self.fields, **{key: str(value) for key, value in changed.items()}})

    def without(self, keys: Iterable[str]) -> "Header":
        """The same without some keys."""
        gone = set(keys)
        return Header({key: value for key, value in self.fields.items() if key not in gone})

    def to_bytes(self) -> bytes:
        """A block of HDR_SIZE bytes: the lines, then zeros."""
        sized = self if "HDR_SIZE" in self.fields else Header({"HDR_SIZE": str(SIZE), **self.fields})
        for number, (key, value) in enumerate(sized.fields.items(), 1):
            if _key_and_value(number, f"{key} {value}".encode()) != (key, value):
                raise DadaError(
                    f"{key} {value!r} cannot be said in a DADA header: one line, no '#', no space at its ends"
                )
        text = sized.text().encode()
        if len(text) > sized.size:
            raise DadaError(
                f"its lines have {len(text)} bytes, and HDR_SIZE is {sized.size}: raise HDR_SIZE, or leave keys out"
            )
        return text.ljust(sized.size, b"\0")


def _key_and_value(number: int, line: bytes) -> tuple[str, str]:
    try:
        said = line.partition(b"#")[0].decode("ascii").strip()
    except UnicodeDecodeError:
        raise DadaError(f"line {number}: {line[:40]!r} is not ASCII; is this a DADA file?") from None
    if not said:
        return "", ""
    match = _LINE.fullmatch(said)
    if match is None or not said.replace("\t", " ").isprintable():
        raise DadaError(f"line {number}: {said[:60]!r} is not a key and its value; a comment begins with #")
    return match[1], match[2].strip()


# ---------------------------------------------------------------------------------------------- files of one observation

VOLATILE = ("OBS_OFFSET", "FILE_SIZE", "FILE_NUMBER")  # of a file, not of the observation: no ring's schema has them


@dataclass(frozen=True, slots=True)
class Part:
    """One file: its name, its header, and how many bytes of data it has."""

    name: str
    header: Header
    data_bytes: int

    @property
    def begin(self) -> int:
        """Where its data begin in the observation, in bytes."""
        return self.header.number("OBS_OFFSET")


@dataclass(frozen=True, slots=True)
class Run:
    """Files whose data follow each other without a hole, from frame `first` of the observation on."""

    first: int
    parts: tuple[Part, ...]


def runs(parts: list[Part], frame_bytes: int) -> list[Run]:
    """The files in the observation's order. DadaError for those that overlap, are of two observations, or break a frame."""
    ordered = sorted(parts, key=lambda part: part.begin)
    found: list[list[Part]] = []
    end = -1
    for part in ordered:
        one, other = ordered[0].header.fields.get("UTC_START"), part.header.fields.get("UTC_START")
        if one != other:
            raise DadaError(
                f"{ordered[0].name} began at {one}, {part.name} at {other}: import one observation at a time"
            )
        if part.begin < end:
            raise DadaError(
                f"{part.name} begins at byte {part.begin} of the observation, but the file before it ends at {end}"
            )
        if part.begin != end:
            if part.begin % frame_bytes or (found and (end - found[0][0].begin) % frame_bytes):
                raise DadaError(
                    f"{part.name} begins at byte {part.begin} of the observation, the file before it ends at {max(end, 0)}: "
                    f"that is no whole number of frames of {frame_bytes} bytes; choose another --frame-bytes"
                )
            found.append([])
        found[-1].append(part)
        end = part.begin + part.data_bytes
    return [Run(run[0].begin // frame_bytes, tuple(run)) for run in found]
