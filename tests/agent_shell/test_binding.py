"""Sockets that the shim binds for a keeper, on the real kernel; and what an agent refuses about them before it takes a plan."""

import os
import socket
from dataclasses import replace

import pytest

from halftrack_agent import feed_orders
from halftrack_agent.drivers import binding
from halftrack_dataplane import keeper
from halftrack_model.feed import Feed, Protocol
from halftrack_model.workload import Runs
from tests.agent_core.plans import member_workload

FEED = Feed("data", Protocol.UDP, "127.0.0.1:4001", 1 << 20)


def test_both_sides_call_the_descriptors_alike() -> None:
    assert binding.DESCRIPTORS == keeper.DESCRIPTORS


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_socket_is_bound_as_asked_and_an_address_in_use_is_told_from_a_failure(protocol: str, host: str) -> None:
    with socket.socket(socket.AF_INET6 if "[" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host.strip("[]"), 0))
        port = probe.getsockname()[1]
    held = binding.bound(f"{protocol} {4 << 20} {host}:{port}")
    assert held >= binding.FIRST_FD
    assert os.get_inheritable(held)
    with socket.socket(fileno=held) as found:
        assert found.getsockname()[:2] == (host.strip("[]"), port)
        if os.geteuid() == 0:  # beyond net.core.rmem_max
            assert found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 8 << 20
        assert binding.bound(f"{protocol} {4 << 20} {host}:{port}") == -1
    with pytest.raises(OSError, match=r"binding 192\.0\.2\.1:9 "):
        binding.bound(f"{protocol} {4 << 20} 192.0.2.1:9")


def test_an_agent_refuses_feeds_that_nothing_could_hold() -> None:
    keeps = replace(
        member_workload("a", "1.0.0"), name="g.s.feeds", runs=Runs.KEEPER, member=None, feeds=(FEED,), keeps_for="g.s"
    )
    assert feed_orders.refusals(keeps, {"g.s"}) == ()
    assert "which is not in the plan" in feed_orders.refusals(keeps, set())[0]
    assert "keeps nothing" in feed_orders.refusals(replace(keeps, feeds=()), {"g.s"})[0]
    assert "keeps sockets for somebody" in feed_orders.refusals(replace(keeps, keeps_for=""), {"g.s"})[0]
    assert "which has no feeds" in feed_orders.refusals(replace(keeps, runs=Runs.SINK, keeps_for=""), set())[0]
    wild = replace(keeps, feeds=(replace(FEED, bind="somewhere:1"),))
    assert "no address to bind" in feed_orders.refusals(wild, {"g.s"})[0]
    assert feed_orders.refusals(replace(keeps, runs=Runs.SOURCE, keeps_for=""), set()) == ()
    assert feed_orders.refusals(member_workload("a", "1.0.0"), set()) == ()
