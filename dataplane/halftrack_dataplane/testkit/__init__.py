"""For users' own tests: a vertex and its upgrades through kills, swaps, cuts and aborts, and the stream's order checked.

Imports what it needs of the data plane, never of tests. `docs/vertices.md` shows how to use it.
"""

from halftrack_dataplane.testkit.checker import Expected, Record, Verdict, check
from halftrack_dataplane.testkit.determinism import Determinism, NotDeterministic, VertexFailed, check_deterministic
from halftrack_dataplane.testkit.host import NotWithin, ProcessEnded
from halftrack_dataplane.testkit.real import RealRun, RealStream
from halftrack_dataplane.testkit.rehearsal import Rehearsal, StreamBroken, frames_of, rehearse
from halftrack_dataplane.testkit.release import NotAProgram, Release
from halftrack_dataplane.testkit.script import Event, Kill, KillMerge, Swap

__all__ = [
    "Determinism",
    "Event",
    "Expected",
    "Kill",
    "KillMerge",
    "NotAProgram",
    "NotDeterministic",
    "NotWithin",
    "ProcessEnded",
    "RealRun",
    "RealStream",
    "Record",
    "Rehearsal",
    "Release",
    "StreamBroken",
    "Swap",
    "Verdict",
    "VertexFailed",
    "check",
    "check_deterministic",
    "frames_of",
    "rehearse",
]
