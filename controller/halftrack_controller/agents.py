"""Which version the agent of each host shall be: one host first, then as many at once as have stayed with it. Pure.

An agent goes back by itself from a version that does not stay well, and that is told; then no further host gets it. A host that is away holds nobody up:
it takes its turn when it is back. Without a word of its environment a host's agent stays as it is (R3).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from halftrack_controller.snapshot import NEVER_SEEN, Published, Reason, Seen, Snapshot
from halftrack_model.release import AGENT


@dataclass(frozen=True, slots=True)
class Orders:
    """The version by host, where there is something to say, and why others have to wait."""

    versions: Mapping[str, str]
    reasons: tuple[Reason, ...]

    def release(self, snapshot: Snapshot, host: str) -> Published | None:
        """What the host's agent shall be."""
        return snapshot.releases.get((AGENT, self.versions.get(host, "")))


@dataclass(frozen=True, slots=True)
class _Standing:
    """How the hosts stand with one version."""

    stayed: frozenset[str]
    failed: Mapping[str, str]  # why
    under_way: frozenset[str]  # told, here, and neither of the two


def ordered(snapshot: Snapshot, environment: str, hosts: Collection[str]) -> Orders:
    """What to tell those `hosts` of the environment."""
    wanted = snapshot.environments[environment].agent
    before = {host: snapshot.held[host].plan.agent for host in hosts if host in snapshot.held}
    kept = {host: version for host, version in before.items() if (AGENT, version) in snapshot.releases}
    if not wanted:
        return Orders(kept, ())
    published = snapshot.releases.get((AGENT, wanted))
    if published is None:
        text = f"{AGENT} {wanted} is not among the releases: publish it with `halftrack release publish`"
        return Orders(kept, (Reason("", environment, text),))
    told = {host for host, version in before.items() if version == wanted}
    standing = _standing(snapshot, sorted(hosts), told, published.release.artifact.digest)
    kept |= dict.fromkeys((*told, *standing.stayed), wanted)
    if standing.failed:
        return Orders(kept, tuple(_gave_up(host, wanted, why) for host, why in sorted(standing.failed.items())))
    others = [host for host in sorted(hosts) if kept.get(host) != wanted]
    here = [host for host in others if _seen(snapshot, host).connected]
    free = max(1, len(standing.stayed)) - len(standing.under_way)
    chosen = here[: max(0, free)]
    if standing.stayed:
        chosen += [host for host in others if host not in here]
    waiting = [host for host in others if host not in chosen]
    return Orders(kept | dict.fromkeys(chosen, wanted), tuple(_waits(standing, host, wanted) for host in waiting))


def _standing(snapshot: Snapshot, hosts: Collection[str], told: Collection[str], digest: str) -> _Standing:
    stayed, failed, under_way = set[str](), dict[str, str](), set[str]()
    for host in hosts:
        seen = _seen(snapshot, host)
        agent = seen.observed.agent if seen.observed is not None else None
        if agent is not None and digest in agent.failed:
            failed[host] = agent.failed[digest]
        elif agent is not None and agent.artifact == digest and not agent.on_trial:
            stayed.add(host)
        elif host in told and seen.connected:
            under_way.add(host)
    return _Standing(frozenset(stayed), failed, frozenset(under_way))


def _gave_up(host: str, version: str, why: str) -> Reason:
    text = f"{host} gave agent {version} up: {why}. No further host takes it: publish another, and say so in the environment"
    return Reason(host, host, text)


def _waits(standing: _Standing, host: str, version: str) -> Reason:
    if standing.under_way:
        text = f"agent {version} waits until it has stayed on {', '.join(sorted(standing.under_way))}"
        return Reason(host, host, text, True)
    return Reason(host, host, f"agent {version} waits for a first host that is connected", True)


def _seen(snapshot: Snapshot, host: str) -> Seen:
    return snapshot.seen.get(host, NEVER_SEEN)
