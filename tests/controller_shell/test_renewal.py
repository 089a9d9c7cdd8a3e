"""Renewal over loopback TLS: a key that has enrolled gets a fresh certificate, and nobody else gets anything (C2)."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from halftrack_controller import ca, galaxy
from halftrack_controller.renewal import CHALLENGE_MS, RANDOM_BYTES, Challenges
from halftrack_controller.service import wall_ms
from halftrack_controller.terms import Terms
from halftrack_model.errors import HalftrackError, HostFault, Untrusted
from halftrack_model.renewals import Renewal, statement
from halftrack_proto import messages as said
from halftrack_proto import renewal_codec
from halftrack_proto.channel import CLIENT_OPTIONS, host_uri
from halftrack_proto.renewal import RenewReply, RenewRequest
from halftrack_proto.status import error_of
from halftrack_proto.v1 import enrolment_pb2_grpc
from tests.controller_shell.shell_harness import Agent, Credentials, LiveController, enrol

Change = Callable[[Renewal], Renewal]
YEAR_MS = 31_557_600_000


@pytest.fixture
def tank_a(live: LiveController) -> Credentials:
    with live.operator() as client:
        return enrol(live, client.create_token("tank-a", 600).token, "tank-a")


def key_of(who: Credentials) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(who.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def renewed(
    live: LiveController,
    who: Credentials,
    *,
    key: ec.EllipticCurvePrivateKey | None = None,
    change: Change = lambda wish: wish,
    nonce: Callable[[bytes], bytes] = lambda nonce: nonce,
    name: str = "",
    shown: ec.EllipticCurvePublicKey | None = None,
    heard: list[RenewRequest] | None = None,
) -> RenewReply:
    """As an agent does it, but for what is given. `heard`: who listens repeats what is in it, or else finds there what was said."""
    key = key or key_of(who)
    ca_key = x509.load_pem_x509_certificate(who.ca_pem).public_key()
    with grpc.secure_channel(live.enrolment, grpc.ssl_channel_credentials(who.ca_pem), CLIENT_OPTIONS) as channel:
        stub = enrolment_pb2_grpc.EnrolmentStub(channel)
        try:
            wish = renewal_codec.challenge_request_message(who.name)
            got = nonce(renewal_codec.challenge_reply_of(stub.Challenge(wish, timeout=10)))
            signed = statement(change(Renewal("milkyway", name or who.name, ca.key_digest(ca_key), got)))
            der = (shown or key.public_key()).public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            proof = RenewRequest(name or who.name, got, der, key.sign(signed, ec.ECDSA(hashes.SHA256())))
            if heard is not None:
                proof = heard[0] if heard else proof
                heard[:] = [proof]
            return renewal_codec.renew_reply_of(stub.Renew(renewal_codec.renew_request_message(proof), timeout=10))
        except grpc.RpcError as error:
            raise error_of(error) from None


def with_certificate(who: Credentials, der: bytes) -> Credentials:
    return dataclasses.replace(who, certificate_pem=ca.pem(x509.load_der_x509_certificate(der)))


def expired(live: LiveController, who: Credentials) -> Credentials:
    mine = galaxy.load(live.folder / "controller")
    der = ca.host_certificate(mine.authority, mine.name, who.name, key_of(who).public_key(), wall_ms() - 1000)
    return with_certificate(who, der)


def welcome(live: LiveController, who: Credentials) -> said.Welcome:
    agent = Agent(live, who)
    try:
        return agent.hello(who.name)
    finally:
        agent.close()


def test_an_expired_certificate_opens_no_session_and_blocks_no_renewal(
    live: LiveController, tank_a: Credentials
) -> None:
    # invariant: C2
    over = expired(live, tank_a)
    with pytest.raises(HostFault):
        welcome(live, over)
    reply = renewed(live, over)
    again = with_certificate(tank_a, reply.certificate_der)
    certificate = x509.load_der_x509_certificate(reply.certificate_der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [host_uri("milkyway", "tank-a")]
    life_s = galaxy.HOST_CERTIFICATE_S
    assert abs(ca.ends_ms(certificate) - wall_ms() - life_s * 1000) < 60_000
    assert (reply.certificate_life_s, reply.enrolment_endpoint) == (life_s, live.enrolment)
    terms = welcome(live, again)
    assert life_s - 60 < terms.certificate_left_s <= life_s == terms.certificate_life_s
    assert terms.enrolment_endpoint == "", "a host that has it is not told again"
    assert abs(terms.now_ms - wall_ms()) < 60_000


def test_what_is_signed_counts_for_this_galaxy_host_and_challenge_only(
    live: LiveController, tank_a: Credentials
) -> None:
    """And what is not signed by the key that has enrolled, for nothing. Each refusal with its reason, and nothing is given."""
    # invariant: P1
    stranger = ec.generate_private_key(ec.SECP256R1())
    wrong: list[tuple[str, dict[str, object]]] = [
        ("bad-proof", {"change": lambda wish: dataclasses.replace(wish, galaxy="andromeda")}),
        ("bad-proof", {"change": lambda wish: dataclasses.replace(wish, host="tank-b")}),
        ("bad-proof", {"change": lambda wish: dataclasses.replace(wish, nonce=wish.nonce[::-1])}),
        ("bad-proof", {"change": lambda wish: dataclasses.replace(wish, ca_key_digest="sha256:" + "0" * 64)}),
        ("bad-proof", {"key": stranger, "shown": key_of(tank_a).public_key()}),
        ("not-enrolled", {"key": stranger}),
        ("bad-challenge", {"name": "tank-b"}),
        ("bad-challenge", {"nonce": lambda nonce: nonce[:-1]}),
        ("bad-challenge", {"nonce": lambda _nonce: b""}),
        ("bad-challenge", {"nonce": lambda nonce: bytes([nonce[0] ^ 1]) + nonce[1:]}),
        ("bad-challenge", {"nonce": lambda _: Challenges(b"guess" * 7).made("tank-a", bytes(RANDOM_BYTES), 0)}),
    ]
    for reason, how in wrong:
        with pytest.raises(Untrusted) as caught:
            renewed(live, tank_a, **how)  # type: ignore[arg-type]
        assert caught.value.reason == reason, how
    assert renewed(live, tank_a).certificate_der


@given(st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES), st.integers(0, 10**12), st.integers(-(10**6), 10**6))
def test_a_challenge_lasts_a_minute(random: bytes, made_ms: int, age_ms: int) -> None:
    challenges = Challenges(b"s" * 32)
    nonce, now_ms = challenges.made("tank-a", random, made_ms), made_ms + age_ms
    if 0 <= age_ms <= CHALLENGE_MS:
        challenges.check("tank-a", nonce, now_ms)
    else:
        with pytest.raises(Untrusted):
            challenges.check("tank-a", nonce, now_ms)
    for other in (Challenges(b"t" * 32), challenges):
        with pytest.raises(Untrusted):
            other.check("tank-b" if other is challenges else "tank-a", nonce, made_ms)


def test_a_proof_that_is_repeated_gives_nobody_anything_that_the_host_has_not(
    live: LiveController, tank_a: Credentials
) -> None:
    """Challenges are not used up. A second answer is a certificate for the key that the host alone has; and none once another key speaks for it."""
    # invariants: P1, P3
    heard: list[RenewRequest] = []
    replies = [renewed(live, tank_a, heard=heard) for _ in range(2)]
    for reply in replies:
        certificate = x509.load_der_x509_certificate(reply.certificate_der)
        assert certificate.public_key() == key_of(tank_a).public_key()
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [host_uri("milkyway", "tank-a")]
    with live.operator() as client:
        enrol(live, client.create_token("tank-a", 600).token, "tank-a")
    with pytest.raises(Untrusted, match="another key speaks for 'tank-a' now"):
        renewed(live, tank_a, heard=heard)


def test_who_was_removed_or_replaced_is_told_so(live: LiveController, tank_a: Credentials) -> None:
    with live.operator() as client:
        enrol(live, client.create_token("tank-a", 600).token, "tank-a")
    with pytest.raises(Untrusted, match="another key speaks for 'tank-a' now") as caught:
        renewed(live, tank_a)
    assert caught.value.reason == "not-enrolled"

    def remove(store: object) -> None:
        with store.transaction() as conn:  # type: ignore[attr-defined]
            conn.execute("update hosts set key_digest = '' where name = 'tank-a'")

    live.wait(live.running.store.do(remove))
    with pytest.raises(Untrusted, match="not enrolled here") as caught:
        renewed(live, tank_a)
    assert caught.value.reason == "not-enrolled"


def test_a_host_that_enrolled_with_an_earlier_version_is_let_in_and_told_where_to_renew(
    live: LiveController, tank_a: Credentials
) -> None:
    """Its certificate is good until 2070, and is shown until there is another."""
    mine = galaxy.load(live.folder / "controller")
    until_ms = 100 * YEAR_MS
    old = with_certificate(
        tank_a, ca.host_certificate(mine.authority, mine.name, "tank-a", key_of(tank_a).public_key(), until_ms)
    )

    def forget(store: object) -> None:
        with store.transaction() as conn:  # type: ignore[attr-defined]
            conn.execute("delete from certificates")

    live.wait(live.running.store.do(forget))
    with live.operator() as client:
        assert client.host("tank-a").entry.certificate_ends_ms == 0
        assert welcome(live, old).enrolment_endpoint == live.enrolment
        assert client.host("tank-a").entry.certificate_ends_ms == until_ms
        renewed(live, old)
        assert 0 < client.host("tank-a").entry.certificate_left_ms <= galaxy.HOST_CERTIFICATE_S * 1000


@given(st.integers(1, 10**10), st.integers(-(2**50), 2**50), st.integers(0, 2**50))
def test_terms_are_durations_and_never_nothing(life_s: int, ends_ms: int, now_ms: int) -> None:
    """A 0 would say that there is no renewal; a certificate that TLS has just let in has a second left."""
    said_ = Terms(life_s, "c:7444").welcome(1000, 7, ends_ms, now_ms)
    assert (said_.certificate_left_s, said_.certificate_life_s) == (max(1, (ends_ms - now_ms) // 1000), life_s)
    assert bool(said_.enrolment_endpoint) == (said_.certificate_left_s * 10 > life_s * 11)


def test_a_server_certificate_is_taken_up_without_a_restart(live: LiveController, tank_a: Credentials) -> None:
    """Sessions go on; the next connection sees the new one, for the same key and from the same CA."""
    agent = Agent(live, tank_a)
    try:
        agent.hello("tank-a")
        before = shown_by(live.enrolment, tank_a)
        galaxy.renew_own(live.folder / "controller")
        after = shown_by(live.enrolment, tank_a)
        assert before.serial_number != after.serial_number
        assert before.public_key() == after.public_key()
        agent.beats(3)
        assert welcome(live, tank_a).heartbeat_ms
    finally:
        agent.close()


def shown_by(endpoint: str, who: Credentials) -> x509.Certificate:
    """The certificate of a server that `who` trusts."""
    import socket
    import ssl

    context = ssl.create_default_context(cadata=who.ca_pem.decode())
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    address, port = endpoint.rsplit(":", 1)
    with socket.create_connection((address, int(port)), 10) as plain, context.wrap_socket(plain) as secure:
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def test_hosts_refuse_no_certificate_for_its_date(folder: Path) -> None:
    """From before the first clock began until after the last: what a host checks it checks by a clock that may say anything."""
    # invariant: C1
    mine = galaxy.load(folder / "controller")
    for pem in (mine.ca_pem, mine.server.certificate_pem):
        certificate = x509.load_pem_x509_certificate(pem)
        assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (ca.ALWAYS, ca.NEVER)
    assert ca.ALWAYS.timestamp() < 0


def test_an_operator_gets_a_fresh_certificate_for_the_key_that_they_keep(folder: Path, tmp_path: Path) -> None:
    """Over or not, by the certificate's file alone; a host's, a stranger's and another galaxy's are refused, and left as they are."""
    mine, path = galaxy.load(folder / "controller"), folder / "operator" / "operator.pem"
    held = x509.load_pem_x509_certificate(path.read_bytes())
    key = held.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    over = ca.pem(ca.operator_certificate(mine.authority, mine.name, "operator", key, wall_ms() - 1000))
    alone = tmp_path / "sent.pem"
    for where, given_path in ((path, folder / "operator"), (alone, alone)):
        where.write_bytes(over)
        name, until_ms = galaxy.renew_operator(folder / "controller", given_path)
        fresh = x509.load_pem_x509_certificate(where.read_bytes())
        assert (name, fresh.public_key()) == ("operator", key)
        assert ca.ends_ms(fresh) == until_ms // 1000 * 1000
        assert abs(until_ms - wall_ms() - galaxy.OPERATOR_CERTIFICATE_S * 1000) < 60_000
    galaxy.load_operator(folder / "operator")
    galaxy.init(tmp_path / "other", "milkyway", ["127.0.0.1"])
    host = ca.pem(x509.load_der_x509_certificate(ca.host_certificate(mine.authority, "milkyway", "tank-a", key, 2**42)))
    for foreign in ((tmp_path / "other/operator/operator.pem").read_bytes(), host, mine.ca_pem, b"nothing"):
        alone.write_bytes(foreign)
        with pytest.raises(HalftrackError) as caught:
            galaxy.renew_operator(folder / "controller", alone)
        assert caught.value.reason == "wrong-certificate"
        assert alone.read_bytes() == foreign


def test_the_galaxy_says_how_long_certificates_live(folder: Path, tmp_path: Path) -> None:
    """By options of init, and by hand afterwards; what cannot be is refused in words."""
    galaxy.init(tmp_path / "short", "short", ["127.0.0.1"], certificates_s=(7200, 86_400))
    assert galaxy.load(tmp_path / "short/controller").host_certificate_s == 7200
    assert b"certificate" not in (folder / "controller/galaxy.json").read_bytes(), "as earlier versions wrote it"
    path = folder / "controller" / "galaxy.json"
    plain = path.read_text()
    for spelled, life_s in ((7_776_000, galaxy.HOST_CERTIFICATE_S), (3600, 3600)):
        path.write_text(plain[:-1] + f', "host_certificate_s": {spelled}}}\n')
        assert galaxy.load(folder / "controller").host_certificate_s == life_s
    for nonsense in ("0", "-5", "1000000000000", '"90d"'):
        path.write_text(plain[:-1] + f', "host_certificate_s": {nonsense}}}\n')
        with pytest.raises(HalftrackError) as caught:
            galaxy.load(folder / "controller")
        assert caught.value.reason == "bad-settings"
    for lives in ((3599, 86_400), (86_400, 10**11)):
        with pytest.raises(HalftrackError, match="an hour to a hundred years"):
            galaxy.init(tmp_path / "never", "never", ["127.0.0.1"], certificates_s=lives)
    assert not (tmp_path / "never").exists()
