"""More faults, which came later: each class draws from randomness of its own, so that an older seed still strikes as it did.

A class is drawn for a swap with its own probability; each of its faults ends by itself, like those of `faults`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tests.sim.disk import Trouble

if TYPE_CHECKING:
    from tests.sim.faults import Fault, Faults

CLASSES: Mapping[str, tuple[float, tuple[str, ...]]] = {  # how likely it strikes in a swap, and with what
    "writes": (0.25, ("write torn", "write cut by power", "sync fails")),
    "rot": (0.12, ("journal rots", "journal lost")),
}


def drawn(rng: random.Random, name: str, of_kind: Callable[[random.Random, str], Fault]) -> list[Fault]:
    """The faults of one class for one swap."""
    likely, kinds = CLASSES[name]
    if rng.random() >= likely:
        return []
    return [of_kind(rng, rng.choice(kinds)) for _ in range(rng.randint(1, 2))]


def _interrupted(faults: Faults, rng: random.Random, trouble: Trouble, hosts: tuple[str, ...]) -> bool:
    host = faults.world.hosts[rng.choice(hosts)]
    faults.tell(f"the next write to the journal of {host.name} does not return: {trouble.value}")
    host.disk.trouble = trouble

    def relieved() -> None:
        if host.disk.trouble is trouble:
            host.disk.trouble = Trouble.NONE

    faults.world.timeline.after(4_000, relieved)  # else one that nothing is written on waits for the next swap
    faults.lasting(6_000)
    return True


def _write_torn(faults: Faults, _fault: Fault, rng: random.Random) -> bool:
    return _interrupted(faults, rng, Trouble.KILLED, faults.pair.hosts)


def _sync_fails(faults: Faults, _fault: Fault, rng: random.Random) -> bool:
    return _interrupted(faults, rng, Trouble.SYNC, faults.pair.hosts)


def _write_cut_by_power(faults: Faults, _fault: Fault, rng: random.Random) -> bool:
    """The standby's only: a merge has no standby, so the output is lost with its host."""
    return not faults.pair.alone and _interrupted(faults, rng, Trouble.POWER, faults.pair.hosts[1:])


def _damaged(faults: Faults, rng: random.Random, what: str) -> str:
    """The agent of a host that is killed, or with its whole machine, and finds another disk than it had."""
    agent = faults.world.agents[rng.choice(faults.pair.hosts)]
    if not agent.alive:
        return ""
    faults.tell(f"{agent.name}: {what}")
    if agent.name == faults.pair.hosts[1] and not faults.pair.alone and rng.random() < 0.5:
        faults.world.power_cut(agent)
    else:
        agent.crash()
    faults.lasting(4_000)
    return agent.name


def _journal_rots(faults: Faults, _fault: Fault, rng: random.Random) -> bool:
    host = _damaged(faults, rng, "a bit of the journal is flipped while nobody looks")
    return bool(host) and faults.world.hosts[host].disk.rot()


def _journal_lost(faults: Faults, _fault: Fault, rng: random.Random) -> bool:
    host = _damaged(faults, rng, "the journal is lost while nobody looks")
    if host:
        faults.world.hosts[host].disk.lose()
    return bool(host)


Strike = Callable[["Faults", "Fault", random.Random], bool]
STRIKES: Mapping[str, Strike] = {
    "write torn": _write_torn,
    "write cut by power": _write_cut_by_power,
    "sync fails": _sync_fails,
    "journal rots": _journal_rots,
    "journal lost": _journal_lost,
}
