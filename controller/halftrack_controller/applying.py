"""`apply` and `plan` with manifests that are read here: by all who can tell their authors what is wrong with them, and where."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from halftrack_controller import documents, render
from halftrack_controller.cli_frame import BLOCKED, DONE, PENDING, Terminal
from halftrack_controller.manifest_files import Found
from halftrack_controller.snapshot import Environment, Host
from halftrack_model.errors import HalftrackError, InvalidInput
from halftrack_model.graph import StreamGraph

if TYPE_CHECKING:  # pydantic and the YAML reader are heavy, and a bare `plan` needs neither
    from halftrack_controller.manifests import Declared


def applied(terminal: Terminal, found: Found) -> tuple[tuple[str, str, str], ...]:
    """`apply` of documents that are read here: the kind and name of each, and what has been done to it."""
    declared = _read(found)
    with terminal.client() as client, _at_their_lines(declared):
        changes = client.apply(_documents(declared))
    return tuple((change.kind, change.name, change.action) for change in changes)


def unreached(terminal: Terminal, found: Found, error: HalftrackError) -> HalftrackError:
    """`error`, that no controller has answered, in better words; or first what is wrong here, for which none is needed."""
    _read(found)
    with terminal.client() as client:
        return client.told(error)


def planned(terminal: Terminal, found: Found | None) -> int:
    """`plan`: what would change if what was found were applied, or as things stand."""
    declared = _read(found) if found else None
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


def _read(found: Found) -> "Declared":
    from halftrack_controller import manifests

    declared = manifests.of_files(found)
    if declared.releases:
        where = "\n".join(
            f"{draft.where}: Release {draft.product} {draft.version}; publish it with `halftrack release publish`"
            for draft in declared.releases
        )
        raise InvalidInput("release-applied", f"releases are published, not applied; nothing was applied\n{where}")
    if not _documents(declared):  # never meant: a generator that failed, or the wrong file
        names = ", ".join(found.paths)
        raise InvalidInput("nothing-declared", f"there is no document in {names}; nothing was applied")
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
