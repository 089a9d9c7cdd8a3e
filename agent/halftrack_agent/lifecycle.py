"""The lifecycle of an instance: one table for services, jobs and vertices. Pure.

Rules: a phase changes only by a row of `ROWS`; what has no row is a programmer's error and changes nothing. A kind of workload
adds rows or chooses between happenings (see `ending`), never a second table.

    WAITING   wanted; its artifact or a ring is still missing
    STARTING  the driver has been told to start it
    RUNNING   seen running
    RESTING   it ended and shall run again after a pause
    FAILED    it ended by its own fault while on trial: it is not started again, unless its release is taken all the same
    ENDED     a job that is done
    STOPPING  no longer wanted, or wanted otherwise: the driver has been told to stop it
"""

from enum import Enum

from halftrack_model.errors import HalftrackError
from halftrack_model.workload import Kind


class Phase(Enum):
    """Where an instance stands."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    RESTING = "resting"
    FAILED = "failed"
    ENDED = "ended"
    STOPPING = "stopping"


class Happening(Enum):
    """What can happen to an instance."""

    READY = "ready"  # all that it needs is there
    APPEARED = "appeared"  # the driver sees it run
    DIED = "died"  # it ended and shall run again
    FELL = "fell"  # it ended by its own fault, on trial
    FINISHED = "finished"  # a job ended well
    VANISHED = "vanished"  # the driver does not know it any more
    RESTED = "rested"  # the pause before the next start is over
    UNWANTED = "unwanted"  # not wanted, or not in this form


P, H = Phase, Happening
ROWS: dict[tuple[Phase, Happening], Phase] = {
    (P.WAITING, H.READY): P.STARTING,
    (P.WAITING, H.APPEARED): P.RUNNING,  # adopted: it ran before this agent did
    (P.STARTING, H.APPEARED): P.RUNNING,
    (P.STARTING, H.DIED): P.RESTING,
    (P.STARTING, H.FELL): P.FAILED,
    (P.STARTING, H.FINISHED): P.ENDED,
    (P.STARTING, H.VANISHED): P.RESTING,
    (P.RUNNING, H.DIED): P.RESTING,
    (P.RUNNING, H.FELL): P.FAILED,
    (P.RUNNING, H.FINISHED): P.ENDED,
    (P.RUNNING, H.VANISHED): P.RESTING,
    (P.RESTING, H.RESTED): P.WAITING,
    (P.RESTING, H.APPEARED): P.RUNNING,
    (P.FAILED, H.DIED): P.RESTING,  # on trial no more: the word of its end came too late, and its release is in force
    (P.WAITING, H.DIED): P.RESTING,  # found dead by an agent that has just come back
    (P.WAITING, H.FELL): P.FAILED,
    (P.WAITING, H.FINISHED): P.ENDED,
    **{(phase, H.UNWANTED): P.STOPPING for phase in Phase if phase is not P.STOPPING},
}


class IllegalTransition(HalftrackError):  # noqa: N818 - raised for programmers, not for the world
    """A happening that the table has no row for."""


def after(phase: Phase, happening: Happening) -> Phase:
    """The phase that follows; IllegalTransition when the table has no such row."""
    if (phase, happening) not in ROWS:
        raise IllegalTransition(
            "illegal-transition", f"{happening.value} cannot happen to an instance that is {phase.value}"
        )
    return ROWS[(phase, happening)]


# Exits of the data plane's runner that say "my surroundings failed me", not "I am broken": no usable state (3), a ring that
# cannot be used (4), a gap in the input (5). They are retried, also on trial; the trial's deadline bounds that.
CIRCUMSTANTIAL_EXITS = frozenset({3, 4, 5})


def ending(kind: Kind, on_trial: bool, exit_code: int | None, *, hung: bool = False) -> Happening:
    """What an end means: `exit_code` None is a signal, or an end that nobody saw.

    To hang is a fault of one's own: a loop beats whatever it waits for, so it was the release's program that held it. An orderly end (0) is no
    evidence: a vertex ends so only when it was asked to, if not by this life of the agent.
    """
    if kind is Kind.JOB and exit_code == 0:
        return Happening.FINISHED
    if on_trial and (hung or (exit_code and exit_code not in CIRCUMSTANTIAL_EXITS)):
        return Happening.FELL
    return Happening.DIED
