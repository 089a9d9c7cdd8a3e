"""The files of a galaxy's folders as they lie there: read with our errors, and not yet judged. What is in certificates and keys is for `galaxy`.

Apart from it, because an operator's verb can be on its way to the controller before what reads certificates is imported.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput, Refused

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OperatorFile:
    """`config.json`: where the controller is. File names are relative to the folder it is in."""

    galaxy: str
    endpoint: str
    ca: str
    certificate: str
    key: str
    release_key: str


@dataclass(frozen=True, slots=True)
class OperatorPapers:
    """The same with the files' own paths."""

    galaxy: str
    endpoint: str
    ca: Path
    certificate: Path
    key: Path
    release_key: Path


def of_operator(path: Path) -> OperatorPapers:
    """What an operator's folder names: `path` is its `config.json` or the folder itself. No other file is looked at."""
    config_path = path / "config.json" if looked_at(path, Path.is_dir) else path
    folder = config_path.parent
    if not looked_at(config_path, Path.exists):
        raise Refused(
            "no-config", f"{config_path} is not there: name the operator/ folder that `halftrack galaxy init` made"
        )
    config = settings(OperatorFile, config_path)
    files = (folder / name for name in (config.ca, config.certificate, config.key, config.release_key))
    return OperatorPapers(config.galaxy, config.endpoint, *files)


def read(path: Path) -> bytes:
    """The file's bytes; a HostFault that names the file when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostFault("cannot-read", f"{path}: {error.strerror}") from None


def looked_at(path: Path, look: Callable[[Path], bool]) -> bool:
    """What `look` says; for somebody else's folder that is an error, and not "it is not there"."""
    try:
        return look(path)
    except OSError as error:
        raise HostFault("cannot-read", f"{path}: {error.strerror}") from None


def settings(kind: type[T], path: Path) -> T:
    """A file that people may edit: any spelling of the JSON will do, its fields and their types are fixed."""
    try:
        tree = json.loads(read(path))
        defaults = {each.name: each.default for each in dataclasses.fields(cast(Any, kind))}
        if isinstance(tree, dict):  # a setting that is spelled out as it is anyway is no mistake
            tree = {name: value for name, value in tree.items() if name not in defaults or value != defaults[name]}
        return canonical.decode(kind, canonical.encode(tree))
    except (ValueError, RecursionError, InvalidInput) as error:
        raise InvalidInput(
            "bad-settings", f"{path} is not what `halftrack galaxy init` wrote ({error}): mend it, or take a copy"
        ) from None
