"""When a link that has fallen silent is given up, and how often who holds it says a word. Pure; `now_ms` is of a clock that counts pauses, too.

A link is given up two heartbeats after the last word, and then at once: connecting again costs little and changes nothing (R2). But silence is what was
listened to in vain. A process that was stopped, or whose machine was busy, finds afterwards what has come meanwhile, so no single look gives a
link up: it takes two, shortly one after the other, with nothing read between them. Looks that come late again and again count in the end.
"""

from dataclasses import dataclass, replace

BEATS = 2  # of silence
WORDS = 2  # in the time of one heartbeat: one that is late, or was lost once and sent again, is no silence yet
LEAST_GRACE_MS = 25  # between the last two looks: what has arrived is read by then
LATE_LOOKS = 4


def word_every_ms(heartbeat_ms: int) -> int:
    """How long to say nothing at most."""
    return max(1, heartbeat_ms // WORDS)


def answers(heartbeat_ms: int, said_ms: int, now_ms: int) -> bool:
    """Is a word of the agent that has just come answered by the controller's own, the last of which was said at `said_ms`? One that is sent and
    answered in the same waking costs a host less than two that meet it asleep, and words are most of what an idle agent does."""
    return now_ms - said_ms >= word_every_ms(heartbeat_ms) // 2


def unasked_ms(heartbeat_ms: int) -> int:
    """After how long the controller says a word that answers none: a little more than an agent says nothing for, or it would speak just before it is asked."""
    return max(1, word_every_ms(heartbeat_ms) * 5 // 4)


@dataclass(frozen=True, slots=True)
class Pulse:
    """What is known of one direction of a link. `looked_ms` is when it was last looked at, `late` how many looks came too late to tell."""

    heartbeat_ms: int
    heard_ms: int
    looked_ms: int
    late: int = 0

    @property
    def ends_ms(self) -> int:
        """When it is given up, if nothing comes."""
        return self.heard_ms + BEATS * self.heartbeat_ms

    @property
    def grace_ms(self) -> int:
        """Between the last two looks."""
        return max(self.heartbeat_ms // 8, min(LEAST_GRACE_MS, self.heartbeat_ms // 2))

    @property
    def due_ms(self) -> int:
        """When to look next."""
        first_ms = self.ends_ms - self.grace_ms
        if self.looked_ms < first_ms:
            return first_ms
        return max(self.ends_ms, self.looked_ms + self.grace_ms if self.late else 0)

    def heard(self, now_ms: int) -> "Pulse":
        """A word has come, whatever it says."""
        return begun(self.heartbeat_ms, now_ms)

    def looked(self, now_ms: int) -> "Pulse | None":
        """Nothing was there to be read. None: it is given up."""
        if now_ms < self.ends_ms:
            return replace(self, looked_ms=now_ms)
        watched = self.looked_ms >= self.ends_ms - self.grace_ms and now_ms - self.looked_ms <= 2 * self.grace_ms
        if watched or self.late + 1 >= LATE_LOOKS:
            return None
        return replace(self, looked_ms=now_ms, late=self.late + 1)


def begun(heartbeat_ms: int, now_ms: int) -> Pulse:
    """From the last word on."""
    return Pulse(heartbeat_ms, now_ms, now_ms)
