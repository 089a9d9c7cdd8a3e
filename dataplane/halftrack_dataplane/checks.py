"""Checks: how green's frame of a number differs from blue's, in words; an empty text when it may pass.

Owns what is said of a difference. Never decides how many differences are too many.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.judge_orders import FieldTolerance, JudgeOrders
from halftrack_dataplane.parts import is_none
from halftrack_dataplane.runtime import EXIT_PROGRAM, EXIT_SPEC, Unable, load_program

Check = Callable[[Frame, Frame], str]

SHOWN_BYTES = 8  # around the first that differs
SHOWN_FIELDS = 3
MOST_APART = (1 << 64) - 1  # two integers of eight bytes


def of_orders(orders: JudgeOrders, program: str) -> Check:
    """The check that `orders` ask for; its functions come from the artifact at `program`."""
    if orders.check == "equal":
        return equal
    if orders.check == "tolerance":
        return _Within(orders.fields)
    if orders.check == "function":
        return _Asked(load_program(program, orders.entry), orders.entry, of_both=True)
    if orders.check == "invariant":
        return _Asked(load_program(program, orders.entry), orders.entry, of_both=False)
    return lambda blue, green: ""


LOST = "green declares it lost, blue has it"


def equal(blue: Frame, green: Frame) -> str:
    """Byte by byte."""
    if green.gap:
        return LOST
    ours, theirs = bytes(green.payload), bytes(blue.payload)
    if ours == theirs:
        return ""
    at = next((n for n, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), min(len(ours), len(theirs)))
    lengths = "" if len(ours) == len(theirs) else f"blue has {len(theirs)} bytes, green {len(ours)}; "
    return f"{lengths}from byte {at}: {_hex(theirs, at)} → {_hex(ours, at)}"


def _hex(data: bytes, at: int) -> str:
    shown = data[at : at + SHOWN_BYTES].hex()
    return (shown or "nothing") + ("…" if len(data) > at + SHOWN_BYTES else "")


class _Asked:
    """A function of the release's own: of both frames, or of green's alone. It returns None, True or "" when all is well."""

    def __init__(self, function: Callable[..., Any], name: str, *, of_both: bool) -> None:
        self._function, self._name, self._of_both = function, name, of_both

    def __call__(self, blue: Frame, green: Frame) -> str:
        if green.gap:
            return LOST
        if is_none(green.payload) and (not self._of_both or is_none(blue.payload)):
            return ""
        said = self._function(blue, green) if self._of_both else self._function(green)
        if said is None or said is True or said == "":
            return ""
        if said is False:
            return f"{self._name} says that it may not pass"
        if isinstance(said, str):
            return " ".join(said.split())
        raise TypeError(
            f"{self._name} returned {said!r}: return None or True when all is well, else False or what is wrong"
        )


class _Within:
    """Field by field, each with its own tolerance."""

    def __init__(self, fields: tuple[FieldTolerance, ...]) -> None:
        try:
            import numpy
        except ImportError:
            raise Unable(EXIT_SPEC, "a tolerance needs NumPy on this host: install halftrack[arrays]") from None
        self._numpy = numpy
        self._fields = [
            (field, numpy.dtype(field.dtype), Decimal(field.absolute), float(field.relative)) for field in fields
        ]

    def __call__(self, blue: Frame, green: Frame) -> str:
        if green.gap:
            return LOST
        if is_none(blue.payload) or is_none(green.payload):
            return equal(blue, green)
        if len(blue.payload) != len(green.payload):
            return f"blue has {len(blue.payload)} bytes, green {len(green.payload)}"
        found = []
        for text in self._differences(bytes(blue.payload), bytes(green.payload)):
            found.append(text)
            if len(found) > SHOWN_FIELDS:
                return "; ".join([*found[:SHOWN_FIELDS], "and more"])
        return "; ".join(found)

    def _differences(self, blue: bytes, green: bytes) -> Iterator[str]:
        at, record = 0, 0
        while at < len(blue):
            for field, dtype, absolute, relative in self._fields:
                count = field.count or (len(blue) - at) // dtype.itemsize
                end = at + count * dtype.itemsize
                if end > len(blue) or (field.count == 0 and end != len(blue)):
                    raise Unable(
                        EXIT_PROGRAM,
                        f"a frame of {len(blue)} bytes is not made of the fields that the tolerance declares: "
                        f"{field.name or field.dtype} would end at byte {end}",
                    )
                theirs, ours = (self._numpy.frombuffer(data, dtype, count, at) for data in (blue, green))
                name = (field.name or "value") + (f" of record {record}" if record else "")
                yield from self._of_field(name, theirs, ours, absolute, relative)
                at = end
            record += 1

    def _of_field(self, name: str, blue: Any, green: Any, absolute: Decimal, relative: float) -> Iterator[str]:
        numpy = self._numpy
        with numpy.errstate(all="ignore"):
            near = blue == green
            if absolute or relative:
                near |= self._near(blue, green, absolute, relative)
            if blue.dtype.kind in "fc":
                near |= numpy.isnan(blue) & numpy.isnan(green)
        wrong = numpy.flatnonzero(~near)
        if not len(wrong):
            return
        first = int(wrong[0])
        where = f"{name}[{first}]" if len(blue) > 1 else name
        rest = f" ({len(wrong)} of {len(blue)} values)" if len(blue) > 1 else ""
        yield f"{where}: {blue[first].item()!r} → {green[first].item()!r}{rest}"

    def _near(self, blue: Any, green: Any, absolute: Decimal, relative: float) -> Any:
        """Integers exactly, however large: a sum of 2^60 that is off by nine is as far off as one of ten that is."""
        numpy = self._numpy
        if blue.dtype.kind not in "iu":
            away = numpy.abs(_wide(numpy, green) - _wide(numpy, blue))
            return away <= float(absolute) + relative * numpy.abs(_wide(numpy, blue))
        wide = numpy.int64 if blue.dtype.kind == "i" else numpy.uint64
        ours, theirs = (values.astype(wide).view(numpy.uint64) for values in (green, blue))
        away = numpy.where(green > blue, ours - theirs, theirs - ours)  # modulo 2^64, in which every distance has room
        if not relative:
            return away <= numpy.uint64(min(int(absolute), MOST_APART))
        return away.astype(numpy.float64) <= float(absolute) + relative * numpy.abs(blue.astype(numpy.float64))


def _wide(numpy: Any, values: Any) -> Any:
    """So that a difference is no coarser than that of doubles."""
    return (
        values
        if values.dtype.kind in "fc" and values.dtype.itemsize >= 8
        else values.astype(numpy.complex128 if values.dtype.kind == "c" else numpy.float64)
    )
