"""Rings as exact small models: numbered values, retained up to `slots`, declared gaps, readers that gate the writer.

The owner table is the reference ring's own.
"""

from dataclasses import dataclass, field

from halftrack_dataplane.reference_state import OwnerTable
from halftrack_model.workload import RingSpec


@dataclass(slots=True, eq=False)
class SimRing:
    """One ring. A sequence in [floor, head) without a value is a declared gap. `eq=False`: a ring made anew is another one."""

    spec: RingSpec
    head: int = 0
    floor: int = 0
    values: dict[int, int] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)  # of lossless readers, by their name
    owners: OwnerTable = field(default_factory=OwnerTable)
    writer: object | None = None
    left_ms: int = -1  # when the last writer went

    @property
    def generation(self) -> int:
        """The one of its member's release."""
        return self.spec.member.generation if self.spec.member else 0

    @property
    def fresh(self) -> bool:
        """Has it never held anything?"""
        return self.head == self.floor

    def room(self) -> bool:
        """May the writer go on?"""
        return not self.cursors or self.head - min(self.cursors.values()) < self.spec.slots

    def put(self, value: int) -> None:
        """The next value."""
        self.values[self.head] = value
        self.head += 1
        self._forget()

    def gap(self, end: int) -> None:
        """Declare [head, end) as lost; where there was nothing before, begin at `end`."""
        if self.fresh:
            self.floor = end
        self.head = end
        self._forget()

    def _forget(self) -> None:
        while self.head - self.floor > self.spec.slots:
            self.values.pop(self.floor, None)
            self.floor += 1
