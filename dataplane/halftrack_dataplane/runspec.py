"""What the agent's driver tells one data-plane process: a JSON file, read strictly.

Owns the file's form and the rules of which role needs what. Never opens what the paths name.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

Param = str | int | bool

MAX_SPEC_BYTES = 1 << 20  # a spec of a few kilobytes is usual; its params may be longer, not endless

_PATHS = (
    "program",
    "input_ring",
    "output_ring",
    "snapshot_dir",
    "data_dir",
    "status_path",
    "rings_dir",
    "curve_secret_path",
    "peers_path",
)
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "source": ("program", "entry", "output_ring"),
    "member": ("program", "entry", "input_ring", "output_ring", "release", "snapshot_dir"),
    "sink": ("program", "entry", "input_ring", "data_dir"),
    "merge": ("output_ring", "rings_dir", "merge_prefix"),
    "bridge-server": ("rings_dir", "listen", "curve_secret_path", "curve_public", "peers_path"),
    "bridge-receiver": ("output_ring", "ring_name", "connect", "curve_secret_path", "curve_public", "server_public"),
}
ROLES = tuple(_NEEDS)


class SpecError(ValueError):
    """The spec breaks a rule; the message names the field. Its writer, the agent or a person, must act."""


@dataclass(frozen=True, slots=True)
class SnapshotPeer:
    """A host that may be asked for a snapshot, and the CurveZMQ key that its bridge answers with."""

    connect: str
    server_public: str


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One process of the data plane. What a role does not use is empty; all paths are absolute.

    `snapshot_dir` of a member is the vertex's own folder, `ROOT/GRAPH/VERTEX`; that of a bridge server is `ROOT`.
    """

    role: str
    name: str  # the workload's; also the name of its readers and writers in rings
    program: str = ""
    entry: str = ""  # module:Class
    params: Mapping[str, Param] = field(default_factory=dict)
    input_ring: str = ""
    output_ring: str = ""
    release: str = ""
    generation: int = 0
    state_writes: str = ""
    state_reads: tuple[str, ...] = ()
    snapshot_dir: str = ""
    data_dir: str = ""
    status_path: str = ""
    rings_dir: str = ""
    ring_name: str = ""
    merge_prefix: str = ""
    listen: str = ""
    connect: str = ""
    curve_secret_path: str = ""
    curve_public: str = ""
    server_public: str = ""
    peers_path: str = ""
    snapshot_peers: tuple[SnapshotPeer, ...] = ()


def dump(spec: RunSpec) -> bytes:
    """The file's bytes for `spec`; SpecError when it could not be loaded again."""
    _check(spec)
    tree = asdict(spec) | {"params": dict(spec.params)}
    return json.dumps(tree, sort_keys=True, indent=1).encode()


def load(data: bytes) -> RunSpec:
    """The spec that `data` holds; SpecError for unknown, missing or ill-typed fields."""
    if len(data) > MAX_SPEC_BYTES:
        raise SpecError(f"the spec has {len(data)} bytes; at most {MAX_SPEC_BYTES} are read")
    try:
        tree = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"the spec is not JSON: {error}") from None
    values = _exact(tree, tuple(entry.name for entry in fields(RunSpec)), "the spec")
    texts = {name for name in values if name not in ("params", "generation", "state_reads", "snapshot_peers")}
    for name in texts:
        _expect(type(values[name]) is str, name, "a string")
    _expect(type(values["generation"]) is int and values["generation"] >= 0, "generation", "an integer from 0 on")
    values["state_reads"] = _strings(values["state_reads"], "state_reads")
    values["params"] = _params(values["params"])
    values["snapshot_peers"] = _peers(values["snapshot_peers"])
    spec = RunSpec(**values)
    _check(spec)
    return spec


def load_file(path: str) -> RunSpec:
    """The spec in the file at `path`; SpecError also when it cannot be read."""
    try:
        return load(Path(path).read_bytes())
    except OSError as error:
        raise SpecError(f"cannot read the spec {path}: {error.strerror}") from None


def _check(spec: RunSpec) -> None:
    _expect(spec.role in _NEEDS, "role", f"one of {', '.join(_NEEDS)}, not {spec.role!r}")
    _expect(spec.name != "", "name", "the workload's name")
    for name in _NEEDS[spec.role]:
        _expect(getattr(spec, name) != "", name, f"a value: a {spec.role} needs it")
    for name in _PATHS:
        path = getattr(spec, name)
        _expect(path == "" or path.startswith("/"), name, f"an absolute path, not {path!r}")
    module, colon, kind = spec.entry.partition(":")
    _expect(not spec.entry or (colon and module and kind.isidentifier()), "entry", "module:Class")


def _exact(tree: Any, names: tuple[str, ...], where: str) -> dict[str, Any]:
    _expect(isinstance(tree, dict), where, "an object")
    unknown, missing = sorted(set(tree) - set(names)), sorted(set(names) - set(tree))
    if unknown or missing:
        raise SpecError(f"{where}: unknown fields {unknown}, missing fields {missing}")
    return dict(tree)


def _strings(tree: Any, where: str) -> tuple[str, ...]:
    _expect(isinstance(tree, list) and all(type(item) is str for item in tree), where, "a list of strings")
    return tuple(tree)


def _params(tree: Any) -> dict[str, Param]:
    _expect(isinstance(tree, dict), "params", "an object")
    for name, value in tree.items():
        _expect(type(value) in (str, int, bool), f"params.{name}", "a string, an integer or a truth value")
    return dict(tree)


def _peers(tree: Any) -> tuple[SnapshotPeer, ...]:
    _expect(isinstance(tree, list), "snapshot_peers", "a list")
    found = []
    for number, item in enumerate(tree):
        where = f"snapshot_peers[{number}]"
        values = _exact(item, ("connect", "server_public"), where)
        _expect(all(type(value) is str and value for value in values.values()), where, "two non-empty strings")
        found.append(SnapshotPeer(**values))
    return tuple(found)


def _expect(holds: object, where: str, wanted: str) -> None:
    if not holds:
        raise SpecError(f"{where}: expected {wanted}")
