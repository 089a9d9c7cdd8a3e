"""Which version of the agent runs on this host, and which is on trial. Pure rules over one small record, STATE/slots.json.

The installed program is what every start begins with. It reads the record, and becomes another version when that says so (`launching`). A new version
is on trial until it has stayed well for a while; each of its starts is counted before it begins, so that one that never comes to anything is
given up after MAX_ATTEMPTS, whatever it did (the boot counter of RAUC and U-Boot). What was given up is not tried again under the same digest.
"""

from dataclasses import dataclass, replace

MAX_ATTEMPTS = 3
STABLE_S = 60.0  # a version stays once it has been well for so long
MAX_FAILED = 16  # remembered, the newest
MAX_REASON = 300
FORMATS = (1,)
"""The forms of STATE that this version can keep it in, for as long as it is on trial: the version before must be able to go on."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A version of the agent on this host's disk. `argv` begins it; what the installed one was given follows."""

    digest: str
    version: str
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Running:
    """A workload's process when a trial began, by what no later process shares with it."""

    workload: str
    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A version that is not trusted yet. `attempts` are its starts; `running` is what it must not lose."""

    slot: Slot
    attempts: int
    running: tuple[Running, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A version that was given up, why, and whether the controller's reports have it."""

    digest: str
    version: str
    reason: str
    told: bool


@dataclass(frozen=True, slots=True)
class Slots:
    """The record. `installed` names the installed program that it was made under; `committed` is None when that is what runs."""

    installed: str
    committed: Slot | None = None
    trial: Trial | None = None
    failed: tuple[Failed, ...] = ()

    def has_failed(self, digest: str) -> bool:
        """Was this one given up?"""
        return any(each.digest == digest for each in self.failed)

    @property
    def digests(self) -> frozenset[str]:
        """What must stay on the disk."""
        found = (self.committed, self.trial.slot if self.trial else None)
        return frozenset(slot.digest for slot in found if slot is not None)


def started(slots: Slots, installed: str) -> tuple[Slots, Slot | None]:
    """At a start of the program: the record as it must be on the disk first, and the version to become; None: the installed one itself.

    Another installed program than the record's was put there by somebody, later: it goes before what was brought over the link.
    """
    if slots.installed != installed:
        return Slots(installed), None
    trial = slots.trial
    if trial is None:
        return slots, slots.committed
    if trial.attempts >= MAX_ATTEMPTS:
        slots = gone_back(slots, f"it did not stay up, {MAX_ATTEMPTS} times")
        return slots, slots.committed
    return replace(slots, trial=replace(trial, attempts=trial.attempts + 1)), trial.slot


def tried(slots: Slots, slot: Slot, running: tuple[Running, ...]) -> Slots:
    """`slot` is to take over."""
    return replace(slots, trial=Trial(slot, 0, running))


def stayed(slots: Slots) -> Slots:
    """The version on trial is the one from now on."""
    assert slots.trial is not None  # noqa: S101 - a programmer's error
    return replace(slots, committed=slots.trial.slot, trial=None)


def gone_back(slots: Slots, reason: str) -> Slots:
    """The version on trial is given up."""
    assert slots.trial is not None  # noqa: S101 - a programmer's error
    slot = slots.trial.slot
    return failed(replace(slots, trial=None), slot.digest, slot.version, reason)


def failed(slots: Slots, digest: str, version: str, reason: str) -> Slots:
    """That version is not tried (again)."""
    others = tuple(each for each in slots.failed if each.digest != digest)
    return replace(slots, failed=(*others, Failed(digest, version, reason[:MAX_REASON], told=False))[-MAX_FAILED:])


def lost(slots: Slots, digest: str) -> Slots:
    """The files of that version are damaged or gone: nobody's fault, and it may be brought once more."""
    keeps = slots.committed is not None and slots.committed.digest != digest
    on_trial = slots.trial is not None and slots.trial.slot.digest != digest
    return replace(slots, committed=slots.committed if keeps else None, trial=slots.trial if on_trial else None)


def on_trial(slots: Slots, runs: str) -> bool:
    """Is the version with this artifact, which runs, not trusted yet?"""
    return slots.trial is not None and slots.trial.slot.digest == runs


def all_told(slots: Slots) -> Slots:
    """The reports have all that was given up."""
    return replace(slots, failed=tuple(replace(each, told=True) for each in slots.failed))


def wants(slots: Slots, digest: str, runs: str) -> bool:
    """Is the version with this artifact to be tried: neither what `runs` (empty: the installed one), nor given up?"""
    return slots.trial is None and digest != runs and not slots.has_failed(digest)
