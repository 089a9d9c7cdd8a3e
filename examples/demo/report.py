"""The end: `demo-report.json`, a summary in words, and whether every count that must be zero is zero.

The counts of the stream come from the judge's file, those of processes from what was seen on the hosts. Adds nothing up twice.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from examples.demo.director import Happened, Settings
from examples.demo.evidence import HostEvidence
from halftrack_agent import swap
from halftrack_model.swap import Phase

ZEROS = ("lost", "duplicated", "reordered", "mismatched", "restarts_unplanned")
FRAME_BYTES = 65536


def made(
    settings: Settings, happened: Happened, verdict: Mapping[str, Any], hosts: Mapping[str, HostEvidence]
) -> dict[str, Any]:
    """The report; its keys are an interface."""
    ends = Counter(
        records[-1].phase for found in list(hosts.values())[:1] for records in found.swaps.values()
    )  # the first host leads: its journal decides
    seconds = verdict["stream_seconds"]
    return {
        "frames_in": verdict["frames_in"],
        "frames_out": verdict["frames_out"],
        "lost": verdict["lost"],
        "duplicated": verdict["duplicated"],
        "reordered": verdict["reordered"],
        "mismatched": verdict["mismatched"],
        "corrupt_refused": verdict["corrupt_refused"],
        "swaps": ends[Phase.DONE],
        "undone": ends[Phase.UNDONE],
        "link_cuts": happened.link_cuts,
        "members_killed": sum(
            count for (_, name), count in _killed(happened, hosts).items() if "@" in name and ".from-" not in name
        ),
        "max_output_gap_ms": verdict["max_output_gap_ms"],
        "cut_pause_ms": verdict["cut_pause_ms"],
        "restarts_unplanned": unplanned(happened, hosts),
        "input_mb_per_s": round(verdict["frames_in"] * FRAME_BYTES / seconds / 1e6, 2) if seconds else 0.0,
        "seconds": happened.seconds,
        "seed": settings.seed,
        "stream_digest": verdict["stream_digest"],
    }


def unplanned(happened: Happened, hosts: Mapping[str, HostEvidence]) -> int:
    """Starts that nothing explains: beyond each workload's first, each kill, and each return that a swap ordered."""
    total = 0
    killed = _killed(happened, hosts)
    ordered = sum((_returns(found) for found in list(hosts.values())[:1]), Counter[tuple[str, str]]())
    for host, found in hosts.items():
        for workload, starts in Counter(life.workload for life in found.lives).items():
            member = host, workload
            if ".from-" in workload:  # the receiver of a member's output comes and goes with it
                name, _, source = workload.rpartition(".from-")
                member = source, name
            total += max(0, starts - 1 - killed[host, workload] - ordered[member])
    return total


def _killed(happened: Happened, hosts: Mapping[str, HostEvidence]) -> Counter[tuple[str, str]]:
    """Deaths by SIGKILL: ours, and those that somebody dealt by hand, which only the agents saw."""
    ours = Counter((life.host, life.workload) for life in happened.killed)
    seen = Counter({(host, name): count for host, found in hosts.items() for name, count in found.killed().items()})
    return ours | seen  # the larger of both: an agent that was down itself has not seen ours


def _returns(leader: HostEvidence) -> Counter[tuple[str, str]]:
    """How often swaps have brought a member back that they had let go: by the leader's records, on the way back to blue."""
    back: Counter[tuple[str, str]] = Counter()
    for swap_id, records in leader.swaps.items():
        if (order := leader.orders.get(swap_id)) is None:
            continue
        names = {seat.blue: (seat.host, seat.blue_workload) for seat in order.seats}
        names |= {seat.green: (seat.host, seat.green_workload) for seat in order.seats}
        before = met = swap.wanted(order, None)
        for record in records:
            now = swap.wanted(order, record)
            back.update(names[member] for member in (now - before) & met)
            before, met = now, met | now
    return back


def in_words(report: Mapping[str, Any], happened: Happened, verdict: Mapping[str, Any]) -> str:
    """The summary for a person."""
    releases = ", ".join(f"{count} of {label}" for label, count in sorted(verdict["releases"].items()))
    bad = [f"{name} is {report[name]}" for name in ZEROS if report[name]]
    lines = [
        "",
        (
            f"{report['frames_in']} frames of real telescope data at {report['input_mb_per_s']} MB/s became {report['frames_out']} "
            f"spectra in {report['seconds']} s ({releases})."
        ),
        (
            f"lost {report['lost']}, duplicated {report['duplicated']}, reordered {report['reordered']}, mismatched "
            f"{report['mismatched']}: every value was compared with what NumPy computes from the same files."
        ),
        f"{report['corrupt_refused']} corrupted frames in the recordings were refused and counted.",
        (
            f"{report['swaps']} swap done, {report['undone']} undone by the hosts themselves; meanwhile {report['link_cuts']} cuts of "
            f"links, {report['members_killed']} member(s), {happened.agents_killed} agent(s) and {happened.controllers_killed} "
            "controller(s) killed."
        ),
        *(
            f"rollout of {version}: {phase}{f' — {why}' if why else ''}"
            for version, (phase, why) in happened.rollouts.items()
        ),
        (
            f"longest pause of the output {report['max_output_gap_ms']} ms, at a cut {report['cut_pause_ms']} ms; "
            f"{report['restarts_unplanned']} unplanned restarts."
        ),
        *(f"  {example}" for example in verdict["examples"]),
        "NOT RIGHT: " + ", ".join(bad) if bad else "All counts that must be zero are zero.",
    ]
    return "\n".join(lines)


def right(report: Mapping[str, Any]) -> bool:
    """Is everything zero that must be?"""
    return all(report[name] == 0 for name in ZEROS)
