"""Sizes and durations as people write them (`256MiB`, `500ms`), and back. Pure; knows nothing of manifests or files."""

import re
from bisect import bisect_right

from halftrack_model.canonical import MAX_INT

_SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATIONS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_MINUTE_MS = 60_000
_AGE_STEPS_MS = tuple(
    minutes * _MINUTE_MS for minutes in (1, 2, 5, 10, 30, 60, 120, 360, 720, *(1440 * days for days in range(1, 400)))
)
_FORM = re.compile(r"([0-9]{1,12})\s?([A-Za-z]+)")

SIZE_PATTERN = rf"^[0-9]{{1,12}} ?({'|'.join(_SIZES)})$"
DURATION_PATTERN = rf"^[0-9]{{1,12}} ?({'|'.join(_DURATIONS_MS)})$"
AGO_PATTERN = rf"^-[0-9]{{1,12}} ?({'|'.join(_DURATIONS_MS)})$"
BYTE_RATE_PATTERN = rf"^[0-9]{{1,12}} ?({'|'.join(_SIZES)})/s$"
_BITS = {"bit": 1, "kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9}
LINK_RATE_PATTERN = rf"^([0-9]{{1,12}}) ?(?:({'|'.join(_BITS)})/s|(?:{'|'.join(_SIZES)})/s)$"
TIME_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
FACTOR_PATTERN = r"^[0-9]{1,4}(\.[0-9]{1,2})?x$"
FRAME_RATE_PATTERN = r"^[0-9]{1,12}/s$"


def size_bytes(text: str) -> int:
    """The bytes that `text` means; ValueError saying what to write when it means none."""
    return _quantity(text, _SIZES, "a size", "256MiB")


def duration_ms(text: str) -> int:
    """The milliseconds that `text` means; ValueError saying what to write when it means none."""
    return _quantity(text, _DURATIONS_MS, "a duration", "500ms or 30s")


def ago_ms(text: str) -> int:
    """The milliseconds before now that `text` (`-30s`) means; ValueError saying what to write when it means none."""
    if not text.strip().startswith("-"):
        raise ValueError(f"{text!r} is not a time before now; write it with a minus, such as -30s")
    return duration_ms(text.strip()[1:])


def bytes_per_s(text: str) -> int:
    """The bytes in a second that `text` (`100MB/s`) means; ValueError saying what to write when it means none."""
    if not text.strip().endswith("/s"):
        raise ValueError(f"{text!r} is not a rate of bytes; write for example 100MB/s")
    return size_bytes(text.strip().removesuffix("/s"))


def link_bytes_per_s(text: str) -> int:
    """The bytes in a second that `text` (`256kbit/s`, `2MB/s`, `0`) means; ValueError saying what to write when it means none."""
    if text.strip() == "0":
        return 0
    match = re.fullmatch(LINK_RATE_PATTERN, text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a rate of a link; write for example 256kbit/s or 2MB/s, or 0 for nothing")
    if match[2] is None:
        return bytes_per_s(text)
    number = int(match[1]) * _BITS[match[2]] // 8
    if not number or number > MAX_INT:
        raise ValueError(f"{text!r} is no rate that a link has; write for example 256kbit/s")
    return number


def minute_of_day(text: str) -> int:
    """The minute of the day that `text` (`18:00`) means; ValueError saying what to write when it means none."""
    if not re.fullmatch(TIME_PATTERN, text):
        raise ValueError(f'{text!r} is not a time of the day; write it in quotes, such as "18:00" (UTC)')
    return int(text[:2]) * 60 + int(text[3:])


def percent(text: str) -> int:
    """The percentage that a factor (`1.5x`) means; ValueError saying what to write when it means none."""
    if not re.fullmatch(FACTOR_PATTERN, text.strip()):
        raise ValueError(f"{text!r} is not a factor; write a number with at most two decimals and an x: 1.5x")
    whole, _, parts = text.strip().removesuffix("x").partition(".")
    number = int(whole) * 100 + int(parts.ljust(2, "0"))
    if not number:
        raise ValueError(f"{text!r} leaves nothing at all; write for example 1.5x")
    return number


def frames_per_s(text: str) -> int:
    """The frames in a second that `text` (`20000/s`) means; ValueError saying what to write when it means none."""
    number = text.strip().removesuffix("/s")
    if number == text.strip() or not number.isascii() or not number.isdigit() or not 0 < len(number) <= 12:
        raise ValueError(f"{text!r} is not a rate of frames; write for example 20000/s")
    return int(number)


def size_text(number: float) -> str:
    """`number` bytes in the largest binary unit that leaves at least one: 268435456 is 256MiB."""
    for unit in ("GiB", "MiB", "KiB"):
        if number >= _SIZES[unit]:
            amount = number / _SIZES[unit]
            return f"{amount:.0f}{unit}" if amount == int(amount) else f"{amount:.1f}{unit}"
    return f"{number:.0f}B"


def exact_size_text(number: int) -> str:
    """`number` bytes in the largest binary unit that says them exactly: 1572864 is 1536KiB."""
    unit = next((unit for unit in ("GiB", "MiB", "KiB") if number and number % _SIZES[unit] == 0), "B")
    return f"{number // _SIZES[unit]}{unit}"


def exact_duration_text(number_ms: int) -> str:
    """`number_ms` in the largest unit that says them exactly: 90000 is 90s."""
    units = sorted(_DURATIONS_MS, key=lambda unit: -_DURATIONS_MS[unit])
    unit = next(unit for unit in units if (number_ms and number_ms % _DURATIONS_MS[unit] == 0) or unit == "ms")
    return f"{number_ms // _DURATIONS_MS[unit]}{unit}"


def times_text(number: int) -> str:
    """How often: once, 2 times."""
    return "once" if number == 1 else f"{number} times"


def age_text(age_ms: int) -> str:
    """How long ago, in the one or two units a person would say: 4 s, 12 min, 3 h 20 min, 5 d."""
    seconds = max(0, age_ms) // 1000
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"


def rough_age_text(age_ms: int) -> str:
    """`age_ms` rounded down to a few steps, so that a sentence with it in it changes seldom: it is stored when it changes."""
    reached = bisect_right(_AGE_STEPS_MS, age_ms)
    return f"at least {age_text(_AGE_STEPS_MS[reached - 1])}" if reached else "moments"


def _quantity(text: str, units: dict[str, int], what: str, example: str) -> int:
    match = _FORM.fullmatch(text.strip())
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not {what}; write a whole number and one of {', '.join(units)}: {example}")
    number = int(match[1]) * units[match[2]]
    if number > MAX_INT:
        raise ValueError(f"{text!r} is larger than anything can be; write less, such as {example}")
    return number
