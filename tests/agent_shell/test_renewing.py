"""The agent's side of a renewal, in this process, with a real controller: what it learns, what it keeps, what it refuses and says."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import enrol as enrolment
from halftrack_agent import files, identity, notes, renewing
from halftrack_agent.identity import Identity, Membership
from halftrack_agent.renewing import Renewing
from halftrack_agent.reserve import Reserve
from halftrack_agent.wallclock import WallClock
from halftrack_controller import ca, galaxy
from halftrack_model.errors import HostFault, Untrusted
from halftrack_proto.channel import CLIENT_OPTIONS
from halftrack_proto.messages import EnrolRequest, Welcome
from halftrack_proto.tokens import token_of
from halftrack_proto.v1 import session_pb2_grpc
from tests.agent_shell.waiting import until
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, host

CA_PEM = ca.pem(ca.new_authority("milkyway").certificate)
LIFE_S = 100  # one that lives too long is renewed within a second


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveController]:
    folder = tmp_path_factory.mktemp("certificates") / "galaxy"
    galaxy.init(folder, "milkyway", ["127.0.0.1"])
    settings = folder / "controller/galaxy.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"host_certificate_s": LIFE_S}))
    controller = LiveController(folder)
    with controller.operator() as client:
        client.apply([ENVIRONMENT, host("tank-a")])
    yield controller
    controller.stop()


def enrolled(live: LiveController, folder: Path) -> Identity:
    with live.operator() as client:
        token = token_of(client.create_token("tank-a", 600).token)
    asyncio.run(enrolment.enrol(folder, token))
    return identity.load(folder)


def together(renews: Renewing, work: Callable[[Renewing], Awaitable[None]]) -> None:
    async def run() -> None:
        running = asyncio.get_running_loop().create_task(renews.run())
        try:
            await work(renews)
            assert not running.done()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


def told(left_s: int, life_s: int = LIFE_S, endpoint: str = "") -> Welcome:
    return Welcome(1000, 0, left_s, life_s, endpoint, 0)


def test_a_host_of_an_earlier_version_learns_where_and_renews_soon(live: LiveController, tmp_path: Path) -> None:
    """Its trust.json is as that version wrote it; afterwards it knows, on the disk too, and has a certificate of today's length."""
    before = enrolled(live, tmp_path / "id")
    old = dataclasses.replace(before, member=dataclasses.replace(before.member, enrolment_endpoint=""))
    files.replace(tmp_path / "id/trust.json", identity.canonical.encode(old.member))
    assert b"enrolment" not in (tmp_path / "id/trust.json").read_bytes()

    async def work(renews: Renewing) -> None:
        for _ in range(5):
            renews.unanswered()  # it would renew now, and knows not where
        await asyncio.sleep(0)
        renews.welcomed(told(16_000 * 86_400, endpoint=live.enrolment))
        await until(lambda: renews.identity.cert_pem != old.cert_pem, "it has renewed")

    together(Renewing(identity.load(tmp_path / "id")), work)
    after = identity.load(tmp_path / "id")
    assert after.member == before.member
    assert after.cert_pem != before.cert_pem
    assert (after.key_pem, after.ca_pem) == (before.key_pem, before.ca_pem)


def test_one_that_was_replaced_says_so(live: LiveController, tmp_path: Path) -> None:
    one = enrolled(live, tmp_path / "one")
    enrolled(live, tmp_path / "two")

    async def work(renews: Renewing) -> None:
        for _ in range(3):
            renews.unanswered()
        await until(lambda: renews.problems, "it is refused")
        (text,) = renews.problems
        assert "another key speaks for 'tank-a' now: if this is still it, enrol it with a fresh token" in text
        renews.welcomed(told(LIFE_S))
        assert renews.problems == (), "it is let in, so it was not so"

    together(Renewing(one), work)


def test_what_the_disk_has_no_room_for_is_used_and_told(
    live: LiveController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session comes first: the next agent asks again."""
    # invariant: C2
    before = enrolled(live, tmp_path / "id")

    def full(path: Path, data: bytes) -> None:
        raise HostFault("disk-full", f"no room for {path.name}")

    monkeypatch.setattr(files, "replace", full)

    async def work(renews: Renewing) -> None:
        renews.welcomed(told(1))
        await until(lambda: renews.identity.cert_pem != before.cert_pem, "it has renewed")
        assert renews.problems == ("the renewed identity is not on the disk: no room for cert.pem",)

    together(Renewing(before), work)
    assert identity.load(tmp_path / "id") == before


def test_a_token_outlives_the_cas_certificate_and_not_its_key(tmp_path: Path) -> None:
    """`galaxy renew` makes another one for the same key; tokens that are on their way are good. One of another CA is not."""
    galaxy.init(tmp_path / "galaxy", "milkyway", ["127.0.0.1"])
    live = LiveController(tmp_path / "galaxy")
    with live.operator() as client:
        client.apply([ENVIRONMENT, host("tank-a")])
        token = token_of(client.create_token("tank-a", 600).token)
    live.stop()
    galaxy.renew_own(tmp_path / "galaxy/controller")
    live = LiveController(tmp_path / "galaxy", ports=live.running.ports)
    try:
        asyncio.run(enrolment.enrol(tmp_path / "id", token))
        held = identity.load(tmp_path / "id")
        assert (
            held.ca_pem
            == galaxy.load(tmp_path / "galaxy/controller").ca_pem
            != ca.pem(x509.load_der_x509_certificate(token.ca_der))
        )
        key = identity.own_key(held.key_path)
        csr = enrolment._request_for(key, "tank-a")
        asked = EnrolRequest(token.secret, "tank-a", csr, held.member.curve_public)
        reply = asyncio.run(enrolment._asked(token, asked))
    finally:
        live.stop()
    foreign = dataclasses.replace(token, ca_der=ca.der(ca.new_authority("milkyway").certificate))
    with pytest.raises(Untrusted, match="its CA has another key"):
        enrolment._check(reply, foreign, key)


def test_a_full_disk_has_room_kept_back_for_it(
    live: LiveController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, reserve = enrolled(live, tmp_path / "id"), Reserve(tmp_path)
    real = files.replace

    def full(path: Path, data: bytes) -> None:
        if (tmp_path / "reserve").exists():
            raise HostFault("disk-full", f"no room for {path.name}")
        real(path, data)

    async def work(renews: Renewing) -> None:
        renews.welcomed(told(1))
        await until(lambda: renews.identity.cert_pem != before.cert_pem, "it has renewed")
        assert renews.problems == ()

    assert (tmp_path / "reserve").exists()
    monkeypatch.setattr(files, "replace", full)
    together(Renewing(before, reserve.write), work)
    assert identity.load(tmp_path / "id").cert_pem != before.cert_pem


@pytest.mark.parametrize(
    "held", [None, b"", b"not what it was", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_certificate_that_is_lost_is_made_again(live: LiveController, tmp_path: Path, held: bytes | None) -> None:
    """It is no secret and nothing depends on it: the key gets another. A session with what is there fails, and ends nobody's process."""
    # invariant: D1
    before, path = enrolled(live, tmp_path / "id"), tmp_path / "id/cert.pem"
    path.unlink()
    if held is not None:
        path.write_bytes(held)
    damaged = identity.load(tmp_path / "id")

    async def work(renews: Renewing) -> None:
        credentials = grpc.ssl_channel_credentials(damaged.ca_pem, damaged.key_pem, damaged.cert_pem)
        async with grpc.aio.secure_channel(live.session, credentials, options=CLIENT_OPTIONS) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await session_pb2_grpc.SessionStub(channel).Connect().read()
        for _ in range(3):
            renews.unanswered()
        await until(lambda: renews.identity.cert_pem != damaged.cert_pem, "it has renewed")

    together(Renewing(damaged), work)
    assert identity.load(tmp_path / "id").member == before.member
    assert x509.load_pem_x509_certificate(path.read_bytes())


def test_a_cas_certificate_that_is_damaged_is_told(live: LiveController, tmp_path: Path) -> None:
    enrolled(live, tmp_path / "id")
    for held in (b"", b"not what it was"):
        (tmp_path / "id/ca.pem").write_bytes(held)
        with pytest.raises(HostFault, match=r"ca\.pem holds no certificate of ours; enrol this host again"):
            asyncio.run(renewing.asked(identity.load(tmp_path / "id")))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
@given(st.data())
def test_no_damage_to_the_cas_certificate_ends_the_agent(data: st.DataObject) -> None:
    """Any byte of it: it is still read, or refused in words."""
    # invariant: D1
    at, by = data.draw(st.integers(0, len(CA_PEM) - 1)), data.draw(st.integers(1, 255))
    spoiled = CA_PEM[:at] + bytes([CA_PEM[at] ^ by]) + CA_PEM[at + 1 :]
    member = Membership("g", "h", "", "", {}, {}, 1)
    with contextlib.suppress(HostFault):
        renewing._ca_digest(Identity(Path("/nowhere"), member, b"", b"", spoiled))


def test_the_cas_certificate_is_replaced_by_one_for_the_same_key_only(
    live: LiveController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A galaxy of an earlier version whose owner has run `galaxy renew`; and answers that are not what they should be."""
    # invariant: P1
    mine = galaxy.load(live.folder / "controller")
    before = enrolled(live, tmp_path / "id")
    older = ca.pem(ca.new_authority("milkyway", mine.authority.key).certificate)
    held = dataclasses.replace(before, ca_pem=older)
    files.replace(tmp_path / "id/ca.pem", older)

    async def work(renews: Renewing) -> None:
        renews.welcomed(told(1))
        await until(lambda: renews.identity.ca_pem == mine.ca_pem, "it has the one of today")

    together(Renewing(held), work)
    assert identity.load(tmp_path / "id").ca_pem == mine.ca_pem

    reply = asyncio.run(renewing.asked(before))
    stranger = ca.new_authority("milkyway")
    key = x509.load_der_x509_certificate(reply.certificate_der).public_key()
    forged: Any = ca.host_certificate(stranger, "milkyway", "tank-a", key, 2**42)  # type: ignore[arg-type]
    other: Any = ca.host_certificate(mine.authority, "milkyway", "tank-a", stranger.key.public_key(), 2**42)
    for change in (
        {"certificate_der": forged},
        {"certificate_der": forged, "ca_der": ca.der(stranger.certificate)},
        {"certificate_der": other},
        {"ca_der": reply.certificate_der},
        {"certificate_der": b"", "ca_der": b"nothing"},
    ):
        with pytest.raises(Untrusted, match="not this galaxy's, or not for this host's key"):
            renewing._check(dataclasses.replace(reply, **change), before)


def test_a_floor_that_cannot_be_read_or_written_costs_a_warning_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clock.json"
    path.write_text("not what it was")
    clock = WallClock(notes.clock_of(path))
    assert clock.problems == ()
    now_ms = renewing.clock.wall_ms()
    clock.told(now_ms + 3 * 31_557_600_000 + 1_000)
    assert "2 years behind the controller's" in clock.problems[0] or "3 years behind" in clock.problems[0]
    again = WallClock(notes.clock_of(path))
    assert "3 years behind what it has been before" in again.problems[0]
    written = path.read_bytes()
    again.told(now_ms)
    assert again.problems == (), "the controller's word of today counts"
    assert path.read_bytes() == written, "and the floor never goes down"
    monkeypatch.setattr(files, "replace", lambda *_, **__: (_ for _ in ()).throw(HostFault("disk-full", "no room")))
    again.told(now_ms + 9 * 31_557_600_000)
    assert path.read_bytes() == written
