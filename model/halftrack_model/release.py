"""Releases: immutable versions of a product, and what one says about its own upgrade.

A release is sealed by the *release keys*, which the controller does not hold: whoever steals a controller can choose among
genuine releases, never run anything else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from halftrack_model import probes, verdict
from halftrack_model.canonical import added
from halftrack_model.params import Param, filled
from halftrack_model.probes import Checks, ProbeKind
from halftrack_model.resources import Resources
from halftrack_model.verdict import Check, Verdict

MAX_COMMAND = 256  # words
AGENT = "halftrack-agent"
"""The product that is the agent itself."""


class Approval(Enum):
    """Who lets a rollout begin: nobody needs to, or an operator (`halftrack rollout promote`)."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


class Compare(Enum):
    """What the shadowing green's outputs must be, held against blue's."""

    EQUAL = "equal"
    DIFFERS_EXPECTED = "differs-expected"


class OnStateLoss(Enum):
    """What a vertex does when nobody can go on from its state: wait for somebody who can, begin with an empty one, or resume the newest that there is."""

    WAIT = "wait"
    RESTART = "restart"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that agents fetch by content: a Python file, a zipapp, or whatever a command runs; unpacked only where its release says so."""

    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Migration:
    """A function in the release's artifact, `module:function`, that makes a snapshot of schema `source` into one of `target`."""

    source: str
    target: str
    entry: str


@dataclass(frozen=True, slots=True)
class StateSchemas:
    """The schema of a vertex's snapshot: the one it writes, and all that it can restore. Empty: it keeps no state.

    `migrations` lead from schemas of others to one that it reads, and from the one that it writes back to others'. `one_way` gives
    the way back up: once green counts, nobody's order undoes it. With `replay_frames` or `replay_ms` the state is a function of
    the last inputs, so there are no snapshots and nothing to read: a member begins that far back. `on_loss` speaks of a state that no
    member can go on from: `RESUME` is what a manifest means that says nothing, and `WAIT` is what a release means that was published before there was a choice.
    """

    writes: str
    reads: tuple[str, ...]
    migrations: tuple[Migration, ...] = added(())
    one_way: bool = added(False)
    replay_frames: int = added(0)
    replay_ms: int = added(0)
    on_loss: OnStateLoss = added(OnStateLoss.WAIT)

    def way(self, source: str, targets: tuple[str, ...]) -> tuple[Migration, ...] | None:
        """The shortest chain of migrations from `source` to any of `targets`; of equal ones, the one declared first."""
        chains: list[tuple[Migration, ...]] = [()]
        met = {source}
        for chain in chains:  # grows while it is walked: breadth first
            end = chain[-1].target if chain else source
            if end in targets:
                return chain
            further = [step for step in self.migrations if step.source == end and step.target not in met]
            met.update(step.target for step in further)
            chains += [(*chain, step) for step in further]
        return None

    def inward(self) -> Mapping[str, tuple[Migration, ...]]:
        """The schemas that it can restore after migrations, each with its chain."""
        sources = dict.fromkeys(step.source for step in self.migrations if step.source not in self.reads)
        return {source: chain for source in sources if (chain := self.way(source, self.reads))}

    def outward(self) -> Mapping[str, tuple[Migration, ...]]:
        """The schemas that its own snapshots can be given to others in, each with its chain."""
        targets = dict.fromkeys(step.target for step in self.migrations if step.target != self.writes)
        return {target: chain for target in targets if self.writes and (chain := self.way(self.writes, (target,)))}


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
    verdict: Verdict | None = added(None)  # what must be seen before the cut, beside all of the above


@dataclass(frozen=True, slots=True)
class Release:
    """One version of one product. `entry` is `module:Class` in the artifact, of a stream's vertex; a service has a `command` instead.

    Words of the command may hold `{artifact}`, the path of the file, or of the folder that it is unpacked to (`unpack`), and `{params.NAME}`, a setting.
    """

    product: str
    version: str
    artifact: Artifact
    entry: str
    params: Mapping[str, Param]
    state: StateSchemas
    strategy: SwapStrategy
    resources: Resources | None = added(None)  # of each instance; a vertex's own word wins
    command: tuple[str, ...] = added(())
    health: Checks | None = added(
        None
    )  # what must be seen of an instance; None: that it runs, and keeps up with its stream
    unpack: bool = added(False)  # the artifact is an archive (`archives`), and the command runs in what it holds


def release_faults(release: Release) -> list[str]:
    """What contradicts itself in it, each in a sentence that says what to do; empty when nothing does."""
    found = list(probes.faults(release.health, release.params))
    if bool(release.entry) == bool(release.command):
        found.append("a release is a vertex's or a service's: write one of `entry` and `command`")
    if len(release.command) > MAX_COMMAND or any(not word or "\0" in word for word in release.command):
        found.append(f"a command has at most {MAX_COMMAND} words, and no empty one")
    if release.unpack and not release.command:
        found.append(
            "only what a command runs is unpacked: leave `unpack` out, a stream's program is imported from its file"
        )
    if release.product == AGENT and not (release.unpack and release.command):
        found.append(f"{AGENT} is the agent itself: write `unpack: true` and the `command` that begins it")
    kinds = {probe.kind for probe in release.health.probes} if release.health else set()
    if release.command and ProbeKind.STREAM in kinds:
        found.append("a service reads no stream: leave its `stream` probe out")
    if release.command and (release.state != StateSchemas("", ()) or release.strategy.verdict is not None):
        found.append("a service has no snapshots and no outputs to compare: leave `state` and `verdict` out")
    return found


def command_fault(release: Release, params: Mapping[str, Param]) -> str:
    """Why its command cannot be run with these settings; empty when it can."""
    try:
        for word in release.command:
            filled(word, params)
    except ValueError as error:
        return str(error)
    return ""


def strategy_faults(strategy: SwapStrategy) -> list[str]:
    """What contradicts itself in it, each in a sentence that says what to do; empty when nothing does."""
    if strategy.verdict is None:
        return []
    found = [f"verdict: {text}" for text in verdict.faults(strategy.verdict)]
    if strategy.compare is Compare.EQUAL and strategy.verdict.check not in (Check.NOTHING, Check.EQUAL):
        found.append("`compare: equal` lets no output differ, and the verdict's check does: drop one of them")
    return found


def state_faults(state: StateSchemas) -> list[str]:
    """What contradicts itself in it, each in a sentence that says what to do; empty when nothing does."""
    faults = []
    if (state.replay_frames or state.replay_ms) and (state.writes or state.reads or state.migrations or state.one_way):
        faults.append("a state that is replayed is never written or read: leave out either `replay` or all the rest")
    pairs = [(step.source, step.target) for step in state.migrations]
    for source, target in dict.fromkeys(pairs):
        if pairs.count((source, target)) > 1:
            faults.append(f"two migrations lead from {source} to {target}: keep one")
        if source == target:
            faults.append(f"a migration leads from {source} to itself: drop it")
        elif state.way(target, state.reads) is None and state.way(state.writes, (source,)) is None:
            faults.append(
                f"the migration from {source} to {target} leads neither to a schema that is read nor from the one that is written: "
                "drop it, or add the step that is missing"
            )
    if state.on_loss is not OnStateLoss.WAIT and not state.writes:
        faults.append(
            f"`onLoss: {state.on_loss.value}` is for a state that is written: without one there is nothing to lose, drop it"
        )
    if state.one_way and not state.writes:
        faults.append("`oneWay` says that no release before can read the state, but none is written: drop it")
    return faults


def state_refusal(blue: Release, green: Release) -> str | None:
    """Why `green` cannot take over `blue`'s state, in prose, or None when it can.

    Going back must work as well (an abort after the cut may restore blue from green's snapshot), so each must be able to read the
    other's, by itself or through green's or its own migrations; unless green gives that up (`one_way`).
    """
    if refusal := _unreadable(green, blue):
        if blue.state.one_way:
            refusal += (
                f"; {blue.version} was declared one-way, so nothing leads back: publish a release that reads its state"
            )
        return refusal
    return None if green.state.one_way else _unreadable(blue, green)


def replay_refusal(release: Release, slots: int | None) -> str | None:
    """Why a member of `release` could not begin behind an input ring of `slots` frames (None: no input), or None when it could."""
    needed = (
        release.state.replay_frames + release.strategy.lag_frames
    )  # the window, and what comes in while it is replayed
    if not release.state.replay_frames or slots is None or needed <= slots:
        return None
    return (
        f"{release.product} {release.version} replays {release.state.replay_frames} frames and may lag "
        f"{release.strategy.lag_frames}, but its input ring holds {slots}: give that ring {needed} slots or more"
    )


def no_way_back(blue: Release, green: Release) -> str | None:
    """Why a swap to `green` cannot be aborted any more once its output counts; None when it can be."""
    lost = _unreadable(blue, green)
    return f"{green.version} is one-way, and {lost}" if green.state.one_way and lost else None


def _unreadable(taker: Release, giver: Release) -> str | None:
    """Why `taker` cannot go on from what `giver` writes, or None when it can."""
    if not giver.state.writes:
        return None
    inward, outward = taker.state.inward(), giver.state.outward()
    if any(schema in taker.state.reads or schema in inward for schema in (giver.state.writes, *outward)):
        return None
    reads = ", ".join(taker.state.reads) or "no state"
    migrates = f" (and migrates {', '.join(inward)})" if inward else ""
    leads_back = f" (and migrates it to {', '.join(outward)})" if outward else ""
    return f"{taker.product} {taker.version} reads {reads}{migrates}, but {giver.version} writes {giver.state.writes}{leads_back}"
