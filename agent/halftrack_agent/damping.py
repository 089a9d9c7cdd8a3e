"""Flap damping: a verdict that changes too often is no verdict. Pure (RFC 2439, applied to health instead of routes).

Each change costs a penalty, which decays by half every `HALF_LIFE_MS`. Above `SUPPRESS` the verdict counts as unknown, until the penalty has come down
to `REUSE`: evidence that contradicts itself neither passes nor fails anything (O1).
"""

from dataclasses import dataclass

CHANGE = 1_000
SUPPRESS = 3_500  # the fourth change within some half a minute
REUSE = 1_000
CEILING = 16_000  # so steady again is believed after four half-lives at most
HALF_LIFE_MS = 30_000
assert REUSE < SUPPRESS < CEILING  # noqa: S101


@dataclass(frozen=True, slots=True)
class Damping:
    """The penalty as it stood at `at_ms`, and whether the verdict is suppressed."""

    penalty: float = 0.0
    at_ms: int = 0
    suppressed: bool = False


CALM = Damping()


def after(damping: Damping, *, changed: bool, now_ms: int) -> Damping:
    """The state at `now_ms`, in which the verdict has `changed` or not."""
    passed_ms = max(0, now_ms - damping.at_ms)
    # The exponent is capped before it is used: a month of calm is as good as fifty half-lives.
    penalty = damping.penalty * 0.5 ** min(passed_ms / HALF_LIFE_MS, 50.0)
    if changed:
        penalty = min(CEILING, penalty + CHANGE)
    suppressed = penalty > REUSE if damping.suppressed else penalty > SUPPRESS
    return Damping(penalty, now_ms, suppressed)
