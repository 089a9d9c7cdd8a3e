"""What the leader of a swap sees in one look, and what the swap's table may ask of it. Pure; it decides nothing."""

from dataclasses import dataclass

from halftrack_agent.events import CutSeen, JudgedSeen, ShadowSeen
from halftrack_model.swap import GreenStatus, Phase, SeatStatus, SeatUsage, SwapRecord, SwapSpec
from halftrack_model.workload import Member


@dataclass(frozen=True, slots=True)
class JudgeSeen:
    """The judge as a process. `ends`: how often it has ended without being told to, `detail`: how, at last."""

    running: bool
    ends: int
    detail: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the leader sees. Two-tuples have one entry a seat. Heads are of the rings on the leader's host, -1 if there is none.

    `blue_heads` and `green_heads` include what has come over the bridge, so a head close to the output proves that seat, its
    process and the link to it at once. A blue that was told to stop runs until it has ended, but does not stay. `follower` is
    the other host's last word, however old; `heard` says that it is fresh; `silent_ms` is how long it was not, in this leg: lost
    visibility stops the clock of a deadline (O1). `equipped` says that this host has every artifact that its own seat needs; the
    other host's `knows_swap` says the same of it.
    """

    merged_head: int
    cuts: tuple[CutSeen, ...]
    greens: tuple[GreenStatus, GreenStatus]
    green_heads: tuple[int, int]
    blue_heads: tuple[int, int]
    blues_running: tuple[bool, bool]
    blues_staying: tuple[bool, bool]
    shadows: tuple[ShadowSeen, ShadowSeen]
    follower: SeatStatus | None
    heard: bool
    silent_ms: int
    equipped: bool
    judge: JudgeSeen | None = None
    judged: tuple[JudgedSeen | None, JudgedSeen | None] = (None, None)
    usages: tuple[SeatUsage | None, SeatUsage | None] = (None, None)


@dataclass(frozen=True, slots=True)
class Look:
    """All that a row's condition may ask about."""

    spec: SwapSpec
    record: SwapRecord
    facts: Facts
    now_ms: int

    @property
    def seats(self) -> tuple[int, ...]:
        """The seats that are being replaced."""
        return (0, 1) if self.spec.strategy.surge == 2 else (self.record.leg,)

    @property
    def greens(self) -> tuple[GreenStatus, ...]:
        """The greens of those seats."""
        return tuple(self.facts.greens[seat] for seat in self.seats)

    @property
    def last_leg(self) -> bool:
        """Will there be greens only, when this leg is over?"""
        return self.spec.strategy.surge == 2 or self.record.leg == 1

    def been_ms(self) -> int:
        return self.now_ms - self.record.since_ms

    def near(self, head: int) -> bool:
        """Is a ring with this head close behind the output?"""
        return head >= 0 and self.facts.merged_head - head <= self.spec.strategy.lag_frames

    def top(self) -> CutSeen | None:
        return max(self.facts.cuts, key=lambda cut: cut.epoch, default=None)

    def green_counts(self) -> bool:
        """Has the merge applied a cut to green, with none after it?"""
        top = self.top()
        return top is not None and top.generation == self.spec.green.generation and top.applied_at is not None


def ring_of(member: Member) -> str:
    """The name of the ring that a member writes."""
    return f"{member.graph}/{member.vertex}.{member.member}@{member.version}"


def agreed(record: SwapRecord, facts: Facts) -> bool:
    """Has the other host journaled this very record?"""
    return facts.follower is not None and facts.follower.number == record.number


def blues_ready(spec: SwapSpec, record: SwapRecord, facts: Facts) -> tuple[bool, bool]:
    """By seat: could this blue take the output now, and keep it?

    While a swap is being undone, the other seat's is only trusted once its host has journaled so: until then it may be about to
    stop that blue, because the last record that it knows let it go. One that was told to stop already will end, wanted again or not.
    """
    near = [head >= 0 and facts.merged_head - head <= spec.strategy.lag_frames for head in facts.blue_heads]
    here, there = (stays and close for stays, close in zip(facts.blues_staying, near, strict=True))
    return here, there and (record.phase is not Phase.ABORTING or agreed(record, facts))
