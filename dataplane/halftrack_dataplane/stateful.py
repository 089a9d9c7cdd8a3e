"""A base for vertices whose state is some attributes: named once, written and read without code of their own.

Owns which attributes are state and what a snapshot looks like. Never touches frames; the protocol `sdk.Vertex` is all that the runner knows.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

from halftrack_dataplane.sdk import Param
from halftrack_dataplane.state_form import OtherState, StateError, packed, unpacked

__all__ = ["StateError", "Stateful"]


@runtime_checkable
class Holding(Protocol):
    """State that writes itself: windows, timers, watermarks, or a class of the author's own."""

    def snapshot(self) -> bytes:
        """All of it."""

    def restore(self, state: bytes) -> None:
        """Go on from a snapshot."""


class Stateful:
    """Subclass it, say what is state, and write `process`:

        class Mean(Stateful, schema="mean/1", state=("count", "total"), constant=("scale",)):

    Every attribute of an instance is one or the other, and one that is neither is refused when the first snapshot is taken: a
    state that was forgotten shows at once, not at the first hand-over. State may be numbers, text, bytes, lists, tuples, dicts,
    NumPy arrays, and whatever has `snapshot` and `restore` itself.
    """

    schema: ClassVar[str] = ""
    reads: ClassVar[tuple[str, ...]] = ()
    _state: ClassVar[tuple[str, ...]] = ()
    _constant: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(
        cls,
        *,
        schema: str = "",
        state: tuple[str, ...] | None = None,
        constant: tuple[str, ...] = (),
        reads: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        """`schema` names the state, as the release's `state: writes`; `reads` are older ones that `upgraded` understands."""
        super().__init_subclass__(**more)
        cls.schema = schema or cls.schema
        cls.reads = (*cls.reads, *reads)
        cls._state = (*cls._state, *(state or ()))
        cls._constant = cls._constant | set(constant)
        if not cls.schema or (
            twice := {name for name in cls._state if cls._state.count(name) > 1 or name in cls._constant}
        ):
            what = f"declares {sorted(twice)} twice" if cls.schema else "names no schema"
            raise TypeError(
                f"{cls.__name__} {what}: class {cls.__name__}(Stateful, schema='name/1', state=('count', ...))"
            )

    def __init__(self, params: Mapping[str, Param]) -> None:
        """Begin with the state of one that has seen nothing."""

    def snapshot(self) -> bytes:
        """The declared state; StateError when an attribute is not declared, or cannot be written."""
        found = vars(self)
        undeclared = found.keys() - set(self._state) - self._constant
        missing = [name for name in self._state if name not in found]
        if undeclared or missing:
            raise StateError(self._how_declared(sorted(undeclared), missing))
        return packed(self.schema, {name: _held(found[name]) for name in self._state})

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """Go on from a snapshot of this schema, or of one of `reads`; returns what `mixed` says."""
        schema, values = self._read(state)
        if schema != self.schema:
            values = self.upgraded(schema, values)
        strange, missing = sorted(values.keys() - set(self._state)), sorted(set(self._state) - values.keys())
        if strange or missing:
            raise StateError(
                f"{type(self).__name__}: the state of {schema} has {strange or 'nothing'} that is not declared here, and lacks "
                f"{missing or 'nothing'} that is: give the changed state another schema, list {schema} in `reads`, and have "
                "`upgraded` convert it"
            )
        for name in self._state:
            mine = getattr(self, name, None)
            if isinstance(mine, Holding):
                mine.restore(values[name])
            else:
                setattr(self, name, values[name])
        return 0 if same_release else self.mixed()

    def upgraded(self, schema: str, values: dict[str, Any]) -> dict[str, Any]:
        """Convert the state of an older schema, one of `reads`, to this one's attributes. Windows and timers are bytes in it."""
        raise StateError(f"{type(self).__name__} reads {schema}, and does not say how: override `upgraded`")

    def mixed(self) -> int:
        """How many of the coming outputs another release has a part in, now that its state is restored: they are suppressed."""
        return 0

    def _read(self, state: bytes) -> tuple[str, dict[str, Any]]:
        for schema in (self.schema, *self.reads):
            try:
                return schema, dict(unpacked(schema, state))
            except OtherState:
                continue
        raise StateError(
            f"{type(self).__name__} reads {', '.join((self.schema, *self.reads))}; this state is of another schema"
        )

    def _how_declared(self, undeclared: list[str], missing: list[str]) -> str:
        told = []
        if undeclared:
            told.append(
                f"{undeclared} would be lost at the next hand-over: name them in `state`, or in `constant` if they never change"
            )
        if missing:
            told.append(f"{missing} are declared as state and do not exist: set them in __init__")
        return f"{type(self).__name__}: {'; '.join(told)}"


def _held(value: Any) -> Any:
    return value.snapshot() if isinstance(value, Holding) else value
