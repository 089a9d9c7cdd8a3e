"""Manifests: from files to what they declare, or every error in them at once, each with its file and line.

It decides whether a manifest is right by itself; whether it fits the galaxy (a host of that name exists) is the store's to say.
It applies nothing. `halftrack schema` and the field reference come from `manifest_schema.py`.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from halftrack_controller import manifest_files, placement
from halftrack_controller import manifest_schema as schema
from halftrack_controller.documents import label_of
from halftrack_controller.manifest_graph import graph_of
from halftrack_controller.manifest_schema import API_VERSION, KINDS
from halftrack_controller.manifest_service import service_of
from halftrack_controller.manifest_stream import stream_of
from halftrack_controller.snapshot import Environment, Host
from halftrack_controller.yaml_lines import Document, Fault, Place, path_text
from halftrack_controller.yaml_lines import documents as yaml_documents
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.errors import InvalidInput
from halftrack_model.graph import StreamGraph
from halftrack_model.params import Param
from halftrack_model.probes import Checks
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy, release_faults
from halftrack_model.resources import Resources


@dataclass(frozen=True, slots=True)
class Problem:
    """One error: where, and what to write instead."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class BadManifests(InvalidInput):
    """All errors of all files; nothing of them was applied."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        count = f"{len(problems)} error{'s' if len(problems) != 1 else ''}; nothing was applied"
        super().__init__("bad-manifest", "\n".join([*map(str, problems), count]))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ReleaseDraft:
    """A release as its author wrote it: the artifact is still a file, not yet a digest."""

    product: str
    version: str
    artifact: Path
    entry: str
    params: dict[str, Param]
    state: StateSchemas
    strategy: SwapStrategy
    where: str  # FILE:LINE
    resources: Resources | None = None
    command: tuple[str, ...] = ()
    health: Checks | None = None
    unpack: bool = False

    def release(self, artifact: Artifact) -> Release:
        """The release, once its artifact is known by content."""
        return Release(
            product=self.product,
            version=self.version,
            artifact=artifact,
            entry=self.entry,
            params=self.params,
            state=self.state,
            strategy=self.strategy,
            resources=self.resources,
            command=self.command,
            health=self.health,
            unpack=self.unpack,
        )


@dataclass(frozen=True, slots=True)
class Declared:
    """Everything that some manifests declare, in the order in which it can be applied."""

    environments: tuple[Environment, ...] = ()
    hosts: tuple[Host, ...] = ()
    graphs: tuple[StreamGraph, ...] = ()
    releases: tuple[ReleaseDraft, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)  # FILE:LINE of each document, by `documents.label_of`


def read(paths: Iterable[str]) -> Declared:
    """What the files, folders (their *.yaml and *.yml, sorted) and `-` (standard input) declare; BadManifests otherwise."""
    return of_files(manifest_files.read(paths))


def of_files(found: manifest_files.Found) -> Declared:
    """The same for what was found and is read already."""
    return _declared(found.texts, [Problem(name, 1, text) for name, text in found.refused])


def parsed(texts: Iterable[tuple[str, str]]) -> Declared:
    """What `(file name, text)` pairs declare; BadManifests, with all errors of all texts, when any has one."""
    return _declared(texts, [])


def _declared(texts: Iterable[tuple[str, str]], problems: list[Problem]) -> Declared:
    items: list[Environment | Host | StreamGraph | ReleaseDraft] = []
    where: dict[str, str] = {}
    for file, text in texts:
        for document in yaml_documents(text):
            item, faults = _item(file, document)
            problems += [Problem(file, fault.line, fault.text) for fault in faults]
            if item is None:
                continue
            label = f"release {item.product} {item.version}" if isinstance(item, ReleaseDraft) else label_of(item)
            if label in where:
                problems.append(Problem(file, document.line(()), f"{label} is already declared at {where[label]}"))
            where.setdefault(label, f"{file}:{document.line(())}")
            items.append(item)
    if problems:
        raise BadManifests(tuple(sorted(problems, key=lambda problem: (problem.file, problem.line, problem.text))))
    return Declared(
        tuple(item for item in items if isinstance(item, Environment)),
        tuple(item for item in items if isinstance(item, Host)),
        tuple(item for item in items if isinstance(item, StreamGraph)),
        tuple(item for item in items if isinstance(item, ReleaseDraft)),
        where,
    )


def _item(file: str, document: Document) -> tuple[Environment | Host | StreamGraph | ReleaseDraft | None, list[Fault]]:
    """What one document declares, or None and everything that is wrong with it."""
    if document.value is None:
        return None, document.faults
    item, faults = _understood(file, document)
    return (None if document.faults else item), [*document.faults, *faults]


def _understood(
    file: str, document: Document
) -> tuple[Environment | Host | StreamGraph | ReleaseDraft | None, list[Fault]]:
    if not isinstance(document.value, dict):
        return None, [Fault(document.line(()), f"document: not an object; begin with apiVersion: {API_VERSION}")]
    kind = document.value.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        return None, [] if ("kind",) in document.broken else [_unknown_kind(document, kind)]
    model = KINDS[kind]
    try:
        manifest = model.model_validate(document.value)
    except ValidationError as error:
        return None, list(_faults(model, document, error.errors()))
    return _domain(file, document, manifest)


def _unknown_kind(document: Document, kind: Any) -> Fault:
    if kind is None:
        return Fault(document.line(()), f"kind: is missing; write one of {', '.join(KINDS)}")
    near = difflib.get_close_matches(str(kind), KINDS, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"write one of {', '.join(KINDS)}"
    return Fault(document.line(("kind",)), f"kind: {kind!r} is unknown; {hint}")


# ------------------------------------------------------------------------------------------ what pydantic found, for people


def _faults(model: type[BaseModel], document: Document, errors: list[ErrorDetails]) -> Iterator[Fault]:
    seen: set[tuple[int, str]] = set()
    for error in errors:
        place = _place(error["loc"], document)
        if place in document.broken:  # it has been told already, and what stands there now is not the author's
            continue
        fault = Fault(document.line(place), f"{path_text(place)}: {_wording(model, place, error)}")
        if (fault.line, fault.text) not in seen:  # a value of three possible types fails three times
            seen.add((fault.line, fault.text))
            yield fault


def _place(loc: tuple[str | int, ...], document: Document) -> Place:
    """`loc` without the parts that pydantic adds for its own sake (which member of a union it tried)."""
    place: Place = ()
    for number, part in enumerate(loc):
        if number == len(loc) - 1 and number and part in ("str", "int", "bool") and place in document.lines:
            break
        place = (*place, part)
    return place


def _wording(model: type[BaseModel], place: Place, error: ErrorDetails) -> str:
    kind, value, context = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key; {_known_keys(model, place)}"
    if kind == "missing":
        return f"is missing; write {place[-1]}: {_example(model, place) or '...'}"
    if kind == "value_error":
        return str(context.get("error", error["msg"]))
    if kind == "literal_error":
        return _choice(value, str(context["expected"]))
    if place[-1:] == ("[key]",):
        return f"{error['msg']}; write a name"
    wanted = {
        "string_type": "text",
        "int_type": "a whole number",
        "bool_type": "true or false",
        "list_type": "a list",
        "dict_type": "an object",
        "model_type": "an object",
    }
    if kind in wanted and len(error["loc"]) > len(place):
        return f"{value!r} is not text, a whole number, true or false; write one of these"
    if kind in wanted:
        example = _example(model, place) or f'"{value}"'
        return f"{_shown(value)} is not {wanted[kind]}; write for example {example}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}; write for example {_example(model, place) or 'what `halftrack schema` allows'}"


def _choice(value: Any, expected: str) -> str:
    choices = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    near = difflib.get_close_matches(str(value), choices, 1, 0.6)
    return f"{value!r} is not possible here; " + (
        f"did you mean {near[0]}?" if near else f"write {' or '.join(choices)}"
    )


def _known_keys(model: type[BaseModel], place: Place) -> str:
    owner = _model_at(model, place[:-1])
    keys = [info.alias or name for name, info in owner.model_fields.items()] if owner else []
    near = difflib.get_close_matches(str(place[-1]), keys, 1, 0.6)
    return f"did you mean {near[0]}?" if near else f"remove it, or write one of {', '.join(keys)}"


def _example(model: type[BaseModel], place: Place) -> str:
    names = [part for part in place if isinstance(part, str)]
    owner = _model_at(model, place[: len(place) - 1 - place[::-1].index(names[-1])]) if names else None
    for name, info in owner.model_fields.items() if owner else ():
        if (info.alias or name) == names[-1] and info.examples:
            return _flow(info.examples[0])
    return ""


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) and value[:1].isdigit() else str(value)


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value) if not isinstance(value, (dict, list)) else "what is here"


def _model_at(model: type[BaseModel], place: Place) -> type[BaseModel] | None:
    """The model that describes the object at `place`, walking fields by the names that manifests use."""
    for part in place:
        if isinstance(part, int):
            continue
        found = [info for name, info in model.model_fields.items() if (info.alias or name) == part]
        inner = _inner_model(found[0].annotation) if found else None
        if inner is None:
            return None
        model = inner
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if inner is not NoneType and (found := _inner_model(inner)):
            return found
    return None


# ------------------------------------------------------------------------------------------------------ to the domain's types


def _domain(
    file: str, document: Document, manifest: schema.Object
) -> tuple[Environment | Host | StreamGraph | ReleaseDraft | None, list[Fault]]:
    match manifest:
        case schema.EnvironmentManifest(metadata=metadata, spec=environment):
            return Environment(metadata.name, dict(environment.labels), environment.track, environment.agent or ""), []
        case schema.HostManifest(metadata=metadata, spec=host):
            return _host(metadata.name, host), []
        case schema.StreamManifest(metadata=metadata, spec=line):
            return _judged(document, stream_of(metadata.name, line), _line_place)
        case schema.StreamGraphManifest(metadata=metadata, spec=fields):
            return _judged(document, graph_of(metadata.name, fields), _graph_place)
        case schema.ServiceManifest(metadata=metadata, spec=service):
            return _judged(document, service_of(metadata.name, service), _service_place)
        case schema.ReleaseManifest(spec=release):
            return _release(file, document, release)
        case _:
            raise AssertionError(f"{type(manifest).__name__} has no domain type")


def _host(name: str, spec: schema.HostSpec) -> Host:
    address = f"[{spec.address}]" if ":" in spec.address else spec.address
    return Host(
        name=name,
        environment=spec.environment,
        labels=dict(spec.labels),
        bridge=f"{address}:{spec.bridge_port}",
        agent=f"{address}:{spec.agent_port}",
        curve_public="",
        bandwidth=tuple(BandwidthWindow(each.limit, each.from_ or 0, each.to or 0) for each in spec.bandwidth),
        site=spec.site or "",
    )


def _judged(
    document: Document, graph: StreamGraph, place_of: Callable[[str, int], Place]
) -> tuple[StreamGraph | None, list[Fault]]:
    """The graph, or what is wrong with it, each at the line of the vertex or edge that the sentence names."""
    faults = []
    for text in placement.problems(graph):
        place = next(_named(graph, text, place_of), ("spec",))
        faults.append(Fault(document.line(place), f"{path_text(place)}: {text}"))
    return (None if faults else graph), faults


def _named(graph: StreamGraph, text: str, place_of: Callable[[str, int], Place]) -> Iterator[Place]:
    for number, vertex in enumerate(graph.vertices):
        if text.startswith(f"vertex {vertex.name!r}"):
            yield place_of("vertices", number)
    for number, edge in enumerate(graph.edges):
        if text.startswith(f"{edge}:"):
            yield place_of("edges", number)


def _graph_place(among: str, number: int) -> Place:
    return ("spec", among, number)


def _line_place(among: str, number: int) -> Place:
    """In a line, an edge stands with the step that reads it."""
    return ("spec", "steps", number) if among == "vertices" else ("spec", "steps", number + 1)


def _service_place(_among: str, _number: int) -> Place:
    return ("spec",)


def _release(file: str, document: Document, spec: schema.ReleaseSpec) -> tuple[ReleaseDraft | None, list[Fault]]:
    base = Path() if file == manifest_files.STDIN else Path(file).parent
    artifact = base / spec.artifact.file
    if not manifest_files.is_file(artifact):
        place: Place = ("spec", "artifact", "file")
        text = f"{path_text(place)}: there is no file {artifact}; build it, or write its path relative to this manifest"
        return None, [Fault(document.line(place), text)]
    draft = ReleaseDraft(
        product=spec.product,
        version=spec.version,
        artifact=artifact,
        entry=spec.entry or "",
        params=dict(spec.params),
        state=spec.state.state(),
        strategy=spec.strategy.strategy(),
        where=f"{file}:{document.line(())}",
        resources=None if spec.resources is None else spec.resources.resources(),
        command=tuple(spec.command),
        health=spec.checks(),
        unpack=spec.unpack,
    )
    faults = release_faults(draft.release(Artifact("", 0)))
    return (None if faults else draft), [Fault(document.line(("spec",)), f"spec: {text}") for text in faults]
