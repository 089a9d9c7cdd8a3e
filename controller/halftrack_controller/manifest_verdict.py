"""What a release's strategy may declare under `verdict`, as pydantic models, and the model's verdict made of it.

Only the words are here; what contradicts itself is `halftrack_model.verdict`'s to say.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from halftrack_controller import quantities
from halftrack_controller.manifest_types import Dtype, Entry, Factor, FactorOrSize, Strict
from halftrack_model import verdict
from halftrack_model.verdict import Check, FieldTolerance, Verdict

_DEFAULTS = Verdict()


def _decimal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number; write for example 0.001 or 1.0e-6")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{value!r} cannot be how far values may be apart; write a number from 0 on, such as 0.001")
    return repr(value)


def _count(value: Any) -> int:
    if value == "rest":
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{value!r} is not a number of values; write for example 16, or rest for all that is left")
    return value


def _check(value: Any) -> Any:
    if value == "equal":
        return {"equal": True}
    if not isinstance(value, dict):
        raise ValueError(
            f"{value!r} is not a check; write equal, or {{tolerance: …}}, {{function: 'module:name'}}, "
            "{differs: expected, invariant: 'module:name'}"
        )
    return value


Decimal = Annotated[str, BeforeValidator(_decimal), WithJsonSchema({"type": "number", "minimum": 0})]
Count = Annotated[
    int, BeforeValidator(_count), WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "rest"}]})
]


class FieldFields(Strict):
    """A field of a frame, and how far green's values may be from blue's: absolute + relative x |blue's|."""

    name: str = Field(min_length=1, max_length=64, description="For people.", examples=["power"])
    dtype: Dtype = Field(description="Type of its values.", examples=["<f4"])
    count: Count = Field(default=1, description="How many; rest: all that is left.", examples=["rest"])
    absolute: Decimal = Field(default="0", description="Tolerated distance.", examples=[0.001])
    relative: Decimal = Field(default="0", description="... and this much of blue's value.", examples=[0.000001])


class ToleranceFields(Strict):
    """What a frame is made of. Either one dtype for all of it, or its fields in order, again and again until the frame ends."""

    dtype: Dtype | None = Field(default=None, description="The whole frame is values of it.", examples=["<f4"])
    absolute: Decimal = Field(default="0", description="Tolerated distance.", examples=[0.001])
    relative: Decimal = Field(default="0", description="... and this much of blue's value.", examples=[0.000001])
    fields: list[FieldFields] = Field(
        default=[],
        max_length=verdict.MAX_FIELDS,
        description="Or field by field.",
        examples=[[{"name": "power", "dtype": "<f4", "relative": 0.000001}]],
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if bool(self.fields) == (self.dtype is not None):
            raise ValueError("a tolerance is of one dtype or of fields: write one of `dtype: <f4` and `fields: […]`")
        if self.fields and (self.absolute, self.relative) != ("0", "0"):
            raise ValueError("with fields, each says its own absolute and relative: move them there")
        return self

    def field_tolerances(self) -> tuple[FieldTolerance, ...]:
        """The model's."""
        if self.dtype is not None:
            return (FieldTolerance("value", self.dtype, 0, self.absolute, self.relative),)
        return tuple(FieldTolerance(f.name, f.dtype, f.count, f.absolute, f.relative) for f in self.fields)


class CheckFields(Strict):
    """How green's outputs are held against blue's of the same number: one of these. `check: equal` is short for `{equal: true}`."""

    equal: bool = Field(default=False, description="Byte by byte.", examples=[True])
    tolerance: ToleranceFields | None = Field(
        default=None, description="Within a distance.", examples=[{"dtype": "<f4", "relative": 0.000001}]
    )
    function: Entry | None = Field(
        default=None, description="module:name(blue, green) in the artifact says.", examples=["spectrometer:alike"]
    )
    differs: Literal["expected"] | None = Field(
        default=None, description="They may differ; then only the invariant counts.", examples=["expected"]
    )
    invariant: Entry | None = Field(
        default=None, description="module:name(green) in the artifact says.", examples=["spectrometer:sane"]
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if [self.equal, self.tolerance is not None, self.function is not None, self.differs is not None].count(
            True
        ) != 1:
            raise ValueError("a check is one of equal, tolerance, function and `differs: expected`: write exactly one")
        if (self.invariant is None) != (self.differs is None):
            raise ValueError(
                "what is expected to differ needs an invariant: write `{differs: expected, invariant: 'module:name'}`"
            )
        return self

    @property
    def kind(self) -> Check:
        """The model's."""
        if self.equal:
            return Check.EQUAL
        if self.tolerance is not None:
            return Check.TOLERANCE
        return Check.FUNCTION if self.function is not None else Check.INVARIANT


class LatencyFields(Strict):
    """How late outputs may come, against blue's."""

    p99: Factor = Field(description="99 of 100 come within this much of blue's.", examples=["1.5x"])


class VerdictFields(Strict):
    """What must be seen of green beside blue before the cut; what fails takes green back, with the diff."""

    check: Annotated[CheckFields, BeforeValidator(_check)] | None = Field(
        default=None, description="Its outputs: `equal`, or one of these.", examples=["equal"]
    )
    frames: int = Field(
        default=_DEFAULTS.frames, ge=1, le=verdict.MAX_FRAMES, description="So many are judged first.", examples=[100]
    )
    mismatches: int = Field(
        default=_DEFAULTS.mismatches, ge=0, description="So many of them may fail the check.", examples=[0]
    )
    latency: LatencyFields | None = Field(default=None, description="Its latency.", examples=[{"p99": "1.5x"}])
    memory: FactorOrSize | None = Field(
        default=None, description="Its memory: so much of blue's, or a size.", examples=["1.5x"]
    )
    cpu: Factor | None = Field(default=None, description="Its processor time: so much of blue's.", examples=["1.5x"])

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if faults := verdict.faults(self.verdict()):
            raise ValueError("; ".join(faults))
        return self

    def verdict(self) -> Verdict:
        """The model's."""
        check, memory = self.check, self.memory or ""
        sized = bool(memory) and not memory.endswith("x")
        return Verdict(
            check=Check.NOTHING if check is None else check.kind,
            fields=check.tolerance.field_tolerances() if check and check.tolerance else (),
            entry=(check.function or check.invariant or "") if check else "",
            frames=self.frames,
            mismatches=self.mismatches,
            latency_p99_percent=self.latency.p99 if self.latency else 0,
            memory_percent=quantities.percent(memory) if memory and not sized else 0,
            memory_bytes=quantities.size_bytes(memory) if sized else 0,
            cpu_percent=self.cpu or 0,
        )
