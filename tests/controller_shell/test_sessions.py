"""Sessions over loopback mutual TLS: who may speak, and what is sent when."""

import asyncio
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from halftrack_controller import ca, galaxy, keys
from halftrack_controller.operator_client import OperatorClient
from halftrack_controller.pushing import Pushing
from halftrack_controller.session import Sessions
from halftrack_model import seals
from halftrack_model.errors import HalftrackError, HostFault, InvalidInput, Untrusted
from halftrack_model.ids import digest_of
from halftrack_model.observed import Observed
from halftrack_model.report import Happened, Report
from halftrack_model.seals import Sealed
from halftrack_proto import messages as said
from halftrack_proto.gauges import RingGauge
from halftrack_proto.status import error_of
from halftrack_proto.v1 import operator_pb2, operator_pb2_grpc
from tests.controller_shell.shell_harness import (
    ENVIRONMENT,
    Agent,
    Credentials,
    LiveController,
    channel_as,
    enrol,
    eventually,
    fetch,
    graph,
    host,
    observed,
    plan_of,
    publish,
)


@pytest.fixture
def client(live: LiveController) -> Iterator[OperatorClient]:
    with live.operator() as operator:
        yield operator


@pytest.fixture
def tank_a(live: LiveController, client: OperatorClient) -> Credentials:
    return enrol(live, client.create_token("tank-a", 600).token, "tank-a")


def deploy(client: OperatorClient, folder: Path) -> None:
    publish(client, folder, "counter", "1.0.0")
    publish(client, folder, "keeper", "1.0.0")
    client.apply([graph("tank-a")])


def test_a_plan_reaches_its_host_once(live: LiveController, client: OperatorClient, tank_a: Credentials) -> None:
    """Sealed by the plan key, rising, answered, and not sent again to a host that says it has it."""
    # invariant: P3
    agent = Agent(live, tank_a)
    try:
        assert agent.hello("tank-a").reports_upto == 0
        deploy(client, live.folder)
        push = agent.expect(said.PlanPush)
        seals.opened(push.sealed, seals.PLAN, tank_a.reply.plan_keys, keys.verify)
        plan = plan_of(push)
        assert (plan.host, plan.revision, plan.galaxy) == ("tank-a", push.revision, "milkyway")
        assert {workload.name for workload in plan.workloads} == {"line.source", "line.sink"}
        agent.say(said.Accepted(push.revision))
        eventually(lambda: client.host("tank-a").entry.accepted_revision == push.revision)
    finally:
        agent.close()
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a", push.revision)
        assert agent.heard(lambda: agent.beats(5)) == []
    finally:
        agent.close()
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a", 0)  # the host has lost its disk
        assert agent.expect(said.PlanPush) == push
    finally:
        agent.close()


def test_a_host_ahead_of_the_controller_gets_a_higher_revision(
    live: LiveController, client: OperatorClient, tank_a: Credentials
) -> None:
    """A controller restored from an old copy counts on from its hosts; a host that claims nonsense is not believed."""
    # invariant: P2
    deploy(client, live.folder)
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a", 40)
        assert agent.expect(said.PlanPush).revision == 41
    finally:
        agent.close()
    agent = Agent(live, tank_a)
    try:
        with pytest.raises(InvalidInput) as caught:
            agent.hello("tank-a", 2**62)
        assert caught.value.reason == "bad-revision"
    finally:
        agent.close()


def test_a_refusal_is_shown_and_the_plan_not_repeated_at_once(
    live: LiveController, client: OperatorClient, tank_a: Credentials
) -> None:
    """The reason reaches the operator; another plan is still sent."""
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a")
        deploy(client, live.folder)
        push = agent.expect(said.PlanPush)
        agent.say(said.Declined(push.revision, "disk-full", "no room for the journal"))
        entry = eventually(lambda: (e := client.host("tank-a").entry).refusal_reason and e)
        assert (entry.refusal_reason, entry.refusal_message) == ("disk-full", "no room for the journal")
        assert not [m for m in agent.heard(lambda: agent.beats(5)) if m == push]
        assert "disk-full" in " ".join(why.text for why in client.explain("tank-a"))
    finally:
        agent.close()


def test_state_is_asked_for_once_and_then_only_named(
    live: LiveController, client: OperatorClient, tank_a: Credentials
) -> None:
    """A digest that is known is enough, also after a reconnect; a new one makes the controller ask."""
    state = observed("tank-a", problems=("no cgroup",))
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a", 0, state.digest())
        agent.expect(said.WantObserved)
        agent.say(state)
        eventually(lambda: client.host("tank-a").observed == state)
        assert client.host("tank-a").entry.problems == ("no cgroup",)
    finally:
        agent.close()
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a", 0, state.digest())
        agent.beats(3, state.digest())
        agent.say(said.Heartbeat("sha256:other", ()))
        agent.expect(said.WantObserved)
    finally:
        agent.close()


def test_reports_are_consumed_once(live: LiveController, client: OperatorClient, tank_a: Credentials) -> None:
    """However often and in whatever batches they are sent, also after the controller has come back."""
    # invariant: P3
    reports = tuple(Report("tank-a", n, 0, Happened.SWAP_MOVED, "w", str(n)) for n in range(1, 6))
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a")
        for batch in (reports[:3], reports[:3], reports[1:]):
            agent.say(said.ReportBatch(batch))
            assert agent.expect(said.ReportsAcked).upto == batch[-1].number
        assert client.host("tank-a").reports == reports
        agent.say(said.ReportBatch((dataclasses.replace(reports[0], host="tank-b", number=9),)))
        with pytest.raises(InvalidInput):
            agent.expect(said.ReportsAcked)
    finally:
        agent.close()
    agent = Agent(live, tank_a)
    try:
        assert agent.hello("tank-a").reports_upto == 5
    finally:
        agent.close()


def test_silence_ends_a_session_and_is_not_illness(
    live: LiveController, client: OperatorClient, tank_a: Credentials
) -> None:
    """A host that says nothing more is away, and its health unknown."""
    # invariant: O1
    agent = Agent(live, tank_a, beats=False)
    try:
        state = observed("tank-a")
        agent.hello("tank-a", 0, state.digest())
        agent.say(state)
        eventually(lambda: (e := client.host("tank-a").entry).connected and e.health.value == "healthy")
        eventually(lambda: not client.host("tank-a").entry.connected)
        assert client.host("tank-a").entry.health.value == "unknown"
        with pytest.raises(EOFError):
            agent.expect(said.PlanPush)
    finally:
        agent.close()


def test_gauges_are_shown_as_rates(live: LiveController, client: OperatorClient, tank_a: Credentials) -> None:
    """Two heartbeats make a rate; a ring that began anew has none."""
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a")
        for head in (100, 200):
            agent.say(said.Heartbeat("", (RingGauge("line/source", head, 0, 64, {"line.sink": 3}),)))
            row = eventually(lambda head=head: next((r for r in client.stream_top("home") if r.head == head), None))
        assert row.frames_per_1000_s > 0
        assert (row.host, row.ring, row.lags) == ("tank-a", "line/source", {"line.sink": 3})
    finally:
        agent.close()


def ended_by(live: LiveController, who: Credentials, name: str) -> HalftrackError:
    agent = Agent(live, who)
    try:
        with pytest.raises(HalftrackError) as caught:
            agent.hello(name)
        return caught.value
    finally:
        agent.close()


def test_strangers_are_refused(live: LiveController, client: OperatorClient, tank_a: Credentials) -> None:
    """No certificate of this galaxy, another host's name, an operator as a host, a host as an operator, a replaced key."""
    # invariant: P1
    stranger = ca.new_authority("milkyway")
    key = ec.generate_private_key(ec.SECP256R1())
    forged = ca.host_certificate(stranger, "milkyway", "tank-a", key.public_key(), 2**42)
    impostor = dataclasses.replace(
        tank_a, key_pem=ca.key_pem(key), certificate_pem=ca.pem(x509.load_der_x509_certificate(forged))
    )
    assert isinstance(ended_by(live, impostor, "tank-a"), HostFault)  # TLS itself says no
    assert ended_by(live, tank_a, "tank-b").reason == "wrong-host"
    mine = galaxy.load_operator(live.folder / "operator")
    operator = dataclasses.replace(tank_a, key_pem=mine.identity.key_pem, certificate_pem=mine.identity.certificate_pem)
    assert ended_by(live, operator, "tank-a").reason == "wrong-caller"


METHODS = tuple(operator_pb2.DESCRIPTOR.services_by_name["Operator"].methods)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_host_gets_nothing_of_what_operators_may(live: LiveController, tank_a: Credentials, method: Any) -> None:
    # invariant: P1
    with channel_as(live, tank_a) as channel:
        stub = getattr(operator_pb2_grpc.OperatorStub(channel), method.name)
        asked = getattr(operator_pb2, method.input_type.name)()
        with pytest.raises(grpc.RpcError) as caught:
            (next if method.server_streaming else id)(stub(asked, timeout=10))
    assert error_of(caught.value).reason == "wrong-caller"


def test_who_enrols_anew_takes_the_place(live: LiveController, client: OperatorClient, tank_a: Credentials) -> None:
    """The old key's session ends at once and it gets no other."""
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a")
        newer = enrol(live, client.create_token("tank-a", 600).token, "tank-a")
        assert "another key" in agent.expect(said.ReconnectAfter).reason
    finally:
        agent.close()
    error = ended_by(live, tank_a, "tank-a")
    assert isinstance(error, Untrusted)
    assert error.reason == "not-enrolled"
    with pytest.raises(Untrusted, match="another key speaks"):
        fetch(live, tank_a, digest_of(b""), 0)
    agent = Agent(live, newer)
    try:
        agent.hello("tank-a")
    finally:
        agent.close()


def test_a_hosts_certificate_cannot_serve(live: LiveController, tank_a: Credentials) -> None:
    """A stolen host key must not pose as the controller: its certificate is for clients only."""
    server = grpc.server(ThreadPoolExecutor(1))
    credentials = grpc.ssl_server_credentials([(tank_a.key_pem, tank_a.certificate_pem)])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        mine = galaxy.load_operator(live.folder / "operator")
        with OperatorClient(dataclasses.replace(mine, endpoint=f"127.0.0.1:{port}")) as client:
            with pytest.raises(HostFault) as caught:
                client.hosts()
            assert caught.value.reason == "unreachable"
    finally:
        server.stop(0).wait()


def test_an_orderly_stop_says_when_to_come_back(folder: Path) -> None:
    """Agents are told, not dropped."""
    live = LiveController(folder)
    try:
        with live.operator() as client:
            client.apply([ENVIRONMENT, host("tank-a")])
            who = enrol(live, client.create_token("tank-a", 600).token, "tank-a")
        agent = Agent(live, who)
        agent.hello("tank-a")
    finally:
        live.stop()
    assert agent.expect(said.ReconnectAfter).ms >= 500
    agent.close()


# An offer is so much newer than the newest, or older. Short ones, too: in a long one a newer offer hides that one before it was lost.
STEP = st.tuples(st.sampled_from(["offer", "offer", "offer", "accept", "decline"]), st.integers(-1, 4))
STEPS = st.lists(STEP, min_size=2, max_size=4) | st.lists(STEP, max_size=20)


@given(st.integers(0, 3), STEPS)
def test_pushing_sends_one_at_a_time_rising_and_ends_with_the_newest(held: int, steps: list[tuple[str, int]]) -> None:
    """Whatever the order of plans and answers. # invariant: P2"""
    pushing, flying, sent, offered = Pushing(held), 0, [held], held
    for verb, newer in steps:
        if verb == "offer":
            number = max(1, offered + newer)
            offered = max(offered, number)
            pushing, push = pushing.offered(said.PlanPush(Sealed("k", b"", ()), number))
        elif not flying:
            continue
        else:
            pushing, push = pushing.accepted(flying) if verb == "accept" else pushing.declined(flying)
            flying = 0
        if push is not None:
            assert not flying, "two plans under way"
            assert verb == "offer" or push.revision > sent[-1]
            flying = push.revision
            sent.append(flying)
    while flying:
        pushing, push = pushing.accepted(flying)
        flying = push.revision if push else 0
        sent += [flying] if push else []
    assert max(sent) == offered, "the newest plan has been sent"


def test_another_hosts_state_is_not_taken(live: LiveController, client: OperatorClient, tank_a: Credentials) -> None:
    """A host speaks for itself only."""
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a")
        agent.say(Observed("tank-b", 1, (), (), ()))
        with pytest.raises(Untrusted):
            agent.expect(said.PlanPush)
        assert client.host("tank-b").observed is None
    finally:
        agent.close()


def test_a_full_disk_is_refused_loudly_and_everything_else_goes_on(
    live: LiveController, client: OperatorClient, tank_a: Credentials
) -> None:
    """Applies fail with the reason, looking works, a host is sent away with its reports unacknowledged; then all goes on."""
    # invariant: D1
    reports = tuple(Report("tank-a", n, 0, Happened.FRAMES_LOST, "w", "x" * 8000) for n in range(1, 30))
    live.limit_pages(1)
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a")
        agent.say(said.ReportBatch(reports))
        assert agent.expect(said.ReconnectAfter).reason == "disk-full"
    finally:
        agent.close()
    with pytest.raises(HostFault) as caught:
        client.apply([host(f"h{number}") for number in range(500)])
    assert caught.value.reason == "disk-full"
    assert [entry.name for entry in client.hosts()] == ["tank-a", "tank-b"]
    live.limit_pages(1 << 30)
    agent = Agent(live, tank_a)
    try:
        assert agent.hello("tank-a").reports_upto == 0
        agent.say(said.ReportBatch(reports))
        assert agent.expect(said.ReportsAcked).upto == len(reports)
    finally:
        agent.close()


@pytest.mark.parametrize("turns", range(4))
def test_who_waits_for_a_change_can_be_stopped_in_the_moment_it_comes(turns: int) -> None:
    """A controller that misses this once never ends (gh-86296 of CPython: so with `asyncio.wait_for`, before 3.12)."""

    async def cancelled() -> bool:
        sessions = Sessions()
        waiting = asyncio.create_task(sessions.changed(60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sessions.wake()
        for _ in range(turns):
            await asyncio.sleep(0)
        asked = waiting.cancel()
        await asyncio.wait([waiting])
        return not asked or waiting.cancelled()

    assert asyncio.run(cancelled())
