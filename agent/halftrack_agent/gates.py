"""The gates that a release declares on itself: what the evidence says of its green before the cut. Pure; decides what fails and what is waited for.

Rules:

* Unknown is not failing (O1). A gate for which there is too little evidence keeps green from being armed, and says what it waits for; the
  deadline of the leg bounds that.
* Evidence counts once it is enough: latency from as many outputs as are to be judged, processor time over `CPU_WINDOW_MS` in which green kept up.
* What green declares lost and blue has is held against it like an output that differs, unless its host or its link accounts for that: it was killed in
  this swap, or its host was silent. Then it says nothing, and as many outputs as are to be judged must follow without another loss.
* Who judges nothing because it dies is no pass: after `JUDGE_ENDS` ends of the judge the release could not be judged.
* Only the first cut is gated. What comes after it is the drain's affair, and that of members which differ from their twins.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from halftrack_agent.events import JudgedSeen
from halftrack_agent.looks import Look
from halftrack_model.swap import Phase, SeatUsage
from halftrack_model.verdict import Check, Verdict

JUDGE_ENDS = 3  # as many as a green survives by default
CPU_WINDOW_MS = 1_000
CPU_SLACK_MS = 30  # processor time is told in ticks of 10 ms, twice for each member
# The judge runs in these. A green that has died joins again, and is judged anew by another: what its death has delayed is no evidence.
GATED = (Phase.SHADOWING, Phase.CAUGHT_UP, Phase.ARMED)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why green may not count, in prose; and of outputs that may not pass the first, a line each."""

    reason: str
    diff: tuple[str, ...] = ()


def failing(look: Look) -> Failure | None:
    """The first gate that fails by what is known now."""
    verdict = _asked(look)
    if verdict is None or look.record.phase not in GATED:
        return None
    return next(_failures(look, verdict), None)


def waiting(look: Look) -> str:
    """What evidence is still to come before green may be armed, in prose without its end; empty when there is enough."""
    verdict = _asked(look)
    return "" if verdict is None else next(_missing(look, verdict), "")


def _asked(look: Look) -> Verdict | None:
    return look.spec.strategy.verdict if look.record.leg == 0 else None


def _failures(look: Look, verdict: Verdict) -> Iterator[Failure]:
    spec = look.spec
    green, blue = f"{spec.vertex} {spec.green.version}", spec.blue.version
    judge = look.facts.judge
    if verdict.needs_judge and judge is not None and judge.ends > JUDGE_ENDS:
        how = f", at last by {judge.detail}" if judge.detail else ""
        yield Failure(f"{green} could not be judged: its judge has ended {judge.ends} times{how}")
    for seat in look.seats:
        host = spec.seats[seat].host
        judged, usage = look.facts.judged[seat], look.facts.usages[seat]
        wrong = 0 if judged is None else judged.different - (judged.lost if _accounted_for(look, seat) else 0)
        if judged is not None and wrong > verdict.mismatches:
            yield _of_outputs(judged, wrong, verdict, f"{green} on {host}", blue)
        if judged is not None and _too_late(judged, verdict):
            late, times = judged, verdict.latency_p99_percent
            yield Failure(
                f"99 of 100 outputs of {green} on {host} come within {_ms(late.green_us_p99)}, {blue}'s within {_ms(late.blue_us_p99)}; "
                f"{_times(times)} of that is tolerated"
            )
        if usage is not None:
            yield from _of_usage(usage, verdict, f"{green} on {host}", blue)


def _accounted_for(look: Look, seat: int) -> bool:
    """Is there somebody other than the release who may have lost outputs of that green: who killed it, or its host, or the link to that one?"""
    killed = look.record.green_deaths > 0 or look.facts.greens[seat].deaths > 0
    elsewhere = look.spec.seats[seat].host != look.spec.leader
    return killed or (elsewhere and look.facts.silent_ms > 0)


def _of_outputs(judged: JudgedSeen, different: int, verdict: Verdict, green: str, blue: str) -> Failure:
    diff = tuple(f"frame {each.seq}: {each.text}" for each in judged.first)
    wrong = "break its invariant" if verdict.check is Check.INVARIANT else f"differ from {blue}'s by more than they may"
    tolerated = f", {verdict.mismatches} are tolerated" if verdict.mismatches else ""
    return Failure(f"{different} of {judged.compared} outputs of {green} {wrong}{tolerated}", diff)


def _too_late(judged: JudgedSeen, verdict: Verdict) -> bool:
    if not verdict.latency_p99_percent or judged.timed < verdict.frames:
        return False
    bound_us = (
        judged.blue_us_p99 * verdict.latency_p99_percent // 100 + judged.look_us
    )  # what looking cannot tell apart
    return judged.green_us_p99 > bound_us


def _of_usage(usage: SeatUsage, verdict: Verdict, green: str, blue: str) -> Iterator[Failure]:
    uses = f"{green} uses {_mib(usage.green_bytes)} of memory"
    if verdict.memory_bytes and usage.green_bytes > verdict.memory_bytes:
        yield Failure(f"{uses}; {_mib(verdict.memory_bytes)} are tolerated")
    if verdict.memory_percent and usage.green_bytes * 100 > usage.blue_bytes * verdict.memory_percent:
        yield Failure(f"{uses}, {blue} {_mib(usage.blue_bytes)}; {_times(verdict.memory_percent)} of that is tolerated")
    bound_ms = usage.blue_cpu_ms * verdict.cpu_percent // 100 + CPU_SLACK_MS
    if verdict.cpu_percent and usage.window_ms >= CPU_WINDOW_MS and usage.green_cpu_ms > bound_ms:
        yield Failure(
            f"{green} takes {usage.green_cpu_ms} ms of processor time in {usage.window_ms} ms, {blue} {usage.blue_cpu_ms} ms; "
            f"{_times(verdict.cpu_percent)} of that is tolerated"
        )


def _missing(look: Look, verdict: Verdict) -> Iterator[str]:
    if verdict.needs_judge and (look.facts.judge is None or not look.facts.judge.running):
        yield "the judge does not run"
    for seat in look.seats:
        host, judged, usage = look.spec.seats[seat].host, look.facts.judged[seat], look.facts.usages[seat]
        compared, timed = (0, 0) if judged is None else (judged.compared, judged.timed)
        if verdict.needs_judge and compared < verdict.frames:
            yield f"{compared} of {verdict.frames} outputs of {host}'s green are judged"
        if judged is not None and judged.lost and judged.unbroken < verdict.frames and _accounted_for(look, seat):
            since = "since the last that was lost, which its host or its link accounts for"
            yield f"{judged.unbroken} of {verdict.frames} outputs of {host}'s green are judged {since}"
        if verdict.latency_p99_percent and timed < verdict.frames:
            lag, most = look.facts.greens[seat].lag_frames, look.spec.strategy.lag_frames
            behind = f"; it is {lag} frames behind its input, {most} are tolerated" if lag > most else ""
            yield f"{timed} of {verdict.frames} outputs of {host}'s green have a latency{behind}"
        if verdict.measures_members and usage is None:
            yield f"nobody has told yet what the members on {host} use"
        if verdict.cpu_percent and usage is not None and usage.window_ms < CPU_WINDOW_MS:
            yield f"the processor time of the members on {host} is known for {usage.window_ms} of {CPU_WINDOW_MS} ms"


def _ms(time_us: int) -> str:
    return f"{time_us / 1000:.1f} ms"


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"


def _times(percent: int) -> str:
    return f"{percent / 100:g}x"
