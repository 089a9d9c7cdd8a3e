"""One run of a vertex in a process of its own, in surroundings of the asker's choice: what `determinism.py` compares.

`python -m halftrack_dataplane.testkit.twin` reads one request from its standard input and answers on its standard output; what the
vertex prints goes to standard error. It never opens a ring.
"""

import datetime
import importlib
import os
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgpack  # type: ignore[import-untyped]

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.runtime import load_program
from halftrack_dataplane.snapshot_form import joined
from halftrack_dataplane.testkit.reference import outputs_of
from halftrack_dataplane.testkit.release import Make
from halftrack_dataplane.testkit.request import Request, unpack


def main() -> int:
    """Answer the one request; what the vertex raises is told, and is not an answer."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = unpack(sys.stdin.buffer.read())
    put_forward(request.shift_s)
    at = [request.first]
    try:
        _answer(answer, run(request, at))
    except Exception as error:  # noqa: BLE001 - whatever a user's program raises is its asker's to know
        traceback.print_exc()
        _answer(answer, {"error": f"{type(error).__name__}: {error}", "at": at[0]})
    return 0


def _answer(file: BinaryIO, tree: Mapping[str, Any]) -> None:
    with file:
        file.write(msgpack.packb(tree))


def run(request: Request, at: list[int]) -> dict[str, Any]:
    """The outputs of each frame; `at` is the input that it has come to."""
    make, kept = loaded(request), b""
    vertex = make(request.params)
    if request.state is not None:
        vertex.restore(request.state, same_release=True)
    outputs = []
    for seq, (stamp, payload) in enumerate(request.frames, request.first):
        at[0] = seq
        if seq in request.looks:
            vertex.snapshot()
        if seq == request.keep:
            kept = joined(vertex.snapshot())
        if seq in request.splits:
            state = joined(vertex.snapshot())
            vertex = make(request.params)
            vertex.restore(state, same_release=True)
        outputs.append(outputs_of(vertex, Frame(seq, 0, stamp, payload)))
    return {"outputs": outputs, "kept": kept}


def loaded(request: Request) -> Make:
    """The program: as the asker's module if it can be imported, else as the runner loads an artifact."""
    if request.module:
        try:
            module = importlib.import_module(request.module)
        except ImportError:
            pass
        else:
            if Path(getattr(module, "__file__", None) or "").resolve() == Path(request.file):
                make: Make = getattr(module, request.entry.partition(":")[2])
                return make
    return load_program(request.file, request.entry)


def put_forward(shift_s: int) -> None:
    """Put forward every clock that Python shows. Not the kernel's: who asks that has its own time, which moves on as well."""
    if not shift_s:
        return
    for name in ("time", "monotonic", "perf_counter"):
        plain, fine = getattr(time, name), getattr(time, f"{name}_ns")
        setattr(time, name, lambda plain=plain: plain() + shift_s)
        setattr(time, f"{name}_ns", lambda fine=fine: fine() + shift_s * 10**9)
    for name in ("gmtime", "localtime"):
        of = getattr(time, name)
        setattr(time, name, lambda seconds=None, of=of: of(time.time() if seconds is None else seconds))
    later = datetime.timedelta(seconds=shift_s)

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return super().now(tz) + later

        @classmethod
        def utcnow(cls) -> Any:
            return super().now(datetime.UTC).replace(tzinfo=None) + later

        @classmethod
        def today(cls) -> Any:
            return super().now() + later

    class LaterDay(datetime.date):
        @classmethod
        def today(cls) -> Any:
            return super().today() + later

    for name, kind in (("datetime", Later), ("date", LaterDay)):
        setattr(datetime, name, kind)


if __name__ == "__main__":
    sys.exit(main())
