"""When to try again to reach an engine: full jitter under a capped doubling. Pure: time and chance are arguments."""

from dataclasses import dataclass, replace

FIRST_S, CAP_S = (
    0.05,
    5.0,
)  # a server that restarts is back within a second; one that is away for a day is asked 17,000 times
DOUBLINGS = 7  # 0.05 s << 7 is beyond the cap: the exponent never grows beyond reason


@dataclass(frozen=True, slots=True)
class Retry:
    """`failures` in a row, and the earliest time of the next attempt, in seconds of a clock that never goes back."""

    failures: int = 0
    due_s: float = 0.0

    def failed(self, now_s: float, chance: float) -> "Retry":
        """One more failure; `chance` is from [0, 1)."""
        bound_s = min(CAP_S, FIRST_S * (1 << min(self.failures, DOUBLINGS)))
        return replace(self, failures=self.failures + 1, due_s=now_s + chance * bound_s)
