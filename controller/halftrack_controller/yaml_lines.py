"""YAML documents as plain values that remember the line of each of their parts. Bounded, and with no type but the plain ones.

It owns the step from text to values, nothing of what they mean. Aliases are expanded within the bound; tags and duplicate keys
are errors, because two readers could understand them differently.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from halftrack_controller.manifest_files import MAX_TEXT_BYTES
from halftrack_model.canonical import MAX_INT

MAX_PARTS = 100_000  # aliases can multiply: this ends a "billion laughs" long before memory does
_HALF = re.compile("[\ud800-\udfff]")
_PREFIX = "tag:yaml.org,2002:"
Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at a line, said as `path: what is wrong; what to write instead`."""

    line: int
    text: str


@dataclass(slots=True)
class Document:
    """One document's value; `lines` has the line of each place that exists, and of the document itself under ().

    `broken` has the places of the faults: what the value has there instead is only to go on with.
    """

    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    broken: set[Place] = field(default_factory=set)

    def line(self, place: Place) -> int:
        """The line of `place`, or of the nearest part around it that exists."""
        while place not in self.lines and place:
            place = place[:-1]
        return self.lines.get(place, 1)


def documents(text: str) -> Iterator[Document]:
    """Each document of `text` that is not empty. A syntax error ends the text, as the last document's fault."""
    if len(text.encode()) > MAX_TEXT_BYTES:
        yield Document(faults=[Fault(1, f"the file is longer than {MAX_TEXT_BYTES} bytes; split it")])
        return
    nodes = YAML(typ="safe", pure=True).compose_all(text)
    while True:
        try:
            node = next(nodes, None)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            yield Document(faults=[Fault(mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}")])
            return
        except ReaderError as error:
            yield Document(faults=[_strange_character(text, error)])
            return
        except RecursionError:
            yield Document(faults=[Fault(1, "not YAML that anybody could read: nested too deeply; write it flatter")])
            return
        except (YAMLError, ValueError) as error:
            yield Document(faults=[Fault(1, f"not YAML: {error}")])
            return
        if node is None:
            return
        document = Document()
        _Walk(document).root(node)
        if document.value is not None or document.faults:
            yield document


def _strange_character(text: str, error: ReaderError) -> Fault:
    code = error.character if isinstance(error.character, int) else ord(error.character)
    line = text.count("\n", 0, error.position) + 1
    return Fault(line, f"not YAML: the character U+{code:04X} is not allowed; remove it")


def path_text(place: Place) -> str:
    """`("spec", "edges", 0, "from")` as `spec.edges[0].from`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return text.removeprefix(".") or "document"


class _Walk:
    """Turns one document's nodes into values, counting them."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._parts = 0

    def root(self, node: Node) -> None:
        try:
            self._document.value = self._value(node, (), ())
        except OverflowError as error:
            self._document.faults.append(Fault(node.start_mark.line + 1, str(error)))

    def _fault(self, node: Node, place: Place, text: str) -> None:
        self._document.broken.add(place)
        self._document.faults.append(Fault(node.start_mark.line + 1, f"{path_text(place)}: {text}"))

    def _value(self, node: Node, place: Place, around: tuple[Node, ...]) -> Any:
        self._parts += 1
        if self._parts > MAX_PARTS or len(place) > 64 or any(node is outer for outer in around):
            raise OverflowError("the document is too deep or has too many parts; write it without aliases")
        self._document.lines.setdefault(place, node.start_mark.line + 1)
        inner = (*around, node)
        if isinstance(node, MappingNode):
            return self._mapping(node, place, inner)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*place, number), inner) for number, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)  # noqa: S101 - YAML has three kinds of nodes
        return self._scalar(node, place)

    def _mapping(self, node: MappingNode, place: Place, around: tuple[Node, ...]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, ScalarNode):
                self._fault(key, place, "a key must be text; write it as a word")
                continue
            name = str(key.value)
            if _HALF.search(name):
                self._fault(key, place, "a key holds half a surrogate pair, which is no character; write a word")
                continue
            if name in mapping:
                first = self._document.lines[(*place, name)]
                self._fault(key, (*place, name), f"stands twice (first in line {first}); keep one")
                continue
            self._document.lines[(*place, name)] = key.start_mark.line + 1
            mapping[name] = self._value(item, (*place, name), around)
        return mapping

    def _scalar(self, node: ScalarNode, place: Place) -> Any:
        text, kind = str(node.value), str(node.tag).removeprefix(_PREFIX)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float"):
            return self._number(node, place, text, int if kind == "int" else float)
        if kind not in ("str", "timestamp"):
            self._fault(node, place, f"the tag {node.tag} is not used here; write a plain value")
        if _HALF.search(text):
            self._fault(node, place, "holds half a surrogate pair, which is no character; write the character itself")
        return text

    def _number(self, node: ScalarNode, place: Place, text: str, kind: type) -> Any:
        try:
            digits = text.replace("_", "")
            number = int(digits, 0) if digits[:2].lower() in ("0x", "0o") else kind(digits)
        except ValueError:
            self._fault(node, place, f"{text!r} is not a number; put it in quotes if it is text")
            return 0
        if kind is int and abs(number) > MAX_INT:
            self._fault(node, place, f"{text} is larger than {MAX_INT}; put it in quotes if it is text")
            return 0
        return number
