"""Hanging: which running process of a stream does not move any more, by the beats that its own loop gives. Pure (ADR 34).

A beat is seen when a process's status file is another one than at the last look; what time the file bears does not matter. Only time in which the
agent looked counts, by the boot-time clock, and little of it between two looks: a host that slept, or an agent that was away, blames nobody.

Who does not move for as long as its workload allows is killed, and that is all: what it means is `lifecycle`'s, as of any other death.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from halftrack_agent.events import Action, BeatSeen, Emit, HostView, Kill
from halftrack_agent.lifecycle import Phase
from halftrack_agent.reconcile import Instance
from halftrack_dataplane import status
from halftrack_model.report import Happened
from halftrack_model.workload import DEFAULT_HANG_AFTER_MS, MIN_HANG_AFTER_MS, Workload

LOOK_MS = 1_000  # what counts at most between two looks: five times what an agent at rest lets pass
START_FACTOR = 10  # a start loads programs and states; what it may take is not what a frame may take
KILL_AGAIN_MS = (
    5_000  # SIGKILL needs no repetition, but an order of it may have met an instance that was just being found
)
assert LOOK_MS < MIN_HANG_AFTER_MS < DEFAULT_HANG_AFTER_MS  # noqa: S101 - no single look makes anybody hang


@dataclass(frozen=True, slots=True)
class Watch:
    """One life of an instance: the beat that was seen last, and for how long there was no other while the agent looked."""

    started_ms: int
    mark: str
    still_ms: int
    killed_ms: int = -1  # how still it was when it was last killed


Watched = tuple[Mapping[str, Watch], Mapping[str, Instance], tuple[Action, ...]]


def judged(
    before: Mapping[str, Watch],
    instances: Mapping[str, Instance],
    view: HostView,
    passed_ms: int,
    trial: Collection[str] = (),
) -> Watched:
    """The watches after a look, `passed_ms` after the last one; the instances, with those marked that hang; and what is to be done about these.

    Those on `trial` are not started again when they hang.
    """
    passed_ms = min(max(passed_ms, 0), LOOK_MS)
    watches: dict[str, Watch] = {}
    marked = dict(instances)
    actions: list[Action] = []
    for name, instance in instances.items():
        seen, beat = view.instances.get(name), view.beats.get(name)
        if instance.phase is not Phase.RUNNING or seen is None or not seen.running or seen.leaving or beat is None:
            continue
        watch = _watched(before.get(name), beat, seen.started_ms, passed_ms)
        starts = beat.beats == status.STARTING or beat.began_ms < seen.started_ms  # it has yet to say its first word
        bound_ms = allowed_ms(instance.workload, beat.beats, starts)
        if bound_ms and watch.still_ms >= bound_ms:
            watch, marked[name], steps = _hung(watch, instance, bound_ms, starts, name not in trial)
            actions += steps
        watches[name] = watch
    return watches, marked, tuple(actions)


def allowed_ms(workload: Workload, beats: str, starts: bool) -> int:
    """For how long it may be still, with that promise of a next beat; 0: for ever."""
    declared = workload.hang_after_ms
    bound_ms = DEFAULT_HANG_AFTER_MS if declared is None else declared
    if beats not in (status.STARTING, status.STEADY, status.FREE):
        return 0  # a program from before there were promises
    if starts:
        return bound_ms * START_FACTOR
    if beats == status.FREE and declared is None:
        return 0  # only who declares it knows how often that source has something to say
    return bound_ms


def _watched(before: Watch | None, beat: BeatSeen, started_ms: int, passed_ms: int) -> Watch:
    if before is None or (before.started_ms, before.mark) != (started_ms, beat.mark):
        return Watch(started_ms, beat.mark, 0)
    return replace(before, still_ms=before.still_ms + passed_ms)


def _hung(
    watch: Watch, instance: Instance, bound_ms: int, starts: bool, again: bool
) -> tuple[Watch, Instance, list[Action]]:
    name, still_s = instance.workload.name, watch.still_ms // 1000
    if instance.hung and watch.killed_ms >= 0 and watch.still_ms - watch.killed_ms < KILL_AGAIN_MS:
        return watch, instance, []
    kill = Kill(name, f"it has not moved for {still_s} s", again)
    watch = replace(watch, killed_ms=watch.still_ms)
    if instance.hung:
        return watch, instance, [kill]
    doing = " while it was starting" if starts else ""
    text = f"killed by its agent, since it did not move for {still_s} s{doing}; {bound_ms / 1000:g} s are allowed"
    told = f"{text}. {_STARTS if starts else _RUNS}"
    return (
        watch,
        replace(instance, hung=text, hangs=instance.hangs + 1),
        [Emit(Happened.INSTANCE_HUNG, name, told), kill],
    )


_RUNS = "Look at what its program waits for; where a frame may take that long, declare a longer hangAfter"
_STARTS = f"Look at what its program does before its first frame; a start may take {START_FACTOR} times its hangAfter"
