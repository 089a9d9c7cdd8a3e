"""Releases: immutable versions of a product, and what one says about its own upgrade.

A release is sealed by the *release keys*, which the controller does not hold: whoever steals a controller can choose among
genuine releases, never run anything else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

Param = str | int | bool


class Approval(Enum):
    """Who lets a rollout begin: nobody needs to, or an operator (`halftrack rollout promote`)."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


class Compare(Enum):
    """What the shadowing green's outputs must be, held against blue's."""

    EQUAL = "equal"
    DIFFERS_EXPECTED = "differs-expected"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that agents fetch by content: a Python file or a zipapp. Never unpacked."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StateSchemas:
    """The schema of a vertex's snapshot: the one it writes, and all that it can restore. Empty: it keeps no state."""

    writes: str
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SwapStrategy:
    """How a pair is taken from one release to the next (DESIGN.md section 6), with all its bounds."""

    surge: int = 1
    lag_frames: int = 32  # green is caught up while it is at most this far behind the head of its input
    caught_up_ms: int = 500  # ... for this long
    shadow_ms: int = 1000  # green's outputs are watched for at least this long
    shadow_frames: int = 8  # ... and over at least this many outputs
    drain_ms: int = 1000  # blue shadows on for this long after the cut
    deadline_ms: int = 60_000  # a leg that has not reached its end by then is undone
    green_deaths: int = 3  # deaths by a signal that green may survive; an exit of its own is evidence at once
    compare: Compare = Compare.DIFFERS_EXPECTED
    approval: Approval = Approval.AUTOMATIC


@dataclass(frozen=True, slots=True)
class Release:
    """One version of one product. `entry` is `module:Class` in the artifact."""

    product: str
    version: str
    artifact: Artifact
    entry: str
    params: Mapping[str, Param]
    state: StateSchemas
    strategy: SwapStrategy


def state_refusal(blue: Release, green: Release) -> str | None:
    """Why `green` cannot take over `blue`'s state, in prose, or None when it can.

    Going back must work as well (an abort after the cut restores blue from green's snapshot), so each must read the other's.
    """
    for taker, giver in ((green, blue), (blue, green)):
        if giver.state.writes and giver.state.writes not in taker.state.reads:
            return (
                f"{taker.product} {taker.version} reads {', '.join(taker.state.reads) or 'no state'}, "
                f"but {giver.version} writes {giver.state.writes}"
            )
    return None
