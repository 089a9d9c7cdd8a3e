"""The verbs that change a graph while it runs: `stream tap`, `remove`, and what becomes of drift: `drift`, `adopt`, `revert`."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from halftrack_controller import awaiting, looking
from halftrack_controller.cli_frame import DONE, PENDING, Terminal, verb
from halftrack_controller.manifest_text import graph_manifest
from halftrack_controller.params import param_of
from halftrack_model.edits import Edit, GraphRecord, Remove, Tap, differences
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_proto.graph_messages import InputStanding
from halftrack_proto.shown import MAX_BYTES_EACH, WatchRequest

if TYPE_CHECKING:
    from halftrack_controller.operator_client import OperatorClient

ENVIRONMENT = click.option("--environment", default="", help="Whose graph; needed when several have one of that name.")
REVISION = click.option(
    "--revision", type=click.IntRange(1), default=None, help="The revision that you saw; refused when it has moved on."
)
NO_WAIT = click.option("--no-wait", is_flag=True, help="Return once it is accepted, and not only once it counts.")


def declare(group: click.Group) -> None:
    """Add the verbs to `stream`."""
    _declare_tap(group)
    _declare_removal(group)
    _declare_drift(group)


def _declare_tap(group: click.Group) -> None:
    @verb(
        group,
        "tap",
        "halftrack stream tap spectra source",
        "halftrack stream tap spectra spectrometer --frames 100 --record night.frames",
        "halftrack stream tap spectra source --product recorder --host tank-a --name night --revision 3",
        "halftrack stream tap spectra source --product to-nats --host tank-a --reach 10.0.0.6:4222",
    )
    @click.argument("graph")
    @click.argument("vertex")
    @click.option("--frames", type=click.IntRange(0), default=0, help="Show so many, then end; 0: until Ctrl-C.")
    @click.option("--bytes", "bytes_each", type=click.IntRange(0, MAX_BYTES_EACH), default=32, help="Of each frame.")
    @click.option("--text", is_flag=True, help="Show them as text, not in hexadecimal.")
    @click.option("--record", type=click.Path(path_type=Path), help="Write whole frames to this file instead.")
    @click.option("--product", default="", help="Add a sink of this product to the graph, instead of looking.")
    @click.option("--host", default="", help="With --product: where it runs.")
    @click.option("--name", default="", help="With --product: its name in the graph [default: VERTEX-tap].")
    @click.option(
        "--param", "params", multiple=True, metavar="NAME=VALUE", help="With --product: a setting; repeatable."
    )
    @click.option(
        "--reach",
        multiple=True,
        metavar="[NAME=]ADDRESS:PORT",
        help="With --product: an engine outside that it may speak to; repeatable.",
    )
    @ENVIRONMENT
    @REVISION
    def tap(
        terminal: Terminal,
        graph: str,
        vertex: str,
        frames: int,
        bytes_each: int,
        text: bool,
        record: Path | None,
        **tapping: Any,
    ) -> int:
        """Look at what VERTEX of GRAPH produces, record it here, or (with --product) add a sink that reads along.

        A look is lossy and never holds the stream up; what it missed is told. A sink is live at once and not declared: `halftrack
        stream drift` shows it until it is adopted or reverted. Nobody else is touched by either.
        """
        if not tapping["product"]:
            asked = WatchRequest(
                tapping["environment"], graph, vertex, frames, MAX_BYTES_EACH if record else bytes_each
            )
            return looking.look(terminal, asked, text, record)
        if not tapping["host"]:
            raise click.UsageError("--product needs --host: where shall it run?")
        settings = dict(param_of(each) for each in tapping["params"])
        name = tapping["name"] or f"{vertex}-tap"
        sink = Vertex(name, Role.SINK, tapping["product"], (tapping["host"],), settings, 0, 0, reach=tapping["reach"])
        return edit_graph(terminal, graph, tapping, lambda _: Tap(vertex, sink))


def _declare_removal(group: click.Group) -> None:
    @verb(
        group, "remove", "halftrack stream remove spectra night", "halftrack stream remove spectra night --revision 4"
    )
    @click.argument("graph")
    @click.argument("vertex")
    @NO_WAIT
    @ENVIRONMENT
    @REVISION
    def remove(terminal: Terminal, graph: str, vertex: str, **options: Any) -> int:
        """Take VERTEX out of GRAPH while it runs: a sink, or one with one input, which its readers read from then on.

        What a sink has written stays on its host.
        """
        return edit_graph(terminal, graph, options, lambda _: Remove(vertex))


def _declare_drift(group: click.Group) -> None:
    @verb(group, "drift", "halftrack stream drift spectra", "halftrack stream drift spectra -o json")
    @click.argument("graph")
    @ENVIRONMENT
    def drift(terminal: Terminal, graph: str, environment: str) -> int:
        """Show how what runs differs from what was declared, and who has changed it. Exit status 2 when it does."""
        with terminal.client() as client:
            record = client.live_graph(graph, environment)
        _show(terminal, record)
        return PENDING if record.drifted else DONE

    @verb(group, "adopt", "halftrack stream adopt spectra > spectra.yaml", "halftrack stream adopt spectra -o json")
    @click.argument("graph")
    @ENVIRONMENT
    @REVISION
    def adopt(terminal: Terminal, graph: str, environment: str, revision: int | None) -> int:
        """Declare what is live, and print the manifest that says so: put it where you keep manifests.

        Applying an older manifest afterwards takes the edits back, like any change of a manifest.
        """
        record = _settle(terminal, graph, environment, revision, adopt=True)
        manifest = graph_manifest(record.declared)
        terminal.result({"graph": record, "manifest": manifest}, manifest.rstrip("\n"))
        return DONE

    @verb(group, "revert", "halftrack stream revert spectra", "halftrack stream revert spectra --revision 5")
    @click.argument("graph")
    @NO_WAIT
    @ENVIRONMENT
    @REVISION
    def revert(terminal: Terminal, graph: str, environment: str, revision: int | None, no_wait: bool) -> int:
        """Make live again what was declared: edits since then are undone."""
        with terminal.client() as client:
            seen = _as_seen(client.live_graph(graph, environment), revision)
            _shown_in_force(terminal, client, client.settle_graph(seen, False), seen.revision + 1, no_wait)
        return DONE


def edit_graph(terminal: Terminal, graph: str, options: Mapping[str, Any], made: Callable[[StreamGraph], Edit]) -> int:
    """Have the graph edited as it was seen, show what it is then, and wait until the edit counts: Ctrl-C ends the waiting only."""
    with terminal.client() as client:
        seen = _as_seen(client.live_graph(graph, options["environment"]), options["revision"])
        record = client.edit_graph(seen, made(seen.live))
        _shown_in_force(terminal, client, record, seen.revision + 1, options.get("no_wait", True))
    return DONE


def _shown_in_force(
    terminal: Terminal, client: "OperatorClient", record: GraphRecord, revision: int, no_wait: bool
) -> None:
    standing = awaiting.in_force(terminal, client, record.live, revision, wait=not no_wait)
    _show(terminal, record, standing)


def _settle(terminal: Terminal, graph: str, environment: str, revision: int | None, adopt: bool) -> GraphRecord:
    with terminal.client() as client:
        seen = _as_seen(client.live_graph(graph, environment), revision)
        return client.settle_graph(seen, adopt)


def _as_seen(record: GraphRecord, revision: int | None) -> GraphRecord:
    """The record at the revision that the operator has named; without one, as it is now."""
    if revision is None:
        return record
    return GraphRecord(record.environment, record.name, revision, record.declared, record.live, record.changes)


def _show(terminal: Terminal, record: GraphRecord, standing: tuple[InputStanding, ...] = ()) -> None:
    lines = differences(record.declared, record.live)
    drift = [f"  {line}" for line in lines] or ["  as declared"]
    history = [f"  {c.revision:>4}  {_at(c.at_ms)}  {c.operator}: {c.what}" for c in record.changes]
    value = {"graph": record, "drift": lines, "inputs": standing}
    title = f"{record.environment}/{record.name} is at revision {record.revision}"
    terminal.result(value, title, *drift, *history, *awaiting.lines(standing))


def _at(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))
