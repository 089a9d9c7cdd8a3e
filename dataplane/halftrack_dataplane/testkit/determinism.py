"""Whether a vertex is deterministic, as the contract of `sdk.Vertex` asks: run in processes that differ in all that must not matter.

Owns which surroundings are tried, and the search for the one that matters when outputs part. `twin.py` is one run.
"""

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgpack  # type: ignore[import-untyped]
from typing_extensions import Buffer

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Param
from halftrack_dataplane.testkit.checker import difference
from halftrack_dataplane.testkit.rehearsal import frames_of
from halftrack_dataplane.testkit.release import Make, Release
from halftrack_dataplane.testkit.request import Request, pack

SHIFT_S = 400 * 86_400 + 5 * 3_600 + 7 * 60 + 11  # another year, month, day, hour, minute and second
RUN_LIMIT_S = 300.0  # a vertex that needs longer for a test's frames has another trouble
SPLITS = 3
LAST_WORDS = 1_500


class NotDeterministic(AssertionError):  # noqa: N818 - it says what was found
    """Two runs over the same frames had different outputs; the message says where they part, and what matters that must not."""


class VertexFailed(RuntimeError):  # noqa: N818 - it says what happened
    """The vertex raised, or its process ended; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Determinism:
    """What was compared."""

    frames: int
    outputs: int
    splits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What may differ from run to run, and must not matter."""

    hash_seed: int = 0
    shift_s: int = 0
    elsewhere: bool = False
    looks: tuple[int, ...] = ()
    splits: tuple[int, ...] = ()

    def __str__(self) -> str:
        parts = [f"PYTHONHASHSEED={self.hash_seed}"]
        if self.shift_s:
            parts.append(f"clocks put forward by {self.shift_s // 86_400} days")
        if self.elsewhere:
            parts.append("another folder, time zone and number of threads")
        if self.looks:
            parts.append(f"snapshots taken before frames {_listed(self.looks)}")
        if self.splits:
            parts.append(f"a new vertex restored before frames {_listed(self.splits)}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Run:
    """One run's outputs, frame by frame from `first` on."""

    told: str
    first: int
    outputs: tuple[tuple[bytes, ...], ...]
    kept: bytes = b""


def check_deterministic(
    make: Make | Release,
    frames: Iterable[Buffer | Frame],
    *,
    params: Mapping[str, Param] | None = None,
    seed: int = 0,
    splits: int = SPLITS,
) -> Determinism:
    """Run `make` over `frames` three times, each in a process of its own; NotDeterministic when outputs part.

    The first run is plain, but looks at snapshots. The second has another PYTHONHASHSEED, time, time zone, folder and number
    of threads, and is split at `splits` places that `seed` draws: a new vertex goes on from a snapshot. The third begins from a
    snapshot of the second's, in the middle. What lies outside of the vertex's reach, such as another processor, is not tried.
    """
    release = make if isinstance(make, Release) else Release("", make, params or {})
    twins = _Twins(release, frames_of(frames))
    rng = random.Random(seed)  # noqa: S311 - a check is repeated by its seed
    count = len(twins.frames)
    looks, places = (tuple(sorted(rng.sample(range(count), min(splits, count)))) for _ in range(2))
    plain = Surroundings(looks=looks)
    other = Surroundings(1 + rng.randrange(1000), SHIFT_S, True, (), places)
    keep = places[len(places) // 2] if places else -1
    first, second = twins.run(plain, "run 1"), twins.run(other, "run 2", keep=keep)
    twins.compare(first, second, plain, other)
    if keep >= 0:
        where = Surroundings(other.hash_seed + 1)
        third = twins.run(where, f"run 3 (from the snapshot that run 2 wrote before frame {keep})", keep, second.kept)
        twins.compare(first, third, plain, other, crossed=True)
    return Determinism(count, sum(map(len, first.outputs)), places)


class _Twins:
    """Runs of one vertex over the same frames."""

    def __init__(self, release: Release, frames: list[Frame]) -> None:
        self.frames = frames
        program = release.located()
        module = "" if release.program else str(getattr(release.make, "__module__", ""))
        stamped = tuple((frame.timestamp_ns, bytes(frame.payload)) for frame in frames)
        self._request = Request(
            program.file, program.entry, module, dict(release.params), 0, stamped, None, 0, (), (), -1
        )

    def run(self, where: Surroundings, name: str, first: int = 0, state: bytes | None = None, keep: int = -1) -> Run:
        """One run, in a new process."""
        request = replace(
            self._request,
            first=first,
            frames=self._request.frames[first:],
            state=state,
            shift_s=where.shift_s,
            looks=where.looks,
            splits=where.splits,
            keep=keep,
        )
        answer = _answered(request, where)
        if "error" in answer:
            raise VertexFailed(f"{name} ({where}) raised at frame {answer['at']}: {answer['error']}")
        outputs = tuple(tuple(found) for found in answer["outputs"])
        return Run(f"{name} ({where})", first, outputs, answer["kept"])

    def compare(self, one: Run, two: Run, plain: Surroundings, other: Surroundings, *, crossed: bool = False) -> None:
        """NotDeterministic unless they agree where they overlap."""
        parting = parts_at(one, two)
        if parting is None:
            return
        cause = (
            "a snapshot that another process wrote means something else here" if crossed else self._cause(plain, other)
        )
        raise NotDeterministic(f"frame {parting[0]}: {parting[1]}.\n  {one.told}\n  {two.told}\nWhat matters: {cause}.")

    def _cause(self, plain: Surroundings, other: Surroundings) -> str:
        """Change one thing at a time, the commonest first."""
        base = self.run(Surroundings(), "base")
        tried = (
            (
                Surroundings(),
                "nothing that could be held still: randomness, an address (id), threads, or a finer clock",
            ),
            (Surroundings(hash_seed=other.hash_seed), "the order of a set or dict of hashed things (PYTHONHASHSEED)"),
            (Surroundings(shift_s=other.shift_s), "the time: use frame.timestamp_ns"),
            (Surroundings(elsewhere=True), "the folder, the environment, the time zone or the number of threads"),
            (Surroundings(looks=plain.looks), "snapshot(): it changes the state that it should only write down"),
            (Surroundings(splits=other.splits), "snapshot() and restore(): what they carry is not all of the state"),
        )
        for where, meaning in tried:
            if parts_at(base, self.run(where, "again")) is not None:
                return meaning
        return "several of these together, or something that does not show each time"


def parts_at(one: Run, two: Run) -> tuple[int, str] | None:
    """The first frame whose outputs differ, and how; None when there is none."""
    first = max(one.first, two.first)
    for seq in range(first, first + min(len(run.outputs) - (first - run.first) for run in (one, two))):
        left, right = one.outputs[seq - one.first], two.outputs[seq - two.first]
        if left == right:
            continue
        if len(left) != len(right):
            return seq, f"one run has {len(left)} output(s) for it, the other {len(right)}"
        at = next(number for number in range(len(left)) if left[number] != right[number])
        which = "" if len(left) == 1 else f"output {at + 1} of {len(left)}, "
        return seq, f"its outputs part: {which}{difference(right[at], left[at])}"
    return None


def _answered(request: Request, where: Surroundings) -> Mapping[str, Any]:
    environment = dict(os.environ) | {"PYTHONHASHSEED": str(where.hash_seed), "TZ": "UTC"}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)  # what the asker can import
    environment |= dict.fromkeys(_THREADS, "1")
    with tempfile.TemporaryDirectory(prefix="halftrack-testkit-") as folder:
        if where.elsewhere:
            environment |= {"TZ": "Pacific/Chatham", "HOME": folder} | dict.fromkeys(_THREADS, "2")
        argv = [sys.executable, "-m", "halftrack_dataplane.testkit.twin"]
        try:
            seen = subprocess.run(
                argv,
                input=pack(request),
                capture_output=True,
                env=environment,
                cwd=folder if where.elsewhere else None,
                timeout=RUN_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise VertexFailed(f"a run ({where}) was not done after {RUN_LIMIT_S:.0f} s") from None
    if seen.returncode or not seen.stdout:
        words = seen.stderr.decode(errors="replace")[-LAST_WORDS:]
        raise VertexFailed(f"the process of a run ({where}) ended with status {seen.returncode}:\n{words}")
    answer: Mapping[str, Any] = msgpack.unpackb(seen.stdout, use_list=False)
    return answer


_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _listed(places: Iterable[int]) -> str:
    return ", ".join(map(str, places))
