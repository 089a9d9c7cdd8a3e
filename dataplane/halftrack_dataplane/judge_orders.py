"""What a judge is told: which rings to hold against which, and by what check. Read strictly. Pure.

Owns the form of these orders within a `runspec`. Never opens what the paths name.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

CHECKS = ("nothing", "equal", "tolerance", "function", "invariant")
_ASKING = ("function", "invariant")
_DECIMAL = re.compile(r"[0-9]{1,32}(\.[0-9]{1,32})?([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class FieldTolerance:
    """A field of a frame: `count` values of `dtype` (0: all that is left), which may differ by `absolute` + `relative` x |blue's|, in decimal text."""

    name: str
    dtype: str
    count: int = 1
    absolute: str = "0"
    relative: str = "0"


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """The rings of a blue and a green. `name`: of green's ring, under which the evidence stands."""

    name: str
    blue: str
    green: str


@dataclass(frozen=True, slots=True)
class JudgeOrders:
    """What a judge holds against what, and how. `entry`: module:function of the program, for a function or an invariant."""

    pairs: tuple[JudgedPair, ...]
    check: str
    entry: str = ""
    fields: tuple[FieldTolerance, ...] = ()
    lag_frames: int = 0


def fault(orders: JudgeOrders) -> str:
    """What is wrong with them, by name of the field; empty when nothing is."""
    return next(_faults(orders), "")


def _faults(orders: JudgeOrders) -> Iterator[str]:
    if not 1 <= len(orders.pairs) <= 2:
        yield f"judge.pairs: expected one pair of rings or two, not {len(orders.pairs)}"
    if not all(path.startswith("/") for pair in orders.pairs for path in (pair.blue, pair.green)):
        yield "judge.pairs: expected absolute paths"
    if orders.check not in CHECKS:
        yield f"judge.check: expected one of {', '.join(CHECKS)}, not {orders.check!r}"
    if bool(orders.fields) != (orders.check == "tolerance"):
        yield "judge.fields: expected the fields of a tolerance, and of nothing else"
    if (orders.check in _ASKING) != (":" in orders.entry):
        yield "judge.entry: expected module:function, for a function or an invariant"
    for number, field in enumerate(orders.fields):
        if field.count == 0 and number < len(orders.fields) - 1:
            yield f"judge.fields[{number}].count: expected a number; only the last field can have the rest"
        if not _DECIMAL.fullmatch(field.absolute) or not _DECIMAL.fullmatch(field.relative):
            yield f"judge.fields[{number}]: expected decimal numbers from 0 on"


def read(tree: Any) -> JudgeOrders:
    """The orders that parsed JSON holds; ValueError, naming the field, when it holds none."""
    values = _exact(tree, JudgeOrders, "judge")
    for name, kind in (("pairs", JudgedPair), ("fields", FieldTolerance)):
        if not isinstance(values[name], list):
            raise ValueError(f"judge.{name}: expected a list")
        values[name] = tuple(_record(item, kind, f"judge.{name}[{n}]") for n, item in enumerate(values[name]))
    _expect_flat(values, ("check", "entry"), str, "judge")
    _expect_flat(values, ("lag_frames",), int, "judge")
    return JudgeOrders(**values)


def _record(tree: Any, kind: Any, where: str) -> Any:
    values = _exact(tree, kind, where)
    whole = tuple(name for name in values if name == "count")
    _expect_flat(values, whole, int, where)
    _expect_flat(values, tuple(name for name in values if name not in whole), str, where)
    return kind(**values)


def _exact(tree: Any, kind: Any, where: str) -> dict[str, Any]:
    names = {entry.name for entry in fields(kind)}
    if not isinstance(tree, dict) or set(tree) != names:
        raise ValueError(f"{where}: expected an object with exactly {', '.join(sorted(names))}")
    return dict(tree)


def _expect_flat(values: dict[str, Any], names: tuple[str, ...], kind: type, where: str) -> None:
    for name in names:
        if type(values[name]) is not kind or (kind is int and values[name] < 0):
            raise ValueError(f"{where}.{name}: expected {'a string' if kind is str else 'a number from 0 on'}")
