"""What siblings have said of hosts that are away, in memory: who looks for whom, and who was seen when, by this controller's monotonic clock.

Never stored, and never a host's health: that one can be reached from beside it says nothing of what it runs. Who shall look is decided by `sites`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from halftrack_controller.sights import age_ms
from halftrack_controller.snapshot import Sighting, Snapshot


class Lookouts:
    """A word of a lookout holds from when it says it until it says another, or is not heard any more."""

    def __init__(self) -> None:
        self._asked: dict[str, frozenset[str]] = {}
        self._sees: dict[str, frozenset[str]] = {}
        self._seen: dict[str, tuple[str, float]] = {}  # by whom and when, of what does not hold any more

    def ask(self, lookout: str, hosts: Iterable[str]) -> bool:
        """That one is to look for these; is that news to it?"""
        wanted = frozenset(hosts)
        news = wanted != self._asked.get(lookout, frozenset())
        self._asked[lookout] = wanted
        return news

    def said(self, lookout: str, hosts: Iterable[str], now_s: float) -> None:
        """It sees these, of those that it was asked for: what it says of others is not taken."""
        sees = frozenset(hosts) & self._asked.get(lookout, frozenset())
        self._note(lookout, self._sees.get(lookout, frozenset()) | sees, now_s)
        self._sees[lookout] = sees

    def gone(self, lookout: str, heard_s: float) -> None:
        """Its session is over; it was last heard then."""
        self._note(lookout, self._sees.pop(lookout, frozenset()), heard_s)
        self._asked.pop(lookout, None)

    def _note(self, lookout: str, hosts: Iterable[str], seen_s: float) -> None:
        """Seen then, unless another has seen it since: whose session ends was last heard some seconds ago."""
        for host in hosts:
            if host not in self._seen or self._seen[host][1] <= seen_s:
                self._seen[host] = (lookout, seen_s)

    def back(self, host: str) -> None:
        """It is here itself: nobody needs to have seen it."""
        self._seen.pop(host, None)

    def sightings(self, heard_s: Mapping[str, float], now_s: float) -> Mapping[str, Sighting]:
        """Of each host that somebody looks for, or has seen: the newest word. `heard_s` is when each lookout was last heard."""
        watched = frozenset[str]().union(*self._asked.values())
        newest = dict(self._seen)
        for lookout, hosts in sorted(self._sees.items()):
            for host in hosts:
                known = newest.get(host, ("", -1.0))
                newest[host] = max(known, (lookout, heard_s.get(lookout, -1.0)), key=lambda each: each[1])
        return {
            host: Sighting(*_told(newest.get(host), now_s), watched=host in watched) for host in watched | newest.keys()
        }


def with_sightings(snapshot: Snapshot, sightings: Mapping[str, Sighting]) -> Snapshot:
    """With what is said of hosts that are away; of one that is here only its own word counts."""
    told = {
        host: replace(seen, sighting=sightings[host])
        for host, seen in snapshot.seen.items()
        if host in sightings and not seen.connected
    }
    return replace(snapshot, seen={**snapshot.seen, **told}) if told else snapshot


def _told(known: tuple[str, float] | None, now_s: float) -> tuple[str, int]:
    return ("", -1) if known is None else (known[0], age_ms(now_s, known[1]))
