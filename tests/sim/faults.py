"""Faults: which there are, how a seed draws a plan of them, and how each strikes. Every one ends by itself."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from halftrack_model import canonical, seals
from halftrack_model.swap import Phase, SwapRecord
from halftrack_model.workload import Member, Runs
from tests.sim import hardships, keys, messages

if TYPE_CHECKING:
    from tests.sim.world import Pair, World

CLASSES: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "links": ("link cut", "one-way cut", "link degraded", "partition", "link flaps"),
    "kills": ("member killed", "process killed", "process vanished", "process frozen", "process hangs"),
    "disks": ("disk full",),
    "agents": ("agent killed", "agent killed in the act", "controller killed", "standby host reboots"),
    "release": ("release broken",),
    "operator": ("abort",),
    "plans": ("plan replayed", "plan forged", "record forged"),
}
SCENARIOS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (1, ("nothing",)),
    (4, ("links", "plans")),
    (4, ("kills",)),
    (4, ("agents",)),
    (3, ("disks", "kills")),
    (4, ("release", "links", "kills")),
    (4, ("operator", "links", "agents")),
    (6, ("links", "kills", "agents", "plans")),
    (6, ("links", "kills", "agents", "disks", "release", "operator", "plans")),
)
MOMENTS = [(phase, leg) for phase in Phase for leg in (0, 1) if not phase.terminal]


@dataclass(frozen=True, slots=True)
class Fault:
    """`delay_ms` after the leader has entered `phase` of `leg`; after the release was published when `phase` is None."""

    kind: str
    phase: Phase | None
    leg: int
    delay_ms: int
    lasts_ms: int
    pick: int  # decides whatever else there is to choose


def drawn(rng: random.Random) -> list[Fault]:
    """A plan of faults."""
    weights = [weight for weight, _ in SCENARIOS]
    classes = rng.choices([classes for _, classes in SCENARIOS], weights)[0]
    plan = []
    for name in classes:
        once = name in ("release", "operator")
        for _ in range(1 if once else rng.randint(1, 3)):
            if CLASSES[name]:
                plan.append(of_kind(rng, rng.choice(CLASSES[name])))
    return plan


def of_kind(rng: random.Random, kind: str) -> Fault:
    """A fault of that kind, some time."""
    by_phase = rng.random() < 0.75
    phase, leg = rng.choice(MOMENTS) if by_phase else (None, 0)
    delay_ms = rng.randint(0, 250) if by_phase else rng.randint(0, 6_000)
    lasts_ms = rng.choice((rng.randint(50, 700), rng.randint(500, 6_000), rng.randint(500, 15_000)))
    return Fault(kind, phase, leg, delay_ms, lasts_ms, rng.randrange(1 << 30))


class Faults:
    """The faults of one pair and one swap: those to come, and those that struck."""

    def __init__(self, world: World, pair: Pair, plan: list[Fault]) -> None:
        self.world, self.pair = world, pair
        self.struck: Counter[str] = Counter()
        self.until_ms = 0
        self._scheduled = 0
        self._waiting = [fault for fault in plan if fault.phase is not None]
        for fault in plan:
            if fault.phase is None:
                self._schedule(fault)

    @property
    def over(self) -> bool:
        """Has the last of them ended?"""
        return not self._scheduled and not self._waiting and self.world.now_ms >= self.until_ms

    def entered(self, record: SwapRecord) -> None:
        """The leader has entered a phase; with the last one, what still waits for another never comes."""
        due = [f for f in self._waiting if f.phase is record.phase and f.leg == record.leg]
        self._waiting = [] if record.phase.terminal else [f for f in self._waiting if f not in due]
        for fault in due:
            self._schedule(fault)

    def drop_waiting(self) -> None:
        """What waits for a phase that no longer comes."""
        self._waiting = []

    def _schedule(self, fault: Fault) -> None:
        self._scheduled += 1
        self.world.timeline.after(fault.delay_ms, lambda: self._strike(fault))

    def _strike(self, fault: Fault) -> None:
        self._scheduled -= 1
        rng = random.Random(fault.pick)
        if fault.kind in hardships.STRIKES:
            struck = hardships.STRIKES[fault.kind](self, fault, rng)
        else:
            struck = getattr(self, f"_{fault.kind.replace(' ', '_').replace('-', '_')}")(fault, rng)
        if not struck:
            return
        self.struck[fault.kind] += 1
        self.world.struck[fault.kind] += 1

    def lasting(self, lasts_ms: int) -> None:
        """What it does is not over before."""
        self.until_ms = max(self.until_ms, self.world.now_ms + lasts_ms)

    def tell(self, text: str) -> None:
        """A sentence of the story."""
        self.world.story.tell("FAULT", text)

    # ---- the network ------------------------------------------------------------------------------------------------

    def _link(self, rng: random.Random) -> tuple[str, str]:
        a, b = self.pair.hosts
        return rng.choice([(a, b), (a, b), (a, "controller"), (b, "controller")])

    def _change(self, links: list[tuple[str, str]], lasts_ms: int, **values: object) -> bool:
        self.tell(f"{', '.join(f'{s}→{t}' for s, t in links)}: {values} for {lasts_ms} ms")
        for source, target in links:
            self.world.net.change(source, target, **values)
            self.world.timeline.after(lasts_ms, lambda s=source, t=target: self.world.net.mend(s, t))  # type: ignore[misc]
        self.lasting(lasts_ms)
        return True

    def _link_cut(self, fault: Fault, rng: random.Random) -> bool:
        one, other = self._link(rng)
        return self._change([(one, other), (other, one)], fault.lasts_ms, up=False)

    def _one_way_cut(self, fault: Fault, rng: random.Random) -> bool:
        one, other = self._link(rng)
        return self._change([(one, other) if rng.random() < 0.5 else (other, one)], fault.lasts_ms, up=False)

    def _link_degraded(self, fault: Fault, rng: random.Random) -> bool:
        one, other = self._link(rng)
        low = rng.randint(1, 60)
        values = {
            "delay_ms": (low, low + rng.randint(0, 150)),
            "loss": rng.random() * 0.5,
            "repeat": rng.random() * 0.3,
        }
        return self._change([(one, other), (other, one)], fault.lasts_ms, **values)

    def _partition(self, fault: Fault, rng: random.Random) -> bool:
        alone = rng.choice([*self.pair.hosts, "controller"])
        others = [name for name in (*self.pair.hosts, "controller") if name != alone]
        return self._change([x for o in others for x in ((alone, o), (o, alone))], fault.lasts_ms, up=False)

    def _link_flaps(self, fault: Fault, rng: random.Random) -> bool:
        one, other = self._link(rng)
        at_ms, end_ms = 0, min(fault.lasts_ms, 6_000)
        while at_ms < end_ms:
            off_ms = rng.randint(30, 1_200)
            cut = lambda ms=off_ms: self._change([(one, other), (other, one)], ms, up=False)  # noqa: E731
            self.world.timeline.after(at_ms, cut)
            at_ms += off_ms + rng.randint(30, 1_200)
        self.lasting(at_ms + 1_200)
        return True

    # ---- processes --------------------------------------------------------------------------------------------------

    def _kill_one(self, rng: random.Random, roles: tuple[Runs, ...], unseen: bool) -> bool:
        running = [
            (host, name)
            for host in self.pair.hosts
            for name, instance in sorted(self.world.hosts[host].instances.items())
            if instance.life is not None and instance.workload.runs in roles
        ]
        if not running:
            return False
        host, name = rng.choice(running)
        self.tell(f"SIGKILL for {name} on {host}{', and its shim' if unseen else ''}")
        self.world.killed[name] += 1
        self.harm(host, self.world.hosts[host].instances[name].workload.member)
        return self.world.hosts[host].kill(name, unseen)

    def harm(self, host: str, member: Member | None = None) -> None:
        """What serves that member was struck; or on this host, if nobody knows whom it serves, everything."""
        for name in (member.member,) if member and self.pair.alone else "ab":
            self.world.harmed_ms[host, name] = self.world.now_ms

    def _member_killed(self, fault: Fault, rng: random.Random) -> bool:
        return self._kill_one(rng, (Runs.MEMBER,), unseen=False)

    def _judge_killed(self, fault: Fault, rng: random.Random) -> bool:
        return self._kill_one(rng, (Runs.JUDGE,), unseen=False)

    def _process_killed(self, fault: Fault, rng: random.Random) -> bool:
        return self._kill_one(rng, tuple(Runs), unseen=False)

    def _process_vanished(self, fault: Fault, rng: random.Random) -> bool:
        return self._kill_one(rng, tuple(Runs), unseen=True)

    def _process_frozen(self, fault: Fault, rng: random.Random) -> bool:
        host = self.world.hosts[rng.choice(self.pair.hosts)]
        running = [i for _, i in sorted(host.instances.items()) if i.life is not None]
        if not running:
            return False
        frozen, lasts_ms = rng.choice(running), min(fault.lasts_ms, 4_000)
        self.harm(host.name, frozen.workload.member)
        frozen.frozen_ms = self.world.now_ms + lasts_ms
        self.tell(f"SIGSTOP for {frozen.workload.name} on {host.name} for {lasts_ms} ms")
        self.lasting(lasts_ms)
        return True

    def _process_hangs(self, fault: Fault, rng: random.Random) -> bool:
        """For ever, unless its agent does something about it."""
        host = self.world.hosts[rng.choice(self.pair.hosts)]
        bound = [i for _, i in sorted(host.instances.items()) if i.life is not None and i.workload.hang_after_ms]
        if not bound:
            return False
        hanging = rng.choice(bound)
        self.harm(host.name, hanging.workload.member)
        hanging.frozen_ms = math.inf
        self.tell(f"{hanging.workload.name} on {host.name} does not move any more")
        self.lasting(10_000)
        return True

    def _standby_host_reboots(self, fault: Fault, rng: random.Random) -> bool:
        if self.pair.alone:
            return False  # the output would be lost with it: a merge has no standby
        agent = self.world.agents[self.pair.hosts[1]]
        self.tell(f"{agent.name} loses power")
        self.world.power_cut(agent)
        self.lasting(3_000)
        return True

    def _agent_killed(self, fault: Fault, rng: random.Random) -> bool:
        agent = self.world.agents[rng.choice(self.pair.hosts)]
        was_alive = agent.alive
        agent.crash()
        self.lasting(1_500)
        return was_alive

    def _agent_killed_in_the_act(self, fault: Fault, rng: random.Random) -> bool:
        agent = self.world.agents[rng.choice(self.pair.hosts)]
        agent.crash_in = rng.randint(0, 6)
        self.tell(f"{agent.name}'s agent will die after {agent.crash_in} more actions")
        self.lasting(2_500)
        return agent.alive

    def _disk_full(self, fault: Fault, rng: random.Random) -> bool:
        host = self.world.hosts[rng.choice(self.pair.hosts)]
        self.tell(f"the disk of {host.name} is full for {fault.lasts_ms} ms")
        host.disk.full = True

        def empty() -> None:
            host.disk.full = False

        self.world.timeline.after(fault.lasts_ms, empty)
        self.lasting(fault.lasts_ms)
        return True

    def _controller_killed(self, fault: Fault, rng: random.Random) -> bool:
        if not self.world.controller.alive:
            return False
        self.world.controller.crash(fault.lasts_ms)
        self.lasting(fault.lasts_ms)
        return True

    # ---- releases, operators, plans -----------------------------------------------------------------------------------

    def _release_broken(self, fault: Fault, rng: random.Random) -> bool:
        spec = self.pair.swap
        if spec is None or self.pair.ended is not None:
            return False
        source = self.world.hosts[spec.leader].rings.get(spec.input_ring)
        seq = (source.head if source else 0) + rng.randint(0, 20)
        for host in self.pair.hosts:
            self.harm(host)
        self.world.broken[(spec.graph, spec.green.version)] = seq
        self.tell(f"{spec.vertex} {spec.green.version} raises from input {seq} on")
        return True

    def _abort(self, fault: Fault, rng: random.Random) -> bool:
        if self.pair.rollout_id not in self.world.controller.rollouts:
            return False
        self.tell(f"the operator aborts {self.pair.rollout_id}")
        self.world.controller.abort(self.pair.rollout_id)
        return True

    def _plan_replayed(self, fault: Fault, rng: random.Random) -> bool:
        host = rng.choice(self.pair.hosts)
        old = rng.choice(self.world.controller.sent[host])
        self.tell(f"an old plan comes to {host} again")
        self.world.agents[host].receive("a stick", messages.Push(old))
        return True

    def _record_forged(self, fault: Fault, rng: random.Random) -> bool:
        spec = self.pair.swap
        if spec is None:
            return False
        target = self.world.agents[rng.choice(self.pair.hosts)]
        held = self.world.watch.of(spec.leader).records.get(spec.swap_id)
        if held is None:
            return False
        record = replace(held, number=held.number + rng.choice((0, 1, 1_000)), phase=rng.choice(list(Phase)), leg=1)
        self.tell(f"somebody who does not lead tells {target.name} that {spec.swap_id} is {record.phase.value}")
        target.receive(rng.choice(("stranger", spec.hosts[-1])), messages.Told(record))
        return True

    def _plan_forged(self, fault: Fault, rng: random.Random) -> bool:
        host, other = rng.sample(self.pair.hosts, 2)
        held = self.world.controller.held[host]
        worse = replace(held.plan, revision=held.plan.revision + 5)
        empty = replace(worse, workloads=(), rings=(), swaps=())
        stolen = replace(worse, workloads=tuple(replace(w, entry="evil:Evil") for w in worse.workloads))
        forgeries = (
            keys.sealed(seals.PLAN, canonical.encode(worse), keys.STRANGER),
            keys.sealed(seals.RELEASE, canonical.encode(worse), keys.PLAN),
            keys.sealed(seals.PLAN, canonical.encode(worse)[:-40], keys.PLAN),
            keys.sealed(seals.PLAN, canonical.encode(empty), keys.PLAN),
            keys.sealed(seals.PLAN, canonical.encode(stolen), keys.PLAN),
            replace(held.sealed, payload=held.sealed.payload.replace(b"1.0.0", b"6.6.6")),
            self.world.controller.held[other].sealed,
        )
        self.tell(f"a plan that is not one comes to {host}")
        self.world.agents[host].receive("a stick", messages.Push(rng.choice(forgeries)))
        return True
