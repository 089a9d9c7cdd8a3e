"""A cut as an agent makes it: asked for ahead, and asked for again where a fence has gone by (docs/adr/0005)."""

from collections.abc import Callable
from functools import partial

from halftrack_dataplane.ring import Ring

Until = Callable[[Callable[[], bool], str], object]


def cut_ahead(ring: Ring, generation: int, label: str, ahead: int, until: Until) -> int:
    """The fence, `ahead` of the output when it was asked for, at which the merge has cut."""
    while True:
        epoch, fence = ring.cuts()[-1].epoch + 1, ring.head + ahead
        ring.propose_cut(epoch, generation, fence, label)
        until(partial(_decided, ring, fence), "the fence to be reached")
        if not ring.withdraw_cut(epoch):
            return fence


def _decided(ring: Ring, fence: int) -> bool:
    """The cut is applied, or its fence has gone by without it."""
    return ring.cuts()[-1].applied_at == fence or ring.head > fence
