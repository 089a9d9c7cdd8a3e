"""When this host renews its certificate. Pure.

The host's wall clock decides nothing (C1). The controller, whose clock will refuse the certificate, says at the beginning of each session
how long it is still good for; from there the boot-time clock counts. So:

- when `share_ppm` of a lifetime has passed, drawn once for each host so that those that enrolled together do not come together;
- soon, when it is good for longer than certificates are now: an earlier version gave it, or the setting has become shorter;
- when `SUSPECT_AFTER` sessions in a row came to nothing: an expired certificate looks like a link that is cut, since TLS says no more
  than that. Where it is the link, the attempt fails like all others, and costs as little: its pauses grow to an hour.
"""

from dataclasses import dataclass, replace

from halftrack_agent.backoff import Backoff, Rule, Uniform

SHARES_PPM = (
    600_000,
    750_000,
)  # of the lifetime: what is left then is a month of 90 days, longer than most sites are cut off
SOON_SHARE = 100  # a certificate that lives too long is renewed within a lifetime's hundredth ...
SOON_MAX_MS = 600_000  # ... or ten minutes: a galaxy whose hosts all have old ones is not met by all of them at once
LONGER = (
    11,
    10,
)  # how much longer than a fresh one is too long: the controller counts in seconds, and takes time to say it
SUSPECT_AFTER = 3  # a restart of the controller costs a host one or two
RESTED = Backoff(Rule(base_ms=1_000, cap_ms=3_600_000))


@dataclass(frozen=True, slots=True)
class Term:
    """What is left of the certificate in use: so much when it was said, by the boot-time clock of this host."""

    said_ms: int
    left_ms: int
    life_ms: int  # of a fresh one


@dataclass(frozen=True, slots=True)
class Renewals:
    """All that is remembered: gone with the agent, since the next session says it again."""

    share_ppm: int
    spread_ppm: int  # of the time within which what should be soon is done
    term: Term | None = None
    unanswered: int = 0  # sessions in a row that came to nothing
    backoff: Backoff = RESTED
    not_before_ms: int = 0


def begun(uniform: Uniform) -> Renewals:
    """Before anything is known."""
    return Renewals(uniform(*SHARES_PPM), uniform(0, 1_000_000))


def welcomed(state: Renewals, left_ms: int, life_ms: int, now_ms: int) -> Renewals:
    """A session has begun, so the certificate is good; for how long, the controller has said, unless it is too old to (`life_ms` 0)."""
    term = Term(now_ms, left_ms, life_ms) if life_ms > 0 else None
    return replace(state, term=term, unanswered=0, backoff=RESTED, not_before_ms=0)


def unanswered(state: Renewals) -> Renewals:
    """Another session that came to nothing."""
    return replace(state, unanswered=state.unanswered + 1)


def renewed(state: Renewals, life_ms: int, now_ms: int, uniform: Uniform) -> Renewals:
    """A fresh certificate is in use. Only a session shows that it was what was missing: until then the pauses go on growing."""
    term = Term(now_ms, life_ms, life_ms) if life_ms > 0 else None
    return replace(failed(state, now_ms, uniform), term=term, unanswered=0)


def failed(state: Renewals, now_ms: int, uniform: Uniform) -> Renewals:
    """No certificate came of it."""
    backoff, pause_ms = state.backoff.failed(0, uniform)
    return replace(state, backoff=backoff, not_before_ms=now_ms + pause_ms)


def due_ms(state: Renewals) -> int | None:
    """When to renew, by the boot-time clock; perhaps long ago. None while nothing says that it has to be done."""
    at_ms = _by_term(state)
    if state.unanswered >= SUSPECT_AFTER:
        at_ms = state.not_before_ms
    return None if at_ms is None else max(at_ms, state.not_before_ms)


def _by_term(state: Renewals) -> int | None:
    term = state.term
    if term is None:
        return None
    if term.left_ms * LONGER[1] > term.life_ms * LONGER[0]:
        return term.said_ms + min(term.life_ms // SOON_SHARE, SOON_MAX_MS) * state.spread_ppm // 1_000_000
    return term.said_ms + term.left_ms - term.life_ms * (1_000_000 - state.share_ppm) // 1_000_000
