"""State in bytes comes back as it was or is refused; and a Stateful vertex cannot forget an attribute."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane import snapshots
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Param
from halftrack_dataplane.state_form import FORM, OtherState, StateError, packed, unpacked
from halftrack_dataplane.stateful import Stateful
from halftrack_dataplane.testkit import Release, check_deterministic, rehearse
from halftrack_dataplane.windows import Tumbling

SCALARS = st.none() | st.booleans() | st.integers(-(1 << 80), 1 << 80) | st.floats() | st.text() | st.binary()
KEYS = st.text() | st.binary() | st.integers(-(1 << 63), (1 << 64) - 1)
STATES = st.recursive(
    SCALARS | st.binary().map(bytearray),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner),
    max_leaves=12,
)


def same(left: Any, right: Any) -> bool:
    """Equal, of the same types, in the same order, NaN and the sign of zero included."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return [*map(repr, left)] == [*map(repr, right)] and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return repr(left) == repr(right)


@given(STATES)
def test_state_comes_back_with_its_types(value: Any) -> None:
    data = packed("some/1", value)
    back = unpacked("some/1", data)
    assert same(back, value)
    assert packed("some/1", back) == data, "the same state has the same bytes"


@pytest.mark.parametrize("bits", range(60, 90))
def test_large_integers_come_back(bits: int) -> None:
    values = [sign * ((1 << bits) + more) for sign in (1, -1) for more in (-1, 0, 1)]
    assert unpacked("some/1", packed("some/1", values)) == values


@given(st.binary(max_size=60))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        unpacked("some/1", data)


@given(STATES, st.data())
def test_truncated_state_is_refused(value: Any, data: st.DataObject) -> None:
    whole = packed("some/1", value)
    with pytest.raises(StateError):
        unpacked("some/1", whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize("kind", ["<f4", ">i2", "<c16", "?", "S3", [("a", "<f8"), ("b", "<i4", (3,))]])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)])
def test_arrays_come_back(kind: Any, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, kind)
    array.flat[:] = np.frombuffer(np.random.default_rng(3).bytes(array.nbytes), array.dtype)
    back = unpacked("some/1", packed("some/1", [array, array.T]))
    assert [part.dtype for part in back] == [array.dtype] * 2
    assert (back[0].tobytes(), back[1].tobytes()) == (array.tobytes(), array.T.tobytes())
    assert back[0].shape == shape
    assert back[0].flags.writeable


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a"}, "a set has no order"),
        ([1, {"deep": frozenset()}], r"some/1\[1\]\['deep'\]: a set"),
        (np.float32(1), "keep int(...) or float(...)"),
        (MappingProxyType({}), "keep dict(...) of it"),
        (object(), "object is not state"),
        ({1.5: 1}, "cannot be a key"),
        ({(1, 2): 1}, "cannot be a key"),
        (np.array([object()]), "cannot be shared"),
    ],
)
def test_what_would_not_come_back_is_refused(value: Any, told: str) -> None:
    with pytest.raises(StateError) as caught:
        packed("some/1", value)
    assert told.replace("\\", "") in str(caught.value)


def test_another_kind_form_or_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OtherState, match="the state is of 'some/1', and is wanted for 'some/2'"):
        unpacked("some/2", packed("some/1", 0))
    later = packed("some/1", 0).replace(bytes([0x93, FORM]), bytes([0x93, FORM + 1]))
    with pytest.raises(StateError, match="declare another schema"):
        unpacked("some/1", later)
    monkeypatch.setattr(snapshots, "MAX_SNAPSHOT_BYTES", 100)
    with pytest.raises(StateError, match="at most 100 fit a snapshot"):
        packed("some/1", bytes(100))


# ---- Stateful -------------------------------------------------------------------------------------------------------------


class Mean(Stateful, schema="mean/1", state=("count", "total", "tens"), constant=("scale",)):
    """A running mean, and the largest of each ten frames."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        self.scale = int(params.get("scale", 1))
        self.count, self.total = 0, 0
        self.tens: Tumbling[int, int] = Tumbling(10, int, max)

    def process(self, frame: Frame) -> list[bytes]:
        """Its outputs are text, since that is what a reader of this test can read."""
        value = frame.payload[0] * self.scale
        self.count, self.total = self.count + 1, self.total + value
        closed = [b"max %d" % window.value for window in self.tens.add(frame, value)]
        return [b"mean %d" % (self.total // self.count), *closed]


class Better(Mean, schema="mean/2", reads=("mean/1",), state=("least",)):
    """It also knows the least value."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        super().__init__(params)
        self.least = 255

    def upgraded(self, schema: str, values: dict[str, Any]) -> dict[str, Any]:
        """An older state does not know it."""
        return values | {"least": 255}


FRAMES = [bytes([seq * 37 % 251]) for seq in range(400)]


def test_a_stateful_vertex_comes_through_everything() -> None:
    # invariant: S1
    blue, green = Release("1.0.0", Mean), Release("1.1.0", Better)
    assert (blue.writes, green.reads) == ("mean/1", ("mean/2", "mean/1"))
    for seed in range(6):
        result = rehearse([blue, green], FRAMES, seed=seed)
        assert (result.swaps, len(result.outputs)) == (1, 440)
    assert check_deterministic(Better, FRAMES[:60]).outputs == 66
    with pytest.raises(ValueError, match="declares state 'other/1', and its class writes 'mean/1'"):
        Release("1.0.0", Mean, writes="other/1")


def test_a_forgotten_attribute_is_refused_at_the_first_snapshot() -> None:
    vertex = Mean({})
    vertex.peak = 3  # type: ignore[attr-defined]
    with pytest.raises(StateError, match=r"\['peak'\] would be lost at the next hand-over"):
        vertex.snapshot()
    del vertex.peak, vertex.total  # type: ignore[attr-defined]
    with pytest.raises(StateError, match=r"\['total'\] are declared as state and do not exist"):
        vertex.snapshot()


def test_states_that_do_not_fit_are_refused() -> None:
    with pytest.raises(StateError, match="reads mean/1; this state is of another schema"):
        Mean({}).restore(Better({}).snapshot(), same_release=False)
    with pytest.raises(
        StateError, match=r"the state of mean/1 has \['old'\] that is not declared here, and lacks \['total'\]"
    ):
        Mean({}).restore(packed("mean/1", {"count": 1, "tens": b"", "old": 2}), same_release=True)

    class Unable(Mean, schema="mean/3", reads=("mean/1",)):
        pass

    with pytest.raises(StateError, match="does not say how: override `upgraded`"):
        Unable({}).restore(Mean({}).snapshot(), same_release=False)


def test_mixed_outputs_are_told_to_the_runner() -> None:
    class Windowed(Mean, schema="mean/4"):
        def mixed(self) -> int:
            return int(self.count % 10 > 0)

    vertex = Windowed({})
    vertex.process(Frame(0, 0, 0, b"x"))
    other = Windowed({})
    assert other.restore(vertex.snapshot(), same_release=True) == 0
    assert other.restore(vertex.snapshot(), same_release=False) == 1
    assert other.count == 1


def test_a_declaration_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(TypeError, match="names no schema"):
        type("Nameless", (Stateful,), {})
    with pytest.raises(TypeError, match=r"declares \['count'\] twice"):

        class Twice(Mean, schema="mean/5", constant=("count",)):
            pass
