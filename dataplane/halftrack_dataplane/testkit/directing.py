"""A swap as a rehearsal plays it: when a green may come, when the cut is asked for, when blue may go, and how it is taken back.

An agent in miniature, without agents' journals, deadlines and links: the real table is `agent/halftrack_agent/swap.py`, and this keeps to its
rules as far as a vertex can tell. A green may take over only when it has computed what comes next, blue goes only after the
cut is applied and some outputs have passed, and the way back is a cut for the next output.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from halftrack_dataplane.testkit.release import Release
from halftrack_dataplane.testkit.script import SEATS, Swap
from halftrack_dataplane.testkit.stage import Post, Stage

DRAIN_OUTPUTS = 3

Waiting = Iterator[str]  # yields what it waits for, and is asked again after every turn


@dataclass(slots=True)
class Tally:
    """What the swaps of a rehearsal have come to."""

    swaps: int = 0
    aborts: int = 0


class Director:
    """Plays the swaps of a script, one after the other."""

    def __init__(self, stage: Stage, first: Release, releases: dict[str, Release], swaps: list[Swap]) -> None:
        self._stage = stage
        self._releases = releases
        self.tally = Tally()
        self._generation = self._epoch = 1
        self._in_force = {seat: stage.man(seat, first, 1) for seat in SEATS}
        stage.merged.propose_cut(1, 1, None, first.version)
        self._play = self._all(swaps)
        self.waits_for: str | None = ""  # None: everything has been played

    def turn(self) -> None:
        """Go on with what is played, as far as it can."""
        before = None
        while self.waits_for is not None and self.waits_for != before:
            before, self.waits_for = self.waits_for, next(self._play, None)

    def _all(self, swaps: list[Swap]) -> Waiting:
        for swap in swaps:
            yield from self._passed(swap.output)
            yield from self._swap(swap)

    def _swap(self, swap: Swap) -> Waiting:
        blue, release = self._in_force["a"].release, self._releases[swap.to]
        blue_generation = self._generation_of("a")
        self._generation += 1
        greens: dict[str, Post] = {}
        self._tell(f"a swap to {swap.to} begins")
        for seat in SEATS[: swap.surge]:
            greens[seat] = self._stage.man(seat, release, self._generation)
        yield from self._near(list(greens.values()))
        if swap.abort == "shadowing":
            return self._give_up(swap, greens)
        epoch = self._propose(self._generation, swap.ahead, release.version)
        if swap.abort == "armed" and self._stage.merged.withdraw_cut(epoch):
            return self._give_up(swap, greens)
        yield from self._applied(epoch)
        yield from self._passed(self._stage.merged.head + DRAIN_OUTPUTS)
        if swap.abort == "cut":
            yield from self._applied(self._propose(blue_generation, 0, blue.version))
            return self._give_up(swap, greens)
        for seat in SEATS:
            if seat not in greens:
                greens[seat] = self._stage.man(seat, release, self._generation)
                yield from self._near([greens[seat]])
            self._stage.dismiss(self._in_force[seat])
            self._in_force[seat] = greens[seat]
        self.tally.swaps += 1
        self._tell(f"the swap to {swap.to} is done")
        return None

    def _generation_of(self, seat: str) -> int:
        return self._in_force[seat].target.generation

    def _propose(self, generation: int, ahead: int, label: str) -> int:
        self._epoch += 1
        fence = self._stage.merged.head + ahead if ahead else None
        self._stage.merged.propose_cut(self._epoch, generation, fence, label)
        return self._epoch

    def _give_up(self, swap: Swap, greens: dict[str, Post]) -> None:
        for post in greens.values():
            self._stage.dismiss(post)
        self.tally.aborts += 1
        self._tell(f"the swap to {swap.to} is taken back ({swap.abort})")

    def _passed(self, output: int) -> Waiting:
        while self._stage.merged.head < output:
            yield f"output {output} to pass"

    def _near(self, posts: list[Post]) -> Waiting:
        """All of them have computed what comes next, or what came before it: what real agents see in outputs that compare."""
        while waiting := [post for post in posts if not self._reaches(post)]:
            yield f"{waiting[0].name} to catch up"

    def _reaches(self, post: Post) -> bool:
        following = self._stage.merged.head
        return post.life is not None and post.first is not None and post.first <= following <= post.target.head

    def _applied(self, epoch: int) -> Waiting:
        while not any(cut.epoch == epoch and cut.applied_at is not None for cut in self._stage.merged.cuts()):
            yield f"the cut of epoch {epoch} to be applied"

    def _tell(self, what: str) -> None:
        self._stage.tell(f"{what} at output {self._stage.merged.head}")
