"""A site of real machines: `base` has the controller as its unit, `tank-a` and `tank-b` have an agent each, all as an administrator would install them.

Two services run: `page` in its host's network, on every host, and `inner` in a network of its own; and a stream, a pair on both hosts between a source and a sink that
writes down every frame. Owns the machines, the cables, and what an operator has declared. Judges nothing (`trials`).
"""

import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from examples.lab import kernel
from halftrack_controller import galaxy
from halftrack_controller.operator_client import OperatorClient
from halftrack_controller.snapshot import Environment, Host
from halftrack_model import canonical
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.observed import Health, Observed
from halftrack_model.probes import Checks, Probe, ProbeKind
from halftrack_model.release import AGENT as AGENT_PRODUCT
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.report import Happened
from halftrack_model.seals import RELEASE
from tests.agent_shell.test_updating import bundle
from tests.fleet import installing
from tests.fleet.machine import Failed, Machine, until
from tests.fleet.network import Cables
from tests.soak import swap_publisher, swap_stream

BASE = "base"
ADDRESSES = {BASE: "10.77.0.1", "tank-a": "10.77.0.2", "tank-b": "10.77.0.3"}
PORT = 8080
AGENT, CONTROLLER = "halftrack-agent.service", "halftrack-controller.service"
STATE, RUN = "/var/lib/halftrack-agent", "/run/halftrack-agent"
PAGE = installing.ROOT / "examples/services/page.py"
PROBE = Probe("http", ProbeKind.HTTP, port="{params.port}", path="/healthz", period_ms=500, failures=3)
DISK_BYTES = 128 << 20  # artifacts keep away from the last 64 MiB of a disk
RECONNECT_S = 120.0  # an agent that has tried in vain for long tries again within half a minute
Figures = dict[str, int]
RATE, BURST_US = 500, 10_000
STREAM = {
    "source": ("Numbers", {"rate": RATE, "burst_us": BURST_US}),
    "sum": ("Sums", {"release": 1}),
    "mark": ("Marks", {}),
}


class Site:
    """Must be made inside `jail.run_isolated`, as root. `hosts` are those of the tanks that there are; `stream`: the stream, too."""

    def __init__(
        self, folder: Path, group: str, hosts: Sequence[str] = ("tank-a", "tank-b"), stream: bool = True
    ) -> None:
        self.folder, self.hosts, self.stream = folder, tuple(hosts), stream
        self._agents: set[str] = set()  # versions that are published
        folder.mkdir(parents=True)
        self.cables = Cables({name: ADDRESSES[name] for name in (BASE, *hosts)})
        prefix = installing.installed(folder / "opt")
        self.machines = {name: Machine(name, folder / name, group, name != "tank-b") for name in (BASE, *hosts)}
        for machine in self.machines.values():
            machine.binds |= installing.binds(prefix)
            for target in machine.binds:
                (machine.root / target[1:]).mkdir(parents=True, exist_ok=True)
            machine.disks |= self._disk(machine.name) if machine.name == hosts[-1] else {}
        self.base = self.machines[BASE]
        self._install_controller()

    def _disk(self, host: str) -> dict[str, str]:
        """A small one for the agent's state, which outlives reboots as all of a machine's does."""
        disk = self.folder / f"{host}-disk"
        disk.mkdir()
        kernel.mount("none", str(disk), "tmpfs", 0, f"size={DISK_BYTES}")
        return {STATE: str(disk)}

    def begin(self) -> None:
        """Switch all on, declare what shall run, enrol the hosts."""
        for machine in self.machines.values():
            machine.switch_on()
        for machine in self.machines.values():
            machine.wait_booted()
        self._declare()
        for host in self.hosts:
            self._enrol(host)

    def _install_controller(self) -> None:
        galaxy.init(self.folder / "galaxy", "fleet", [ADDRESSES[BASE]])
        state = self.base.root / "var/lib/halftrack-controller"
        (self.folder / "galaxy/controller").rename(self.folder / "controller")
        _copied(self.folder / "controller", state)
        self.base.install(installing.UNITS[CONTROLLER], enabled=True)
        for host in self.hosts:
            self.machines[host].install(installing.UNITS[AGENT], enabled=False)

    def _declare(self) -> None:
        until(self.listens, "the controller listens")
        with self.operator() as client:
            client.put_artifact(PAGE)
            hosts = [Host(h, "site", {}, f"{ADDRESSES[h]}:7450", f"{ADDRESSES[h]}:7451", "") for h in self.hosts]
            documents = [
                Environment("site", {}, "stable"),
                *hosts,
                self._service("page", True),
                self._service("inner", False),
            ]
            client.apply([*documents, self._line()] if self.stream else documents)
            for name in ("page", "inner"):
                self.publish(client, name, "1.0.0")
            if self.stream:
                for product, (entry, params) in STREAM.items():
                    state = "sum/1" if product == "sum" else ""
                    asked = {
                        "product": product,
                        "version": "1.0.0",
                        "entry": f"swap_stream:{entry}",
                        "params": params,
                        "state": state,
                        "surge": 1,
                    }
                    swap_publisher.published(client, Path(swap_stream.__file__), asked)

    def _service(self, name: str, host_network: bool) -> StreamGraph:
        vertex = Vertex(name, Role.SERVICE, name, self.hosts, {"port": PORT}, 0, 0, host_network=host_network)
        return StreamGraph(name, "site", (vertex,), ())

    def _line(self) -> StreamGraph:
        a, both = self.hosts[0], self.hosts
        return StreamGraph(
            "line",
            "site",
            (
                Vertex("source", Role.SOURCE, "source", (a,), {}, 1 << 20, 1 << 14),
                Vertex("sum", Role.PAIR, "sum", both, {}, 1 << 20, 1 << 14),
                Vertex("mark", Role.SINK, "mark", (a,), {}, 0, 0),
            ),
            (Edge("source", "sum"), Edge("sum", "mark")),
        )

    def publish(self, client: OperatorClient, product: str, version: str) -> None:
        """A release of a service, whose greeting is its version."""
        artifact = client.put_artifact(PAGE)
        command = ("python3", "{artifact}", "{params.port}", version)
        made = Release(
            product,
            version,
            Artifact(artifact.digest, artifact.size_bytes),
            "",
            {},
            StateSchemas("", ()),
            SwapStrategy(),
            command=command,
            health=Checks((PROBE,), grace_ms=5_000),
        )
        client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))

    def order_agent(self, version: str, fault: str = "") -> None:
        """Every host shall have this version of the agent; without a `fault`, one that is published already may be meant."""
        with self.operator() as client:
            if version not in self._agents:
                self._agents.add(version)
                path = self.folder / f"agent-{version}.tar"
                path.write_bytes(bundle(version, fault))
                held = client.put_artifact(path)
                made = Release(
                    AGENT_PRODUCT,
                    version,
                    Artifact(held.digest, held.size_bytes),
                    "",
                    {},
                    StateSchemas("", ()),
                    SwapStrategy(),
                    command=(f"{installing.PREFIX}/bin/python", "-I", "{artifact}/start.py"),
                    unpack=True,
                )
                client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))
            client.apply([Environment("site", {}, "stable", version)])

    def agents(self) -> dict[str, tuple[str, bool]]:
        """The version of each host's agent, and whether it is on trial, as the controller sees it."""
        with self.operator() as client:
            return {entry.name: (entry.agent, entry.agent_on_trial) for entry in client.hosts("")}

    def given_up(self) -> set[tuple[str, str]]:
        """The versions of the agent that hosts have given up, and why, as the controller was told."""
        with self.operator() as client:
            found = [report for host in self.hosts for report in client.host(host).reports]
        return {(report.subject, report.detail) for report in found if report.happened is Happened.AGENT_WENT_BACK}

    def _enrol(self, host: str) -> None:
        """As the README says."""
        machine = self.machines[host]
        with self.operator() as client:
            token = client.create_token(host, 600).token
        (machine.path("/root/token")).write_text(token)
        machine.run("/opt/halftrack/bin/halftrack-agent", "enrol", "--token-file", "/root/token")
        machine.run("systemctl", "enable", "--now", "--no-block", AGENT)

    # ---------------------------------------------------------------------------------------------------------- looking

    def operator(self) -> OperatorClient:
        """An operator's terminal, at the switch."""
        return OperatorClient.from_config(self.folder / "galaxy/operator")

    def listens(self) -> bool:
        """Can the controller be reached?"""
        try:
            socket.create_connection((ADDRESSES[BASE], galaxy.SESSION_PORT), 0.5).close()
        except OSError:
            return False
        return True

    def page(self, host: str) -> str:
        """What the host's page says to its own host; empty while nobody answers 200."""
        try:
            with self.cables.inside(host):
                connection = socket.create_connection((ADDRESSES[host], PORT), 2)
            with connection:
                connection.settimeout(2)
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return ""
        head, _, body = answer.partition(b"\r\n\r\n")
        return body.decode().strip() if b" 200 " in head.splitlines()[0] else ""

    def served(self, host: str, since_s: float) -> float:
        """Milliseconds from then until the host's page answers."""
        until(lambda: self.page(host), f"{host} serves")
        return round((time.monotonic() - since_s) * 1000)

    def seen(self, host: str) -> Observed | None:
        """The host as its agent last showed it."""
        try:
            return canonical.decode(Observed, self.machines[host].path(f"{RUN}/observed.json").read_bytes())
        except OSError:
            return None

    def well(self, host: str) -> bool:
        """Is every instance of the host healthy, and is there one?"""
        seen = self.seen(host)
        return bool(seen and seen.instances) and all(each.health is Health.HEALTHY for each in seen.instances)

    def pids(self, host: str) -> dict[str, tuple[int, int]]:
        """The workload's and the shim's process of each instance that runs, by their numbers in there."""
        found = {}
        for folder in self.machines[host].path(f"{STATE}/instances").iterdir():
            try:
                who = json.loads((folder / "instance.json").read_bytes())
            except (OSError, ValueError):
                continue
            if not (folder / "exit.json").exists():
                found[folder.name] = (int(who["pid"]), int(who["shim_pid"]))
        return found

    def rings(self, host: str) -> dict[str, int]:
        """The host's rings, and which files they are."""
        return {path.name: path.stat().st_ino for path in self.machines[host].path(f"{RUN}/rings").rglob("*.ring")}

    def problems(self, host: str) -> tuple[str, ...]:
        """What the host says that it cannot do."""
        seen = self.seen(host)
        return seen.problems if seen else ("it has not shown itself",)

    def property(self, machine: str, unit: str, name: str) -> str:
        """What a machine's systemd says of a unit."""
        return self.machines[machine].property(unit, name)

    def agent(self, host: str) -> int:
        """The agent's process, by its number in there; 0 while there is none."""
        return int(self.property(host, AGENT, "MainPID"))

    def networked(self, host: str) -> None:
        """`inner` is in a network of its own, `page` in its host's."""
        machine, pids = self.machines[host], self.pids(host)
        own, host_s, first = (
            str(machine.path(f"/proc/{pid}/ns/net").readlink())
            for pid in (pids["inner.inner"][0], pids["page.page"][0], 1)
        )
        if not own != host_s == first:
            raise Failed(f"{host}: networks of inner, page and the host: {own}, {host_s}, {first}")

    def in_step(self) -> None:
        """Return when every host is connected, healthy and has what it shall have, as the controller sees it."""

        def stands(host: str) -> bool:
            with self.operator() as client:
                entry = client.host(host).entry
            return entry.connected and entry.health is Health.HEALTHY and entry.revision == entry.accepted_revision

        for host in self.hosts:
            until(lambda host=host: stands(host), f"{host} is in step with the controller", RECONNECT_S)

    def reported(self, happened: Happened) -> int:
        """How many of the hosts' reports that the controller has are of this kind."""
        with self.operator() as client:
            return sum(report.happened is happened for host in self.hosts for report in client.host(host).reports)

    def kept(self) -> int:
        """How many frames the sink has written down: each once, in order, none missing, each the sum that it must be."""
        if not self.stream:
            return 0
        folder = self.machines[self.hosts[0]].path(f"{STATE}/data/line.mark")
        data = b"".join(path.read_bytes() for path in swap_stream.files_of(folder))
        size, total = swap_stream.ROW.size, 0
        for at in range(len(data) // size):
            seq, _, _, gap, number, found, _ = swap_stream.ROW.unpack_from(data, at * size)
            total = total + at * swap_stream.SPREAD & swap_stream.MASK
            if (seq, gap, number, found) != (at, 0, at, total):
                raise Failed(f"row {at} of the sink is frame {seq} ({number}), gap {gap}, sum {found}; due is {total}")
        return len(data) // size

    def told(self) -> str:
        """What there is to read when something has gone wrong."""
        parts = []
        for name, machine in self.machines.items():
            unit = CONTROLLER if name == BASE else AGENT
            try:
                parts.append(f"--- {name}\n{machine.journal(unit)[-6000:]}")
            except (OSError, Failed) as error:
                parts.append(f"--- {name}: {error}")
        return "\n".join(parts)


def _copied(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target)
