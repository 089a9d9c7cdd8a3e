"""Settings: what a release and a manifest may set, and words with holes in them that settings fill. Pure."""

import re
from collections.abc import Mapping

Param = str | int | bool

_HOLE = re.compile(r"\{params\.([^{}]*)\}")


def text_of(value: Param) -> str:
    """A setting as a word of a command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def filled(text: str, params: Mapping[str, Param]) -> str:
    """`text` with each `{params.NAME}` replaced by that setting, which is not looked into again; ValueError when there is none of that name."""

    def value(hole: re.Match[str]) -> str:
        if hole[1] not in params:
            known = ", ".join(sorted(params)) or "none"
            raise ValueError(
                f"{hole[0]} asks for a setting that nobody has made: set params.{hole[1]} (there is {known})"
            )
        return text_of(params[hole[1]])

    return _HOLE.sub(value, text)
