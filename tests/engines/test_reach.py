"""Sinks under an agent's driver, in a network of their own, that reach real engines over TCP: the servers die in mid-run, each frame comes once."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.drivers import rooms
from halftrack_agent.drivers.cgroups import Cgroups
from halftrack_agent.drivers.exec import ExecDriver
from halftrack_agent.drivers.launch import Launcher
from halftrack_agent.identity import Identity, Membership
from halftrack_agent.places import Places
from halftrack_dataplane.sdk import Param
from halftrack_model.ids import digest_of
from halftrack_model.release import StateSchemas
from halftrack_model.workload import Kind, Runs, Workload
from tests.agent_shell.driver_bench import ended, go, killed
from tests.agent_shell.host_network import host_network
from tests.agent_shell.waiting import until
from tests.engines.places import Place, opened
from tests.engines.streams import Stream, assert_whole

DATABASE, NAME = "10.77.0.5", "nats.example"
UNDECLARED = [
    ("127.0.0.1", 9),
    (DATABASE, 6543),
    ("10.77.0.6", 5432),
]  # somebody listens there: on the engines' hosts, and on another
# A sink of the user's, which first looks for what nobody has let it reach.
PROGRAM = """
import errno, json, os, socket
from halftrack_dataplane.engines.{module} import {name}

def looked(host, port):
    try:
        socket.create_connection((host, port), 5).close()
        return "reached"
    except OSError as error:
        return errno.errorcode[error.errno]

class Sink({name}):
    def __init__(self, params, data_dir):
        super().__init__(params, data_dir)
        with open(os.path.join(data_dir, "looked"), "w") as file:
            json.dump([looked(*place) for place in {undeclared}], file)
"""


def _with_tcp(place: Place) -> dict[str, Param]:
    """PostgreSQL at an address of the host's; the others listen on its loopback as they are, NATS with a name."""
    if place.module == "jetstream":
        return place.params | {"servers": f"nats://{NAME}:{place.server.port}"}
    if place.module != "postgres":
        return place.params
    place.kill()
    place.server.configure(f"listen_addresses = '{DATABASE}'\n")
    place.server.trust(f"local all all trust\nhost all all {DATABASE}/32 trust\n")
    place.start()
    return {"connect": f"host={DATABASE} dbname=postgres user=halftrack sslmode=disable"}


def _addresses(place: Place, params: dict[str, Param]) -> tuple[str, ...]:
    said = params.get("servers", f"{DATABASE}:5432")
    return tuple(
        each.removeprefix("nats://").replace(f"{NAME}:", f"{NAME}=127.0.0.1:") for each in str(said).split(",")
    )


class Driven:
    """A stream whose sink an agent's driver runs, as a plan says."""

    def __init__(self, folder: Path, memory: Path, place: Place) -> None:
        self.params = _with_tcp(place)
        self.reach = _addresses(place, self.params)
        text = PROGRAM.format(module=place.module, name=place.name, undeclared=UNDECLARED)
        self.stream = Stream(memory / "run", text, "program:Sink", data=place.data, slots=1 << 15)
        self.places = Places(folder / "state", memory / "run")
        member = Membership("sim", "tank-a", "127.0.0.1:1", "k" * 40, {}, {}, 1)
        store = ArtifactStore(self.places.artifacts)
        asyncio.run(store.fetch(digest_of(text.encode()), len(text), _source(text.encode())))
        identity = Identity(self.places.identity, member, b"secret", b"", b"")
        launcher = Launcher(self.places, identity, store, "127.0.0.1:1", own_network=True)
        groups = Cgroups(f"halftrack-test/{folder.name}")
        self.driver = lambda: ExecDriver(rooms.of(self.places), groups, launcher, lambda: None, lambda _: None)
        self.sink = Workload(
            "s.sink", Kind.VERTEX, Runs.SINK, digest_of(text.encode()), "program:Sink", (), self.params, "s/source", "",
            "", "1.0.0", StateSchemas("", ()), None, reach=self.reach,
        )  # fmt: skip

    @property
    def data(self) -> Path:
        """Of the sink."""
        return self.places.data("s.sink")

    def counted(self) -> int:
        """The next sequence of the sink by its status, once the engine has everything before."""
        status = self.stream.status("s.sink.json")
        if status is None or status.counters.get("in_flight", 0) > 0:
            return -1
        return status.seq_out

    async def passed(self, frames: int, what: str) -> None:
        """Until so many frames more are in the engine."""
        mark = self.stream.source_ring.head + frames
        await until(lambda: self.stream.source_ring.head >= mark, "the source writes", 30)
        status = self.stream.status
        await until(
            lambda: (found := status("s.sink.json")) is not None and found.seq_out >= mark,
            f"{what}: {status('s.sink.json')}",
            60,
        )


def _source(program: bytes) -> Callable[[str, int], AsyncIterator[tuple[int, bytes]]]:
    async def source(_digest: str, _offset: int) -> AsyncIterator[tuple[int, bytes]]:
        yield len(program), program

    return source


@pytest.fixture(params=["jetstream", "kafka", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with host_network(), ExitStack() as others:
        for undeclared in UNDECLARED:
            others.enter_context(socket.create_server(undeclared))
        yield from opened(request.param, tmp_path)


@pytest.mark.host
def test_an_engine_that_is_declared_is_reached_through_its_deaths_and_nothing_else_is(
    place: Place, tmp_path: Path, folder: Path
) -> None:
    # invariant: S1
    driven = Driven(tmp_path, folder, place)
    stream = driven.stream

    async def work() -> None:
        driver = driven.driver()
        try:
            driver.start(driven.sink)
            stream.start(stream.source)
            await driven.passed(200, "at first")
            place.kill()
            mark = stream.source_ring.head + 200
            await until(lambda: stream.source_ring.head >= mark, "it is away for a while", 30)
            place.start()
            await driven.passed(200, "after a kill of the server")
            assert driver.pids(), driver.seen()
            stream.kill("s.source")
            await until(lambda: driven.counted() >= stream.source_ring.head, "all is there", 30)
        finally:
            await ended(driver)

    try:
        go(work())
        last = stream.source_ring.head
    finally:
        killed(driven.places.instances)
        stream.close()
    assert_whole(place.found(), last)
    known = any(DATABASE in each for each in driven.reach)
    database = "ECONNREFUSED" if known else "ENETUNREACH"  # that there is such a host is all that can be known of it
    assert json.loads((driven.data / "looked").read_text()) == ["ECONNREFUSED", database, "ENETUNREACH"]


@pytest.mark.host
@pytest.mark.parametrize("place", ["jetstream"], indirect=True)
def test_without_a_word_in_the_plan_the_engine_is_away(place: Place, tmp_path: Path, folder: Path) -> None:
    driven = Driven(tmp_path, folder, place)
    stream = driven.stream

    async def work() -> None:
        driver = driven.driver()
        try:
            driver.start(replace(driven.sink, reach=()))
            stream.start(stream.source)
            await until(
                lambda: (found := stream.status("s.sink.json")) and "no NATS server at" in found.message,
                "it is told",
                30,
            )
            assert driver.pids()  # away is no failure
        finally:
            await ended(driver)

    try:
        go(work())
    finally:
        killed(driven.places.instances)
        stream.close()
