"""What is being done while a program is killed: each scenario begins on a prepared folder, and ends in a state that is the same whoever died on the way.

Every `play` may be called again after its victim has died, without harm: what an operator or a host repeats is what it would repeat.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from halftrack_agent import identity, outbox, retention
from halftrack_agent.drivers.processes import Process
from halftrack_agent.events import ForgetSwap, JournalSwap
from halftrack_agent.journal import Journal
from halftrack_agent.outbox import Outbox
from halftrack_agent.places import Places
from halftrack_controller import galaxy
from halftrack_controller.operator_client import OperatorClient
from halftrack_model.plan import Plan
from halftrack_model.report import Happened
from halftrack_model.swap import Phase, SwapRecord
from tests.agent_shell.test_agent import SOURCE, publish
from tests.agent_shell.test_swap_on_one_host import GRAPH, publish_member
from tests.agent_shell.test_swap_on_one_host import SINK as PAIR_SINK
from tests.controller_shell.shell_harness import ENVIRONMENT, graph, host
from tests.crash import shims, updates
from tests.crash.stage import AGENT, CONTROLLER, HOST, UNHARMED, Child, Stage, Strike, copied, until

SINK = b"""
class Sink:
    def __init__(self, params, data_dir): self.next = 0
    def next_seq(self): return self.next
    def consume(self, frame): self.next = frame.seq + 1
    def cuts(self, cuts): pass
    def flush(self): pass
"""
OLD_REPORTS = (
    1_200  # more than the file may have: it is rewritten as soon as the controller has said that it knows them
)
OLD_SWAPS = 2_000  # likewise, of the journal
OUTPUT_BYTES = 9  # of the pair: a number, and the release


def _nothing(_stage: Stage) -> Iterator[str]:
    yield from ()


@dataclass(frozen=True)
class Scenario:
    """`base`: the prepared folder. `play` brings the victim, struck, to the end of the scenario, or to its death. `weight`: how many of all points."""

    name: str
    side: str
    base: str
    play: Callable[[Stage, Strike], "Child | shims.Victim"]
    done: Callable[[Stage], bool]
    weight: int
    power: bool = True  # may the power fail in it?
    wrong: Callable[[Stage], Iterator[str]] = _nothing  # of its own, beside what `judging` finds in all
    victim: str = ""  # who is struck, where that is not `side` itself
    ends: frozenset[str] = frozenset()  # instances that `play` itself tells to end


LINE = frozenset({"line.source", "line.sink"})

# ---------------------------------------------------------------------------------------------------------------- what is so at the end


def joined(stage: Stage) -> bool:
    """The host's own files say who it is, and the controller lets that key speak for it."""
    rows = stage.asked("select key_digest from hosts where name = ?", HOST)
    try:
        identity.load(stage.places.identity)
    except Exception:  # noqa: BLE001 - not yet
        return False
    return bool(rows and rows[0][0])


def served(stage: Stage) -> bool:
    """The newest plan is in force, all that it names is here and runs, and the controller has been told all of it."""
    newest, observed = stage.plan(), stage.observed()
    if newest is None or observed is None or newest[0] != observed.revision:
        return False
    revision, plan = newest
    if not brought(plan, stage.places):
        return False
    running = {item.workload for item in observed.instances if item.phase == "running"}
    if running != {workload.name for workload in plan.workloads} or running != set(pids(stage)):
        return False
    told = stage.asked("select upto from report_marks where host = ?", HOST)
    return stage.accepted() == revision and bool(told and told[0][0] == stage.unsent()[0] - 1)


def brought(plan: Plan, places: Places) -> bool:
    """All that its releases are is here under its name, unpacked if it is to be: also what nothing runs (any more), which comes while all else is as it must be."""
    named = {digest for digests in retention.artifacts_of(plan).values() for digest in digests}
    wanted = [places.artifacts / digest.removeprefix("sha256:") for digest in named]
    wanted += [places.unpacked / digest.removeprefix("sha256:") for digest in retention.archives_of(plan)]
    return all(path.exists() for path in wanted)


def published(stage: Stage) -> bool:
    """Both releases are there, with their programs."""
    held = {path.name for path in (stage.roots[CONTROLLER] / "artifacts").rglob("*")}
    rows = stage.asked("select artifact from releases")
    return len(rows) == 2 and {str(row[0]).removeprefix("sha256:") for row in rows} <= held


def swapped(stage: Stage) -> bool:
    """The second release of the pair is in force, and the first is gone."""
    rows = stage.asked("select phase from rollouts where to_version = '1.1.0'")
    return [row[0] for row in rows] == ["succeeded"] and served(stage)


def ended(stage: Stage) -> bool:
    """The host's last graph was deleted, and nothing of it runs, is in its rings, or has a folder."""
    newest = stage.plan()
    if newest is None or not newest[1].decommission or not served(stage):
        return False
    return not any([*stage.places.rings.glob("*"), *stage.places.instances.glob("*")])


def flows_anew(stage: Stage) -> bool:
    """The pair is swapped, and puts out what the second release makes."""
    return swapped(stage) and [release for _, release in _outputs(stage)[-1:]] == [b"1"]


def out_of_order(stage: Stage) -> Iterator[str]:
    """What the sink has is each output of the pair once, in order."""
    numbers = [number for number, _ in _outputs(stage)]
    for at, number in enumerate(numbers):
        if number != at:
            yield f"the sink has {len(numbers)} outputs, and number {at} of them is {number}"
            return


def _outputs(stage: Stage) -> list[tuple[int, bytes]]:
    """What the pair's sink has: the number of each output, and the release that it is of."""
    found = b"".join(path.read_bytes() for path in (stage.roots[AGENT] / "data").rglob("out"))
    whole = range(0, len(found) // OUTPUT_BYTES * OUTPUT_BYTES, OUTPUT_BYTES)
    return [(int.from_bytes(found[n : n + 8], "big"), found[n + 8 : n + OUTPUT_BYTES]) for n in whole]


def pids(stage: Stage) -> Mapping[str, Process]:
    """Who runs, by the host's own records."""
    from halftrack_agent.drivers import processes, procfs
    from halftrack_agent.drivers.instances import Folder

    found = {}
    for path in stage.places.instances.glob("[!.]*"):
        who = Folder(path).who()
        if who is not None and processes.alive(who.workload, procfs.boot_id()):
            found[path.name] = who.workload
    return found


# ------------------------------------------------------------------------------------------------------------------------------- playing


def _enrol_agent(stage: Stage, strike: Strike) -> Child:
    if not stage.running(CONTROLLER):
        stage.controller()
    child = stage.enrolment(strike)
    until(child.ended, "the enrolment ends")
    return child


def _enrol_controller(stage: Stage, strike: Strike) -> Child:
    child = stage.controller(strike)
    while not child.ended() and not joined(stage):
        until(stage.enrolment().ended, "the enrolment ends")
    return child


def _publish(stage: Stage, strike: Strike) -> Child:
    child = stage.controller(strike)
    until(
        lambda: child.ended() or (stage.operated(lambda client: _published(client, stage.folder)) and published(stage)),
        "it is published",
    )
    return child


def _published(client: OperatorClient, folder: Path, sink: bytes = SINK) -> None:
    client.apply([ENVIRONMENT, host(HOST), graph(HOST)])
    for product, entry, program in (("counter", "source:Source", SOURCE), ("keeper", "sink:Sink", sink)):
        publish(client, folder, product, entry, program)


def _serve_agent(stage: Stage, strike: Strike) -> Child:
    if not stage.running(CONTROLLER):
        stage.controller()
    child = stage.agent(strike)
    until(lambda: child.ended() or served(stage), "the plan is in force")
    return child


def _serve_controller(stage: Stage, strike: Strike) -> Child:
    child = stage.controller(strike)
    if not stage.running(AGENT):
        stage.agent()
    until(lambda: child.ended() or served(stage), "the plan is in force")
    return child


def _swap(stage: Stage, strike: Strike) -> Child:
    if not stage.running(CONTROLLER):
        stage.controller()
    child = stage.agent(strike)
    until(
        lambda: (
            child.ended() or swapped(stage) or stage.operated(lambda client: publish_member(client, stage.folder, 1, 1))
        ),
        "it is published",
    )
    until(lambda: child.ended() or swapped(stage), "the swap is done")
    return child


def _ends_agent(stage: Stage, strike: Strike) -> Child:
    if not stage.running(CONTROLLER):
        stage.controller()
    return _ends(stage, stage.agent(strike))


def _ends_controller(stage: Stage, strike: Strike) -> Child:
    child = stage.controller(strike)
    if not stage.running(AGENT):
        stage.agent()
    return _ends(stage, child)


def _ends(stage: Stage, child: Child) -> Child:
    """A graph that runs is deleted."""
    until(lambda: child.ended() or served(stage), "what there is runs")
    until(
        lambda: child.ended() or _ordered_away(stage) or stage.operated(lambda client: client.delete_graph("line")),
        "it is deleted",
    )
    until(lambda: child.ended() or ended(stage), "it has ended")
    return child


def _ordered_away(stage: Stage) -> bool:
    return bool(stage.asked("select 1 from graph_changes where what = 'deleted'"))


def _updated(stage: Stage) -> bool:
    return updates.stays(stage) and served(stage)


def _went_back(stage: Stage) -> bool:
    return updates.went_back(stage) and served(stage)


def _update(stage: Stage, strike: Strike) -> Child:
    return updates.update(stage, strike, _updated)


def _bad_update(stage: Stage, strike: Strike) -> Child:
    return updates.update(stage, strike, _went_back)


def _shim(stage: Stage, strike: Strike) -> shims.Victim:
    return shims.play(stage, strike, served, pids)


def _shim_ended(stage: Stage) -> bool:
    return shims.ended(stage, served)


SCENARIOS = (
    Scenario("enrolment, agent", AGENT, "fresh", _enrol_agent, joined, 10),
    Scenario("enrolment, controller", CONTROLLER, "fresh", _enrol_controller, joined, 8),
    Scenario("publish, controller", CONTROLLER, "empty", _publish, published, 14),
    Scenario("first plan, agent", AGENT, "enrolled", _serve_agent, served, 36),
    Scenario("first plan, controller", CONTROLLER, "enrolled", _serve_controller, served, 12),
    Scenario("compaction, agent", AGENT, "full", _serve_agent, served, 14),
    Scenario("swap, agent", AGENT, "pair", _swap, flows_anew, 8, wrong=out_of_order),
    Scenario("deletion, agent", AGENT, "enrolled", _ends_agent, ended, 8, ends=LINE),
    Scenario("deletion, controller", CONTROLLER, "enrolled", _ends_controller, ended, 6, ends=LINE),
    Scenario("update, agent", AGENT, "updating", _update, _updated, 8, wrong=updates.beyond),
    Scenario("bad update, agent", AGENT, "updating badly", _bad_update, _went_back, 4, wrong=updates.beyond),
    Scenario(
        "shim",
        AGENT,
        "shimmed",
        _shim,
        _shim_ended,
        6,
        power=False,
        wrong=shims.wrong,
        victim="shim",
        ends=frozenset({shims.NAME}),
    ),
)


# ----------------------------------------------------------------------------------------------------------------------------- preparing


def prepare(folder: Path, cgroup: str, names: frozenset[str]) -> None:
    """The bases of the scenarios, below `folder`."""
    empty = Stage(folder / "empty", cgroup)
    galaxy.init(empty.folder / "galaxy", "milkyway", ["127.0.0.1"])
    if names & {"fresh", "enrolled", "full", *updates.FAULTS}:
        fresh = Stage(folder / "fresh", cgroup)
        copied(empty.folder, fresh)
        _prepared(fresh, lambda client: _published(client, fresh.folder))
    if names & {"enrolled", "full", *updates.FAULTS}:
        enrolled = Stage(folder / "enrolled", cgroup)
        copied(folder / "fresh", enrolled)
        _enrolled(enrolled)
    if "full" in names:
        full = Stage(folder / "full", cgroup)
        copied(folder / "enrolled", full)
        _filled(full)
    for name in names & updates.FAULTS.keys():
        updating = Stage(folder / name, cgroup)
        copied(folder / "enrolled", updating)
        updating.controller()
        assert updating.operated(lambda client, at=updating, how=name: updates.order(client, at, updates.FAULTS[how]))  # type: ignore[misc]
        updating.end_all()
    if "shimmed" in names:
        shimmed = Stage(folder / "shimmed", cgroup)
        copied(empty.folder, shimmed)
        _prepared(shimmed, lambda client: _published(client, shimmed.folder, shims.SINK))
        _enrolled(shimmed)
    if "pair" in names:
        pair = Stage(folder / "pair", cgroup)
        copied(empty.folder, pair)
        _prepared(pair, lambda client: _pair(client, pair.folder))
        _enrolled(pair)
        _booted(pair)


def _prepared(stage: Stage, work: Callable[[OperatorClient], object]) -> None:
    def all_of_it(client: OperatorClient) -> None:
        work(client)
        (stage.folder / "token").write_text(client.create_token(HOST, 86_400).token)

    stage.controller()
    assert stage.operated(all_of_it), (stage.folder / "operator.log").read_text()
    stage.end_all()


def _pair(client: OperatorClient, folder: Path) -> None:
    client.apply([ENVIRONMENT, host(HOST), GRAPH])
    for product, entry, program in (("counter", "source:Source", SOURCE), ("keeper", "sink:Sink", PAIR_SINK)):
        publish(client, folder, product, entry, program)
    publish_member(client, folder, 0, 1)


def _enrolled(stage: Stage) -> None:
    _enrol_agent(stage, UNHARMED)
    until(lambda: joined(stage) and stage.plan(), "the host has enrolled and has a plan")
    stage.end_all()


def _booted(stage: Stage) -> None:
    """A first release that is in force, and everything else as the machine's next boot finds it; of its output, nothing had come to the disk."""
    stage.controller()
    stage.agent()
    until(
        lambda: {str(row[0]) for row in stage.asked("select phase from rollouts")} == {"succeeded"} and served(stage),
        "the first release is in force",
    )
    stage.end_all()
    shutil.rmtree(stage.roots[AGENT] / "data")
    stage.put(AGENT, stage.disk(AGENT).lost())


def _filled(stage: Stage) -> None:
    """Journal and outbox as a busy year leaves them: about to be rewritten."""
    import sqlite3

    journal = Journal(stage.places.state)
    for number in range(OLD_SWAPS):
        journal.append(JournalSwap(SwapRecord(f"old-{number}", 1, 0, Phase.JOINING, 1, -1, 0, 5, 5, 0, "x" * 200)))
        journal.append(ForgetSwap(f"old-{number}"))
    journal.close()
    reports = Outbox(stage.places.state, HOST)
    reports.welcomed(0)
    for number in range(OLD_REPORTS):
        reports.add(Happened.INSTANCE_EXITED, f"old-{number}", "x" * 200, number)
    reports.close()
    assert (stage.places.state / "outbox").stat().st_size > outbox.COMPACT_AT_BYTES
    with sqlite3.connect(stage.roots[CONTROLLER] / "store.db") as db:
        db.execute("insert into report_marks values (?, ?)", (HOST, OLD_REPORTS - 5))
    db.close()
