"""A release of a vertex as its own tests name it: the class, its parameters, and what state it writes and reads.

Owns the way from a class to the file that the runner would load it from. Runs nothing.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from halftrack_dataplane.runtime import load_program
from halftrack_dataplane.sdk import Param, Vertex

Make = Callable[[Mapping[str, Param]], Vertex]


class NotAProgram(ValueError):  # noqa: N818 - reads as what it is where it is raised
    """What was given cannot be run in a process of its own; the test's author must name a class or function of a file."""


@dataclass(frozen=True, slots=True)
class Program:
    """Where a process of its own finds a vertex: as the runner does, `entry` in `file`."""

    file: str
    entry: str  # module:Class


@dataclass(frozen=True, slots=True)
class Release:
    """One release of a vertex. `writes` empty: it has no state, or is a `Stateful`, which says itself what it writes and reads."""

    version: str
    make: Make
    params: Mapping[str, Param] = field(default_factory=dict)
    writes: str = ""
    reads: tuple[str, ...] = ()
    program: Program | None = None

    def __post_init__(self) -> None:
        schema = str(getattr(self.make, "schema", ""))
        if schema and self.writes not in ("", schema):
            raise ValueError(f"{self.version} declares state {self.writes!r}, and its class writes {schema!r}")
        if schema:
            object.__setattr__(self, "writes", schema)
            object.__setattr__(self, "reads", self.reads or (schema, *getattr(self.make, "reads", ())))

    @classmethod
    def from_file(cls, version: str, file: str | Path, entry: str, **declared: Any) -> Self:
        """The release whose artifact is `file`: a Python file, a zipapp or a shared object, as the agent would fetch it."""
        path = str(Path(file).resolve())
        return cls(version, load_program(path, entry), program=Program(path, entry), **declared)

    def located(self) -> Program:
        """The program, for a process of its own; NotAProgram when it has none."""
        return self.program or program_of(self.make)

    def vertex(self) -> Vertex:
        """A new one, that has seen nothing."""
        return self.make(self.params)


def program_of(make: Callable[..., object]) -> Program:
    """The file and entry of a class or function at the top of a module."""
    name, module = getattr(make, "__qualname__", ""), sys.modules.get(getattr(make, "__module__", ""))
    file = getattr(module, "__file__", None)
    if file is None or not name.isidentifier() or getattr(module, name, None) is not make:
        raise NotAProgram(
            f"{make!r} is not a class or function at the top of a module's file, so no other process can load it: "
            "move it there, and give what it needs by params"
        )
    path = Path(inspect.getsourcefile(make) or file).resolve()
    return Program(str(path), f"{path.stem}:{name}")
