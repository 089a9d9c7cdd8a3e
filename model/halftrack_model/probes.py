"""Probes: what a release says must be seen of an instance for it to be healthy. Words that are signed with it, and the rules for them. Pure.

Who looks is the host, and what is thought of what was seen is its agent's `health`. A probe never stops anything: what it finds is evidence.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from halftrack_model.params import Param, filled

MAX_PROBES = 8  # of one release: each is a connection or a process every few seconds on every host
MAX_COMMAND = 64  # words
MAX_WORD = 4096
MIN_PERIOD_MS, MAX_PERIOD_MS = 200, 3_600_000
MAX_TIMEOUT_MS = 60_000
MAX_COUNT = 100
MAX_GRACE_MS = 3_600_000
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PATH = re.compile(r"/[!-~]{0,1023}")
_SERVICE = re.compile(r"[A-Za-z0-9._/-]{0,255}")


class ProbeKind(Enum):
    """How it looks: connect, ask for a page, run a program, ask the gRPC health service, or compare the positions of a stream."""

    TCP = "tcp"
    HTTP = "http"
    EXEC = "exec"
    GRPC = "grpc"
    STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that is looked at every `period_ms`. `failures` in a row make it bad, `successes` in a row good again.

    `port` is a number, or `{params.NAME}`. A stream probe needs no timeout: nothing is waited for.
    """

    name: str
    kind: ProbeKind
    port: str = ""  # TCP, HTTP, GRPC: on the instance's own loopback
    path: str = ""  # HTTP: of the page, which must come with a status of 200 to 399
    service: str = ""  # GRPC: whose health is asked for; empty: the server's as a whole
    command: tuple[str, ...] = ()  # EXEC: a status of 0 is good
    lag_frames: int = 0  # STREAM: so far behind its input it may be; 0: as much as half of what the ring retains
    gaps: int = -1  # STREAM: so many frames may be missing from one look to the next; -1: nobody counts
    period_ms: int = 5_000
    timeout_ms: int = 2_000
    failures: int = 3
    successes: int = 1


@dataclass(frozen=True, slots=True)
class Checks:
    """All that is looked at. Until `grace_ms` after its start, or a first success of all, an instance is unknown, not bad."""

    probes: tuple[Probe, ...]
    grace_ms: int = 10_000


def faults(checks: Checks | None, params: Mapping[str, Param]) -> Iterator[str]:
    """What is wrong with it, each in a sentence that says what to write."""
    if checks is None:
        return
    if not 1 <= len(checks.probes) <= MAX_PROBES:
        yield f"health: {len(checks.probes)} probes; write 1 to {MAX_PROBES}, or leave health out"
    if not 0 <= checks.grace_ms <= MAX_GRACE_MS:
        yield f"health: a grace of {checks.grace_ms} ms; at most {MAX_GRACE_MS // 60_000} min"
    names = [probe.name for probe in checks.probes]
    yield from (
        f"health: two probes are called {name!r}: rename one" for name in sorted(set(names)) if names.count(name) > 1
    )
    for probe in checks.probes:
        yield from (f"health: probe {probe.name!r}: {text}" for text in _of_probe(probe, params))


def port_of(probe: Probe, params: Mapping[str, Param]) -> int:
    """The port that it asks; ValueError, in words, when it means none."""
    text = filled(probe.port, params)
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) < 1 << 16):
        raise ValueError(f"{text!r} is no port: write 1 to 65535, or {{params.NAME}} of a setting that is one")
    return int(text)


def _of_probe(probe: Probe, params: Mapping[str, Param]) -> Iterator[str]:
    kind = probe.kind
    if not _NAME.fullmatch(probe.name):
        yield "its name must be lower case letters, digits and dashes"
    if kind in (ProbeKind.TCP, ProbeKind.HTTP, ProbeKind.GRPC):
        try:
            port_of(probe, params)
        except ValueError as error:
            yield str(error)
    if kind is ProbeKind.HTTP and not _PATH.fullmatch(probe.path):
        yield f"{probe.path!r} is no path: write one such as /healthz"
    if kind is ProbeKind.GRPC and not _SERVICE.fullmatch(probe.service):
        yield f"{probe.service!r} names no service"
    if (kind is ProbeKind.EXEC) != bool(probe.command):
        yield "a command is what `exec` runs: write both, or neither"
    if len(probe.command) > MAX_COMMAND or any(not 0 < len(word) <= MAX_WORD or "\0" in word for word in probe.command):
        yield f"its command has at most {MAX_COMMAND} words of at most {MAX_WORD} characters, and no empty one"
    yield from _of_pace(probe)


def _of_pace(probe: Probe) -> Iterator[str]:
    if not MIN_PERIOD_MS <= probe.period_ms <= MAX_PERIOD_MS:
        yield f"every {probe.period_ms} ms; write {MIN_PERIOD_MS}ms to {MAX_PERIOD_MS // 3_600_000}h"
    if not 1 <= probe.timeout_ms <= MAX_TIMEOUT_MS:
        yield f"a timeout of {probe.timeout_ms} ms; write 1ms to {MAX_TIMEOUT_MS // 1000}s"
    if not (1 <= probe.failures <= MAX_COUNT and 1 <= probe.successes <= MAX_COUNT):
        yield f"failures and successes are counts from 1 to {MAX_COUNT}"
    if probe.lag_frames < 0 or probe.gaps < -1:
        yield "no stream is behind by less than nothing"
