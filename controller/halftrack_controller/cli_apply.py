"""The verbs that bring manifests to the controller: `apply` and `plan`."""

import click

from halftrack_controller import render
from halftrack_controller.cli_frame import BLOCKED, DONE, PENDING, Program, Terminal, verb
from halftrack_controller.snapshot import Environment, Host
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import StreamGraph

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
        documents = _documents(files)
        with terminal.client() as client:
            changes = client.apply(documents)
        terminal.result(changes, *render.document_lines(changes))
        return DONE

    @verb(program, "plan", "halftrack plan", "halftrack plan -f tank.yaml", "halftrack plan -f tank.yaml -o json")
    @FILES
    def plan(terminal: Terminal, files: tuple[str, ...]) -> int:
        """Say what would change, where and in which order, and why not elsewhere. Changes nothing.

        Without files: what is pending as things stand. With files: what applying them would do.
        """
        documents = _documents(files) if files else ()
        with terminal.client() as client:
            reply = client.plan(documents)
        steps = [render.host_step(change) for change in reply.hosts]
        changed = [change for change in reply.changes if change.action != "unchanged"]
        value = {"changes": changed, "rollouts": reply.rollouts, "hosts": steps, "reasons": reply.reasons}
        terminal.result(value, *render.plan_lines(reply, steps))
        if changed or reply.rollouts or steps:
            return PENDING
        return BLOCKED if reply.reasons else DONE


def _documents(files: tuple[str, ...]) -> tuple[Environment | Host | StreamGraph, ...]:
    from halftrack_controller import manifests

    declared = manifests.read(files)
    if declared.releases:
        where = "\n".join(
            f"{draft.where}: Release {draft.product} {draft.version}; publish it with `halftrack release publish`"
            for draft in declared.releases
        )
        raise InvalidInput("release-applied", f"releases are published, not applied; nothing was applied\n{where}")
    if not (
        declared.environments or declared.hosts or declared.graphs
    ):  # never meant: a generator failed, a wrong file
        raise InvalidInput("nothing-declared", f"there is no document in {', '.join(files)}; nothing was applied")
    return (*declared.environments, *declared.hosts, *declared.graphs)
