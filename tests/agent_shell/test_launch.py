"""What a workload is given and what it is kept from, by its role."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.drivers import egress
from halftrack_agent.drivers.launch import Launcher
from halftrack_agent.identity import Identity, Membership
from halftrack_agent.places import Places
from halftrack_dataplane import restoring
from halftrack_dataplane.runspec import RunSpec, load
from halftrack_dataplane.spool_orders import SpoolOrders
from halftrack_model.feed import Feed, Protocol
from halftrack_model.ids import digest_of
from halftrack_model.plan import Peer
from halftrack_model.release import OnStateLoss
from halftrack_model.verdict import Check, FieldTolerance, Verdict
from halftrack_model.workload import Judge, JudgedPair, Runs, Workload
from tests.agent_core.plans import inlet, member_workload, spool

PROGRAM = b"program"
PEER = Peer("tank-b", "10.0.0.2:7450", "10.0.0.2:7451", "k" * 40)
JUDGE = Judge(
    (JudgedPair("spectra/spectrometer.a@1.0.0", "spectra/spectrometer.a@1.1.0"),),
    Verdict(Check.TOLERANCE, (FieldTolerance("mean", "<f8", 0, "0.1", "1e-06"),)),
    64,
)
# Who speaks to other hosts has the host's CurveZMQ secret; only bridges have the host's network.
SPEAKS, LINKED = {Runs.MEMBER, Runs.BRIDGE_SERVER, Runs.BRIDGE_RECEIVER}, {Runs.BRIDGE_SERVER, Runs.BRIDGE_RECEIVER}
# A user's own program may reach what the plan says; one of the places here has the port that a peer's door would have had.
REACHES = {Runs.COMMAND, Runs.SOURCE, Runs.MEMBER, Runs.SINK}
REACH = ("db.example=10.0.0.5:5432", f"127.0.0.1:{egress.FIRST_PORT}")
PLACES = ("10.0.0.5:5432", f"127.0.0.1:{egress.FIRST_PORT}")


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    places = Places(tmp_path / "state", tmp_path / "run")
    store = ArtifactStore(places.artifacts)

    async def source(_digest: str, _offset: int) -> AsyncIterator[tuple[int, bytes]]:
        yield len(PROGRAM), PROGRAM

    asyncio.run(store.fetch(digest_of(PROGRAM), len(PROGRAM), source))
    member = Membership("sim", "tank-a", "127.0.0.1:1", "k" * 40, {}, {}, 1)
    identity = Identity(places.identity, member, b"secret", b"", b"")
    made = Launcher(places, identity, store, "0.0.0.0:7450", own_network=True)
    made.use({PEER.host: PEER})
    return made


@pytest.mark.parametrize("role", Runs)
def test_each_role_has_only_the_keys_and_the_network_that_it_needs(
    launcher: Launcher, tmp_path: Path, role: Runs
) -> None:
    workload = replace(
        member_workload("a", "1.0.0"),
        runs=role,
        artifact=digest_of(PROGRAM),
        argv=("{artifact}", "{artifact}.not-a-shell; true"),
        from_host=PEER.host,
        member=member_workload("a", "1.0.0").member if role is Runs.MEMBER else None,
        inlet=inlet().inlet if role is Runs.INLET else None,
        judge=JUDGE if role is Runs.JUDGE else None,
        feeds=(Feed("data", Protocol.UDP, "0.0.0.0:4001", 1 << 20),) if role is Runs.KEEPER else (),
        spool=spool().spool if role is Runs.SPOOL else None,
        keeps_for="spectra.source" if role is Runs.KEEPER else "",
        reach=REACH if role in REACHES else (),
    )
    launch = launcher(workload)
    keys = {str(tmp_path / "state/identity" / name) for name in ("key.pem", "curve.key")}
    assert keys - set(launch.hidden) == ({str(tmp_path / "state/identity/curve.key")} if role in SPEAKS else set())
    assert launch.own_network == (role not in LINKED)
    to_peer = ((f"127.0.0.1:{egress.FIRST_PORT + 1}", PEER.bridge),) if role is Runs.MEMBER else ()
    assert launch.doors == (*to_peer, *(((each, each) for each in PLACES) if role in REACHES else ()))
    assert launch.hosts.startswith("10.0.0.5 db.example\n") == (role in REACHES)
    if role is Runs.COMMAND:
        program = str(tmp_path / "state/artifacts" / digest_of(PROGRAM).removeprefix("sha256:"))
        assert launch.argv == (program, f"{program}.not-a-shell; true")
    else:
        assert bool(load(launch.orders).curve_secret_path) == (role in SPEAKS)


def test_an_inlet_is_told_the_rings_by_path_and_everything_else_as_the_plan_has_it(
    launcher: Launcher, tmp_path: Path
) -> None:
    orders = load(launcher(inlet()).orders)
    assert (orders.role, orders.join, orders.input_ring) == ("inlet", "union", "")
    assert orders.output_ring == str(tmp_path / "run/rings/spectra/spectrometer.in.ring")
    assert [each.ring for each in orders.inputs] == [
        str(tmp_path / f"run/rings/spectra/{name}.ring") for name in ("left", "right")
    ]
    for told, planned in zip(orders.inputs, inlet().inlet.inputs, strict=True):  # type: ignore[union-attr]
        for name in set(planned.__dataclass_fields__) - {"ring"}:
            assert getattr(told, name) == getattr(planned, name)


def test_a_spool_and_its_inlet_are_told_one_folder(launcher: Launcher, tmp_path: Path) -> None:
    folder = tmp_path / "state/spools/spectra.spectrometer.spool-left"
    orders = load(launcher(spool()).orders)
    assert orders.spool == SpoolOrders(str(folder), 1 << 30, 5000, "drop-oldest")
    assert orders.input_ring == str(tmp_path / "run/rings/spectra/left.ring")
    assert folder.is_dir()
    asked = load(launcher(inlet(spool=spool().name)).orders).inputs
    assert [each.spool for each in asked] == [str(folder), ""]


def test_a_judge_is_told_the_rings_by_path_and_asks_what_the_plan_asks(launcher: Launcher, tmp_path: Path) -> None:
    workload = replace(member_workload("a", "1.1.0"), runs=Runs.JUDGE, artifact=digest_of(PROGRAM), judge=JUDGE)
    orders = load(launcher(workload).orders).judge
    assert orders is not None
    (pair,) = orders.pairs
    assert pair.name == "spectra/spectrometer.a@1.1.0"
    assert pair.blue == str(tmp_path / "run/rings/spectra/spectrometer.a@1.0.0.ring")
    assert pair.green == str(tmp_path / "run/rings/spectra/spectrometer.a@1.1.0.ring")
    assert (orders.check, orders.lag_frames) == ("tolerance", 64)
    (field,) = orders.fields
    assert (field.name, field.dtype, field.count, field.absolute, field.relative) == ("mean", "<f8", 0, "0.1", "1e-06")


def test_a_vertex_without_a_twin_writes_its_ring_itself_and_keeps_its_snapshots_where_a_pair_does(
    launcher: Launcher, tmp_path: Path
) -> None:
    single = replace(member_workload("a", "1.0.0"), artifact=digest_of(PROGRAM), writes_ring="spectra/spectrometer")
    orders = load(launcher(single).orders)
    assert orders.output_ring == str(tmp_path / "run/rings/spectra/spectrometer.ring")
    assert orders.snapshot_dir == str(tmp_path / "run/snapshots/spectra/spectrometer")
    assert (restoring.vertex_of(orders), restoring.instance_of(orders)) == ("spectra/spectrometer", "m@1.0.0")


def test_only_where_outputs_are_merged_may_a_member_go_on_without_a_state(launcher: Launcher) -> None:
    # invariant: S1
    member = member_workload("a", "1.0.0")
    state = replace(member.state, writes="s/1", on_loss=OnStateLoss.RESTART)
    member = replace(member, artifact=digest_of(PROGRAM), state=state)
    assert member.member is not None
    vertex = f"{member.member.graph}/{member.member.vertex}"
    merge = replace(member, name="m", runs=Runs.MERGE, member=None, writes_ring=vertex)
    other = replace(member, name="r", runs=Runs.BRIDGE_RECEIVER, reads_ring=f"{vertex}.b@1.0.0", from_host=PEER.host)
    peers = {PEER.host: PEER, "elsewhere": replace(PEER, host="elsewhere", bridge="10.0.0.3:7450")}

    def orders(workload: Workload, *plan: Workload) -> RunSpec:
        launcher.use(peers, plan)
        return load(launcher(workload).orders)

    found = orders(member, member, merge, other)
    assert found.state_on_loss == "restart"
    assert [peer.twin for peer in found.snapshot_peers] == [False, True], "only the twin's host can have its state"
    assert not orders(member, member, other).state_on_loss
    waits = replace(member, state=replace(state, on_loss=OnStateLoss.WAIT))
    assert not orders(waits, waits, merge, other).state_on_loss
    resumes = replace(member, state=replace(state, on_loss=OnStateLoss.RESUME))
    assert orders(resumes, resumes, merge, other).state_on_loss == "resume"
    assert orders(replace(member, writes_ring=vertex), member).state_on_loss == "restart", "without a twin"
