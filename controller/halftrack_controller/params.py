"""Settings as they are written on a command line: `NAME=VALUE`, the value a truth, an integer, or else text."""

from halftrack_model.errors import InvalidInput
from halftrack_model.params import Param

_TRUTHS = {"true": True, "false": False}


def param_of(text: str) -> tuple[str, Param]:
    """The setting that `text` spells, by YAML's own reading of the three kinds; quote a number that is meant as text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInput("bad-param", f"{text!r} is no setting: write NAME=VALUE, such as rate=32")
    if value in _TRUTHS:
        return name, _TRUTHS[value]
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return name, value[1:-1]
    sign, digits = value[:1] == "-", value.removeprefix("-")
    if digits.isascii() and digits.isdigit():
        number = int(digits[:20])
        if number > 2**63 - 1:
            raise InvalidInput(
                "bad-param", f"{text!r}: the number does not fit in 63 bits; quote it to pass it as text"
            )
        return name, -number if sign else number
    return name, value
