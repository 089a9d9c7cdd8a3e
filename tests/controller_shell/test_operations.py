"""The operator's API, and the daemon as a process: killed at any moment, it comes back with what it acknowledged."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from halftrack_controller import daemon, galaxy, keys
from halftrack_controller.operator_client import OperatorClient
from halftrack_model import canonical, seals
from halftrack_model.errors import HalftrackError, HostFault, InvalidInput, Refused, Untrusted
from halftrack_model.resources import Resources
from halftrack_proto import messages as said
from halftrack_proto.channel import CLIENT_OPTIONS
from tests.controller_shell.shell_harness import (
    ENVIRONMENT,
    LiveController,
    channel_as,
    enrol,
    eventually,
    graph,
    host,
    publish,
    release,
)


@pytest.fixture
def client(live: LiveController) -> Iterator[OperatorClient]:
    with live.operator() as operator:
        yield operator


def test_applying_says_what_it_changes_and_again_changes_nothing(client: OperatorClient) -> None:
    """created, then unchanged, then changed; never deleted by omission."""
    # invariant: R1, R3
    declared = [graph("tank-a"), host("tank-c"), dataclasses.replace(ENVIRONMENT, track="canary")]
    assert [change.action for change in client.plan(declared).changes] == ["created", "created", "changed"]
    assert [change.action for change in client.apply(declared)] == ["created", "created", "changed"]
    assert [change.action for change in client.apply(declared)] == ["unchanged"] * 3
    assert [entry.name for entry in client.hosts()] == ["tank-a", "tank-b", "tank-c"]


def test_every_error_of_an_apply_is_told_and_nothing_applied(client: OperatorClient) -> None:
    """Also the documents that were right."""
    wrong = dataclasses.replace(graph("nowhere"), environment="void")
    with pytest.raises(InvalidInput) as caught:
        client.apply([host("tank-c"), host("tank-c"), dataclasses.replace(host("d"), bridge="x:0"), wrong])
    for part in ("declared twice", "'x:0' is no address", "no environment 'void'", "no host 'nowhere'"):
        assert part in caught.value.message
    assert [entry.name for entry in client.hosts()] == ["tank-a", "tank-b"]


def test_a_plan_foretells_what_happens(live: LiveController, client: OperatorClient, tmp_path: Path) -> None:
    """`plan` names the rollouts and the host's revision that `apply` then brings about."""
    enrol(live, client.create_token("tank-a", 600).token, "tank-a")
    for product in ("counter", "keeper"):
        publish(client, tmp_path, product, "1.0.0")
    foretold = client.plan([graph("tank-a")])
    assert [(change.host, change.revision_held, change.next.revision) for change in foretold.hosts] == [
        ("tank-a", 0, 1)
    ]
    assert {entry.product for entry in foretold.rollouts} == {"counter", "keeper"}
    assert client.host("tank-a").plan is None
    client.apply([graph("tank-a")])
    assert eventually(lambda: client.host("tank-a").plan) == foretold.hosts[0].next
    assert {entry.rollout_id for entry in client.rollouts()} == {entry.rollout_id for entry in foretold.rollouts}
    assert client.plan().hosts == ()


def test_a_release_is_verified_once_and_for_ever(client: OperatorClient, tmp_path: Path) -> None:
    """Only the release key publishes; the same again is no event; other content under the same version is refused."""
    # invariant: P1
    made = publish(client, tmp_path, "counter", "1.0.0")
    assert client.publish_release(
        client.load_release_key().sealed(seals.RELEASE, canonical.encode(made))
    ).already_published
    key = client.load_release_key()
    other = dataclasses.replace(made, entry="module:Other")
    absent = release("counter", "2.0.0", b"never sent")
    short = dataclasses.replace(made, version="3.0.0", artifact=dataclasses.replace(made.artifact, size_bytes=1))
    senseless = dataclasses.replace(made, version="4.0.0", resources=Resources(memory_bytes=1))
    for sealed, kind, reason in (
        (keys.new_key().sealed(seals.RELEASE, canonical.encode(other)), Untrusted, "unknown-key"),
        (key.sealed(seals.PLAN, canonical.encode(other)), Untrusted, "wrong-kind"),
        (
            dataclasses.replace(key.sealed(seals.RELEASE, b"x"), payload=canonical.encode(other)),
            Untrusted,
            "bad-signature",
        ),
        (key.sealed(seals.RELEASE, canonical.encode(other)), Refused, "release-exists"),
        (key.sealed(seals.RELEASE, canonical.encode(absent)), Refused, "unknown-artifact"),
        (key.sealed(seals.RELEASE, canonical.encode(short)), InvalidInput, "bad-size"),
        (key.sealed(seals.RELEASE, canonical.encode(senseless)), InvalidInput, "bad-release"),
        (key.sealed(seals.RELEASE, b"{}"), InvalidInput, "bad-field"),
    ):
        with pytest.raises(HalftrackError) as caught:
            client.publish_release(sealed)
        assert (type(caught.value), caught.value.reason) == (kind, reason)
    assert [entry.release for entry in client.releases("counter")] == [made]


def test_rollouts_are_steered_by_name(live: LiveController, client: OperatorClient, tmp_path: Path) -> None:
    """A verb moves a rollout, its absence is told, and watchers hear of it."""
    client.apply([graph("tank-a")])
    heard: list[said.Change] = []
    changes = client.watch()

    def watch() -> None:
        with contextlib.suppress(HalftrackError):
            for change in changes:
                heard.append(change)

    thread = threading.Thread(target=watch)
    thread.start()
    publish(client, tmp_path, "counter", "1.0.0")
    (entry,) = eventually(client.rollouts)
    assert client.steer(entry.rollout_id, said.Steer.ABORT).phase == "aborted"
    with pytest.raises(Refused, match="no rollout"):
        client.steer("nothing", said.Steer.PAUSE)
    eventually(lambda: any((c.kind, c.subject) == ("rollout", entry.rollout_id) and "aborted" in c.text for c in heard))
    assert [change.number for change in heard] == list(range(1, len(heard) + 1))
    client.close()
    thread.join()


def test_health_and_reflection(live: LiveController, client: OperatorClient) -> None:
    """Both ports say that they serve; only the one for operators says what."""
    who = enrol(live, client.create_token("tank-a", 600).token, "tank-a")
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with channel_as(live, who) as channel:
        status = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status
        assert status == health_pb2.HealthCheckResponse.SERVING
        (answer,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=10)
        assert "halftrack.v1.Operator" in {service.name for service in answer.list_services_response.service}
    with grpc.secure_channel(live.enrolment, grpc.ssl_channel_credentials(who.ca_pem), CLIENT_OPTIONS) as channel:
        service = health_pb2.HealthCheckRequest(service="halftrack.v1.Enrolment")
        assert health_pb2_grpc.HealthStub(channel).Check(service, timeout=10).status == status
        with pytest.raises(grpc.RpcError):
            list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=10))


def test_a_galaxy_is_made_once_and_keeps_its_keys_to_itself(folder: Path) -> None:
    """Nobody else can read them; the controller's half does not have the release key; a second init is refused."""
    with pytest.raises(Refused):
        galaxy.init(folder, "milkyway", ["127.0.0.1"])
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
    release_key = keys.load_key(folder / "operator" / "release.key")
    private = (folder / "operator" / "release.key").read_bytes()
    assert not any(path.read_bytes() == private for path in (folder / "controller").iterdir())
    mine = galaxy.load(folder / "controller")
    assert mine.release_keys == {release_key.key_id: release_key.public}
    secrets = [
        line for path in files if path.suffix == ".key" for line in path.read_text().splitlines() if line[0] != "-"
    ]
    shown = repr(mine) + repr(mine.plan_key) + repr(mine.authority) + repr(mine.server)
    assert not any(secret in shown for secret in secrets)


@pytest.mark.parametrize("name", ["galaxy.json", "ca.pem", "ca.key", "server.pem", "server.key", "plan.key"])
def test_a_damaged_galaxy_is_told_by_the_files_name(folder: Path, name: str) -> None:
    (folder / "controller" / name).write_text("{not what it was")
    with pytest.raises(InvalidInput, match=re.escape(str(folder / "controller" / name))):
        galaxy.load(folder / "controller")


@pytest.mark.parametrize("name", ["config.json", "ca.pem", "operator.pem", "operator.key"])
def test_a_damaged_operators_folder_is_told_by_the_files_name(folder: Path, name: str) -> None:
    (folder / "operator" / name).write_bytes(b"\xff{not what it was")
    with pytest.raises(InvalidInput, match=re.escape(str(folder / "operator" / name))):
        galaxy.load_operator(folder / "operator")


def test_a_key_and_a_certificate_of_two_galaxies_are_no_pair(folder: Path, tmp_path: Path) -> None:
    galaxy.init(tmp_path / "other", "andromeda", ["127.0.0.1"])
    shutil.copy(tmp_path / "other/operator/operator.key", folder / "operator/operator.key")
    with pytest.raises(InvalidInput, match="not a certificate and its key"):
        galaxy.load_operator(folder / "operator")


def test_an_operator_may_edit_the_settings(folder: Path) -> None:
    """The controller has moved: its address is changed with an editor, which ends the file with a line's end."""
    config = folder / "operator/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"endpoint": "10.9.9.9:7443"}, indent=2) + "\n")
    assert galaxy.load_operator(folder / "operator").endpoint == "10.9.9.9:7443"
    config.write_text(config.read_text().replace("endpoint", "andpoint"))
    with pytest.raises(InvalidInput, match="andpoint"):
        galaxy.load_operator(folder / "operator")


@contextlib.contextmanager
def process(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The real daemon, and the port of its sessions."""
    command = [sys.executable, "-m", "halftrack_controller.daemon", "serve", "--state", str(folder / "controller")]
    ports = ["--listen", "127.0.0.1", "--session-port", "0", "--enrolment-port", "0"]
    with subprocess.Popen(
        [*command, *ports, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            yield child, int(line.split("session=")[1].split()[0]) if line.startswith(daemon.READY) else 0
        finally:
            child.kill()


def client_of(folder: Path, port: int) -> OperatorClient:
    return OperatorClient(
        dataclasses.replace(galaxy.load_operator(folder / "operator"), endpoint=f"127.0.0.1:{port}"), deadline_s=5
    )


def apply_pairs(client: OperatorClient, life: int, acknowledged: list[str]) -> None:
    """Two hosts at a time, for ever."""
    for number in range(100_000):
        pair = [f"h{life}-{number}-{half}" for half in "ab"]
        client.apply([host(name) for name in pair])
        acknowledged += pair


def test_a_killed_daemon_comes_back_with_all_it_acknowledged(folder: Path) -> None:
    """SIGKILL among applies, three times: every host that was acknowledged is there, and each apply whole."""
    # invariant: D1
    acknowledged: list[str] = []
    for life in range(3):
        with process(folder) as (child, port), client_of(folder, port) as client:
            client.apply([ENVIRONMENT])
            names = [entry.name for entry in client.hosts()]
            assert set(acknowledged) <= set(names)
            assert len(names) % 2 == 0, "half an apply"
            killer = threading.Timer(0.05 + 0.1 * life, os.kill, (child.pid, signal.SIGKILL))
            killer.start()
            with pytest.raises(HostFault):
                apply_pairs(client, life, acknowledged)
            killer.join()
    assert acknowledged


def test_a_daemon_ends_in_order_and_a_second_one_is_refused(folder: Path) -> None:
    """SIGTERM is exit status 0; a second daemon on the same state says so and leaves the first alone; no secret is logged."""
    with process(folder) as (child, port), client_of(folder, port) as client:
        client.apply([ENVIRONMENT, host("tank-a")])
        token = client.create_token("tank-a", 600).token
        with process(folder) as (second, none):
            assert none == 0
            assert second.wait(20) == 1
            assert second.stderr is not None
            assert "in-use" in second.stderr.read()
        assert client.hosts()
        child.send_signal(signal.SIGTERM)
        _, logged = child.communicate(timeout=20)
        assert child.returncode == 0
        assert "enrolment token made for host=tank-a" in logged
        assert token not in logged
        assert "Traceback" not in logged


def test_a_port_belongs_to_one_controller(folder: Path, tmp_path: Path) -> None:
    """Hosts that dial a port shared by two galaxies would reach either: the second daemon says so and ends."""
    galaxy.init(tmp_path / "other", "andromeda", ["127.0.0.1"])
    with (
        process(folder) as (_, port),
        process(tmp_path / "other", "--session-port", str(port)) as (second, none),
    ):
        assert none == 0
        assert second.wait(20) == 1
        assert second.stderr is not None
        assert f"cannot listen on 127.0.0.1:{port}" in second.stderr.read()


@pytest.mark.parametrize("port", ["65536", "-5", "x"])
def test_a_port_that_is_none_is_a_wrong_command_line(folder: Path, port: str) -> None:
    with process(folder, f"--session-port={port}") as (child, _):
        assert child.wait(20) == 2
