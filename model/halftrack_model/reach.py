"""Reach: the addresses outside that a step may speak to, and no others. Pure; how it is let out is a driver's.

An address is the one that the step itself uses: inside its own network it stands for the same place outside. So what a server says
of itself (a Kafka broker's own address, a certificate's) stays true.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_REACH = 16  # of one step: a cluster's brokers and a database, each listened for in every instance
_FORM = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})")
_NAMED = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9._-]*):[0-9]{1,5}")
_WORDS = "write an IP address and a port from 1 to 65535, such as 10.0.0.5:5432 or [fd00::5]:5432"


class Way(NamedTuple):
    """A place to speak to."""

    host: str
    port: int


def parsed(text: str) -> Way:
    """The place that `text` means; ValueError, in words, when it means none, or is not spelled as the kernel does."""
    if (named := _NAMED.fullmatch(text)) is not None:
        name = named["name"]
        raise ValueError(
            f"{text!r} is a name, and a plan says addresses: write what `getent ahosts {name}` shows, and the port, such as 10.0.0.5:5432"
        )
    match = _FORM.fullmatch(text)
    if match is None or not 1 <= int(match[3]) < 1 << 16:
        raise ValueError(f"{text!r} is no address to speak to: {_WORDS}")
    try:
        host = ipaddress.ip_address(match[1] or match[2])
    except ValueError:
        raise ValueError(f"{text!r} is no address to speak to: {_WORDS}") from None
    way = Way(str(host), int(match[3]))
    if reason := _nobody(host):
        raise ValueError(f"{text!r} is no address to speak to, since {reason}: {_WORDS}")
    if shown(way) != text:
        raise ValueError(f"{text!r} is spelled {shown(way)!r}")
    return way


def shown(way: Way) -> str:
    """As it is written."""
    return f"[{way.host}]:{way.port}" if ":" in way.host else f"{way.host}:{way.port}"


def _nobody(host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Why no server is to be found there by this address alone; empty when one may be."""
    if host.is_unspecified or (host.version == 4 and host.packed[0] == 0):
        return "it means any address"
    if host.is_multicast or (host.version == 4 and host.packed[0] >= 240):
        return "no single server has it"
    if host.version == 6 and host.ipv4_mapped is not None:
        return f"it stands for {host.ipv4_mapped}"
    if host.version == 6 and host.is_link_local:
        return "it means nothing without an interface"
    return ""


def faults(reach: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with what one step may reach, each in a sentence."""
    if len(reach) > MAX_REACH:
        yield f"may reach {len(reach)} addresses; at most {MAX_REACH}"
    yield from (f"reach {text!r} stands twice" for text in sorted(set(reach)) if reach.count(text) > 1)
    for text in reach:
        try:
            parsed(text)
        except ValueError as error:
            yield f"reach: {error}"
