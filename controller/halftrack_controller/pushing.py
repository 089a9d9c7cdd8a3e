"""Which plan a session sends next: one at a time, the newest, and never one that the host already has. Pure."""

from dataclasses import dataclass, replace

from halftrack_proto.messages import PlanPush


@dataclass(frozen=True, slots=True)
class Pushing:
    """`held` is the revision that the host has said is durable there; `sent` the one it has yet to answer, 0 when none."""

    held: int
    sent: int = 0
    waiting: PlanPush | None = None

    def offered(self, push: PlanPush) -> "tuple[Pushing, PlanPush | None]":
        """A plan exists: send it now, keep it until the one under way is answered, or forget it as no news."""
        if push.revision <= max(self.held, self.sent, self.waiting.revision if self.waiting else 0):
            return self, None
        if self.sent:
            return replace(self, waiting=push), None
        return replace(self, sent=push.revision, waiting=None), push

    def accepted(self, revision: int) -> "tuple[Pushing, PlanPush | None]":
        """The host holds `revision`: what waited, if it is newer, is sent now."""
        return self._answered(replace(self, held=max(self.held, revision)), revision)

    def declined(self, revision: int) -> "tuple[Pushing, PlanPush | None]":
        """The host refuses `revision` (0: whatever was sent). It may be offered again later."""
        return self._answered(self, revision or self.sent)

    @staticmethod
    def _answered(pushing: "Pushing", revision: int) -> "tuple[Pushing, PlanPush | None]":
        if revision < pushing.sent:
            return pushing, None  # an answer to an older plan: ours is still under way
        idle, waiting = replace(pushing, sent=0, waiting=None), pushing.waiting
        return idle.offered(waiting) if waiting else (idle, None)
