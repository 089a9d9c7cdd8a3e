"""What is held against a host in all trials: its instances and rings are those of before, whatever has become of its agent."""

from tests.fleet.machine import Failed, until
from tests.fleet.site import AGENT, Site

BACK_S = 30.0  # within which an agent that hangs must be back


def expect(what: str, found: object, wanted: object) -> None:
    """Or the trial has failed."""
    if found != wanted:
        raise Failed(f"{what}: {found!r}, expected was {wanted!r}")


class Watched:
    """What must not change on a host while its agent comes and goes."""

    def __init__(self, site: Site, host: str) -> None:
        self._site, self.host = site, host
        self.pids, self._agent = site.pids(host), site.agent(host)
        self._rings = site.rings(host)
        self._adoptions = self._adopted()

    def _adopted(self) -> list[str]:
        lines = self._site.machines[self.host].journal(AGENT).splitlines()
        return [line for line in lines if "adopted: " in line]

    def unharmed(self) -> int:
        """Every process of every instance lives on, and every ring is where it was; how many instances."""
        expect(f"{self.host}: its instances' processes", self._site.pids(self.host), self.pids)
        gone = [
            pid
            for pair in self.pids.values()
            for pid in pair
            if not self._site.machines[self.host].path(f"/proc/{pid}").exists()
        ]
        expect(f"{self.host}: processes that are gone", gone, [])
        expect(f"{self.host}: its rings", self._site.rings(self.host), self._rings)
        return len(self.pids)

    def adopted(self, seconds: float = BACK_S) -> int:
        """Another agent is there and has adopted all of them; how many."""
        until(
            lambda: self._site.agent(self.host) not in (0, self._agent), f"{self.host}: another agent is there", seconds
        )
        lines = until(lambda: self._adopted()[len(self._adoptions) :], f"{self.host}: it adopts", seconds)
        names = sorted(lines[-1].rpartition("adopted: ")[2].split(", "))
        expect(f"{self.host}: adopted", names, sorted(self.pids))
        until(lambda: self._site.property(self.host, AGENT, "ActiveState") == "active", "systemd knows that it is up")
        return self.unharmed()
