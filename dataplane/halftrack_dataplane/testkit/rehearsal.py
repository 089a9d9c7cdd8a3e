"""A vertex and its upgrades, rehearsed in this process: kills, swaps, cuts and aborts in an order that a seed decides, and S1 checked.

`rehearse` is what users' tests call. It is quick (no process is started), and the same seed is the same rehearsal.
"""

import random
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import Buffer

from halftrack_dataplane.frames import Cut, Frame
from halftrack_dataplane.testkit import reference
from halftrack_dataplane.testkit.checker import Expected, Record, Verdict, check
from halftrack_dataplane.testkit.directing import Director
from halftrack_dataplane.testkit.release import Release
from halftrack_dataplane.testkit.script import SEATS, Chance, Event, Kill, KillMerge, Swap, drawn
from halftrack_dataplane.testkit.stage import Fate, Post, Stage

AHEAD_FRAMES = 12  # the source is at most so far ahead of the slowest member
SNAPSHOT_EVERY = 16  # inputs; more often than in production, so that short rehearsals have many
SWAP_OUTPUTS = 12  # that pass until its fence, and while it drains; what its greens wait for comes on top
STUCK_TURNS = 2_000  # turns in which nothing changed; each actor has had hundreds of them
TURN_STEPS = 8
DEAD_TURNS = 12
PERIOD_NS = 1_000_000  # between frames that bring no time of their own


class StreamBroken(AssertionError):  # noqa: N818 - it says what happened
    """The stream was not what it should have been; the message has the findings, and what had happened."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What happened, and what came out."""

    seed: int
    records: tuple[Record, ...]
    cuts: tuple[Cut, ...]
    verdict: Verdict
    script: tuple[Event, ...]
    swaps: int
    aborts: int
    kills: int
    lives: int
    story: tuple[str, ...]

    @property
    def outputs(self) -> list[bytes]:
        """The merged stream's frames."""
        return [record.payload for record in self.records if not record.gap]


def frames_of(payloads: Iterable[Buffer | Frame]) -> list[Frame]:
    """Frames numbered from 0; bare payloads get a time, one each millisecond."""
    frames = []
    for seq, item in enumerate(payloads):
        payload, stamp = (item.payload, item.timestamp_ns) if isinstance(item, Frame) else (item, seq * PERIOD_NS)
        frames.append(Frame(seq, 0, stamp, bytes(payload)))
    return frames


def rehearse(
    releases: Sequence[Release],
    frames: Iterable[Buffer | Frame],
    events: Sequence[Event] | None = None,
    *,
    seed: int = 0,
    kills: int = 6,
    snapshot_every: int = SNAPSHOT_EVERY,
    ring_bytes: int = 0,
) -> Rehearsal:
    """Run a pair of `releases[0]` over `frames`, with `events`, or with a script that `seed` draws; StreamBroken if S1 does not hold.

    A drawn script kills members `kills` times (and the merge a third as often), and swaps in each later release in turn, in some
    places after a try that is aborted. `seed` decides the order in which everybody moves, too.
    """
    numbered = frames_of(frames)
    if not releases or len({release.version for release in releases}) < len(releases):
        raise ValueError("give at least one release, each with a version of its own")
    if not numbered:
        raise ValueError("give at least one frame")
    rng = random.Random(seed)  # noqa: S311 - a rehearsal is repeated by its seed
    first = reference.expected([reference.Reign(releases[0], 0)], numbered)
    chance, versions = Chance(rng.randrange), [release.version for release in releases]
    room = SWAP_OUTPUTS + first.end * (5 * AHEAD_FRAMES + snapshot_every) // len(numbered)
    script = drawn(chance, versions, len(numbered), first.end, kills, room) if events is None else tuple(events)
    sizes = [len(frame.payload) for frame in numbered] + [len(output) for output in first.outputs if output]
    folder = Path(tempfile.mkdtemp(prefix="halftrack-testkit-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    try:
        fates = {seat: Fate([e for e in script if isinstance(e, Kill) and e.seat == seat]) for seat in SEATS}
        stage = Stage(folder, numbered, fates, ring_bytes or max(1 << 20, 128 * max(sizes)), snapshot_every)
        try:
            return _Run(stage, releases, script, events is not None, rng, seed, first).run()
        finally:
            stage.close()
    finally:
        shutil.rmtree(folder)


class _Run:
    """One rehearsal."""

    def __init__(
        self,
        stage: Stage,
        releases: Sequence[Release],
        script: tuple[Event, ...],
        scripted: bool,
        rng: random.Random,
        seed: int,
        first: Expected,
    ) -> None:
        self._stage, self._rng, self._script, self._seed = stage, rng, script, seed
        self._end, self._scripted = first.end, scripted
        self._ahead = 2 + AHEAD_FRAMES * self._end // len(stage.frames)  # outputs, of members before the merge
        known = {release.version: release for release in releases}
        swaps = [event for event in script if isinstance(event, Swap)]
        if unknown := {swap.to for swap in swaps} - set(known):
            raise ValueError(f"the script swaps to {sorted(unknown)}, which is none of the releases {sorted(known)}")
        self._director = Director(stage, releases[0], known, sorted(swaps, key=lambda swap: swap.output))
        self._merge_kills = sorted(event.output for event in script if isinstance(event, KillMerge))
        self._merge_dead_for = 0
        self._reigns: dict[str, tuple[reference.Reign, ...]] = {releases[0].version: (reference.Reign(releases[0], 0),)}

    def run(self) -> Rehearsal:
        """To the end of the frames, and of what they bring."""
        still = 0
        while not self._done():
            moved = self._turn()
            still = 0 if moved else still + 1
            if still > STUCK_TURNS:
                raise StreamBroken(self._told([f"the stream stands still: {self._why()}"]))
        return self._judged()

    def _turn(self) -> bool:
        self._director.turn()
        posts = list(self._stage.posts.values())
        actor = self._rng.randrange(len(posts) + 2)
        steps = self._rng.randint(1, TURN_STEPS)
        if actor == 0:
            return any([self._feed() for _ in range(steps)])  # noqa: C419 - all of them, whatever the first one says
        if actor == 1:
            return self._merge(2 * steps)
        return self._step(posts[actor - 2], steps)

    def _step(self, post: Post, steps: int) -> bool:
        moved = False
        for _ in range(steps):
            alive, lives = post.life, post.lives
            moved = self._stage.step(post) or moved
            if post.lives != lives:
                self._began(post)
            if alive is not None and post.life is None:
                post.dead_for = self._rng.randint(0, DEAD_TURNS)
                return True
        return moved

    def _feed(self) -> bool:
        """The source waits for members, dead ones too: what a restart needs must still be there."""
        for post in list(self._stage.posts.values()):
            if not post.lives:
                self._step(post, 1)  # a swap must not need more frames than what its green waits for
        slowest = min((post.at for post in self._stage.posts.values() if post.lives), default=0)
        ahead = max(post.target.head for post in self._stage.posts.values()) - self._stage.merged.head
        return self._stage.source.head - slowest < AHEAD_FRAMES and ahead < self._ahead and self._stage.feed()

    def _merge(self, steps: int) -> bool:
        if self._merge_dead_for:
            self._merge_dead_for -= 1
            return True
        for step in range(steps):
            if self._merge_kills and self._stage.merged.head >= self._merge_kills[0]:
                self._merge_kills.pop(0)
                self._merge_dead_for = self._rng.randint(0, DEAD_TURNS)
                self._stage.kill_merge()
                return True
            if not self._stage.merge():
                return step > 0
        return True

    def _began(self, post: Post) -> None:
        """The first life of a release that began from another's state is where its reign begins, for the reference."""
        life = post.life
        version = post.release.version
        if version in self._reigns or life is None:
            return
        before = self._reigns[life.begin.whose] if life.begin.whose else ()
        self._reigns[version] = (*before, reference.Reign(post.release, life.begin.next_in))

    def _done(self) -> bool:
        stage = self._stage
        fed = stage.source.head == len(stage.frames)
        idle = all(post.life and post.at == stage.source.head for post in stage.posts.values())
        return (
            fed and idle and self._director.waits_for is None and stage.merged.head >= self._end and not stage.merge()
        )

    def _why(self) -> str:
        late = [f"{post.name} is at input {post.at}" for post in self._stage.posts.values() if post.life]
        dead = [f"{post.name} has no life: {post.reason}" for post in self._stage.posts.values() if not post.life]
        waits = [f"the script waits for {self._director.waits_for}"] if self._director.waits_for else []
        if waits and self._stage.source.head == len(self._stage.frames):
            waits.append("there are no frames left: give more of them, or begin earlier")
        place = f"input {self._stage.source.head} of {len(self._stage.frames)}, output {self._stage.merged.head} of {self._end}"
        return "; ".join([place, *late, *dead, *waits])

    def _judged(self) -> Rehearsal:
        stage = self._stage
        known = {version: reference.expected(reigns, stage.frames) for version, reigns in self._reigns.items()}
        verdict = check(stage.records, stage.merged.cuts(), known, self._end)
        findings = [*verdict.findings, *stage.book.findings]
        if findings or not verdict.right:
            raise StreamBroken(self._told([str(verdict), *stage.book.findings]))
        if self._scripted and (left := [kill for fate in stage.fates.values() for kill in fate.kills]):
            raise ValueError(f"{left} never came to pass: give more frames, or kill earlier")
        tally, kills = self._director.tally, sum(fate.met for fate in stage.fates.values())
        return Rehearsal(
            self._seed,
            tuple(stage.records),
            stage.merged.cuts(),
            verdict,
            self._script,
            tally.swaps,
            tally.aborts,
            kills,
            stage.lives,
            tuple(stage.story),
        )

    def _told(self, findings: list[str]) -> str:
        story = [f"  {line}" for line in self._stage.story[-40:]]
        return "\n".join([*findings, f"What happened (seed={self._seed} repeats it):", *story])
