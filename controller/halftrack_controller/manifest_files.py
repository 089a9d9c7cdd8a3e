"""Where the texts of manifests come from: files, folders and standard input. Bounded, UTF-8 only; knows nothing of YAML."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from halftrack_model.errors import InvalidInput

STDIN = "-"
MAX_TEXT_BYTES = 1 << 20  # a hundred graphs; a manifest is written by people
Named = tuple[str, str]  # a file, and its text or what is wrong with it


@dataclass(frozen=True, slots=True)
class Found:
    """What was found under the paths that were asked for."""

    paths: tuple[str, ...]
    texts: tuple[Named, ...]
    refused: tuple[Named, ...]  # what has no text, with the reason


def read(paths: Iterable[str]) -> Found:
    """The texts of all files, folders (their *.yaml and *.yml, sorted) and `-`; and what has none."""
    paths = tuple(paths)
    texts: list[Named] = []
    refused: list[Named] = []
    for path in paths:
        try:
            names = _files(path)
        except InvalidInput as error:
            refused.append((path or "''", error.message))
            continue
        for name in names:
            try:
                texts.append((name, _text(name)))
            except InvalidInput as error:
                refused.append((name, error.message))
    return Found(paths, tuple(texts), tuple(refused))


def is_file(path: Path) -> bool:
    """Is there a file? What may not be looked at, or cannot be a name, is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _files(path: str) -> list[str]:
    if not path:  # an unset variable, which must not mean this folder
        raise InvalidInput("no-file", "names no file; write a manifest's path, or . for this folder")
    try:
        if path == STDIN or not Path(path).is_dir():
            return [path]
        found = sorted(str(file) for file in Path(path).iterdir() if file.suffix in (".yaml", ".yml") and is_file(file))
    except OSError as error:
        raise InvalidInput("unreadable", f"cannot be read: {error.strerror}") from None
    if not found:
        raise InvalidInput("no-file", "no manifests in this folder; name a file or a folder with *.yaml files")
    return found


def _text(name: str) -> str:
    limit = MAX_TEXT_BYTES + 1
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(limit)
        else:
            with Path(name).open("rb") as file:
                data = file.read(limit)
        # What is too long is refused for that, and not because the cut fell into the middle of a character.
        return data.decode(errors="strict" if len(data) < limit else "replace")
    except OSError as error:
        raise InvalidInput("unreadable", f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        text = f"is not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8"
        raise InvalidInput("unreadable", text) from None
