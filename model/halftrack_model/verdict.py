"""The verdict that a release declares on itself: what must be seen of its green, beside blue, before a cut may be made.

Words that are signed with the release, and the rules for them. Who measures is the host, and who decides is the leader of the swap.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

MAX_FIELDS = 256
MAX_COUNT = 1 << 24  # values of one field: more than any frame that fits in a ring has
MAX_FRAMES = 10**9
MAX_PERCENT = 10**6
DTYPE = re.compile(r"[<>]?([iu][1248]|f[248]|c8|c16|b1)")
_DECIMAL = re.compile(r"[0-9]{1,32}(\.[0-9]{1,32})?([eE][+-]?[0-9]{1,3})?")


class Check(Enum):
    """How green's frame of a number is held against blue's. INVARIANT asks green's alone, and lets them differ."""

    NOTHING = "nothing"
    EQUAL = "equal"
    TOLERANCE = "tolerance"
    FUNCTION = "function"
    INVARIANT = "invariant"


@dataclass(frozen=True, slots=True)
class FieldTolerance:
    """A field of a frame, and how far green's values of it may be from blue's: `absolute` + `relative` x |blue's|.

    Both are decimal text, since what is signed has no floating point. `count` values of `dtype`, 0: all that the frame has left.
    """

    name: str
    dtype: str
    count: int = 1
    absolute: str = "0"
    relative: str = "0"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What must hold. Percentages are of blue's figure; 0 asks for nothing. `entry` is `module:function` in the artifact.

    A gate is open until `frames` frames were judged, and it fails when more than `mismatches` of them do.
    """

    check: Check = Check.NOTHING
    fields: tuple[
        FieldTolerance, ...
    ] = ()  # TOLERANCE: in the order in which they lie; again and again until the frame ends
    entry: str = ""  # FUNCTION, INVARIANT
    frames: int = 100
    mismatches: int = 0
    latency_p99_percent: int = 0
    memory_percent: int = 0
    memory_bytes: int = 0
    cpu_percent: int = 0

    @property
    def needs_judge(self) -> bool:
        """Must outputs be looked at?"""
        return self.check is not Check.NOTHING or bool(self.latency_p99_percent)

    @property
    def measures_members(self) -> bool:
        """Must hosts measure what members use?"""
        return bool(self.memory_percent or self.memory_bytes or self.cpu_percent)


def faults(verdict: Verdict) -> list[str]:
    """What contradicts itself in it, each in a sentence that says what to do; empty when nothing does."""
    found = []
    if not verdict.needs_judge and not verdict.measures_members:
        found.append(
            "a verdict that asks for nothing: write a check, or one of latency, memory and cpu; or leave it out"
        )
    if not 1 <= verdict.frames <= MAX_FRAMES:
        found.append(f"frames is {verdict.frames}: 1 to {MAX_FRAMES}")
    if not 0 <= verdict.mismatches < max(verdict.frames, 1):
        found.append(f"{verdict.mismatches} mismatches in {verdict.frames} frames: tolerate fewer than are judged")
    percents = (verdict.latency_p99_percent, verdict.memory_percent, verdict.cpu_percent)
    if not all(0 <= percent <= MAX_PERCENT for percent in percents) or verdict.memory_bytes < 0:
        found.append(f"a bound beyond what can be: 0.01x to {MAX_PERCENT // 100}x of blue's")
    if verdict.memory_percent and verdict.memory_bytes:
        found.append("memory is bounded twice: by a factor of blue's or by a size")
    if bool(verdict.fields) != (verdict.check is Check.TOLERANCE):
        found.append("fields are what a tolerance is made of: write both, or neither")
    if bool(verdict.entry) != (verdict.check in (Check.FUNCTION, Check.INVARIANT)):
        found.append("module:function is needed by a function or an invariant, and by nothing else")
    return [*found, *_field_faults(verdict.fields)]


def _field_faults(fields: tuple[FieldTolerance, ...]) -> Iterator[str]:
    if len(fields) > MAX_FIELDS:
        yield f"{len(fields)} fields: at most {MAX_FIELDS}"
    names = [field.name for field in fields]
    yield from (
        f"two fields are called {name!r}: name each once" for name in dict.fromkeys(names) if names.count(name) > 1
    )
    for number, field in enumerate(fields[:MAX_FIELDS], 1):
        what = f"field {field.name or number}"
        if not DTYPE.fullmatch(field.dtype):
            yield f"{what} cannot be of dtype {field.dtype!r}: write for example <f4, <u2, <c8"
        if not 0 <= field.count <= MAX_COUNT:
            yield f"{what} cannot have {field.count} values: 1 to {MAX_COUNT}, or the rest"
        if field.count == 0 and number < len(fields):
            yield f"{what} takes the rest of the frame: only the last can"
        for word, text in (("absolute", field.absolute), ("relative", field.relative)):
            if not _DECIMAL.fullmatch(text) or not Decimal(text) < Decimal("1e300"):
                yield f"{what}: {word} is {text!r}; write a decimal number from 0 on, such as 0.001 or 1e-6"
