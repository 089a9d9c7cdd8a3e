"""Canonical bytes: one and only one encoding for each value, so that it can be signed, compared and stored.

The form is JSON with sorted keys, no white space, UTF-8, and no floating-point numbers (durations are integers with their
unit in the name), in the spirit of RFC 8785. Decoding is strict: unknown or missing fields, wrong types and duplicate keys
are refused, because a reader that guesses is a reader that two signers can make disagree.

A field that a type gains after documents of it were signed is declared with `added`: it stands in the bytes only when it says
something, so what was signed before keeps its bytes and its digest (R2), and one encoding for each value remains.
"""

import base64
import dataclasses
import enum
import functools
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union, cast

from halftrack_model.errors import InvalidInput

T = TypeVar("T")
MAX_INT = 2**63 - 1  # what SQLite, protobuf's int64 and every JSON reader we meet can hold
_ADDED = "absent from the canonical bytes while it is the default"


def added(default: Any) -> Any:
    """The default of a field that came later: it is absent from the bytes while it has it, and spelling it out is refused."""
    return dataclasses.field(default=default, metadata={_ADDED: True})


def remembered() -> Any:
    """A field of a frozen value for what is worked out from the others, once: no part of the bytes, nor of what makes two values equal."""
    return dataclasses.field(default="", init=False, repr=False, compare=False)


def encode(value: Any) -> bytes:
    """The canonical bytes of a frozen dataclass (or any of the plain types that `decode` knows)."""
    text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "bad-text", f"a text holds half a surrogate pair, which UTF-8 cannot spell: {error}"
        ) from None


def decode(kind: type[T], data: bytes) -> T:
    """The `kind` that `data` spells; InvalidInput, naming the field, when it does not spell exactly one."""
    try:
        tree = json.loads(data, object_pairs_hook=_unique, parse_float=_no_float, parse_constant=_no_float)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("bad-encoding", f"not canonical JSON: {error}") from None
    value = cast(T, _typed(kind, tree, kind.__name__))
    if encode(value) != data:  # white space, escapes, another order: the same value, but not the bytes that were signed
        raise InvalidInput(
            "bad-encoding", f"a {kind.__name__}, but not in canonical form: write it with canonical.encode"
        )
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        if abs(value) > MAX_INT:
            raise InvalidInput("bad-number", f"{value} does not fit in 63 bits")
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known = ((field, getattr(value, field.name)) for field in dataclasses.fields(value) if field.init)
        return {
            field.name: _plain(item)
            for field, item in known
            if not (_ADDED in field.metadata and item == field.default)
        }
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    raise InvalidInput("bad-type", f"{type(value).__name__} has no canonical form")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return tree


def _no_float(text: str) -> Any:
    raise ValueError(f"{text} is not an integer")


def _typed(kind: Any, tree: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind, tree, where)
    if origin is tuple:
        return _sequence(kind, tree, where)
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(tree, dict), where, "an object")
        item = typing.get_args(kind)[1]
        return {key: _typed(item, value, f"{where}.{key}") for key, value in tree.items()}
    if dataclasses.is_dataclass(kind):
        return _record(cast(type, kind), tree, where)
    return _scalar(kind, tree, where)


def _optional(kind: Any, tree: Any, where: str) -> Any:
    choices = [choice for choice in typing.get_args(kind) if choice is not type(None)]
    if tree is None and len(choices) < len(typing.get_args(kind)):
        return None
    if len(choices) == 1:
        return _typed(choices[0], tree, where)
    for choice in choices:  # only scalars are ever mixed (str | int | bool), so the first exact match is the right one
        if type(tree) is choice:
            return tree
    raise InvalidInput("bad-field", f"{where}: {tree!r} is none of {', '.join(c.__name__ for c in choices)}")


def _sequence(kind: Any, tree: Any, where: str) -> Any:
    _expect(isinstance(tree, list), where, "a list")
    items = typing.get_args(kind)
    if len(items) == 2 and items[1] is Ellipsis:
        return tuple(_typed(items[0], value, f"{where}[{n}]") for n, value in enumerate(tree))
    _expect(len(tree) == len(items), where, f"a list of {len(items)}")
    return tuple(_typed(item, value, f"{where}[{n}]") for n, (item, value) in enumerate(zip(items, tree, strict=True)))


def _record(kind: type, tree: Any, where: str) -> Any:
    _expect(isinstance(tree, dict), where, "an object")
    hints, names, needed = _fields(kind)
    unknown, missing = sorted(set(tree) - names), sorted(needed - set(tree))
    if unknown or missing:
        raise InvalidInput("bad-field", f"{where}: unknown fields {unknown}, missing fields {missing}")
    return kind(**{name: _typed(hints[name], item, f"{where}.{name}") for name, item in tree.items()})


@functools.cache  # of every type that is ever read: a few dozen. Half of the time of reading a plan was spent on asking again
def _fields(kind: type) -> tuple[Mapping[str, Any], frozenset[str], frozenset[str]]:
    """The types of a record's fields, their names, and those of the fields that must be there."""
    fields = [field for field in dataclasses.fields(kind) if field.init]
    needed = frozenset(field.name for field in fields if _ADDED not in field.metadata)
    return typing.get_type_hints(kind), frozenset(field.name for field in fields), needed


def _scalar(kind: Any, tree: Any, where: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        try:
            return kind(tree)
        except ValueError:
            raise InvalidInput("bad-field", f"{where}: {tree!r} is not one of {[e.value for e in kind]}") from None
    if kind is bytes:
        _expect(isinstance(tree, str), where, "base64 text")
        try:
            return base64.b64decode(tree, validate=True)
        except ValueError:  # also for text beyond ASCII, which is no binascii.Error
            raise InvalidInput("bad-field", f"{where}: not base64") from None
    _expect(type(tree) is kind, where, f"a {kind.__name__}")  # `type is`: True must not pass for 1
    if kind is int:
        _expect(abs(tree) <= MAX_INT, where, "at most 63 bits")
    return tree


def _expect(holds: bool, where: str, wanted: str) -> None:
    if not holds:
        raise InvalidInput("bad-field", f"{where}: expected {wanted}")
