"""The types of manifest fields: text that must be a name, a size, a duration, and the strict object that holds them.

Each refuses in a sentence that says what to write. What an object of a kind holds is `manifest_schema`'s and `manifest_graph`'s.
"""

import ipaddress
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from halftrack_controller import quantities
from halftrack_model import reach
from halftrack_model.errors import InvalidInput
from halftrack_model.ids import checked_name
from halftrack_model.resources import Resources
from halftrack_model.verdict import DTYPE
from halftrack_model.versions import Version

_NAME_PATTERN = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


def _name(text: str) -> str:
    try:
        return checked_name(text, "the value")
    except InvalidInput as error:
        raise ValueError(error.message.removeprefix("the value ").replace(": use", "; use")) from None


def _version(text: str) -> str:
    try:
        return str(Version.parse(text))
    except InvalidInput as error:
        raise ValueError(error.message.replace(": write", "; write")) from None


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address; write one such as 10.0.0.2 (host names are not looked up)"
        ) from None


def _entry(text: str) -> str:
    module, colon, name = text.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ValueError(f"{text!r} is not an entry; write module:Class, such as spectrometer:Spectrometer")
    return text


def reach_text(text: str) -> str:
    """`text`, if it is a place to reach; ValueError, saying what to write, when it is not."""
    reach.parsed(text)
    return text


def _measure(parse: Any, what: str, example: str) -> Any:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not {what}; write the number with its unit: {example}")
        return parse(value)

    return read


_link_rate = _measure(quantities.link_bytes_per_s, "a rate of a link", "256kbit/s")
_duration = _measure(quantities.duration_ms, "a duration", "500ms or 30s")


def _factor_or_size(text: str) -> str:
    (quantities.percent if text.strip().endswith("x") else quantities.size_bytes)(text)
    return text.strip()


def _dtype(text: str) -> str:
    if not DTYPE.fullmatch(text):
        raise ValueError(f"{text!r} is not a dtype; write for example <f4, <u2, <i8, <c8 (as NumPy has them)")
    return text


def _cpu_milli(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise ValueError(f"{value!r} is not a number of processors; write for example 0.5")
    milli = round(value * 1000)  # 1.001 has no exact form, and is a number of thousandths all the same
    if abs(value * 1000 - milli) > 1e-6:
        raise ValueError(
            f"{value!r} is finer than a thousandth of a processor; write for example {max(round(value, 3), 0.001):g}"
        )
    return milli


Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": _NAME_PATTERN})]
VersionText = Annotated[str, AfterValidator(_version)]
Address = Annotated[str, AfterValidator(_address)]
Entry = Annotated[str, AfterValidator(_entry)]
Size = Annotated[
    int,
    BeforeValidator(_measure(quantities.size_bytes, "a size", "256MiB")),
    WithJsonSchema({"type": "string", "pattern": quantities.SIZE_PATTERN}),
]
DurationMs = Annotated[
    int,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": quantities.DURATION_PATTERN}),
]
DurationOrNeverMs = Annotated[
    int,
    BeforeValidator(lambda value: 0 if value == "0" or (type(value) is int and value == 0) else _duration(value)),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": quantities.DURATION_PATTERN}, {"const": 0}]}),
]
AgoMs = Annotated[
    int,
    BeforeValidator(_measure(quantities.ago_ms, "a time before now", "-30s")),
    WithJsonSchema({"type": "string", "pattern": quantities.AGO_PATTERN}),
]
BytesPerS = Annotated[
    int,
    BeforeValidator(_measure(quantities.bytes_per_s, "a rate of bytes", "100MB/s")),
    WithJsonSchema({"type": "string", "pattern": quantities.BYTE_RATE_PATTERN}),
]
LinkBytesPerS = Annotated[
    int,
    BeforeValidator(lambda value: 0 if type(value) is int and value == 0 else _link_rate(value)),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": quantities.LINK_RATE_PATTERN}, {"enum": [0, "0"]}]}),
]
MinuteOfDay = Annotated[
    int,
    BeforeValidator(_measure(quantities.minute_of_day, "a time of the day", '"18:00"')),
    WithJsonSchema({"type": "string", "pattern": quantities.TIME_PATTERN}),
]
FramesPerS = Annotated[
    int,
    BeforeValidator(_measure(quantities.frames_per_s, "a rate of frames", "20000/s")),
    WithJsonSchema({"type": "string", "pattern": quantities.FRAME_RATE_PATTERN}),
]
Factor = Annotated[
    int,
    BeforeValidator(_measure(quantities.percent, "a factor", "1.5x")),
    WithJsonSchema({"type": "string", "pattern": quantities.FACTOR_PATTERN}),
]
FactorOrSize = Annotated[
    str,
    AfterValidator(_factor_or_size),
    WithJsonSchema({"type": "string", "pattern": f"{quantities.FACTOR_PATTERN}|{quantities.SIZE_PATTERN}"}),
]
Dtype = Annotated[str, AfterValidator(_dtype)]
CpuMilli = Annotated[
    int,
    BeforeValidator(_cpu_milli),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0}),
]
Port = Annotated[int, Field(ge=1, le=65535)]
ParamValue = str | int | bool
Params = dict[str, ParamValue]
Labels = dict[Name, str]
Schema = Annotated[str, Field(min_length=1, max_length=128)]


class Strict(BaseModel):
    """No coercion, no unknown keys: a typo must never be a silent default."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class ResourcesFields(Strict):
    """What an instance may use at most, by control groups; leave out what shall not be bounded."""

    cpu: CpuMilli | None = Field(default=None, description="Processors' time; 0.5 is half of one.", examples=[0.5])
    memory: Size | None = Field(
        default=None,
        description="Memory of its own and snapshots that it writes, not rings: beyond it, the kernel kills it.",
        examples=["256MiB"],
    )
    pids: int | None = Field(default=None, ge=1, description="Processes and threads.", examples=[64])

    def resources(self) -> Resources:
        """The model's."""
        return Resources(self.cpu or 0, self.memory or 0, self.pids or 0)
