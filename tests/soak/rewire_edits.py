"""What is edited in a rewire soak, in which order, from one seed. Pure: an act says what to ask for, and what the graph then is.

Every kind comes once before any comes again. Only what can be is asked for, but for the kind that must be refused.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.soak import rewire_wiring as wirings
from tests.soak.rewire_wiring import Box, Input, Wiring

HOSTS = ("tank-a", "tank-b")
GRAPH = "rewire"
PRODUCTS = ("step", "stage")  # of steps: two, so that one can be replaced by another
MOST_STEPS = 5
MOST_TAPS = 2
MOST_WAY = 10  # marks in a frame; it has room for some more
WIRING: Wiring = {
    "numbers": Box("source", "numbers", HOSTS[:1]),
    "relay": Box("step", "step", HOSTS[1:], 1, (Input("numbers"),)),
    "twin": Box("sums", "sums", HOSTS, 2, (Input("relay"),)),
    "near": Box("sink", "rows", HOSTS[:1], 0, (Input("twin"),)),
    "far": Box("sink", "rows", HOSTS[1:], 0, (Input("twin"),)),
    "direct": Box("sink", "rows", HOSTS[1:], 0, (Input("numbers"),)),
}
MARKS_FROM = 3
STYLES = {"lossy": ("--policy", "lossy"), "bounded": ("--credit", "1MiB", "--evict-after", "60s")}
LASTING = ("near", "far", "direct")


@dataclass(frozen=True, slots=True)
class Act:
    """`argv` is of `halftrack stream`; `after` what the graph is when it was accepted. `refused`: what is said instead."""

    kind: str
    argv: tuple[str, ...] = ()
    after: Wiring | None = None
    refused: str = ""


class Edits:
    """The acts of a seed."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(f"{seed}/edits")
        self._names = 0
        self._deck: list[str] = []
        self._kinds: dict[str, Callable[[Wiring], Act | None]] = {
            "insert": self._insert,
            "remove": self._remove,
            "replace": self._replace,
            "split": self._split,
            "reroute": self._reroute,
            "tap": self._tap,
            "untap": self._untap,
            "set-policy": self._set_policy,
            "refused": self._refused,
        }
        self.kinds = (*self._kinds, "insert", "race", "swap", "swap and edit", "upgrade", "drift", "revert", "adopt")

    def next(self, wiring: Wiring) -> Act:
        """The next one that can be. For the kinds that are no edit, only its kind."""
        for _ in range(1000):
            if not self._deck:
                self._deck = list(self.kinds)
                self._chance.shuffle(self._deck)
            for number, kind in enumerate(self._deck):
                act = self._kinds[kind](wiring) if kind in self._kinds else Act(kind)
                if act is not None:
                    del self._deck[number]
                    return act
            self._deck = []
        raise AssertionError("there is always something to be edited")

    def edit(self, wiring: Wiring) -> Act:
        """One that changes what somebody reads, or takes away somebody who does."""
        while True:
            kind = self._chance.choice(("insert", "remove", "replace", "split", "reroute", "tap", "untap"))
            if (act := self._kinds[kind](wiring)) is not None:
                return act

    # ---- one of each kind -------------------------------------------------------------------------------------------

    def _insert(self, wiring: Wiring) -> Act | None:
        edges = [(each.source, name) for name, box in wiring.items() for each in box.inputs]
        source, target = self._chance.choice(edges)
        name, box, options = self._newcomer()
        after = wirings.inserted(wiring, source, target, name, box)
        return self._possible("insert", (f"{source}:{target}", "--vertex", name, *options), after)

    def _remove(self, wiring: Wiring) -> Act | None:
        found = [name for name in self._steps(wiring) if _removable(wiring, name)]
        name = self._chosen(found)
        return self._possible("remove", (name,), wirings.removed(wiring, name)) if name else None

    def _replace(self, wiring: Wiring) -> Act | None:
        old = self._chosen(self._steps(wiring))
        if not old:
            return None
        name, box, options = self._newcomer()
        after = wirings.replaced(wiring, old, name, box)
        return self._possible("replace", (old, "--vertex", name, *options), after)

    def _split(self, wiring: Wiring) -> Act | None:
        found = [
            name
            for name in self._steps(wiring)
            if len(wiring[name].inputs) == 1 and not wiring[name].inputs[0].of and len(wiring[name].hosts) == 1
        ]
        name, into = self._chosen(found), self._chance.choice((2, 3))
        if not name:
            return None
        hosts = self._chance.choice((HOSTS, HOSTS[:1], ()))
        options = [word for host in hosts for word in ("--host", host)]
        argv = (name, "--into", str(into), "--key", f"0:{wirings.KEY_BYTES}", *options)
        return self._possible("split", argv, wirings.split(wiring, name, into, hosts))

    def _reroute(self, wiring: Wiring) -> Act | None:
        found = []
        for target, box in sorted(wiring.items()):
            if len(box.inputs) != 1:
                continue
            source = box.inputs[0].source
            for other in sorted(wiring):
                fits = other not in (source, target) and wiring[other].kind != "sink"
                if (
                    fits
                    and target not in wirings.above(wiring, other)
                    and _counted(wiring, other) == _counted(wiring, source)
                ):
                    found.append((source, target, other))
        self._chance.shuffle(found)
        for source, target, other in found:
            if wirings.readers(wiring, source) == [target]:
                continue  # nobody would read it any more
            after = wirings.rerouted(wiring, source, target, other)
            if act := self._possible("reroute", (f"{source}:{target}", "--from", other), after):
                return act
        return None

    def _tap(self, wiring: Wiring) -> Act | None:
        if len(_taps(wiring)) >= MOST_TAPS:
            return None
        found = [name for name, box in wiring.items() if box.kind != "sink" and wirings.whole(wiring, name)]
        source, host, name = self._chance.choice(sorted(found)), self._chance.choice(HOSTS), self._name("tap")
        after = wirings.tapped(wiring, source, name, Box("sink", "rows", (host,)))
        return self._possible("tap", (source, "--product", "rows", "--host", host, "--name", name), after)

    def _untap(self, wiring: Wiring) -> Act | None:
        name = self._chosen(_taps(wiring))
        if not name or not all(
            set(wirings.readers(wiring, each.source)) - {name} or each.source == "numbers"
            for each in wiring[name].inputs
        ):
            return None
        return self._possible("untap", (name,), {other: box for other, box in wiring.items() if other != name})

    def _set_policy(self, wiring: Wiring) -> Act | None:
        found = [name for name, box in sorted(wiring.items()) if box.kind == "sink" and len(box.inputs) == 1]
        name = self._chosen(found)
        if not name:
            return None
        (edge,) = wiring[name].inputs
        style = "" if edge.style else self._chance.choice(sorted(STYLES))
        words = STYLES.get(style, ("--policy", "lossless", "--credit", "0", "--evict-after", "0"))
        return self._possible(
            "set-policy", (f"{edge.source}:{name}", *words), wirings.styled(wiring, edge.source, name, style)
        )

    def _refused(self, wiring: Wiring) -> Act | None:
        """What would change whose numbers somebody reads."""
        behind = [
            name
            for name, box in sorted(wiring.items())
            if [each.source for each in box.inputs] == ["twin"] and len(wirings.readers(wiring, "twin")) > 1
        ]
        choices = [("remove", "twin")] if len(wiring["twin"].inputs) == 1 else []
        choices += [("reroute", f"twin:{name}", "--from", "numbers") for name in behind]
        if not choices:
            return None
        verb, *words = self._chance.choice(choices)
        return Act("refused", (verb, GRAPH, *words), wiring, "only what keeps the numbers can be changed")

    # ---- parts of it ------------------------------------------------------------------------------------------------

    def _possible(self, kind: str, words: tuple[str, ...], after: Wiring) -> Act | None:
        """The act, if what comes of it is a graph whose sinks and sums have all frames, and no larger than the machine."""
        if len(self._steps(after)) > MOST_STEPS:
            return None
        for name, box in after.items():
            if box.kind in ("sink", "sums") and not wirings.whole(after, name):
                return None
            if len(wirings.above(after, name)) > MOST_WAY:
                return None
            if box.kind not in ("sink", "source") and not wirings.readers(after, name):
                return None
        return Act(kind, ("remove" if kind == "untap" else kind, GRAPH, *words), after)

    def _newcomer(self) -> tuple[str, Box, tuple[str, ...]]:
        """A name, what it is, and the options that say so."""
        name, product = self._name("step"), self._chance.choice(PRODUCTS)
        mark = self._names + MARKS_FROM
        common = ("--product", product, "--param", f"mark={mark}")
        if self._chance.random() < 0.35:
            return name, Box("step", product, HOSTS, mark), (*common, "--pair", *HOSTS)
        host = self._chance.choice(HOSTS)
        return name, Box("step", product, (host,), mark), (*common, "--host", host)

    def _name(self, what: str) -> str:
        self._names += 1
        return f"{what}{self._names}"

    def _steps(self, wiring: Wiring) -> list[str]:
        return sorted(name for name, box in wiring.items() if box.kind == "step")

    def _chosen(self, names: list[str]) -> str:
        return self._chance.choice(names) if names else ""


def _taps(wiring: Wiring) -> list[str]:
    return sorted(name for name, box in wiring.items() if box.kind == "sink" and name not in LASTING)


def _counted(wiring: Wiring, name: str) -> bool:
    """Does it have the twin's numbers, and not the source's?"""
    return "twin" in wirings.above(wiring, name)


def _removable(wiring: Wiring, name: str) -> bool:
    """Has it one input, which none of its readers would then read twice, and in a way that one edge can say?"""
    if len(wiring[name].inputs) != 1:
        return False
    (edge,) = wiring[name].inputs
    own = list(_own(wiring, name))
    return all(
        all(other.source != edge.source for other in wiring[reader].inputs) and not (edge.style and each.style)
        for reader, each in own
    )


def _own(wiring: Wiring, name: str) -> Iterator[tuple[str, Input]]:
    for reader in wirings.readers(wiring, name):
        yield reader, next(each for each in wiring[reader].inputs if each.source == name)
