"""Reports: what happened on a host, kept in its outbox until the controller has acknowledged it."""

from dataclasses import dataclass
from enum import Enum


class Happened(Enum):
    """The kinds of events a host reports."""

    PLAN_ACCEPTED = "plan-accepted"
    PLAN_REFUSED = "plan-refused"
    INSTANCE_EXITED = "instance-exited"
    INSTANCE_HUNG = "instance-hung"
    INSTANCE_HELD = "instance-held"
    INSTANCE_FREED = "instance-freed"
    SWAP_MOVED = "swap-moved"
    SWAP_DONE = "swap-done"
    SWAP_UNDONE = "swap-undone"
    FRAMES_REFUSED = "frames-refused"
    FRAMES_LOST = "frames-lost"
    OUTPUTS_DIVERGED = "outputs-diverged"
    STATE_LOST = "state-lost"
    AGENT_UPDATED = "agent-updated"
    AGENT_WENT_BACK = "agent-went-back"


@dataclass(frozen=True, slots=True)
class Report:
    """One event. `(host, number)` is its identity: numbers rise by one for ever, so the controller consumes each once."""

    host: str
    number: int
    at_ms: int  # wall clock of the host: for people, never for a decision (C1)
    happened: Happened
    subject: str  # workload, swap or plan it is about
    detail: str
