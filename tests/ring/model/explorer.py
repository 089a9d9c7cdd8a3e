"""Runs small programs in every order there is, on a machine whose stores become visible late and out of order.

A program is a list of steps on shared words and registers of its own. Each thread's stores wait in a buffer of its own: stores to
different words may leave it in any order, unless a release or a fence lies between (weaker than x86, where they leave in order). Loads
happen in the order of the program: what only reorders loads is not seen here. A thread may sleep on a word like a futex, with no time-out
at all, so a wake-up that is lost is a state that nothing leaves. A thread marked as mortal may be killed between any two steps; its
stores still arrive, as a processor's do.

Owns no protocol: that is protocol.py.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

Registers = dict[str, int]
Value = Callable[[Registers], int]
Word = str | Callable[[Registers], str]
RUNS, SLEEPS, ENDED, KILLED = range(4)
BARRIER = ""  # in a buffer: nothing behind it leaves before what is before it


class Step(NamedTuple):
    """One step: what it does, on which word, with what."""

    kind: str
    word: Word = ""
    value: Any = None
    into: str = ""


def store(word: Word, value: Value | int, *, release: bool = False) -> Step:
    """A store; with `release` it leaves the buffer after all before it."""
    return Step("release" if release else "store", word, value)


def load(into: str, word: Word) -> Step:
    return Step("load", word, None, into)


def fence() -> Step:
    """A full fence: goes on when the own buffer is empty."""
    return Step("fence")


def barrier() -> Step:
    """A release fence."""
    return Step("barrier")


def membarrier() -> Step:
    """A full fence on every processor, on one after the other: each thread's buffer was empty at some moment since it began."""
    return Step("membarrier")


def change(word: Word, value: Callable[[int, Registers], int], into: str = "was") -> Step:
    """An atomic read-modify-write, fenced on both sides; the old value goes into a register."""
    return Step("change", word, value, into)


def swap_if(word: Word, expected: int, wanted: int, into: str = "was") -> Step:
    return change(word, lambda old, _: wanted if old == expected else old, into)


def sleep(word: Word, seen: str) -> Step:
    """Sleeps if the word is what the register says; a kernel does that under a lock."""
    return Step("sleep", word, seen)


def wake(word: Word) -> Step:
    """Adds one and wakes all who sleep there."""
    return Step("wake", word)


def let(into: str, value: Value) -> Step:
    return Step("let", "", value, into)


def when(condition: Value, label: str) -> Step:
    return Step("when", label, condition)


def go(label: str) -> Step:
    return Step("when", label, lambda _: True)


def mark(label: str) -> Step:
    return Step("mark", label)


def must(condition: Value, why: str) -> Step:
    """What has to hold here."""
    return Step("must", why, condition)


def until(condition: Callable[[dict[str, int], Registers], bool]) -> Step:
    """Goes on when what has arrived in memory fulfils it: for what the system tells, such as a death, or for looking again and again."""
    return Step("until", "", condition)


@dataclass(frozen=True)
class Program:
    """A thread's steps; `mortal` says that it may be killed, and which word tells of it."""

    name: str
    steps: tuple[Step, ...]
    mortal: str = ""


class Thread(NamedTuple):
    at: int
    registers: tuple[tuple[str, int], ...]
    buffer: tuple[tuple[str, int, bool], ...]
    state: int
    asleep_on: str = ""


Memory = tuple[tuple[str, int], ...]
State = tuple[Memory, tuple[Thread, ...]]


class BrokenError(AssertionError):
    """Something that must hold did not, in some order; `path` is who did what."""


@dataclass
class Explorer:
    """All reachable states of some programs."""

    programs: tuple[Program, ...]
    memory: dict[str, int]
    limit: int = 2_000_000

    def __post_init__(self) -> None:
        self.labels = [
            {step.word: at for at, step in enumerate(program.steps) if step.kind == "mark"} for program in self.programs
        ]

    def explore(self) -> int:
        """Visits every state; how many there were. BrokenError if one must not be."""
        threads = tuple(self._settled(index, Thread(0, (), (), RUNS)) for index in range(len(self.programs)))
        first: State = (tuple(sorted(self.memory.items())), threads)
        came: dict[State, tuple[State, str] | None] = {first: None}
        stack = [first]
        while stack:
            state = stack.pop()
            try:
                followers = list(self._followers(state))
            except BrokenError as error:
                raise BrokenError(f"{error}\n{self._path(came, state)}") from None
            if not followers and any(thread.state in (RUNS, SLEEPS) for thread in state[1]):
                stuck = [
                    p.name for p, thread in zip(self.programs, state[1], strict=True) if thread.state in (RUNS, SLEEPS)
                ]
                raise BrokenError(f"nobody goes on, and {', '.join(stuck)} wait for ever\n{self._path(came, state)}")
            for follower, what in followers:
                if follower not in came:
                    came[follower] = (state, what)
                    stack.append(follower)
            assert len(came) < self.limit, "too many states to be exhaustive"
        return len(came)

    def _path(self, came: dict[State, tuple[State, str] | None], state: State) -> str:
        lines = [str(dict(state[0]))]
        while (before := came[state]) is not None:
            state, what = before
            lines.append(what)
        return "\n".join(reversed(lines))

    def _followers(self, state: State) -> Iterable[tuple[State, str]]:
        memory, threads = state
        for index, thread in enumerate(threads):
            name = self.programs[index].name
            for at in self._may_leave(thread.buffer):
                word, value, _ = thread.buffer[at]
                left = self._without_barriers(thread.buffer[:at] + thread.buffer[at + 1 :])
                arrived = dict(memory) | {word: value}
                yield (
                    self._next(arrived, threads, index, thread._replace(buffer=left)),
                    f"{name}: {word}={value} arrives",
                )
            if thread.state == RUNS:
                for changed, others, what in self._acts(dict(memory), threads, index):
                    yield (tuple(sorted(changed.items())), others), f"{name}: {what}"
            if self.programs[index].mortal and thread.state in (RUNS, SLEEPS) and not thread.buffer:
                gone = dict(memory) | {self.programs[index].mortal: 1}
                yield self._next(gone, threads, index, Thread(thread.at, (), (), KILLED)), f"{name}: killed"

    @staticmethod
    def _may_leave(buffer: tuple[tuple[str, int, bool], ...]) -> Iterable[int]:
        seen: set[str] = set()
        for at, (word, _, release) in enumerate(buffer):
            if word == BARRIER:
                return
            if word not in seen and not (release and at):
                yield at
            seen.add(word)

    @staticmethod
    def _without_barriers(buffer: tuple[tuple[str, int, bool], ...]) -> tuple[tuple[str, int, bool], ...]:
        while buffer and buffer[0][0] == BARRIER:
            buffer = buffer[1:]
        return buffer

    @staticmethod
    def _next(memory: dict[str, int], threads: tuple[Thread, ...], index: int, thread: Thread) -> State:
        return tuple(sorted(memory.items())), (*threads[:index], thread, *threads[index + 1 :])

    def _settled(self, index: int, thread: Thread) -> Thread:
        """Past all steps that only concern the thread itself: their order among the others' does not matter."""
        steps, registers, at = self.programs[index].steps, dict(thread.registers), thread.at
        while at < len(steps) and steps[at].kind in ("let", "when", "mark", "must"):
            kind, word, value, into = steps[at]
            at += 1
            if kind == "let":
                registers[into] = value(registers)
            elif kind == "must" and not value(registers):
                raise BrokenError(f"{self.programs[index].name}: {word}; {registers}")
            elif kind == "when" and value(registers):
                at = self.labels[index][word]
        kept = tuple(sorted(registers.items()))
        if at == len(steps):
            return thread._replace(at=at, registers=(), state=ENDED)
        return thread._replace(at=at, registers=kept)

    def _acts(
        self, memory: dict[str, int], threads: tuple[Thread, ...], index: int
    ) -> Iterable[tuple[dict[str, int], tuple[Thread, ...], str]]:
        thread = threads[index]
        step, registers = self.programs[index].steps[thread.at], dict(thread.registers)
        word = step.word(registers) if callable(step.word) else step.word
        before = dict(registers)
        if step.kind in ("store", "release", "load", "barrier"):
            on = self._buffered(step, word, registers, memory, thread)
        elif step.kind == "until":
            if not step.value(memory, registers):
                return
            on = thread._replace(at=thread.at + 1)
        else:
            if thread.buffer or (step.kind == "membarrier" and threads[registers.get("turn", 0)].buffer):
                return  # it waits until the stores have arrived
            on = self._arrived(step, word, registers, memory, thread, len(threads))
            if step.kind == "wake":
                threads = tuple(self._woken(number, other, word) for number, other in enumerate(threads))
        if on.state == RUNS:
            on = self._settled(index, on._replace(registers=tuple(sorted(registers.items()))))
        news = {name: value for name, value in registers.items() if before.get(name) != value}
        yield memory, (*threads[:index], on, *threads[index + 1 :]), f"{step.kind} {word} {news or ''}"

    @staticmethod
    def _buffered(step: Step, word: str, registers: Registers, memory: dict[str, int], thread: Thread) -> Thread:
        """A step that does not wait for earlier stores."""
        on = thread._replace(at=thread.at + 1)
        if step.kind == "load":
            own = [value for at, value, _ in thread.buffer if at == word]
            registers[step.into] = own[-1] if own else memory[word]
            return on
        if step.kind == "barrier":
            return on._replace(buffer=(*thread.buffer, (BARRIER, 0, False)) if thread.buffer else ())
        value = step.value(registers) if callable(step.value) else step.value
        return on._replace(buffer=(*thread.buffer, (word, value, step.kind == "release")))

    @staticmethod
    def _arrived(
        step: Step, word: str, registers: Registers, memory: dict[str, int], thread: Thread, threads: int
    ) -> Thread:
        """A step that comes after all earlier stores have arrived."""
        on = thread._replace(at=thread.at + 1)
        if step.kind == "membarrier":
            turn = registers.pop("turn", 0)
            if turn + 1 < threads:
                registers["turn"] = turn + 1
                return on._replace(at=thread.at)
        elif step.kind == "change":
            registers[step.into] = memory[word]
            memory[word] = step.value(memory[word], registers)
        elif step.kind == "wake":
            memory[word] += 1
        elif step.kind == "sleep" and memory[word] == registers[step.value]:
            return on._replace(state=SLEEPS, asleep_on=word)
        return on

    def _woken(self, index: int, thread: Thread, word: str) -> Thread:
        if thread.state != SLEEPS or thread.asleep_on != word:
            return thread
        return self._settled(index, thread._replace(state=RUNS, asleep_on=""))
