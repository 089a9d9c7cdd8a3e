"""The verbs that change what a running vertex reads: `stream insert`, `replace`, `reroute`, `split` and `set-policy`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from halftrack_controller.cli_edit import ENVIRONMENT, NO_WAIT, REVISION, edit_graph
from halftrack_controller.cli_frame import Terminal, verb
from halftrack_controller.params import param_of
from halftrack_controller.quantities import duration_ms, size_bytes
from halftrack_model.edits import Insert, Replace, Reroute, SetPolicy, Split
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import Policy, Role, StreamGraph, Vertex

Decorated = TypeVar("Decorated", bound=Callable[..., int])


def declare(group: click.Group) -> None:
    """Add the verbs to `stream`."""
    _declare_newcomers(group)
    _declare_ways(group)
    _declare_split(group)
    _declare_policy(group)


def _newcomer(work: Decorated) -> Decorated:
    """The options of a vertex that comes."""
    for option in (
        click.option("--product", required=True, help="The product whose newest release it runs."),
        click.option("--host", default="", help="Where it runs."),
        click.option(
            "--pair", nargs=2, metavar="HOST HOST", help="Run it as a pair: member a on the first, b on the second."
        ),
        click.option("--ring", "ring_size", default="", metavar="SIZE", help="How much the ring that it writes holds."),
        click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help="A setting; repeatable."),
        click.option(
            "--reach",
            multiple=True,
            metavar="[NAME=]ADDRESS:PORT",
            help="A place outside that it may speak to; repeatable.",
        ),
    ):
        work = option(work)
    return work


def _declare_newcomers(group: click.Group) -> None:
    @verb(
        group,
        "insert",
        "halftrack stream insert spectra source:spectrometer --vertex flagger --product flagger",
        "halftrack stream insert spectra source:sink --vertex scale --product scaler --pair tank-a tank-b --param factor=3",
    )
    @click.argument("graph")
    @click.argument("edge")
    @click.option("--vertex", required=True, help="What it is called in the graph.")
    @_newcomer
    @NO_WAIT
    @ENVIRONMENT
    @REVISION
    def insert(terminal: Terminal, graph: str, edge: str, vertex: str, **options: Any) -> int:
        """Put a new vertex into EDGE (SOURCE:TARGET) of GRAPH while it runs.

        It runs beside the stream until it has caught up; from one number on, which is told, the target reads what it makes of frames.
        It must answer frame n with frame n, so its release keeps no state that is written (a replayed window is none).
        """
        source, target = edge_of(edge)

        def made(live: StreamGraph) -> Insert:
            like = _like(live, source, Role.SINGLE)
            return Insert(source, target, _vertex(vertex, like, options))

        return edit_graph(terminal, graph, options, made)

    @verb(
        group,
        "replace",
        "halftrack stream replace spectra flagger --vertex flagger-gpu --product gpu-flagger",
        "halftrack stream replace spectra scale --vertex rescale --product scaler --param factor=5",
    )
    @click.argument("graph")
    @click.argument("old")
    @click.option("--vertex", required=True, help="What the new one is called: both run for a while.")
    @_newcomer
    @NO_WAIT
    @ENVIRONMENT
    @REVISION
    def replace(terminal: Terminal, graph: str, old: str, vertex: str, **options: Any) -> int:
        """Put a new vertex in the place of OLD in GRAPH while it runs. A newer release of the same product needs none: publish it.

        It runs where OLD does, and as a pair if OLD does, unless told otherwise.
        """

        def made(live: StreamGraph) -> Replace:
            return Replace(old, _vertex(vertex, _like(live, old, None), options))

        return edit_graph(terminal, graph, options, made)


def _declare_ways(group: click.Group) -> None:
    @verb(group, "reroute", "halftrack stream reroute spectra flagger:display --from source")
    @click.argument("graph")
    @click.argument("edge")
    @click.option("--from", "other", required=True, help="The vertex that the target shall read instead.")
    @NO_WAIT
    @ENVIRONMENT
    @REVISION
    def reroute(terminal: Terminal, graph: str, edge: str, other: str, **options: Any) -> int:
        """Let the target of EDGE (SOURCE:TARGET) read another vertex while it runs, whose frames have the same numbers."""
        source, target = edge_of(edge)
        return edit_graph(terminal, graph, options, lambda live: Reroute(source, target, other))


def _declare_split(group: click.Group) -> None:
    @verb(
        group,
        "split",
        "halftrack stream split spectra flagger --into 4 --key 0:8",
        "halftrack stream split spectra flagger --into 2 --key 0:8 --host tank-a --host tank-b",
    )
    @click.argument("graph")
    @click.argument("vertex")
    @click.option("--into", type=click.IntRange(2), required=True, help="How many do its work.")
    @click.option(
        "--key", required=True, metavar="OFFSET:BYTES", help="Where in a frame the key is that says whose it is."
    )
    @click.option("--host", "hosts", multiple=True, help="Where parts run, one after the other; repeatable.")
    @NO_WAIT
    @ENVIRONMENT
    @REVISION
    def split(
        terminal: Terminal, graph: str, vertex: str, into: int, key: str, hosts: tuple[str, ...], **options: Any
    ) -> int:
        """Let several vertices do what VERTEX does, each for a part of the frames, while it runs.

        A frame's key says whose it is. They are called VERTEX-0, VERTEX-1 and so on; who reads VERTEX reads all of them, as one stream in the
        same order.
        """
        offset, length = _numbers_of(key)
        return edit_graph(terminal, graph, options, lambda live: Split(vertex, into, offset, length, hosts))


def _declare_policy(group: click.Group) -> None:
    @verb(
        group,
        "set-policy",
        "halftrack stream set-policy spectra source:display --policy lossy",
        "halftrack stream set-policy spectra source:sink --credit 64MiB --evict-after 5s",
    )
    @click.argument("graph")
    @click.argument("edge")
    @click.option(
        "--policy", type=click.Choice([each.value for each in Policy]), help="What happens when the target is slow."
    )
    @click.option(
        "--every",
        type=click.IntRange(1),
        help="With policy sample: every so many. Of who runs, it cannot change: it changes numbers.",
    )
    @click.option(
        "--credit", default=None, metavar="SIZE", help="What the target may lag at nobody's cost; 0: as much as fits."
    )
    @click.option(
        "--evict-after", default=None, metavar="DURATION", help="How long it may hold up the source then; 0: for ever."
    )
    @NO_WAIT
    @ENVIRONMENT
    @REVISION
    def set_policy(
        terminal: Terminal,
        graph: str,
        edge: str,
        policy: str | None,
        every: int | None,
        credit: str | None,
        evict_after: str | None,
        **options: Any,
    ) -> int:
        """Read EDGE (SOURCE:TARGET) of GRAPH in another way while it runs. What is not said stays."""
        source, target = edge_of(edge)
        setting = SetPolicy(
            source,
            target,
            None if policy is None else Policy(policy),
            every,
            None if credit is None else _or_zero(credit, size_bytes),
            None if evict_after is None else _or_zero(evict_after, duration_ms),
        )
        return edit_graph(terminal, graph, options, lambda live: setting)


def edge_of(text: str) -> tuple[str, str]:
    """The two ends of an edge as they are written on a command line."""
    source, colon, target = text.partition(":")
    if not (colon and source and target):
        raise InvalidInput("bad-edge", f"{text!r} is no edge: write SOURCE:TARGET, such as source:spectrometer")
    return source, target


def _numbers_of(text: str) -> tuple[int, int]:
    offset, colon, length = text.partition(":")
    if not (colon and all(each.isascii() and each.isdigit() and len(each) < 10 for each in (offset, length))):
        raise InvalidInput(
            "bad-key", f"{text!r} is no key: write OFFSET:BYTES, such as 0:8 for the first eight bytes of a frame"
        )
    return int(offset), int(length)


def _or_zero(text: str, read: Callable[[str], int]) -> int:
    return 0 if text == "0" else read(text)


def _like(live: StreamGraph, name: str, role: Role | None) -> Vertex:
    """What a newcomer is like if nothing else is said: it runs where `name` does, and its ring is as large."""
    known = {vertex.name: vertex for vertex in live.vertices}
    if name not in known:
        raise InvalidInput("bad-edit", f"there is no vertex {name!r}: {live.name} has {', '.join(sorted(known))}")
    like = known[name]
    hosts = like.hosts[:1] if role is Role.SINGLE else like.hosts
    return Vertex("", role or like.role, "", hosts, {}, like.ring_bytes, like.ring_slots)


def _vertex(name: str, like: Vertex, options: dict[str, Any]) -> Vertex:
    if options["host"] and options["pair"]:
        raise click.UsageError("--host and --pair are two ways to say where it runs: give one")
    role, hosts = like.role, like.hosts
    if options["pair"]:
        role, hosts = Role.PAIR, tuple(dict.fromkeys(options["pair"]))
    elif options["host"]:
        role, hosts = Role.SINGLE, (options["host"],)
    size = size_bytes(options["ring_size"]) if options["ring_size"] else like.ring_bytes
    params = dict(param_of(each) for each in options["params"])
    return Vertex(name, role, options["product"], hosts, params, size, like.ring_slots, reach=options["reach"])
