"""The swap's decisions as trees, taken out of the agent's own functions by running them on every situation that they tell apart.

A situation is what a function asks for, found out as it asks: each first question is a branch over the answers that are possible,
so the tree cannot drift from the code, and a fault that is planted into the code is in the tree. Knows nothing of Promela.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

from halftrack_agent import swap
from halftrack_agent.events import CutSeen, ProposeCut, ShadowSeen, WithdrawCut
from halftrack_agent.looks import Look
from halftrack_dataplane import merge
from halftrack_dataplane.frames import Cut
from halftrack_model.swap import Phase, SwapRecord, SwapSpec
from tests.agent_core.plans import SWAP

# Questions and their answers. The model sets one variable of each name before it decides.
NONE, FAR, NEAR = 0, 1, 2  # where a ring's head is, seen from the output; a green's lag behind its input
OWN_BLUE, OWN_GREEN = 0, 1
NO_ROW, BLUE_NOW, GREEN_NOW, GREEN_AT_FENCE = 0, 1, 2, 3
PASSED, AT, MARGIN, AHEAD = 0, 1, 2, 3  # the output and the record's fence

NUMBER, EPOCH, FENCE, HEAD = 10, 50, 5_000, 1_000
_MARGIN_FRAMES = swap.FENCE_MARGIN  # as it is before anybody plants a fault
_HEADS = {PASSED: FENCE + 1, AT: FENCE, MARGIN: FENCE - 1, AHEAD: FENCE - _MARGIN_FRAMES - 1}

Tree = Any  # a leaf's outcome, or (question, {answer: tree})
Outcome = tuple[Any, ...]


@dataclass(frozen=True)
class Node:
    """A question, and what follows from each answer."""

    question: str
    answers: tuple[tuple[int, Tree], ...]


class Oracle:
    """Answers each question once per run, by a script and then by the first of the answers there are."""

    def __init__(self, script: Sequence[int]) -> None:
        self._script = list(script)
        self.asked: list[tuple[str, int, tuple[int, ...]]] = []
        self._known: dict[str, int] = {}

    def ask(self, question: str, answers: tuple[int, ...] = (0, 1)) -> int:
        """The answer; the same one for the rest of the run."""
        if question not in self._known:
            place = len(self.asked)
            answer = self._script[place] if place < len(self._script) else answers[0]
            self.asked.append((question, answer, answers))
            self._known[question] = answer
        return self._known[question]


def explored(run: Callable[[Oracle], Outcome]) -> Tree:
    """All of `run`'s ways as one tree, without the questions that change nothing."""

    def grown(script: tuple[int, ...]) -> Tree:
        oracle = Oracle(script)
        outcome = run(oracle)
        if len(oracle.asked) == len(script):
            return outcome
        question, _, answers = oracle.asked[len(script)]
        branches = tuple((answer, grown((*script, answer))) for answer in answers)
        same = all(tree == branches[0][1] for _, tree in branches)
        return branches[0][1] if same else Node(question, branches)

    return grown(())


def leaves(tree: Tree) -> Iterator[Outcome]:
    """Every outcome, once for each way that leads to it."""
    if isinstance(tree, Node):
        for _, branch in tree.answers:
            yield from leaves(branch)
    else:
        yield tree


# ----------------------------------------------------------------------------------------------- what the code is shown


class Output:
    """The merged ring's head: compared with a member's head, or with the fence, whose distance is then asked for."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def _at(self, other: int) -> int:
        if other < HEAD:  # "has it begun?"
            return HEAD
        return _HEADS[self._oracle.ask("f_dist", (PASSED, AT, MARGIN, AHEAD))]

    def __sub__(self, head: int) -> int:
        return HEAD - head

    def __add__(self, ahead: int) -> int:
        return FENCE + ahead

    def __gt__(self, other: int) -> bool:
        return self._at(other) > other

    def __ge__(self, other: int) -> bool:
        return self._at(other) >= other

    def __lt__(self, other: int) -> bool:
        return self._at(other) < other

    def __le__(self, other: int) -> bool:
        return self._at(other) <= other


class Duration:
    """A span of the leader's clock, which is asked about by the bound that it is held against."""

    def __init__(self, oracle: Oracle, of: str) -> None:
        self._oracle, self._of = oracle, of

    def __sub__(self, _: object) -> Duration:
        return self  # less the time in which the other host was silent

    def _beyond(self, bound: int) -> bool:
        late = bound == SWAP.strategy.deadline_ms
        return bool(self._oracle.ask(f"f_{'late' if late else 'ripe'}_{self._of}"))

    def __ge__(self, bound: int) -> bool:
        return self._beyond(bound)

    def __gt__(self, bound: int) -> bool:
        return self._beyond(bound)


class Clock:
    """`now_ms`: all that is done with it is to subtract when something began."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle

    def __sub__(self, began: object) -> Duration:
        return Duration(self._oracle, "phase" if began == "phase" else "leg")


class PairOf:
    """A two-tuple whose entries are made when they are asked for."""

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make = make

    def __getitem__(self, seat: int) -> Any:
        if seat not in (0, 1):
            raise IndexError(seat)
        return self._make(seat)

    def __iter__(self) -> Iterator[Any]:
        return iter((self._make(0), self._make(1)))

    def __len__(self) -> int:
        return 2


class Green:
    """`GreenStatus` of one seat. Deaths by signal beyond what is tolerated are one more reason to abort, and `f_abort` is that."""

    deaths = 0

    def __init__(self, oracle: Oracle, seat: int) -> None:
        self._oracle, self._seat = oracle, seat

    @property
    def running(self) -> bool:
        return bool(self._oracle.ask(f"f_running{self._seat}"))

    @property
    def failed(self) -> str:
        return "exit status 1" if self._oracle.ask(f"f_failed{self._seat}") else ""

    @property
    def lag_frames(self) -> int:
        return (-1, SWAP.strategy.lag_frames + 1, 0)[self._oracle.ask(f"f_lag{self._seat}", (NONE, FAR, NEAR))]


class Follower:
    """`SeatStatus`, the other host's last word."""

    def __init__(self, oracle: Oracle, number: int) -> None:
        self._oracle, self._number = oracle, number
        self.green = Green(oracle, 1)

    @property
    def number(self) -> int:
        return self._number if self._oracle.ask("f_agreed") else self._number - 1

    @property
    def knows_swap(self) -> bool:
        return bool(self._oracle.ask("f_knows"))

    @property
    def blue_running(self) -> bool:
        return bool(self._oracle.ask("f_blue_runs1"))


class Seen:
    """`Facts`, each a question to the oracle."""

    equipped = True  # the artifacts are the agents' matter, and the simulation's
    silent_ms = 0

    def __init__(self, oracle: Oracle, number: int) -> None:
        self._oracle, self._number = oracle, number
        self.merged_head = Output(oracle)
        self.greens = PairOf(lambda seat: Green(oracle, seat))
        self.green_heads = PairOf(lambda seat: self._head(f"f_green_head{seat}"))
        self.blue_heads = PairOf(lambda seat: self._head(f"f_blue_head{seat}"))
        self.blues_running = PairOf(lambda seat: bool(oracle.ask(f"f_blue_runs{seat}")))
        self.blues_staying = PairOf(lambda seat: bool(oracle.ask(f"f_blue_stays{seat}")))
        self.shadows = PairOf(lambda seat: ShadowSeen(1_000 * oracle.ask(f"f_shadow{seat}"), 0))

    def _head(self, question: str) -> int:
        return (-1, 1, HEAD)[self._oracle.ask(question, (NONE, FAR, NEAR))]

    @property
    def follower(self) -> Follower | None:
        return Follower(self._oracle, self._number) if self._oracle.ask("f_known") else None

    @property
    def heard(self) -> bool:
        return bool(self._oracle.ask("f_heard"))

    @property
    def cuts(self) -> tuple[CutSeen, ...]:
        ask = self._oracle.ask
        owner, row = ask("f_own", (OWN_BLUE, OWN_GREEN)), ask("f_row", (NO_ROW, BLUE_NOW, GREEN_NOW, GREEN_AT_FENCE))
        rows = []
        if owner == OWN_BLUE and ask("f_was_green"):
            rows = [CutSeen(1, 1, None, 1), CutSeen(2, 2, 2, 2)]
        ours = EPOCH if ask("f_own_ours") else EPOCH - 2
        rows.append(CutSeen(ours, 2 if owner == OWN_GREEN else 1, None, 10))
        if row != NO_ROW:
            ours = EPOCH if ask("f_row_ours") else ours + 1
            fence = FENCE if row == GREEN_AT_FENCE else None
            rows.append(CutSeen(ours, 1 if row == BLUE_NOW else 2, fence, None))
        return tuple(rows)


# ------------------------------------------------------------------------------------------------------- the decisions


def order(surge: int, abort: bool) -> SwapSpec:
    """The swap that is decided about."""
    return replace(SWAP, strategy=replace(SWAP.strategy, surge=surge), abort=abort)


def record(leg: int, phase: Phase) -> SwapRecord:
    """A record; when it began is known to the oracle."""
    return SwapRecord(SWAP.swap_id, NUMBER, leg, phase, EPOCH, FENCE, 0, "phase", "leg", 0, "")  # type: ignore[arg-type]


def places(surge: int) -> Iterator[tuple[int, Phase]]:
    """Every leg and phase that a record can have."""
    for phase in Phase:
        yield 0, phase
        if surge == 1 and phase not in (Phase.PENDING, Phase.ARMED, Phase.CUT):
            yield 1, phase


# Parts of a decision that are trees of their own: a tree that has both in it would have the product of their ways.
PARTS = {"f_back": "_blues_are_back", "f_may": "_blue_may_take_over"}


def part(question: str, surge: int, leg: int) -> Tree:
    """Of one of `PARTS`, while a swap is being undone: (is it so,)."""
    decide, others = getattr(swap, PARTS[question]), PARTS.keys() - {question}

    def run(oracle: Oracle) -> Outcome:
        seen, clock = Seen(oracle, NUMBER), Clock(oracle)
        look = Look(order(surge, False), record(leg, Phase.ABORTING), seen, clock)  # type: ignore[arg-type]
        with asked_of(oracle, others):
            return (bool(decide(look)),)

    return explored(run)


def asked_of(oracle: Oracle, parts: Iterable[str]) -> ExitStack:
    """A context in which these parts are asked of the oracle instead of being decided."""
    stack = ExitStack()
    for question in sorted(parts):
        answer = partial(_part_answer, oracle, question)
        stack.enter_context(mock.patch.object(swap, PARTS[question], answer))
    return stack


def _part_answer(oracle: Oracle, question: str, _: Look) -> bool:
    return bool(oracle.ask(question))


def moves(surge: int, abort: bool, leg: int, phase: Phase) -> Tree:
    """Of `swap.moved`: (moved at all, leg, phase)."""

    def run(oracle: Oracle) -> Outcome:
        before = record(leg, phase)
        with asked_of(oracle, PARTS):
            after = swap.moved(order(surge, abort), before, Seen(oracle, NUMBER), Clock(oracle))  # type: ignore[arg-type]
        return after is not before, after.leg, after.phase

    return explored(run)


WITHDRAW = "withdraw"


def writes(surge: int, leg: int, phase: Phase) -> Tree:
    """Of `swap.table_actions`: ("withdraw",), ("propose", row) or ()."""

    def run(oracle: Oracle) -> Outcome:
        seen, clock = Seen(oracle, NUMBER), Clock(oracle)
        with asked_of(oracle, PARTS):
            actions = tuple(swap.table_actions(order(surge, False), record(leg, phase), seen, clock))  # type: ignore[arg-type]
        assert len(actions) <= 1, "one step at a time"
        for action in actions:
            if isinstance(action, WithdrawCut):
                return (WITHDRAW,)
            assert isinstance(action, ProposeCut)
            if action.fence is not None:
                return "propose", GREEN_AT_FENCE
            return "propose", GREEN_NOW if action.generation == SWAP.green.generation else BLUE_NOW
        return ()

    return explored(run)


def wanted(surge: int, leg: int, phase: Phase | None) -> tuple[bool, bool, bool, bool]:
    """Of `swap.wanted`: does blue a, blue b, green a, green b run?"""
    spec = order(surge, False)
    members = swap.wanted(spec, None if phase is None else record(leg, phase))
    first, second = spec.seats
    return tuple(member in members for member in (first.blue, second.blue, first.green, second.green))  # type: ignore[return-value]


def due(row: int, distance: int) -> bool:
    """Of the merge's `due_cut`: is that row applied now, with the output so far from its fence?"""
    fence = FENCE if row == GREEN_AT_FENCE else None
    cuts = (Cut(EPOCH - 2, 1, None, 10, ""), Cut(EPOCH, 2, fence, None, ""))
    return merge.due_cut(_HEADS[distance], cuts) is not None
