"""Which hosts give each other artifacts, and look for each other: those of one environment that name the same site. Pure.

A site is declared and never guessed: hosts of an environment may stand on both ends of a thin link, and labels are free text.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from halftrack_controller import standing
from halftrack_controller.snapshot import Snapshot

GROUP = 32  # that share: each asks all others of its group, and its plan names them. A larger site is several groups
LOOKOUTS = 3  # for one host: any of them may be cut off from it as well


def siblings(snapshot: Snapshot, host: str) -> tuple[str, ...]:
    """The other hosts of this one's group, in order; none for a host of no site."""
    known = snapshot.hosts.get(host)
    if known is None or not known.site:
        return ()
    site = snapshot.machines.of_site(known.environment, known.site)
    first = site.index(host) // GROUP * GROUP
    return tuple(name for name in site[first : first + GROUP] if name != host)


def lookouts(snapshot: Snapshot) -> Mapping[str, tuple[str, ...]]:
    """Who is to look for whom: for each host that is away a few of its siblings that are here, and that a plan of theirs makes siblings."""
    found: dict[str, tuple[str, ...]] = {}
    for group in _groups(snapshot):
        here = [name for name in group if standing.seen(snapshot, name).connected]
        for host in group:
            if not standing.seen(snapshot, host).connected and host in snapshot.held:
                able = [name for name in here if _knows(snapshot, name, host)]
                for name in sorted(able, key=lambda name: _rank(host, name))[:LOOKOUTS]:
                    found[name] = (*found.get(name, ()), host)
    return found


def _groups(snapshot: Snapshot) -> Iterable[Sequence[str]]:
    """All groups in which there are siblings."""
    sites: dict[tuple[str, str], list[str]] = {}
    for name, host in sorted(snapshot.hosts.items()):
        if host.site:
            sites.setdefault((host.environment, host.site), []).append(name)
    for names in sites.values():
        yield from (names[first : first + GROUP] for first in range(0, len(names), GROUP))


def _knows(snapshot: Snapshot, name: str, host: str) -> bool:
    held = snapshot.held.get(name)
    return held is not None and any(peer.host == host for peer in held.plan.siblings)


def _rank(host: str, name: str) -> str:
    return hashlib.sha256(f"{host} {name}".encode()).hexdigest()
