"""Services: where they run, what happens when hosts are lost and come back, and how a newer release reaches them."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_controller import documents, planner
from halftrack_controller.explain import explained
from halftrack_controller.graph_views import graph_view
from halftrack_controller.render import host_step
from halftrack_controller.snapshot import Environment, RolloutPhase, Seen
from halftrack_model.disconnect import Disconnect, Reconcile
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.graph_rules import problems
from halftrack_model.observed import Health, InstanceObserved, Observed
from halftrack_model.plan import Holding
from halftrack_model.release import Release, StateSchemas
from halftrack_proto.graph_messages import NOT_STARTED, GraphQuery
from halftrack_proto.messages import HostChange
from tests.planner.world import World, host, release

HOSTS = ("tank-a", "tank-b", "tank-c", "tank-d")
NAME = "page.page"
LOST_MS = 600_000


def page(version: str = "1.0.0") -> Release:
    made = replace(release("page", version), entry="", command=("python3", "{artifact}"), state=StateSchemas("", ()))
    return replace(made, params={})


def service(instances: int = 1, reconcile: Reconcile = Reconcile.KEEP_ORIGINAL, replaces: bool = True) -> StreamGraph:
    rule = Disconnect(LOST_MS if replaces else 0, 0, replaces, reconcile if replaces else Reconcile.KEEP_ORIGINAL)
    vertex = Vertex("page", Role.SERVICE, "page", HOSTS, {}, 0, 0, instances=instances, disconnect=rule)
    return StreamGraph("page", "tank", (vertex,), ())


class Fleet:
    """A world whose hosts run what their newest plan says, while they can hear it."""

    def __init__(self, graph: StreamGraph) -> None:
        self.world = World()
        self.world.environments["tank"] = Environment("tank", {}, "stable")
        self.world.hosts = {name: host(name) for name in HOSTS}
        self.world.graphs = [graph]
        self.up = dict.fromkeys(HOSTS, 10_000)  # since boot
        self.began: dict[str, int] = {}
        self.away: dict[str, int] = {}  # for how long
        for name in HOSTS:
            self.hear(name)
        self.world.publish(page())
        self.settle()

    def hear(self, name: str, health: Health = Health.HEALTHY) -> None:
        """The host takes its newest plan and says what it runs."""
        plan = self.world.held[name].plan if name in self.world.held else None
        wanted = [w for w in plan.workloads if not plan.holding(w.name).idle] if plan else []
        rows = []
        for workload in wanted:
            began = self.began.setdefault(name, self.up[name])
            rows.append(InstanceObserved(workload.name, workload.digest(), "running", health, 0, "", started_ms=began))
        if not wanted:
            self.began.pop(name, None)
        revision = plan.revision if plan else 0
        observed = Observed(name, revision, tuple(rows), (), ())
        self.world.seen[name] = Seen(True, 0, observed, 0, revision, None, silent_ms=0, up_ms=self.up[name])
        self.away.pop(name, None)

    def lose(self, name: str, age_ms: int) -> None:
        self.away[name] = age_ms
        self.world.seen[name] = replace(
            self.world.seen[name], connected=False, last_seen_age_ms=age_ms, observed_age_ms=age_ms, silent_ms=age_ms
        )

    def settle(self) -> None:
        """Plans and hosts in turn, until nothing changes."""
        for _ in range(12):
            before = dict(self.world.held)
            self.world.settle()
            for name in HOSTS:
                if name not in self.away:
                    self.hear(name)
            if self.world.held == before:
                return
        raise AssertionError("plans and hosts never come to rest")

    def pass_time(self, length_ms: int) -> None:
        for name in HOSTS:
            self.up[name] += length_ms
        for name, age_ms in list(self.away.items()):
            self.lose(name, age_ms + length_ms)
        self.settle()

    def planned(self) -> tuple[str, ...]:
        """Where plans have it run."""
        held = ((name, self.world.held[name].plan) for name in HOSTS if name in self.world.held)
        return tuple(
            name for name, plan in held if any(w.name == NAME for w in plan.workloads) and not plan.holding(NAME).idle
        )

    def runs(self) -> tuple[str, ...]:
        """Where it does run, of the hosts that are seen."""
        return tuple(name for name in self.planned() if name not in self.away)


def test_a_service_runs_on_as_many_of_its_hosts_as_it_asks_for() -> None:
    assert Fleet(service(instances=2)).planned() == ("tank-a", "tank-b")
    everywhere = service(instances=0, replaces=False)
    assert Fleet(everywhere).planned() == HOSTS
    fleet = Fleet(service(instances=2))
    fleet.world.graphs = [service(instances=3)]
    fleet.settle()
    assert fleet.planned() == ("tank-a", "tank-b", "tank-c")
    fleet.world.graphs = [service(instances=1)]
    fleet.settle()
    assert fleet.planned() == ("tank-a",)


# invariant: O1
def test_a_host_that_is_not_seen_is_not_lost_before_its_time() -> None:
    fleet = Fleet(service())
    fleet.lose("tank-a", LOST_MS - 1)
    fleet.settle()
    assert fleet.planned() == ("tank-a",)
    fleet.pass_time(1)
    assert fleet.planned() == ("tank-a", "tank-b"), "the lost one keeps its place: who knows what it does"
    assert any("in place of tank-a" in reason.text for reason in fleet.world.planning.reasons) or fleet.runs() == (
        "tank-b",
    )


# invariant: O1
def test_a_controller_that_sees_next_to_nobody_suspects_itself() -> None:
    fleet = Fleet(service())
    for name in ("tank-a", "tank-b", "tank-c"):
        fleet.lose(name, 10 * LOST_MS)
    fleet.settle()
    assert fleet.planned() == ("tank-a",)
    assert any("nobody is replaced" in reason.text for reason in fleet.world.planning.reasons)


def reunited(reconcile: Reconcile, away_ms: int = 2 * LOST_MS, reboots: bool = False) -> Fleet:
    fleet = Fleet(service(reconcile=reconcile))
    fleet.lose("tank-a", LOST_MS)
    fleet.settle()
    assert fleet.runs() == ("tank-b",)
    fleet.pass_time(away_ms)
    if reboots:
        fleet.up["tank-a"] = 5_000
        fleet.began["tank-a"] = 4_000
    fleet.hear("tank-a")
    fleet.settle()
    return fleet


def test_who_stays_when_the_lost_host_is_back() -> None:
    assert reunited(Reconcile.KEEP_ORIGINAL).planned() == ("tank-a",)
    assert reunited(Reconcile.KEEP_REPLACEMENT).planned() == ("tank-b",)
    assert reunited(Reconcile.BEST_SCORE).planned() == ("tank-a",), "they have as much to run as each other"
    assert reunited(Reconcile.LONGEST_RUNNING).planned() == ("tank-a",)
    assert reunited(Reconcile.LONGEST_RUNNING, reboots=True).planned() == ("tank-b",)


def test_the_original_comes_back_only_once_it_is_well() -> None:
    fleet = Fleet(service())
    fleet.lose("tank-a", LOST_MS)
    fleet.settle()
    fleet.hear("tank-a", Health.UNHEALTHY)
    fleet.world.settle()
    assert fleet.planned() == ("tank-a", "tank-b")
    fleet.hear("tank-a")
    fleet.settle()
    assert fleet.planned() == ("tank-a",)


# invariant: O2
def test_a_dead_host_does_not_stop_a_release() -> None:
    fleet = Fleet(service(instances=3))
    fleet.lose("tank-b", 1_000)
    fleet.world.publish(page("1.1.0"))
    fleet.settle()
    last = list(fleet.world.rollouts.values())[-1]
    assert (last.to_version, last.phase) == ("1.1.0", RolloutPhase.SUCCEEDED)
    assert "not counted: tank-b was last seen" in last.reason
    versions = {w.version for name in fleet.planned() for w in fleet.world.held[name].plan.workloads}
    assert versions == {"1.1.0"}, "who comes back gets the current decision"


events = st.lists(
    st.tuples(st.sampled_from(["lose", "return", "reboot"]), st.sampled_from(HOSTS), st.sampled_from([1_000, LOST_MS])),
    max_size=12,
)


# invariant: R1 R3 O1
@settings(max_examples=60, deadline=None)
@given(events, st.sampled_from(Reconcile), st.integers(1, 3))
def test_whatever_hosts_do_it_runs_where_it_can_and_only_once_when_all_are_back(
    story: list[tuple[str, str, int]], reconcile: Reconcile, instances: int
) -> None:
    fleet = Fleet(service(instances, reconcile))
    for word, name, length_ms in story:
        before = set(fleet.runs())
        if word == "lose":
            fleet.lose(name, length_ms)
        elif name in fleet.away:
            if word == "reboot":
                fleet.up[name], fleet.began[name] = 2_000, 1_000
            fleet.hear(name)
        fleet.settle()
        assert before - set(fleet.away) <= set(fleet.runs()) or len(fleet.runs()) >= min(instances, len(before)), (
            "nothing that is seen to run stops unless enough of them do"
        )
        assert_plans_rest(fleet)
    for name in list(fleet.away):
        fleet.hear(name)
        fleet.settle()
    assert len(fleet.planned()) == instances


def assert_plans_rest(fleet: Fleet) -> None:
    plans: Mapping[str, object] = planner.plan(fleet.world.snapshot(), 0).plans
    for name, plan in plans.items():
        assert planner.same_but_revision(fleet.world.held[name].plan, plan)  # type: ignore[arg-type]


def test_what_a_service_cannot_be() -> None:
    graph = service()
    vertex = graph.vertices[0]

    def told(**fields: object) -> str:
        return "; ".join(problems(replace(graph, vertices=(replace(vertex, **fields),))))  # type: ignore[arg-type]

    assert problems(graph) == ()
    assert "asks for 5 instances on 4 host(s)" in told(instances=5)
    assert "nobody is left to replace one" in told(instances=4)
    assert "reach" in told(host_network=True, reach=("10.0.0.5:80",))
    assert "write lostAfter as well" in told(disconnect=Disconnect(replace=True))
    assert "before the original has stopped" in told(disconnect=Disconnect(600_000, 590_000, replace=True))
    assert "write 5s to 400d" in told(disconnect=Disconnect(stop_after_ms=4_999))
    assert "stands alone" in "; ".join(problems(replace(graph, live=True)))
    streams = replace(vertex, role=Role.SOURCE, hosts=("tank-a",), instances=0)
    assert "leave replace out" in "; ".join(problems(replace(graph, vertices=(streams,))))


def test_a_release_fits_a_service_or_a_stream_and_never_both() -> None:
    fleet = Fleet(service())
    fleet.world.publish(release("page", "2.0.0", "", ()))
    fleet.settle()
    last = list(fleet.world.rollouts.values())[-1]
    assert last.phase is RolloutPhase.PENDING
    assert "publish a release with a `command`" in last.reason
    wanting = replace(page("3.0.0"), command=("run", "{params.port}"))
    fleet.world.publish(wanting)
    fleet.settle()
    assert "set params.port" in list(fleet.world.rollouts.values())[-1].reason


def test_a_service_does_not_become_a_graph() -> None:
    fleet = Fleet(service())
    other = replace(
        fleet.world.graphs[0].vertices[0], role=Role.SOURCE, hosts=("tank-a",), instances=0, disconnect=None
    )
    sink = Vertex("sink", Role.SINK, "sink", ("tank-a",), {}, 0, 0)
    vertices = (replace(other, ring_bytes=1 << 20, ring_slots=64), sink)
    changed = StreamGraph("page", "tank", vertices, (Edge("page", "sink"),))
    told = "; ".join(documents.problems(fleet.world.snapshot(), [changed]))
    assert "is a service already, and stays one" in told


def test_what_people_are_shown_is_where_it_runs() -> None:
    """After a replacement that stays: two hosts have it in their plans, and one runs it."""
    fleet = reunited(Reconcile.KEEP_REPLACEMENT)
    snapshot = fleet.world.snapshot()
    told = "; ".join(reason.text for reason in explained(snapshot, "page/page", 0))
    assert "is in force (generation 1) on tank-b" in told
    parts = {part.host: part for part in graph_view(snapshot, GraphQuery("tank", "page"), ()).parts}
    assert (parts["tank-a"].phase, parts["tank-a"].detail) == (NOT_STARTED, "another host runs it")
    assert parts["tank-b"].phase == "running"
    idle, plan = fleet.world.held["tank-a"].plan, fleet.world.held["tank-b"].plan
    back = host_step(HostChange("tank-a", 1, idle, replace(idle, holdings=())))
    assert (back.starts, back.stops) == ((NAME,), ())
    away = host_step(HostChange("tank-b", 1, plan, replace(plan, holdings=(Holding(NAME, idle=True),))))
    assert (away.starts, away.stops) == ((), (NAME,))


# invariant: O1
def test_whether_the_controller_is_cut_off_is_asked_anew_though_nothing_of_the_service_changes() -> None:
    fleet = Fleet(service())
    here = fleet.world.seen["tank-b"]
    far = [f"far-{number}" for number in range(6)]
    fleet.world.hosts |= {name: host(name) for name in far}
    fleet.lose("tank-a", LOST_MS)
    fleet.settle()
    assert fleet.planned() == ("tank-a",), "of ten, three are seen"
    fleet.world.settle()  # it remembers the very rows that stand now
    fleet.world.seen |= {name: replace(here, observed=Observed(name, 0, (), (), ())) for name in far}
    fleet.settle()
    assert fleet.runs() == ("tank-b",)
