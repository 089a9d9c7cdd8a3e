"""What a plan says of a source's sockets, as the data plane's processes and the shim are told it. Pure; where things lie, its caller knows."""

from dataclasses import replace

from halftrack_dataplane.feed_orders import FeedSpec
from halftrack_dataplane.runspec import RunSpec
from halftrack_model import feed
from halftrack_model.feed import Feed
from halftrack_model.workload import Runs, Workload


def ordered(spec: RunSpec, workload: Workload, folder: str, taker_path: str) -> RunSpec:
    """`spec` with where sockets are handed out, and to whom; without feeds, `spec` as it is."""
    if not workload.feeds:
        return spec
    if workload.runs is not Runs.KEEPER:
        return replace(spec, feed_dir=folder)
    kept = tuple(FeedSpec(each.name, each.protocol.value, each.bind, each.buffer_bytes) for each in workload.feeds)
    return replace(spec, feeds=kept, feed_dir=folder, taker_path=taker_path)


def bound(feeds: tuple[Feed, ...]) -> tuple[str, ...]:
    """What the shim binds before its workload has lost all rights: `PROTOCOL BUFFER HOST:PORT` each."""
    return tuple(f"{each.protocol.value} {each.buffer_bytes} {each.bind}" for each in feeds)


def refusals(workload: Workload, names: set[str]) -> tuple[str, ...]:
    """Why it could not be run, each in a sentence; empty when it could."""
    found = [*feed.faults(workload.feeds)]
    if workload.feeds and workload.runs not in (Runs.KEEPER, Runs.SOURCE):
        found.append(f"it runs {workload.runs.value}, which has no feeds")
    if (workload.runs is Runs.KEEPER) != bool(workload.keeps_for):
        found.append("a keeper, and nothing else, keeps sockets for somebody")
    if workload.runs is Runs.KEEPER and not workload.feeds:
        found.append("a keeper without feeds keeps nothing")
    if workload.keeps_for and workload.keeps_for not in names:
        found.append(f"it keeps sockets for {workload.keeps_for!r}, which is not in the plan")
    return tuple(f"{workload.name} cannot be run: {text}" for text in found)
