"""What a workload reaches of the world: exactly the addresses that its plan says, each at itself, on the real kernel."""

import errno
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import reach_orders
from halftrack_agent.drivers import egress
from tests.agent_shell.driver_bench import Bench, go, python
from tests.agent_shell.host_network import host_network
from tests.agent_shell.waiting import until

# Asks each place for its answer; an error's name where there is none.
ASKING = """
import errno, json, socket
def ask(host, port):
    try:
        with socket.create_connection((host, port), 5) as line:
            line.sendall(b"who?")
            return line.recv(100).decode()
    except OSError as error:
        return errno.errorcode[error.errno]
print(json.dumps([ask(*place) for place in {places}]), flush=True)
"""
REFUSED, UNREACHABLE = errno.errorcode[errno.ECONNREFUSED], errno.errorcode[errno.ENETUNREACH]
RESET = errno.errorcode[errno.ECONNRESET]
HERE = ("10.77.0.5", 5432), ("10.77.0.5", 5433), ("10.77.0.6", 5432), ("fd77::5", 5432), ("127.0.0.1", 5432)


def text(place: tuple[str, int]) -> str:
    return f"[{place[0]}]:{place[1]}" if ":" in place[0] else f"{place[0]}:{place[1]}"


@contextmanager
def answering(*places: tuple[str, int]) -> Iterator[None]:
    """Servers that say where they are asked."""
    listeners = [
        socket.create_server(place, family=socket.AF_INET6 if ":" in place[0] else socket.AF_INET) for place in places
    ]

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                line.recv(100)
                line.sendall(text(listener.getsockname()[:2]).encode())

    threads = [threading.Thread(target=serve, args=(listener,)) for listener in listeners]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in threads:
            thread.join()


def asked(bench: Bench, places: tuple[tuple[str, int], ...], reach: tuple[str, ...]) -> list[str]:
    """What a workload hears from `places` that may reach `reach`."""
    workload = replace(python("a", ""), reach=reach)
    bench.own_network, bench.doors = True, egress.doors(("10.77.0.6:5432",), reach_orders.places(workload))
    bench.hosts = reach_orders.hosts(workload, Path("/etc/hosts").read_text())
    found: list[str] = []

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", ASKING.format(places=places)))
            await until(lambda: "a" in driver.seen() and not driver.seen()["a"].running, "it has asked")
            found.extend(json.loads((bench.folder / "logs/a.log").read_text().splitlines()[-1]))

    go(work())
    return found


@pytest.mark.host
def test_what_is_declared_is_reached_at_its_own_address_and_nothing_else_is(bench: Bench) -> None:
    declared = HERE[0], HERE[3], HERE[4]
    taken = f"127.0.0.1:{egress.FIRST_PORT}"  # where the peer's door would have been
    with host_network(), answering(*HERE, ("127.0.0.1", egress.FIRST_PORT)):
        reach = (*map(text, declared), taken)
        found = asked(bench, (*HERE, ("127.0.0.1", egress.FIRST_PORT), ("127.0.0.1", egress.FIRST_PORT + 1)), reach)
    # Another port of a host that may be spoken to, and another host: not declared, so not there.
    peer = "10.77.0.6:5432"
    assert found == [text(HERE[0]), REFUSED, UNREACHABLE, text(HERE[3]), text(HERE[4]), taken, peer]


@pytest.mark.host
def test_who_declares_nothing_reaches_nothing(bench: Bench) -> None:
    with host_network(), answering(*HERE):
        found = asked(bench, HERE, ())
    assert found == [UNREACHABLE, UNREACHABLE, UNREACHABLE, UNREACHABLE, REFUSED]


@pytest.mark.host
def test_a_name_that_is_declared_is_known_inside_and_others_are_as_before(bench: Bench) -> None:
    before = Path("/etc/hosts").read_bytes()
    with host_network(), answering(*HERE):
        reach = f"db.example={text(HERE[0])}", f"db6.example={text(HERE[3])}", text(HERE[4])
        found = asked(
            bench, (("db.example", 5432), ("db6.example", 5432), ("localhost", 5432), ("db.example", 5433)), reach
        )
    assert found == [text(HERE[0]), text(HERE[3]), text(HERE[4]), REFUSED]
    assert Path("/etc/hosts").read_bytes() == before  # the host's own


@given(
    st.lists(
        st.sampled_from(
            ["127.0.0.1 localhost", "10.0.0.9 db.example db", "# db.example", "10.0.0.9 other # db.example", ""]
        )
    )
)
def test_of_the_hosts_own_names_those_stay_that_the_plan_does_not_give(own: list[str]) -> None:
    asked = replace(python("a", ""), reach=("DB.example=10.0.0.5:80", "DB.example=10.0.0.5:81", "10.0.0.6:80"))
    theirs = "\n".join(own)
    kept = [line for line in theirs.splitlines() if line != "10.0.0.9 db.example db"]
    assert reach_orders.hosts(asked, theirs).splitlines() == ["10.0.0.5 DB.example", *kept]
    assert reach_orders.hosts(replace(asked, reach=("10.0.0.6:80",)), theirs) == ""


@pytest.mark.host
def test_where_nobody_listens_the_caller_is_reset_and_comes_again(bench: Bench) -> None:
    with host_network(), answering(HERE[0]):
        found = asked(bench, (HERE[2], HERE[0], HERE[2]), (text(HERE[0]), text(HERE[2])))
    assert found == [RESET, text(HERE[0]), RESET]


@pytest.mark.host
def test_an_address_that_the_kernel_does_not_take_is_told(bench: Bench) -> None:
    bench.own_network, bench.doors = True, (("10.77.0.5:80", "10.77.0.5:80"), ("10.77.0.5:80", "10.77.0.5:80"))

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", "print('never')"))
            await until(lambda: "a" in driver.seen() and not driver.seen()["a"].running, "it was given up")
            assert "a door at 10.77.0.5:80: Address already in use" in driver.seen()["a"].detail

    go(work())


def test_connections_of_a_door_are_bounded_and_there_is_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "MAX_CONNECTIONS", 3)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as door:
        egress.open_doors([door], [("", text(server.getsockname()))])
        server.settimeout(0.2)
        held = [called(door, server) for _ in range(3)]
        with pytest.raises(OSError, match="reset"), socket.create_connection(door.getsockname(), 5) as more:
            more.recv(1)
        near, far = held.pop()
        near.sendall(b"last words")
        near.close()
        assert far.recv(100) == b"last words"
        assert far.recv(100) == b""
        far.close()
        held.append(called(door, server))
        for pair in held:
            for line in pair:
                line.close()


def called(door: socket.socket, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection through the door, which hears a moment later than we that another has ended."""
    for _ in range(100):
        with suppress(ConnectionResetError):
            near = socket.create_connection(door.getsockname(), 5)
            try:
                return near, server.accept()[0]
            except TimeoutError:
                near.close()
    raise AssertionError("the door has no room")
