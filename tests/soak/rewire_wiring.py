"""Who reads whom in a rewire soak, and which marks a frame of a number must bear because of it. Pure, and written anew: it shares nothing with the
code that it judges but the words.

A vertex's inputs have a history: what it reads from which number on. All vertices keep the numbers, so a frame's marks follow from the inputs that
each vertex on its way had at that number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from tests.dataplane.inlet_reference import crc32c

KINDS = ("source", "step", "sums", "sink")
KEY_BYTES = 8  # a frame's number


@dataclass(frozen=True, slots=True)
class Input:
    """A vertex that is read; of its frames, if `of` is not 0, those whose key falls to `part`. `style`: what else its edge says, if anything."""

    source: str
    of: int = 0
    part: int = 0
    style: str = ""


@dataclass(frozen=True, slots=True)
class Box:
    """A vertex. `mark` is what it leaves in frames; parts of one that was split have the same."""

    kind: str
    product: str
    hosts: tuple[str, ...]
    mark: int = 0
    inputs: tuple[Input, ...] = ()


Wiring = Mapping[str, Box]
History = Mapping[str, Sequence[tuple[int, tuple[Input, ...]]]]  # (first number, inputs), oldest first


# -------------------------------------------------------------------------------------------------- what edits make of it


def tapped(wiring: Wiring, source: str, name: str, box: Box) -> Wiring:
    """A sink more."""
    return {**wiring, name: replace(box, inputs=(Input(source),))}


def inserted(wiring: Wiring, source: str, target: str, name: str, box: Box) -> Wiring:
    """`name` between the two; it reads as the target did."""
    edge = next(each for each in wiring[target].inputs if each.source == source)
    found = _instead(wiring, target, source, (Input(name),))
    return {**found, name: replace(box, inputs=(edge,))}


def removed(wiring: Wiring, name: str) -> Wiring:
    """Its readers read its one input."""
    edge = wiring[name].inputs[0]
    found = dict(wiring)
    for reader in readers(wiring, name):
        own = next(each for each in wiring[reader].inputs if each.source == name)
        found = dict(_instead(found, reader, name, (edge if own == Input(name) else replace(own, source=edge.source),)))
    del found[name]
    return found


def replaced(wiring: Wiring, name: str, by: str, box: Box) -> Wiring:
    """Another in its place."""
    found = {**wiring, by: replace(box, inputs=wiring[name].inputs)}
    for reader in readers(wiring, name):
        own = next(each for each in wiring[reader].inputs if each.source == name)
        found = dict(_instead(found, reader, name, (replace(own, source=by),)))
    del found[name]
    return found


def split(wiring: Wiring, name: str, into: int, hosts: Sequence[str]) -> Wiring:
    """Its parts in its place."""
    whole = wiring[name]
    (edge,) = whole.inputs
    found = dict(wiring)
    parts = [f"{name}-{number}" for number in range(into)]
    for number, part in enumerate(parts):
        where = (hosts[number % len(hosts)],) if hosts else whole.hosts
        found[part] = replace(whole, hosts=where, inputs=(replace(edge, of=into, part=number, style="part"),))
    for reader in readers(wiring, name):
        own = next(each for each in wiring[reader].inputs if each.source == name)
        found = dict(_instead(found, reader, name, tuple(replace(own, source=part) for part in parts)))
    del found[name]
    return found


def rerouted(wiring: Wiring, source: str, target: str, other: str) -> Wiring:
    """The target reads another, in the same way."""
    own = next(each for each in wiring[target].inputs if each.source == source)
    return _instead(wiring, target, source, (replace(own, source=other),))


def styled(wiring: Wiring, source: str, target: str, style: str) -> Wiring:
    """The edge says something else besides from where to where."""
    own = next(each for each in wiring[target].inputs if each.source == source)
    return _instead(wiring, target, source, (replace(own, style=style),))


def _instead(wiring: Wiring, target: str, source: str, inputs: tuple[Input, ...]) -> Wiring:
    box, found = wiring[target], []
    for each in box.inputs:
        found += inputs if each.source == source else (each,)
    return {**wiring, target: replace(box, inputs=tuple(found))}


# ------------------------------------------------------------------------------------------------------------- looking


def readers(wiring: Wiring, name: str) -> list[str]:
    """Who reads it, in the order of names."""
    return sorted(other for other, box in wiring.items() if any(each.source == name for each in box.inputs))


def above(wiring: Wiring, name: str) -> set[str]:
    """Everything that a frame of this vertex may have passed, itself included."""
    found = {name}
    for each in wiring[name].inputs:
        found |= above(wiring, each.source)
    return found


def changed(before: Wiring, after: Wiring) -> list[str]:
    """The vertices of both that read something else. In a union the order of inputs means nothing."""
    return sorted(
        name
        for name, box in after.items()
        if name in before and sorted(before[name].inputs, key=_key) != sorted(box.inputs, key=_key)
    )


def _key(each: Input) -> tuple[str, int, int]:
    return each.source, each.of, each.part


def ways(wiring: Wiring, name: str, number: int) -> list[list[str]]:
    """The ways by which the frame of that number comes to a vertex, each as what it passes, itself last: one, if all is well."""
    history = {other: [(0, box.inputs)] for other, box in wiring.items()}
    return list(ways_at(history, name, number))


def ways_at(history: History, name: str, number: int) -> Iterator[list[str]]:
    """The same, by what was in force at that number."""
    inputs = next((inputs for first, inputs in reversed(history[name]) if first <= number), ())
    if not inputs:
        yield [name]
    for each in inputs:
        if each.of == 0 or part_of(number, each.of) == each.part:
            for way in ways_at(history, each.source, number):
                yield [*way, name]


@lru_cache(maxsize=1 << 16)
def _hash(number: int) -> int:
    return crc32c(number.to_bytes(KEY_BYTES, "little"))


def part_of(number: int, of: int) -> int:
    """Whose part a frame is."""
    return _hash(number) % of


def whole(wiring: Wiring, name: str) -> bool:
    """Do all frames come to it, by one way each? Of splits in two and three, the numbers asked for know every part."""
    return all(len(ways(wiring, name, number)) == 1 for number in _every_part())


@lru_cache(maxsize=1)
def _every_part() -> tuple[int, ...]:
    found = {(part_of(number, 2), part_of(number, 3)): number for number in range(64)}
    assert len(found) == 6, "a number for each pair of parts"
    return tuple(found.values())
