"""The verbs that bring manifests to the controller: `apply` and `plan`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from halftrack_controller import documents, render
from halftrack_controller.cli_frame import BLOCKED, DONE, PENDING, Program, Terminal, verb
from halftrack_controller.snapshot import Environment, Host
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import StreamGraph

if TYPE_CHECKING:  # pydantic and the YAML reader are heavy, and most verbs need neither
    from halftrack_controller.manifests import Declared

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
        declared = _read(files)
        with terminal.client() as client, _at_their_lines(declared):
            changes = client.apply(_documents(declared))
        terminal.result(changes, *render.document_lines(changes))
        return DONE

    @verb(program, "plan", "halftrack plan", "halftrack plan -f tank.yaml", "halftrack plan -f tank.yaml -o json")
    @FILES
    def plan(terminal: Terminal, files: tuple[str, ...]) -> int:
        """Say what would change, where and in which order, and why not elsewhere. Changes nothing.

        Without files: what is pending as things stand. With files: what applying them would do.
        """
        declared = _read(files) if files else None
        with terminal.client() as client, _at_their_lines(declared):
            reply = client.plan(_documents(declared) if declared else ())
        steps = [render.host_step(change) for change in reply.hosts]
        changed = [change for change in reply.changes if change.action != "unchanged"]
        value = {"changes": changed, "rollouts": reply.rollouts, "hosts": steps, "reasons": reply.reasons}
        terminal.result(value, *render.plan_lines(reply, steps))
        if changed or reply.rollouts or steps:
            return PENDING
        if all(why.under_way for why in reply.reasons):
            return PENDING if reply.reasons else DONE
        return BLOCKED


def _read(files: tuple[str, ...]) -> "Declared":
    from halftrack_controller import manifests

    declared = manifests.read(files)
    if declared.releases:
        where = "\n".join(
            f"{draft.where}: Release {draft.product} {draft.version}; publish it with `halftrack release publish`"
            for draft in declared.releases
        )
        raise InvalidInput("release-applied", f"releases are published, not applied; nothing was applied\n{where}")
    if not _documents(declared):  # never meant: a generator that failed, or the wrong file
        raise InvalidInput("nothing-declared", f"there is no document in {', '.join(files)}; nothing was applied")
    return declared


def _documents(declared: "Declared") -> tuple[Environment | Host | StreamGraph, ...]:
    return (*declared.environments, *declared.hosts, *declared.graphs)


@contextmanager
def _at_their_lines(declared: "Declared | None") -> Iterator[None]:
    """What the controller finds wrong with documents, told like everything else: with file and line."""
    try:
        yield
    except InvalidInput as error:
        where = declared.where if declared else {}
        raise InvalidInput(error.reason, documents.placed(error.message, where)) from None
