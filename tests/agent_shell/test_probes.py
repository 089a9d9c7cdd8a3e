"""Probes against real processes in networks of their own: what each kind finds, says, and leaves behind."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc  # type: ignore[import-untyped]

from halftrack_agent.drivers import probes
from halftrack_agent.drivers.exec import ExecDriver
from halftrack_agent.drivers.probes import Where
from halftrack_agent.probing import Prober, StreamLook
from halftrack_model.probes import Checks, Probe, ProbeKind
from halftrack_model.workload import Workload
from tests.agent_shell.driver_bench import FOREVER, Bench, command, go, python
from tests.agent_shell.waiting import until

TCP = Probe("tcp", ProbeKind.TCP, port="{params.port}", timeout_ms=10_000)
HTTP = replace(TCP, name="http", kind=ProbeKind.HTTP, path="/well")
GRPC = replace(TCP, name="grpc", kind=ProbeKind.GRPC, port="50051")
EXEC = Probe("exec", ProbeKind.EXEC, command=("true",), timeout_ms=10_000)
PARAMS = {"port": 8080}
PAGES = """
import http.server, socket, threading
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({"/well": 204, "/moved": 302, "/ill": 503}.get(self.path, 404)); self.end_headers()
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Page)
threading.Thread(target=server.serve_forever).start()
def odd(port, answer):
    listener = socket.create_server(("127.0.0.1", port))
    def serve():
        while True:
            connection = listener.accept()[0]
            if answer is None: kept.append(connection)
            else: connection.sendall(answer); connection.close()
    threading.Thread(target=serve).start()
kept = []
odd(8081, b"x" * 100000)
odd(8082, None)
crowded = socket.socket(); crowded.bind(("127.0.0.1", 8083)); crowded.listen(0)
for _ in range(4):  # nobody takes them in, so whoever comes after them waits
    kept.append(socket.socket()); kept[-1].setblocking(False); kept[-1].connect_ex(("127.0.0.1", 8083))
print("ready", flush=True)
"""
SERVING = """
import grpc, sys, signal
from concurrent import futures
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
server = grpc.server(futures.ThreadPoolExecutor(2))
servicer = health.HealthServicer()
servicer.set("shop.Orders", health_pb2.HealthCheckResponse.NOT_SERVING)
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port("127.0.0.1:50051")
server.start()
print("ready", flush=True)
signal.pause()
"""


async def ready(bench: Bench, driver: ExecDriver, name: str) -> int:
    log = bench.folder / "logs" / f"{name}.log"
    await until(lambda: log.exists() and "ready" in log.read_text() and name in driver.pids(), f"{name} is ready")
    return driver.pids()[name]


def where(driver: ExecDriver, name: str, folder: Path, *argv: str) -> Where:
    return Where(driver.pids()[name], folder / "relay", driver.groups(name), argv, {"PATH": "/usr/bin:/bin"})


@pytest.mark.host
def test_what_each_probe_of_a_network_finds_inside(bench: Bench) -> None:
    bench.own_network = True

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("pages", PAGES))
            await ready(bench, driver, "pages")
            here = where(driver, "pages", bench.folder)

            async def found(probe: Probe, **fields: object) -> str:
                return await probes.looked(replace(probe, **fields), PARAMS, here)  # type: ignore[arg-type]

            assert await found(TCP) == ""
            assert await found(HTTP) == ""
            assert await found(HTTP, path="/moved") == ""
            assert await found(HTTP, path="/ill") == "/ill: status 503"
            assert await found(HTTP, path="/nowhere") == "/nowhere: status 404"
            assert await found(TCP, port="9") == "port 9: connection refused"
            assert await found(HTTP, port="8081") == "/well: the answer is no HTTP"
            assert await found(HTTP, port="8082", timeout_ms=200) == "no answer within 200 ms"
            assert await found(TCP, port="8083", timeout_ms=200) == "no answer within 200 ms"
            assert await found(GRPC, port="8081") == "port 8081: unavailable"
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", 8080)  # nothing of it is on the host
            assert not here.relay.exists()

    go(work())


@pytest.mark.host
def test_the_grpc_health_service_is_asked_by_name(bench: Bench) -> None:
    bench.own_network = True

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(command("shop", sys.executable, "-I", "-c", SERVING))
            await ready(bench, driver, "shop")
            here = where(driver, "shop", bench.folder)
            assert await probes.looked(GRPC, PARAMS, here) == ""
            named = replace(GRPC, service="shop.Orders")
            assert await probes.looked(named, PARAMS, here) == "port 50051: it says NOT_SERVING"
            unknown = replace(GRPC, service="nobody")
            assert await probes.looked(unknown, PARAMS, here) == "port 50051: not found"

    go(work())


# invariant: O1
def test_a_proxy_of_the_host_is_not_asked_for_what_runs_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site behind one names it in the agent's unit: each service with a `grpc` probe would have been ill there."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    servicer = health.HealthServicer()

    async def work() -> None:
        server = grpc.aio.server(ThreadPoolExecutor(1))
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            here = Where(os.getpid(), tmp_path / "relay")
            assert await probes.looked(replace(GRPC, port=str(port)), {}, here) == ""
        finally:
            await server.stop(0)

    go(work())


@pytest.mark.host
def test_a_program_runs_as_its_instance_does_and_leaves_nothing(bench: Bench) -> None:
    bench.own_network = True
    secret = bench.folder / "key.pem"
    secret.write_text("secret")
    bench.hidden = (str(secret),)

    async def work() -> None:
        async with bench.running() as driver:
            driver.start(python("a", f"print('ready', flush=True)\n{FOREVER}"))
            pid = await ready(bench, driver, "a")

            async def ran(*argv: str, timeout_ms: int = 10_000) -> str:
                return await probes.looked(
                    replace(EXEC, timeout_ms=timeout_ms), {}, where(driver, "a", bench.folder, *argv)
                )

            assert await ran("true") == ""
            assert await ran("sh", "-c", "echo first; echo it is ill >&2; exit 3") == "exit status 3: it is ill"
            assert await ran("/no/such/program") == "exit status 127: /no/such/program: No such file or directory"
            assert await ran("sh", "-c", "kill -9 $$") == "signal 9"
            assert await ran("sh", "-c", f"exit $(stat -c %s {secret})") == "", "the key looks empty to it, too"
            inside = f"test $(readlink /proc/self/ns/net) = '{os.readlink(f'/proc/{pid}/ns/net')}'"
            assert await ran("sh", "-c", inside) == ""
            assert await ran("sh", "-c", "grep -q 'CapEff:.*0000000000000000' /proc/self/status") == ""
            mark = bench.folder / "mark"
            slow = f"sleep 1000 & echo $! > {mark}; wait"
            assert await ran("sh", "-c", slow, timeout_ms=1_000) == "no answer within 1000 ms"
            await until(lambda: not Path(f"/proc/{mark.read_text().strip()}").exists(), "what it had started is gone")
            quiet = "yes | head -c 10000000; exit 1"  # not a word about a broken pipe
            assert await ran("sh", "-c", quiet) == "exit status 1: y"

    go(work())


def workload(*checked: Probe) -> Workload:
    return replace(python("a", FOREVER), checks=Checks(checked))


# invariant: O1
def test_a_look_that_meets_what_nobody_thought_of_is_not_the_last(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what was seen last would be believed for as long as the instance runs."""
    watched = workload(replace(TCP, port="1", period_ms=200))

    async def looked(*_: object) -> str:
        if not threads:
            raise RuntimeError("can't start new thread")
        return ""

    monkeypatch.setattr(probes, "looked", looked)
    threads = [True]

    async def work() -> None:
        async with bench.running() as driver:
            prober = Prober(
                bench.folder / "probes", lambda *_: Where(os.getpid(), bench.folder), lambda _: None, lambda: None
            )
            prober.use([watched])
            driver.start(watched)

            def good() -> bool | str | None:
                found = prober.follow(driver.seen()).get("a", {}).get("tcp")
                return found.good if found is not None else "not yet"

            await until(lambda: good() is True, "it is well")
            threads.clear()
            await until(lambda: good() is None, "nobody can tell")
            threads.append(True)
            await until(lambda: good() is True, "it is well again")
            await prober.close()

    go(work())


def test_looks_are_counted_in_a_row_for_one_life(bench: Bench) -> None:
    """With a stream that is told by hand: how looks are counted is the same for every kind."""
    looks = [StreamLook(0, 64, 0)]
    watched = workload(Probe("stream", ProbeKind.STREAM, lag_frames=10, gaps=0, period_ms=200, failures=2))

    async def work() -> None:
        async with bench.running() as driver:
            woken = asyncio.Event()
            prober = Prober(bench.folder / "probes", lambda *_: None, lambda _: looks[0] if looks else None, woken.set)
            prober.use([watched])
            driver.start(watched)

            async def seen(good: bool | None, text: str, in_a_row: int = 1) -> None:
                def holds() -> bool:
                    found = prober.follow(driver.seen()).get("a", {}).get("stream")
                    return found is not None and (found.good, found.text) == (good, text) and found.in_a_row >= in_a_row

                await until(holds, f"{good} {text}")

            await seen(True, "", 3)
            looks[0] = StreamLook(11, 64, 0)
            await seen(False, "it is more than 10 frames behind", 2)
            looks[0] = StreamLook(0, 64, 5)
            await seen(True, "")
            looks[0] = StreamLook(0, 64, 6)
            await seen(False, "more than 0 frames were missing between two looks")
            await seen(True, "")
            looks.clear()
            await seen(None, "")
            driver.stop("a")
            await until(lambda: prober.follow(driver.seen()) == {}, "what was seen ends with the life")
            await prober.close()

    go(work())
