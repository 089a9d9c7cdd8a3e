"""Whom a host has to do with: peers, with which it exchanges rings, snapshots or swaps, and siblings, which give it artifacts. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from halftrack_controller import sites
from halftrack_controller.expansion import Parts
from halftrack_controller.snapshot import Snapshot
from halftrack_model.plan import Peer
from halftrack_model.workload import Runs


@dataclass(frozen=True, slots=True)
class Wiring:
    """Who exchanges rings, snapshots or swaps with whom."""

    peers: Mapping[str, frozenset[str]]

    @staticmethod
    def of(parts: Mapping[str, tuple[Parts, ...]]) -> "Wiring":
        peers: dict[str, set[str]] = {host: set() for host in parts}

        def link(one: str, other: str) -> None:
            if one != other:
                peers.setdefault(one, set()).add(other)
                peers.setdefault(other, set()).add(one)

        for host, mine in parts.items():
            for part in mine:
                for workload in part.workloads:
                    if workload.runs is Runs.BRIDGE_RECEIVER:
                        link(host, workload.from_host)
                for swap in part.swaps:
                    for other in swap.hosts:
                        link(host, other)
        return Wiring({host: frozenset(others) for host, others in peers.items()})


def peers_of(snapshot: Snapshot, host: str, names: Iterable[str]) -> tuple[Peer, ...]:
    """How `host` reaches those of them that can be reached."""
    return tuple(peer for name in names if (peer := peer_of(snapshot, host, name)) is not None)


def peer_of(snapshot: Snapshot, host: str, name: str) -> Peer | None:
    """How `host` reaches `name`; as its last plan said while `name` is between two enrolments."""
    other = snapshot.hosts.get(name)
    if other is not None and other.enrolled:
        return Peer(name, other.bridge, other.agent, other.curve_public)
    held = snapshot.held.get(host)
    known = (*held.plan.peers, *held.plan.siblings) if held else ()
    return next((peer for peer in known if peer.host == name), None)


def siblings_of(snapshot: Snapshot, host: str, planned: Collection[str]) -> tuple[Peer, ...]:
    """Those of its site that have a plan: others admit nobody."""
    named = [name for name in sites.siblings(snapshot, host) if name in planned or name in snapshot.held]
    return peers_of(snapshot, host, named)
