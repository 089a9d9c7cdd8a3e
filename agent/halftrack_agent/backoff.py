"""When to try again: full jitter under a capped doubling (Brooker, "Exponential Backoff And Jitter", AWS 2015). Pure.

Full jitter, because a controller that comes back is met by all its hosts at once. The exponent is capped before it is used: after a
month of attempts the ceiling is still the cap, computed from small numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

Uniform = Callable[[int, int], int]
"""`(low, high) -> an integer in [low, high]`, `random.Random.randint` for example."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The shape of one backoff. `steady_ms`: only a success that has lasted this long makes the next failure the first one."""

    base_ms: int = 200
    cap_ms: int = 30_000
    steady_ms: int = 10_000

    def ceiling_ms(self, attempt: int) -> int:
        """The longest pause after failure number `attempt`, from 0 on."""
        doublings = max(0, (self.cap_ms // self.base_ms).bit_length())
        return min(self.cap_ms, self.base_ms << min(attempt, doublings))


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures in a row so far."""

    rule: Rule = Rule()
    failures: int = 0

    def failed(self, lasted_ms: int, uniform: Uniform) -> tuple["Backoff", int]:
        """After an attempt that worked for `lasted_ms` (0: not at all): the new state, and how long to pause."""
        failures = 0 if lasted_ms >= self.rule.steady_ms else self.failures
        # At least one millisecond in eight of the ceiling: a refused connection must not become a busy loop by bad luck.
        ceiling = self.rule.ceiling_ms(failures)
        return Backoff(self.rule, failures + 1), uniform(ceiling // 8, ceiling)
