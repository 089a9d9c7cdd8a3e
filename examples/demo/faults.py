"""What goes wrong and when: the whole of it decided by the seed, before the demo starts. Pure.

Times are relative to what the demo does (the stream runs, a swap begins), so that a slow machine meets the same faults at the
same places. Nothing here cuts or kills anything: `director` does.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from examples.lab.wire import Fault

HOST_LINK = "a-b"
AGENTS = ("tank-a", "tank-b")

CUT_S = (0.2, 1.0)  # of the link between the hosts; the ring holds sixteen
LOSS_S = (0.5, 1.5)
LOSS_PERCENT = (0.2, 1.5)  # a bad link; beyond, TCP alone brings less through than the stream needs
DELAY_S = (1.0, 3.0)
DELAY_MS = (1.0, 10.0)  # another building to another city; a pair's hosts are not further apart
CALM_S = (2.0, 6.0)  # between two faults of the link: TCP needs as long again as a cut was, and then has to catch up


@dataclass(frozen=True, slots=True)
class Trouble:
    """The link between the hosts is like that from `at_s` to `until_s` after the stream began to flow."""

    at_s: float
    until_s: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL so long after a swap began. `pick` in [0, 1) chooses among what runs then."""

    after_s: float
    pick: float


@dataclass(frozen=True, slots=True)
class Faults:
    """All faults of one run."""

    seed: int
    publish_after_s: float  # 1.1.0, after the stream began to flow
    members: tuple[Kill, ...]  # of the swap to 1.1.0
    agent: str  # the agent that is killed during a swap; empty in the runs that spare them
    agent_kill: Kill
    agent_in_second: bool  # in the swap to 1.2.0 instead of that to 1.1.0
    controller_killed: bool
    raise_after_s: float  # the broken release fails after so much of the stream
    pause_before_broken_s: float

    def link(self) -> Iterator[Trouble]:
        """The troubles of the link between the hosts, endless and in order."""
        rng = random.Random(f"{self.seed}/link")
        at_s = rng.uniform(*CALM_S)
        while True:
            for_s, fault = _fault(rng)
            yield Trouble(at_s, at_s + for_s, fault)
            at_s += for_s + rng.uniform(*CALM_S)


def planned(seed: int) -> Faults:
    """The faults that `seed` means."""
    rng = random.Random(f"{seed}/plan")
    return Faults(
        seed=seed,
        publish_after_s=rng.uniform(1.5, 4.0),
        members=(Kill(rng.uniform(0.0, 7.0), rng.random()),),
        agent=rng.choice((*AGENTS, "")),
        agent_kill=Kill(rng.uniform(0.0, 6.0), 0.0),
        agent_in_second=rng.random() < 0.5,
        controller_killed=rng.random() < 0.3,
        # Before the cut it costs green its seat; after it, blue must take the output back.
        raise_after_s=rng.choice((rng.uniform(0.2, 2.0), rng.uniform(3.5, 6.0))),
        pause_before_broken_s=rng.uniform(0.5, 2.0),
    )


def _fault(rng: random.Random) -> tuple[float, Fault]:
    kind = rng.choices(("cut", "loss", "delay"), (4, 1, 1))[0]
    if kind == "cut":
        return rng.uniform(*CUT_S), Fault(cut=True)
    if kind == "loss":
        return rng.uniform(*LOSS_S), Fault(loss_percent=round(rng.uniform(*LOSS_PERCENT), 2))
    delay_ms = round(rng.uniform(*DELAY_MS), 1)
    return rng.uniform(*DELAY_S), Fault(delay_ms=delay_ms, jitter_ms=round(delay_ms / 4, 1))
