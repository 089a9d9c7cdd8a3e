"""What the agent's driver tells one data-plane process: a JSON file, read strictly.

Owns the file's form and the rules of which role needs what. Never opens what the paths name.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from halftrack_dataplane import feed_orders, judge_orders, spool_orders
from halftrack_dataplane.feed_orders import FeedSpec
from halftrack_dataplane.judge_orders import JudgeOrders
from halftrack_dataplane.spool_orders import SpoolOrders

Param = str | int | bool
Orders = TypeVar("Orders")

MAX_SPEC_BYTES = 1 << 20  # a spec of a few kilobytes is usual; its params may be longer, not endless

_PATHS = (
    "program",
    "input_ring",
    "output_ring",
    "snapshot_dir",
    "data_dir",
    "numbers_path",
    "status_path",
    "rings_dir",
    "curve_secret_path",
    "peers_path",
    "feed_dir",
    "taker_path",
)
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "source": ("program", "entry", "output_ring"),
    "member": ("program", "entry", "input_ring", "output_ring", "release", "snapshot_dir"),
    "sink": ("program", "entry", "input_ring", "data_dir"),
    "merge": ("output_ring", "rings_dir", "merge_prefix"),
    "bridge-server": ("rings_dir", "listen", "curve_secret_path", "curve_public", "peers_path"),
    "bridge-receiver": ("output_ring", "ring_name", "connect", "curve_secret_path", "curve_public", "server_public"),
    "inlet": ("output_ring",),
    "judge": ("program", "entry", "input_ring"),
    "keeper": ("feed_dir",),
    "spool": ("input_ring",),
}
ROLES = tuple(_NEEDS)


JOINS = ("", "sequence", "time", "order", "union")  # empty: one input
POLICIES = ("lossless", "lossy", "sample")
MAX_INPUTS = 32  # each is a part header in every joined frame, and one of the 64 readers that its ring can have
MAX_GENERATIONS = 8  # of inputs: the one in force, and edits that have not come into force yet
MAX_GENERATION = 1 << 40  # far more edits than anybody makes, far less than an epoch can be
WAIT, RESTART, RESUME = "", "restart", "resume"
ON_LOSS = (WAIT, RESTART, RESUME)  # nothing; an empty state; the newest that there was
BY_NUMBER = ("", "sequence", "union")  # joins that keep the numbers of their inputs
MAX_PARTS = 4096  # of a partition


class SpecError(ValueError):
    """The spec breaks a rule; the message names the field. Its writer, the agent or a person, must act."""


@dataclass(frozen=True, slots=True)
class SnapshotPeer:
    """A host that may be asked for a snapshot, and the CurveZMQ key that its bridge answers with. A `twin` runs a member of the same vertex."""

    connect: str
    server_public: str
    twin: bool = False


@dataclass(frozen=True, slots=True)
class StateWay:
    """A chain of migrations, `module:function` each, between `schema` and the one that a member writes or reads."""

    schema: str
    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InletInput:
    """One edge that an inlet reads: whose ring, what of it, and what happens when either end is slow.

    `policy` "sample" takes sequences that `every` divides, at most `rate_per_s` a second of the stream's own time, or the `latest` only. A
    partition (`key_of` > 0) takes frames whose key, bytes [`key_offset`, `key_offset + key_bytes`), falls into a part of `key_take`.
    `replay_ms`: how far back it begins, once. `evict_after_ms`: how long this input may hold others up, the writer of its ring or the join;
    0: for ever. `spool`: the folder that has what the ring no longer has; then nobody is held up. Inputs of one `generation` are joined with each
    other; those of a later one take the place of those before (`splice.py`).
    """

    name: str
    ring: str
    policy: str = "lossless"
    every: int = 1
    rate_per_s: int = 0
    latest: bool = False
    key_offset: int = 0
    key_bytes: int = 0
    key_of: int = 0
    key_take: tuple[int, ...] = ()
    replay_ms: int = 0
    evict_after_ms: int = 0
    spool: str = ""
    generation: int = 0

    @property
    def numbered(self) -> bool:
        """Has each frame that it takes a number that follows from its own?"""
        return not self.latest and self.rate_per_s == 0


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One process of the data plane. What a role does not use is empty; all paths are absolute.

    `snapshot_dir` of a member is the vertex's own folder, `ROOT/GRAPH/VERTEX`; that of a bridge server is `ROOT`. `state_inward` leads from
    schemas of others to one that it reads, `state_outward` from its own to those of releases before it. With `replay_frames` or
    `replay_ms` it keeps no snapshots, and begins that far back. `state_on_loss` says what it may begin with when nobody has its state any more
    (`ON_LOSS`). An inlet joins `inputs` by `join`, in order of time by buckets of `join_width_ns`; with `join_partial` a sequence that some inputs have lost passes without them.
    `numbers_path`: what numbers its ring may have given out, for whoever gives some that nobody can give again (`numbering`). A keeper holds `feeds`, and hands them out in `feed_dir`, where a source asks for them, to the process that the file `taker_path` names (empty: to
    whoever of its own user may enter).
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
    state_inward: tuple[StateWay, ...] = ()
    state_outward: tuple[StateWay, ...] = ()
    replay_frames: int = 0
    replay_ms: int = 0
    state_on_loss: str = ""
    snapshot_dir: str = ""
    data_dir: str = ""
    numbers_path: str = ""
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
    inputs: tuple[InletInput, ...] = ()
    join: str = ""
    join_width_ns: int = 0
    join_partial: bool = False
    judge: JudgeOrders | None = None
    feeds: tuple[FeedSpec, ...] = ()
    feed_dir: str = ""
    taker_path: str = ""
    spool: SpoolOrders | None = None


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
    for entry in fields(RunSpec):
        if entry.type in (str, "str"):
            _expect(type(values[entry.name]) is str, entry.name, "a string")
    for name in ("generation", "join_width_ns", "replay_frames", "replay_ms"):
        _expect(type(values[name]) is int and values[name] >= 0, name, "an integer from 0 on")
    _expect(type(values["join_partial"]) is bool, "join_partial", "a truth value")
    values["state_reads"] = _strings(values["state_reads"], "state_reads")
    for name in ("state_inward", "state_outward"):
        values[name] = _ways(values[name], name)
    values["params"] = _params(values["params"])
    values["snapshot_peers"] = _peers(values["snapshot_peers"])
    values["inputs"] = _inputs(values["inputs"])
    values["judge"] = _read(values["judge"], judge_orders.read)
    values["spool"] = _read(values["spool"], spool_orders.read)
    values["feeds"] = _feeds(values["feeds"])
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
        _expect(
            getattr(spec, name) != "", name, f"a value: {'an' if spec.role == 'inlet' else 'a'} {spec.role} needs it"
        )
    for name in _PATHS:
        path = getattr(spec, name)
        _expect(path == "" or path.startswith("/"), name, f"an absolute path, not {path!r}")
    _expect(spec.state_on_loss in ON_LOSS, "state_on_loss", f"nothing, or one of {', '.join(ON_LOSS[1:])}")
    module, colon, kind = spec.entry.partition(":")
    _expect(not spec.entry or (colon and module and kind.isidentifier()), "entry", "module:Class")
    if spec.role == "inlet":
        _check_join(spec)
    _expect((spec.judge is not None) == (spec.role == "judge"), "judge", "orders for a judge, and for nobody else")
    if spec.judge is not None and (fault := judge_orders.fault(spec.judge)):
        raise SpecError(fault)
    _expect((spec.spool is not None) == (spec.role == "spool"), "spool", "orders for a spool, and for nobody else")
    if spec.spool is not None and (fault := spool_orders.fault(spec.spool)):
        raise SpecError(fault)
    if spec.role == "keeper" and (fault := feed_orders.fault(spec.feeds)):
        raise SpecError(fault)


def _check_join(spec: RunSpec) -> None:
    _expect(spec.join in JOINS, "join", f"one of {', '.join(JOINS[1:])}, or nothing for one input, not {spec.join!r}")
    generations: dict[int, list[str]] = {}
    for each in spec.inputs:
        generations.setdefault(each.generation, []).append(each.name)
    most = max(map(len, generations.values()), default=0)
    _expect(1 <= most <= MAX_INPUTS, "inputs", f"1 to {MAX_INPUTS} inputs, not {most}")
    _expect((spec.join == "") == (most == 1), "join", "a way to join for several inputs, and none for one")
    _expect(
        (spec.join == "time") == (spec.join_width_ns > 0), "join_width_ns", "the width of a bucket, to join by time"
    )
    _expect(not spec.join_partial or spec.join == "sequence", "join_partial", "false: only sequences can be partial")
    for names in generations.values():
        _expect(len(set(names)) == len(names), "inputs", f"names that differ, not {names}")
    _expect(
        len(generations) <= MAX_GENERATIONS, "inputs", f"at most {MAX_GENERATIONS} generations, not {len(generations)}"
    )
    _expect(
        len(generations) <= 1 or spec.join in BY_NUMBER,
        "join",
        f"a join that keeps numbers, since its inputs change in mid-stream, not {spec.join!r}",
    )
    for number, each in enumerate(spec.inputs):
        _check_input(each, f"inputs[{number}]")
        _expect(
            each.numbered or (len(generations) <= 1 and spec.join not in ("sequence", "union")),
            f"inputs[{number}]",
            f"frames that have numbers, to join by {spec.join}: sample by `every`, or join by order or time"
            if len(generations) <= 1
            else "frames that have numbers, since the inputs change in mid-stream: sample by `every`",
        )


def _check_input(each: InletInput, where: str) -> None:
    _expect(each.name != "", f"{where}.name", "the edge's name")
    for name in ("ring", "spool"):
        path = getattr(each, name)
        _expect(
            path.startswith("/") or (name == "spool" and not path), f"{where}.{name}", f"an absolute path, not {path!r}"
        )
    _expect(each.policy in POLICIES, f"{where}.policy", f"one of {', '.join(POLICIES)}, not {each.policy!r}")
    _expect(not each.spool or each.policy == "lossless", f"{where}.spool", "a folder only where all is read")
    for name in ("rate_per_s", "key_offset", "key_bytes", "key_of", "replay_ms", "evict_after_ms", "generation"):
        _expect(getattr(each, name) >= 0, f"{where}.{name}", "an integer from 0 on")
    _expect(each.generation <= MAX_GENERATION, f"{where}.generation", f"at most {MAX_GENERATION}")
    _expect(each.every >= 1, f"{where}.every", "an integer from 1 on")
    chosen = (each.every > 1) + (each.rate_per_s > 0) + each.latest
    _expect(
        chosen <= (each.policy == "sample"), where, "one of every, rate_per_s and latest, and that with policy 'sample'"
    )
    _expect(each.key_of <= MAX_PARTS, f"{where}.key_of", f"at most {MAX_PARTS} parts")
    if each.key_of == 0:
        _expect(not (each.key_offset or each.key_bytes or each.key_take), where, "key_of parts, if there is a key")
        return
    _expect(
        each.policy != "sample",
        where,
        "a sample or a partition, not both: put an inlet of one behind that of the other",
    )
    _expect(each.key_bytes > 0, f"{where}.key_bytes", "the length of the key")
    _expect(len(each.key_take) > 0, f"{where}.key_take", "the parts to take")
    _expect(len(set(each.key_take)) == len(each.key_take), f"{where}.key_take", "parts that differ")
    _expect(all(0 <= part < each.key_of for part in each.key_take), f"{where}.key_take", f"parts below {each.key_of}")


def _exact(tree: Any, names: tuple[str, ...], where: str) -> dict[str, Any]:
    _expect(isinstance(tree, dict), where, "an object")
    unknown, missing = sorted(set(tree) - set(names)), sorted(set(names) - set(tree))
    if unknown or missing:
        raise SpecError(f"{where}: unknown fields {unknown}, missing fields {missing}")
    return dict(tree)


def _strings(tree: Any, where: str) -> tuple[str, ...]:
    _expect(isinstance(tree, list) and all(type(item) is str for item in tree), where, "a list of strings")
    return tuple(tree)


def _ways(tree: Any, where: str) -> tuple[StateWay, ...]:
    _expect(isinstance(tree, list), where, "a list")
    found = []
    for number, item in enumerate(tree):
        values = _exact(item, ("schema", "entries"), f"{where}[{number}]")
        _expect(type(values["schema"]) is str and values["schema"], f"{where}[{number}].schema", "a schema's name")
        entries = _strings(values["entries"], f"{where}[{number}].entries")
        _expect(
            entries and all(":" in entry for entry in entries),
            f"{where}[{number}].entries",
            "module:function, once or more",
        )
        found.append(StateWay(values["schema"], entries))
    return tuple(found)


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
        values = _exact(item, ("connect", "server_public", "twin"), where)
        texts = (values["connect"], values["server_public"])
        _expect(all(type(value) is str and value for value in texts), where, "two non-empty strings")
        _expect(type(values["twin"]) is bool, f"{where}.twin", "a truth value")
        found.append(SnapshotPeer(**values))
    return tuple(found)


def _feeds(tree: Any) -> tuple[FeedSpec, ...]:
    _expect(isinstance(tree, list), "feeds", "a list")
    found = []
    for number, item in enumerate(tree):
        values = _exact(item, tuple(entry.name for entry in fields(FeedSpec)), f"feeds[{number}]")
        texts = all(type(values[name]) is str for name in ("name", "protocol", "bind"))
        _expect(
            texts and type(values["buffer_bytes"]) is int, f"feeds[{number}]", "three strings and an integer, as named"
        )
        found.append(FeedSpec(**values))
    return tuple(found)


def _inputs(tree: Any) -> tuple[InletInput, ...]:
    _expect(isinstance(tree, list), "inputs", "a list")
    kinds = {str: "a string", int: "an integer", bool: "a truth value"}
    found = []
    for number, item in enumerate(tree):
        where = f"inputs[{number}]"
        values = _exact(item, tuple(entry.name for entry in fields(InletInput)), where)
        take = values.pop("key_take")
        _expect(
            isinstance(take, list) and all(type(part) is int for part in take),
            f"{where}.key_take",
            "a list of integers",
        )
        for entry in fields(InletInput):
            if entry.name in values:
                kind = type(entry.default) if entry.name not in ("name", "ring") else str
                _expect(type(values[entry.name]) is kind, f"{where}.{entry.name}", kinds[kind])
        found.append(InletInput(**values, key_take=tuple(take)))
    return tuple(found)


def _read(tree: Any, read: Callable[[Any], Orders]) -> Orders | None:
    try:
        return None if tree is None else read(tree)
    except ValueError as error:
        raise SpecError(str(error)) from None


def _expect(holds: object, where: str, wanted: str) -> None:
    if not holds:
        raise SpecError(f"{where}: expected {wanted}")
