"""The form of a vertex's state in bytes: the same value has the same bytes, and comes back with the same types. Pure.

msgpack carries it; what msgpack would change on the way (tuples, large integers, bytearrays, NumPy arrays) has marks of its own, and
what has no order or no meaning elsewhere (sets, objects, NaN-boxed surprises of other number types) is refused, not guessed.
"""

from collections.abc import Mapping
from typing import Any

import msgpack  # type: ignore[import-untyped]

from halftrack_dataplane import snapshots, structured

FORM = 1
_TUPLE, _INTEGER, _BYTEARRAY, _ARRAY = 1, 2, 3, 4
_SCALARS = frozenset({bool, float, str, bytes, type(None)})
_SMALL = range(-(1 << 63), 1 << 64)


class StateError(ValueError):
    """State that cannot be written, or not be read here; the vertex's author must act, and the message says how."""


class OtherState(StateError):  # noqa: N818 - it says what was met
    """The state is whole, and of another kind."""


def packed(kind: str, value: Any) -> bytes:
    """`value` in bytes, marked as `kind` and with the form's version; StateError when it cannot be."""
    data: bytes = msgpack.packb([FORM, kind, _written(value, kind)])
    if len(data) > snapshots.MAX_SNAPSHOT_BYTES:
        raise StateError(
            f"{kind}: {len(data)} bytes of state; at most {snapshots.MAX_SNAPSHOT_BYTES} fit a snapshot, and the stream waits "
            "while it is written: keep less, or sum up earlier"
        )
    return data


def unpacked(kind: str, data: bytes) -> Any:
    """The value that `packed` wrote as `kind`; StateError when `data` is anything else."""
    try:
        tree = msgpack.unpackb(data, strict_map_key=False, ext_hook=_read)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise StateError(f"{kind}: this is no state that was written here: {error}") from None
    match tree:
        case [int(form), str(found), value]:
            pass
        case _:
            raise StateError(f"{kind}: this is no state that was written here")
    if form != FORM:
        raise StateError(
            f"{kind}: the state has form {form}, and this release reads form {FORM}: declare another schema"
        )
    if found != kind:
        raise OtherState(f"the state is of {found!r}, and is wanted for {kind!r}: a release reads what it declares")
    return value


def _written(value: Any, where: str) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is int:
        return value if value in _SMALL else msgpack.ExtType(_INTEGER, _integer(value))
    if kind is list:
        return [_written(item, f"{where}[{place}]") for place, item in enumerate(value)]
    if kind is dict:
        return {_key(key, where): _written(item, f"{where}[{key!r}]") for key, item in value.items()}
    if kind is tuple:
        items = [_written(item, f"{where}[{place}]") for place, item in enumerate(value)]
        return msgpack.ExtType(_TUPLE, msgpack.packb(items))
    if kind is bytearray:
        return msgpack.ExtType(_BYTEARRAY, bytes(value))
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return msgpack.ExtType(_ARRAY, _array(value, where))
    raise StateError(f"{where}: {_why_not(value)}")


def _why_not(value: Any) -> str:
    kind = type(value)
    if isinstance(value, (set, frozenset)):
        return "a set has no order that two processes share; keep a sorted list, or a dict, which keeps the order of insertion"
    if kind.__module__ == "numpy":
        return f"{kind.__name__} would come back as another type; keep int(...) or float(...) of it"
    if isinstance(value, Mapping):
        return f"{kind.__name__} would come back as a dict; keep dict(...) of it"
    return f"{kind.__name__} is not state; keep numbers, text, bytes, lists, tuples, dicts and NumPy arrays"


def _key(key: Any, where: str) -> Any:
    if type(key) in (str, bytes, bool) or (type(key) is int and key in _SMALL):
        return key
    raise StateError(f"{where}: {key!r} cannot be a key of a dict in a state; use text, bytes or an integer of 64 bits")


def _integer(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _array(value: Any, where: str) -> bytes:
    try:
        text, _ = structured.described(value.dtype)
    except ValueError as error:
        raise StateError(f"{where}: {error}") from None
    packed_array: bytes = msgpack.packb([text, list(value.shape), value.tobytes()])
    return packed_array


def _read(code: int, data: bytes) -> Any:
    if code == _TUPLE:
        return tuple(msgpack.unpackb(data, strict_map_key=False, ext_hook=_read))
    if code == _INTEGER:
        return int.from_bytes(data, "little", signed=True)
    if code == _BYTEARRAY:
        return bytearray(data)
    if code == _ARRAY:
        return _array_of(*msgpack.unpackb(data))
    raise ValueError(f"mark {code} is unknown")


def _array_of(text: str, shape: list[int], data: bytes) -> Any:
    try:
        import numpy
    except ImportError:
        raise StateError("this state has NumPy arrays in it: install halftrack[arrays]") from None
    return numpy.frombuffer(data, structured.dtype_of(text)).reshape(shape).copy()
