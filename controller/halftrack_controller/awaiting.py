"""Waiting until an edit counts: what an operator is told meanwhile, and from which number on it does. Decides nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from halftrack_controller.cli_frame import Terminal
from halftrack_model import rewiring
from halftrack_model.graph import StreamGraph
from halftrack_proto.graph_messages import GraphView, InputStanding

if TYPE_CHECKING:
    from halftrack_controller.operator_client import OperatorClient

LOOK_EVERY_S = 0.5  # hosts tell the controller what is new within a heartbeat


def in_force(
    terminal: Terminal, client: "OperatorClient", graph: StreamGraph, revision: int, wait: bool
) -> tuple[InputStanding, ...]:
    """How those stand whose inputs the graph's `revision` has changed; with `wait`, once all of them read these or newer ones."""
    touched = {each.vertex for each in rewiring.going(graph) if each.new == revision}
    if not touched:
        return ()
    told: dict[str, str] = {}
    for view in terminal.looks(lambda: client.graph(graph.environment, graph.name), LOOK_EVERY_S):
        standing = tuple(each for each in view.inputs if each.vertex in touched)
        if not wait or not any(_behind(view, vertex, revision) for vertex in touched):
            return standing
        for each in standing:
            if each.waits and told.get(each.vertex) != each.waits:
                told[each.vertex] = each.waits
                terminal.note(f"{each.vertex} reads what it did so far: {each.waits}")
    raise AssertionError("a terminal looks for ever")


def lines(standing: Sequence[InputStanding]) -> list[str]:
    """What is to be told of them."""
    return [
        f"{each.vertex} reads what it did so far: {each.waits}"
        if each.waits
        else f"{each.vertex} reads its new inputs"
        + (f" from number {each.first} on" if each.first >= 0 else "; from which number on, its host has yet to tell")
        for each in standing
    ]


def _behind(view: GraphView, vertex: str, revision: int) -> bool:
    """Does it, as far as is known, still read what is older than that revision?"""
    going = any(each.vertex == vertex for each in rewiring.going(view.graph))
    force = next((each.in_force for each in view.inputs if each.vertex == vertex), 0)
    return going and force < revision
