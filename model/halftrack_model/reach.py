"""Reach: the addresses outside that a step may speak to, and no others. Pure; how it is let out is a driver's.

An address is the one that the step itself uses: inside its own network it stands for the same place outside. So what a server says
of itself (a Kafka broker's own address, a certificate's) stays true. A name may stand before it, `NAME=ADDRESS:PORT`: whoever asks inside
for that name gets this address. Nobody resolves anything.
"""

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_REACH = 16  # of one step: a cluster's brokers and a database, each listened for in every instance
MAX_NAME = 253  # of a host, as DNS has it
_FORM = re.compile(r"(?:(?P<name>[^=]*)=)?(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.*[A-Za-z]){_LABEL}(?:\.{_LABEL})*")
_BARE = re.compile(rf"(?P<name>{_NAME.pattern}):(?P<port>[0-9]{{1,5}})")
_WORDS = "write an IP address and a port from 1 to 65535, such as 10.0.0.5:5432 or [fd00::5]:5432"


class Way(NamedTuple):
    """A place to speak to, and the name that it shall have, if any."""

    host: str
    port: int
    name: str = ""

    @property
    def place(self) -> str:
        """ADDRESS:PORT."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parsed(text: str) -> Way:
    """The place that `text` means; ValueError, in words, when it means none, or is not spelled as the kernel does."""
    if (bare := _BARE.fullmatch(text)) is not None:
        name, port = bare["name"], bare["port"]
        raise ValueError(
            f"{text!r} is a name, and a plan says addresses: write {name}=10.0.0.5:{port}, with the address that `getent ahosts {name}` shows"
        )
    match = _FORM.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) < 1 << 16:
        raise ValueError(f"{text!r} is no address to speak to: {_WORDS}")
    try:
        host = ipaddress.ip_address(match["v6"] or match["v4"])
    except ValueError:
        raise ValueError(f"{text!r} is no address to speak to: {_WORDS}") from None
    if reason := _nobody(host):
        raise ValueError(f"{text!r} is no address to speak to, since {reason}: {_WORDS}")
    name = match["name"]
    if name is not None and (not _NAME.fullmatch(name) or len(name) > MAX_NAME or name.lower() == "localhost"):
        raise ValueError(f"{text!r} names no host: write a host's name before the =, such as db.example=10.0.0.5:5432")
    way = Way(str(host), int(match["port"]), name or "")
    if shown(way) != text:
        raise ValueError(f"{text!r} is spelled {shown(way)!r}")
    return way


def shown(way: Way) -> str:
    """As it is written."""
    return f"{way.name}={way.place}" if way.name else way.place


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
    places = []
    for text in reach:
        try:
            places.append(parsed(text).place)
        except ValueError as error:
            yield f"reach: {error}"
    yield from (f"reach {place!r} stands twice" for place in sorted(set(places)) if places.count(place) > 1)
