"""What is said of hosts that the controller has lost sight of (ADR 45), as frozen dataclasses. Pure; nothing here checks or decides."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LookFor:
    """Hosts of the agent's site that the controller has lost sight of: all of them, each time."""

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sees:
    """Of the hosts that it was told to look for, those that answer."""

    hosts: tuple[str, ...]
