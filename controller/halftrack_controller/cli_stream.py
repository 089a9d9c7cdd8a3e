"""The verbs that look: `stream top`, `stream graph` and `explain`; those that change a graph are in `cli_edit`."""

from collections.abc import Sequence

import click
from rich.table import Table

from halftrack_controller import cli_edit, cli_rewire, graph_drawing, render
from halftrack_controller.cli_frame import DONE, Program, Terminal, verb
from halftrack_proto.gauges import RingRow

LOOK_EVERY_S = 1.0  # heartbeats are not more frequent


def declare(program: Program) -> None:
    """Add the verbs to the program."""

    @program.group("stream")
    def group() -> None:
        """Look at streams, and change them while they run."""

    cli_edit.declare(group)
    cli_rewire.declare(group)

    @verb(group, "top", "halftrack stream top", "halftrack stream top --environment tank --watch")
    @click.option("--environment", default="", help="Only the rings of this environment.")
    @click.option("--watch", is_flag=True, help="Stay, until Ctrl-C; with -o json, a line a second.")
    def top(terminal: Terminal, environment: str, watch: bool) -> int:
        """Show rings: how full, how fast, what was lost or dropped, and how far behind each reader is."""
        with terminal.client() as client:

            def look() -> Sequence[RingRow]:
                return client.stream_top(environment)

            if not watch:
                rows = look()
                terminal.result(rows, _shown(rows))
                return DONE
            with terminal.watching() as show:
                for rows in terminal.looks(look, LOOK_EVERY_S):
                    show(rows, _shown(rows))
        return DONE

    _declare_graph(group)

    @verb(
        program,
        "explain",
        "halftrack explain tank-b",
        "halftrack explain spectra/spectrometer",
        "halftrack explain tank.spectra.spectrometer.2 -o json",
    )
    @click.argument("subject")
    def explain(terminal: Terminal, subject: str) -> int:
        """Say why SUBJECT is as it is: a host, graph, graph/vertex, product, environment or rollout."""
        with terminal.client() as client:
            reasons = client.explain(subject)
        terminal.result(reasons, *(render.reason_line(why) for why in reasons))
        return DONE


def _declare_graph(group: click.Group) -> None:
    @verb(
        group,
        "graph",
        "halftrack stream graph spectra",
        "halftrack stream graph spectra --environment tank -o svg > spectra.svg",
        "halftrack stream graph spectra -o dot > spectra.dot",
        forms=("text", "json", "dot", "svg"),
    )
    @click.argument("name")
    @click.option(
        "--environment", default="", help="Where it runs; needed when several environments have one of that name."
    )
    def graph(terminal: Terminal, name: str, environment: str) -> int:
        """Draw graph NAME: vertices, releases, places, health, how full rings are, who reads from where and what it did not get."""
        with terminal.client() as client:
            view = client.graph(environment, name)
        if terminal.json:
            terminal.result(view)
        else:
            click.echo("\n".join(graph_drawing.drawn(view, terminal.form)))
        return DONE


def _shown(rows: Sequence[RingRow]) -> Table | str:
    return render.ring_table(rows) if rows else "no host has told of a ring"
