"""Feeds: the sockets that a source reads, held by its host for longer than the source's process lives. Pure."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

MAX_FEEDS = 16  # of one source
MIN_BUFFER_BYTES, MAX_BUFFER_BYTES = 1 << 16, 1 << 30  # the kernel's own count is an int, and twice that
DEFAULT_BUFFER_BYTES = 64 << 20  # half a second at 1 Gbit/s: longer than a capture takes to start again
_BIND = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})")


class Protocol(Enum):
    """What comes in: datagrams, or connections."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Feed:
    """A socket: `bind` is HOST:PORT in the kernel's own spelling, `buffer_bytes` what may wait in it (TCP: in each connection)."""

    name: str
    protocol: Protocol
    bind: str
    buffer_bytes: int


def parsed_bind(text: str) -> tuple[str, int]:
    """Host and port; ValueError, in words, when it is no address or not spelled as the kernel does."""
    match = _BIND.fullmatch(text)
    wanted = f"{text!r} is no address to bind: write an IP address and a port from 1 to 65535, such as 0.0.0.0:4001 or [::]:4001"
    if match is None or not 1 <= int(match[3]) < 1 << 16:
        raise ValueError(wanted)
    try:
        host = ipaddress.ip_address(match[1] or match[2])
    except ValueError:
        raise ValueError(wanted) from None
    shown = f"[{host}]:{int(match[3])}" if host.version == 6 else f"{host}:{int(match[3])}"
    if shown != text:
        raise ValueError(f"{text!r} is spelled {shown!r}")
    return str(host), int(match[3])


def faults(feeds: tuple[Feed, ...]) -> Iterator[str]:
    """What is wrong with the feeds of one source, each in a sentence."""
    if len(feeds) > MAX_FEEDS:
        yield f"has {len(feeds)} feeds; at most {MAX_FEEDS}"
    names = [feed.name for feed in feeds]
    yield from (f"feed {name!r} stands twice" for name in sorted(set(names)) if names.count(name) > 1)
    for feed in feeds:
        try:
            parsed_bind(feed.bind)
        except ValueError as error:
            yield f"feed {feed.name!r}: {error}"
        if not MIN_BUFFER_BYTES <= feed.buffer_bytes <= MAX_BUFFER_BYTES:
            yield f"feed {feed.name!r}: a buffer has {MIN_BUFFER_BYTES} to {MAX_BUFFER_BYTES} bytes, not {feed.buffer_bytes}"


def clashes(feeds: Iterable[tuple[str, Feed]]) -> Iterator[tuple[str, str]]:
    """Owners, of `(owner, feed)` on one host, whose address an earlier one has; each with a sentence."""
    taken: dict[tuple[Protocol, int], list[tuple[str, str, Feed]]] = {}
    for owner, feed in feeds:
        host, port = parsed_bind(feed.bind)
        others = taken.setdefault((feed.protocol, port), [])
        for other_host, other, theirs in others:
            if host == other_host or {"0.0.0.0", "::"} & {host, other_host}:  # noqa: S104 - compared, not bound
                yield (
                    owner,
                    f"feed {feed.name!r} binds {feed.bind}, and {other}'s {theirs.name!r} has {theirs.bind}: choose another port",
                )
        others.append((host, owner, feed))
