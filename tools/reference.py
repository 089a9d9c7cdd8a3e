"""Writes docs/cli.md and docs/manifests.md from the program itself. `reference.py [--check]`: exit 1 when a page is not current."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

DOCS = Path(__file__).parents[1] / "docs"
NOTE = "Written by `make docs` from the program; edit the program, not this page."
WIDTH = 100
STREAM_NOTE = """\
`halftrack` is for operators and speaks with a controller. [`halftrack-stream`](#halftrack-stream) is for rings on this host and needs
neither a controller nor an agent."""
INTRODUCTION = """\
A manifest is YAML with `apiVersion: halftrack/v1`, a `kind`, `metadata.name` (a release has none) and a `spec`; a file may hold
several, separated by `---`. All errors are reported at once, with file, line and what to write instead. `halftrack schema` prints the
same as JSON Schema, for editors."""


def cli_page() -> str:
    """Every verb with its help, in the order in which the program lists them."""
    from halftrack_controller.cli import main as halftrack
    from halftrack_dataplane.stream_cli import main as stream

    parts = ["# The command line", NOTE, STREAM_NOTE]
    for program, main in (("halftrack", halftrack), ("halftrack-stream", stream)):
        parts += [f"## `{program}`", _asked(program, main, ())]
        for words, _ in _verbs(main, ()):
            if words:
                parts += [f"## `{program} {' '.join(words)}`", _asked(program, main, words)]
    return "\n\n".join(parts) + "\n"


def _verbs(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield words, command
        return
    for name in command.list_commands(click.Context(command)):
        child = command.get_command(click.Context(command), name)
        if child is not None and not child.hidden:
            yield from _verbs(child, (*words, name))


def _asked(program: str, main: click.Command, words: tuple[str, ...]) -> str:
    seen = CliRunner().invoke(
        main, [*words, "--help"], prog_name=program, terminal_width=WIDTH, max_content_width=WIDTH
    )
    return f"```text\n{seen.output.strip()}\n```"


def manifests_page() -> str:
    """Every kind with every field, as the schema that checks manifests has them."""
    from halftrack_controller.cli import main

    schema = json.loads(CliRunner().invoke(main, ["schema"]).output)
    kinds = [choice["$ref"].rpartition("/")[2] for choice in schema["oneOf"]]
    parts = [
        "# Manifests",
        NOTE,
        INTRODUCTION,
    ]
    for kind in kinds:
        spec = _resolved(schema, schema["$defs"][kind]["properties"]["spec"])
        parts += [f"## {kind}", spec.get("description", ""), _table(schema, spec, "spec.")]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(schema: dict[str, Any], spec: dict[str, Any], prefix: str) -> str:
    rows = ["| field | | meaning | example |", "|---|---|---|---|"]
    return "\n".join(rows + list(_rows(schema, spec, prefix)))


def _rows(schema: dict[str, Any], record: dict[str, Any], prefix: str) -> Iterator[str]:
    required = record.get("required", [])
    for name, field in record["properties"].items():
        inner, suffix = _inner(schema, field)
        need = "required" if name in required else "optional" if inner is not None else f"default `{_default(field)}`"
        examples = field.get("examples", []) if inner is None else []
        shown = f"`{_short(examples[0])}`" if examples else ""
        yield f"| `{prefix}{name}{suffix}` | {need} | {field.get('description', '')} | {shown} |"
        if inner is not None:
            yield from _rows(schema, inner, f"{prefix}{name}{suffix}.")


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    # A duration or a size is text to people and a number to the program, which is what the schema's default shows.
    if not isinstance(value, int) or field.get("type") != "string":
        return _short(value)
    return f"{value >> 20}MiB" if "MiB" in field["pattern"] else f"{value}ms"


def _inner(schema: dict[str, Any], field: dict[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The record that a field holds (itself, optionally, or as a list's items), and how a path says so."""
    for choice in [field, *field.get("anyOf", []), *field.get("allOf", [])]:
        if "properties" in _resolved(schema, choice):
            return _resolved(schema, choice), ""
        if "$ref" in choice.get("items", {}):
            return _resolved(schema, choice["items"]), "[]"
    return None, ""


def _resolved(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    name = field.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = schema["$defs"][name] if name else field
    return found


def _short(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) and value else json.dumps(value)


PAGES = {"cli.md": cli_page, "manifests.md": manifests_page}


def main(check: bool) -> int:
    """Write the pages, or say which are not current."""
    stale = [name for name, page in PAGES.items() if not (DOCS / name).exists() or (DOCS / name).read_text() != page()]
    if check:
        print("\n".join(f"docs/{name} is not what the program says: run make docs" for name in stale), end="")
        return int(bool(stale))
    for name in stale:
        (DOCS / name).write_text(PAGES[name]())
        print(f"docs/{name} written")
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv[1:]))
