"""At which instants waits end, so that what an agent does every so often is done in one go. Pure.

A process that wakes has to fetch everything that it looks at from memory, and its threads have to be put on a processor again: measured, that is most of
what an agent costs that has nothing to do. So waits that may be a little shorter or longer than they are asked for draw near to whole seconds, and
after some of them all end at the same instants, whenever each began. Seconds are the event loop's.
"""

import math

_NIL = 1e-6  # of a unit: what sums of fractions are wrong by


def next_second(now_s: float) -> float:
    """The end of a wait of a second at most."""
    return math.floor(now_s) + 1.0


def after(now_s: float, every_s: float, early: float, late: float) -> float:
    """The end of a wait of `every_s`, by these parts of it early or late at most: as near as that goes to a whole second, of a shorter wait to a multiple of it."""
    due_s, unit_s = now_s + every_s, min(1.0, every_s)
    below_s = math.floor(due_s / unit_s + _NIL) * unit_s
    down_s, up_s = due_s - below_s, below_s + unit_s - due_s
    if up_s * early < down_s * late:  # it is sooner there
        return min(due_s + up_s, due_s + late * every_s)
    return max(below_s, due_s - early * every_s)
