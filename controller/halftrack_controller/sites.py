"""Which hosts give each other artifacts: those of one environment that name the same site. Pure.

A site is declared and never guessed: hosts of an environment may stand on both ends of a thin link, and labels are free text.
"""

from halftrack_controller.snapshot import Snapshot

GROUP = 32  # that share: each asks all others of its group, and its plan names them. A larger site is several groups


def siblings(snapshot: Snapshot, host: str) -> tuple[str, ...]:
    """The other hosts of this one's group, in order; none for a host of no site."""
    known = snapshot.hosts.get(host)
    if known is None or not known.site:
        return ()
    where = (known.environment, known.site)
    site = [name for name, other in sorted(snapshot.hosts.items()) if (other.environment, other.site) == where]
    first = site.index(host) // GROUP * GROUP
    return tuple(name for name in site[first : first + GROUP] if name != host)
