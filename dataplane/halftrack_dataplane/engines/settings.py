"""The params of an engine's sink or source, read strictly: a wrong one ends the process with a sentence that names it.

Owns no default: each engine says its own where it reads. And whether an engine's package is there.
"""

import importlib
from collections.abc import Mapping
from typing import Any

from halftrack_dataplane.runtime import EXIT_SPEC, Unable
from halftrack_dataplane.sdk import Param


class Settings:
    """What a manifest's `params` say to one engine."""

    def __init__(self, params: Mapping[str, Param]) -> None:
        self._params = params

    def text(self, name: str, default: str | None = None) -> str:
        """A non-empty string; without a default the param is needed."""
        value = self._params.get(name, default)
        if type(value) is not str or not value:
            raise wrong(f"param {name!r} must be a text, not {value!r}")
        return value

    def one_of(self, name: str, words: tuple[str, ...]) -> str:
        """One of some words; the first is the default."""
        value = self.text(name, words[0])
        if value not in words:
            raise wrong(f"param {name!r} must be one of {', '.join(words)}, not {value!r}")
        return value

    def whole(self, name: str, default: int, least: int = 0, most: int = 1 << 62) -> int:
        """An integer within bounds."""
        value = self._params.get(name, default)
        if type(value) is not int or not least <= value <= most:
            raise wrong(f"param {name!r} must be an integer from {least} to {most}, not {value!r}")
        return value


def wrong(message: str) -> Unable:
    """The error that ends a process whose configuration a person has to change."""
    return Unable(EXIT_SPEC, message)


def extra(module: str, package: str, name: str) -> Any:
    """A module of an optional package, which the extra `name` brings."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise wrong(f"this needs the package {package}: pip install 'halftrack[{name}]' ({error})") from None
