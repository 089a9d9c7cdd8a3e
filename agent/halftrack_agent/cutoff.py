"""Being cut off: for how long this host has not been in step with its controller, and what its plan says it shall not run meanwhile. Pure.

A host is *in step* while its session stands and it holds the newest plan that the controller has for it, or has refused that one. Only then does the clock
of `stopAfter` begin again: a workload that was stopped must not come back for the moment in which the order that gives its place to another
host is still on its way.

Time is the boot-time clock's, of boots that are told apart by their ids. What passes while the machine is off is in no clock that can be believed,
so it counts as nothing: a wrong wall clock neither stops nor starts anything (C1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from halftrack_model.disconnect import MAX_AFTER_MS, ColdBoot
from halftrack_model.plan import Holding, Plan


@dataclass(frozen=True, slots=True)
class Contact:
    """What outlives the agent. `in_step_ms` is when it was last in step in this boot, -1: not yet; `before_ms`, then, is how long it had not
    been when this boot began. `noted_ms`: when this was written."""

    boot_id: str
    in_step_ms: int
    before_ms: int
    noted_ms: int


@dataclass(frozen=True, slots=True)
class ContactSeen:
    """What one look needs to know. `away_ms`: for how long it has not been in step; `since_boot`: it has been in this boot."""

    away_ms: int
    since_boot: bool


IN_STEP = ContactSeen(0, True)
NOTE_EVERY_MS = 60_000  # on the disk
BEAT_EVERY_MS = 900  # in memory, at each of the looks that are a second apart: an agent that is started again must not count the time since the last note as one of being cut off (R2)
UNKNOWN_MS = MAX_AFTER_MS  # longer than anybody can ask for


@dataclass(frozen=True, slots=True)
class Keeping:
    """One agent's contact, and when it is to be written down next."""

    contact: Contact
    was_in_step: bool
    note_at_ms: int
    beat_at_ms: int


def looked(keeping: Keeping, now_ms: int, *, in_step: bool) -> tuple[Keeping, bool, bool]:
    """After one look: and whether a note is due on the disk, and a beat in memory."""
    contact = replace(keeping.contact, in_step_ms=now_ms, before_ms=0) if in_step else keeping.contact
    note = in_step is not keeping.was_in_step or now_ms >= keeping.note_at_ms
    beat = note or now_ms >= keeping.beat_at_ms
    contact = replace(contact, noted_ms=now_ms) if beat else contact
    note_at_ms = now_ms + NOTE_EVERY_MS if note else keeping.note_at_ms
    return Keeping(contact, in_step, note_at_ms, now_ms + BEAT_EVERY_MS if beat else keeping.beat_at_ms), note, beat


def recovered(
    noted: Contact | None,
    boot_id: str,
    now_ms: int,
    *,
    beat: Contact | None = None,
    obeys: bool = False,
    keeps: bool = True,
) -> Contact:
    """What an agent that begins knows from the one before it: the last word of this boot, which is the `beat` unless memory was full. `obeys`: this
    host has a plan.

    A host that has a plan and no note has lost its note (and one whose disk takes none, not `keeps`, has an old one: nobody knows of how many boots), and must
    not take itself for one that was never cut off: another may run its work by now.
    """
    both = (each for each in (noted, beat) if each is not None)
    mine = [each for each in both if each.boot_id == boot_id and each.noted_ms <= now_ms]
    if mine:
        return max(mine, key=lambda each: each.noted_ms)
    if noted is None or not keeps:
        return Contact(boot_id, -1, UNKNOWN_MS if obeys else -now_ms, now_ms)
    return Contact(boot_id, -1, max(0, away_ms(noted, noted.noted_ms)), now_ms)


def away_ms(contact: Contact, now_ms: int) -> int:
    """For how long, while the machine was on, this host has not been in step."""
    return max(0, now_ms - contact.in_step_ms if contact.in_step_ms >= 0 else contact.before_ms + now_ms)


def seen(contact: Contact, now_ms: int) -> ContactSeen:
    """As a look takes it."""
    return ContactSeen(away_ms(contact, now_ms), contact.in_step_ms >= 0)


def held_back(plan: Plan, contact: ContactSeen) -> Mapping[str, str]:
    """The workloads that shall not run now, and why, in words that do not change while it lasts."""
    reasons = ((holding.workload, _reason(holding, contact)) for holding in plan.holdings)
    return {name: reason for name, reason in reasons if reason}


def _reason(holding: Holding, contact: ContactSeen) -> str:
    if holding.idle:
        return "another host runs it"
    rule = holding.disconnect
    if rule is None:
        return ""
    if rule.cold_boot is ColdBoot.WAIT and not contact.since_boot:
        return "it waits for the controller after a boot (coldBoot: wait)"
    if rule.stop_after_ms and contact.away_ms >= rule.stop_after_ms:
        return f"this host has been cut off for longer than {rule.stop_after_ms / 1000:g} s (stopAfter)"
    return ""
