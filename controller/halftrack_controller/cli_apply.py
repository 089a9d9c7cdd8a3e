"""The verbs that bring manifests to the controller, `apply` and `plan`, and the one that takes back what they have begun: `delete`.

`apply` sends the texts as they are, before it imports what reads them: the controller can, and mostly that is all there is
to do (ADR 46). The rest of both verbs is in `applying`.
"""

from pathlib import Path

import click

from halftrack_controller import manifest_files
from halftrack_controller.cli_frame import DONE, PENDING, Program, Terminal, verb
from halftrack_controller.manifest_files import Found
from halftrack_model.errors import HalftrackError, InvalidInput

Changes = tuple[tuple[str, str, str], ...]  # of each document: its kind, its name, what applying has done to it
FILES = click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    help="A manifest, a folder of them, or - for standard input.",
)


def declare(program: Program) -> None:
    """Add the verbs to the program."""

    @verb(program, "apply", "halftrack apply -f tank.yaml", "halftrack apply -f manifests/ -o json")
    @FILES
    def apply(terminal: Terminal, files: tuple[str, ...]) -> int:
        """Register environments, hosts and stream graphs: all of the files, or, when anything is wrong, nothing.

        Releases are published, not applied: they need your seal (`halftrack release publish`).
        """
        if not files:
            raise click.UsageError("name the manifests: -f PATH")
        found = manifest_files.read(files)
        changes = _by_the_controller(terminal, found)
        if changes is None:
            from halftrack_controller import applying

            changes = applying.applied(terminal, found)
        value = [{"kind": kind, "name": name, "action": action} for kind, name, action in changes]
        terminal.result(value, *(f"{kind} {name}: {action}" for kind, name, action in changes))
        return DONE

    @verb(
        program,
        "delete",
        "halftrack delete page",
        "halftrack delete spectra --environment tank --dry-run",
        "halftrack delete page -o json",
    )
    @click.argument("name")
    @click.option(
        "--environment", default="", help="Where it is; needed when several environments have one of that name."
    )
    @click.option("--dry-run", is_flag=True, help="Only say what would end, and where.")
    def delete(terminal: Terminal, name: str, environment: str, dry_run: bool) -> int:
        """End service or stream graph NAME on all of its hosts. One that is away ends it when it is back.

        Taking it out of a manifest ends nothing: only this does. Data folders and logs stay on the hosts. Applying its manifest again begins it anew.
        """
        from halftrack_controller import render

        with terminal.client() as client:
            deletion = client.delete_graph(name, environment, dry_run)
        terminal.result(deletion, *render.deletion_lines(deletion, dry_run))
        return PENDING if dry_run and deletion.hosts else DONE

    @verb(program, "plan", "halftrack plan", "halftrack plan -f tank.yaml", "halftrack plan -f tank.yaml -o json")
    @FILES
    def plan(terminal: Terminal, files: tuple[str, ...]) -> int:
        """Say what would change, where and in which order, and why not elsewhere. Changes nothing.

        Without files: what is pending as things stand. With files: what applying them would do.
        """
        from halftrack_controller import applying

        return applying.planned(terminal, manifest_files.read(files) if files else None)


def _by_the_controller(terminal: Terminal, found: Found) -> Changes | None:
    """What the controller has made of the texts; None when it has not: there is something for people to be told first."""
    if terminal.config is None or found.refused or not found.texts:
        return None
    from halftrack_controller import operator_link, papers
    from halftrack_proto.status import UNREACHABLE

    try:
        operator = papers.of_operator(Path(terminal.config))
        applied = operator_link.apply_manifests(operator, found.texts)
    except InvalidInput:
        raise
    except HalftrackError as error:  # met again, and told in better words, by who imports what is needed for that
        if error.reason != UNREACHABLE:
            return None
        from halftrack_controller import applying

        raise applying.unreached(terminal, found, error) from None
    terminal.note_end(applied.certificate_ends_ms)
    return applied.changes
