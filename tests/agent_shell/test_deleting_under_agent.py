"""What somebody deletes, under a real agent: a stream, and services while their host is cut off."""

import signal
from pathlib import Path

from halftrack_model.graph import Role, StreamGraph, Vertex
from tests.agent_shell.test_agent import AgentProcess, agent, live, until  # noqa: F401 - fixtures
from tests.agent_shell.test_services_under_agent import NAME, Site, free_port, site  # noqa: F401 - a fixture
from tests.controller_shell.shell_harness import LiveController, graph


# invariant: R3
def test_a_stream_that_is_deleted_leaves_no_process_and_no_ring_and_its_data(
    live: LiveController,  # noqa: F811
    agent: AgentProcess,  # noqa: F811
) -> None:
    agent.start()
    until(lambda: agent.recorded() > 100, "frames arrive in the sink")
    pids = {agent.pid("line.source"), agent.pid("line.sink")}
    with live.operator() as client:
        (ends,) = client.delete_graph("line").hosts
    assert ends.workloads == ("line.sink", "line.source")
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "both have ended")
    until(lambda: not any(agent.places.rings.iterdir()), "no ring is left")
    until(lambda: not any(agent.places.instances.iterdir()), "and no instance")
    assert agent.recorded() > 100, "what was recorded stays"
    with live.operator() as client:
        client.apply([graph("tank-a")])
    until(lambda: agent.pid("line.source") and agent.pid("line.sink"), "it begins anew")


# invariants: R1, R2, R3
def test_what_is_deleted_while_it_is_cut_off_is_gone_afterwards_and_begins_anew_when_it_is_declared_again(
    site: Site,  # noqa: F811
) -> None:
    """Bug 3 of DESIGN.md section 10, by the verb for it: one of two first, then the last."""
    other, port = "other.other", free_port()
    vertex = Vertex("other", Role.SERVICE, "page", ("tank-a",), {"port": port}, 0, 0, host_network=True)
    declared = StreamGraph("other", "home", (vertex,), ())
    with site.live.operator() as client:
        client.apply([declared])
    site.agent.start()
    until(lambda: site.page() == "hello" and site.agent.pid(other), "both serve")
    page, second = site.agent.pid(NAME), site.agent.pid(other)
    for name, pid in (("other", second), ("page", page)):
        site.agent.end(signal.SIGKILL)
        with site.live.operator() as client:
            (ends,) = client.delete_graph(name, dry_run=True).hosts
            assert (ends.host, ends.workloads) == ("tank-a", (f"{name}.{name}",))
            client.delete_graph(name)
        assert Path(f"/proc/{pid}").exists(), "nobody has told it"
        site.agent.start()
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "it is gone")
        until(lambda name=name: not (site.agent.places.instances / f"{name}.{name}").exists(), "all of it")
        assert Path(f"/proc/{page}").exists() == (name == "other"), "nothing else was touched"
    with site.live.operator() as client:
        client.apply([declared])
    until(lambda: site.agent.pid(other), "it is back")
