"""The sockets that a keeper is told to hold, and what would be wrong with that. Pure."""

from dataclasses import dataclass

PROTOCOLS = ("udp", "tcp")
MAX_FEEDS = 16  # of a source


@dataclass(frozen=True, slots=True)
class FeedSpec:
    """A socket that a keeper holds: `bind` is the address as the kernel tells it, `buffer_bytes` what was asked for."""

    name: str
    protocol: str
    bind: str
    buffer_bytes: int


def fault(feeds: tuple[FeedSpec, ...]) -> str:
    """The first thing that is wrong, naming the field; empty when nothing is."""
    names = [feed.name for feed in feeds]
    if not 1 <= len(feeds) <= MAX_FEEDS:
        return f"feeds: expected 1 to {MAX_FEEDS} feeds, not {len(feeds)}"
    if len(set(names)) != len(names):
        return f"feeds: expected names that differ, not {names}"
    for number, feed in enumerate(feeds):
        if not feed.name or "," in feed.name:
            return f"feeds[{number}].name: expected a name without a comma"
        if feed.protocol not in PROTOCOLS:
            return f"feeds[{number}].protocol: expected one of {', '.join(PROTOCOLS)}"
        if feed.buffer_bytes < 1:
            return f"feeds[{number}].buffer_bytes: expected an integer from 1 on"
    return ""
