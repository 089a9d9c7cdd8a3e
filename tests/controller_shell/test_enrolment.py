"""Enrolment over loopback TLS: only the token counts, and it can be repeated but not shared."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from halftrack_controller import galaxy
from halftrack_controller.store import Store
from halftrack_controller.tokens import TokenRow, hash_of
from halftrack_model.errors import HalftrackError, HostFault, InvalidInput, Refused, Untrusted
from halftrack_proto.channel import host_uri
from halftrack_proto.tokens import token_of, token_text
from tests.controller_shell.shell_harness import CURVE, LiveController, enrol, signing_request


def token_for(live: LiveController, name: str) -> str:
    with live.operator() as client:
        return client.create_token(name, 600).token


def test_a_host_gets_all_it_needs_and_may_ask_again(live: LiveController) -> None:
    """The same token and key work again, as after a crash before the reply was on disk; the name is the token's, not the CSR's."""
    token, key = token_for(live, "tank-a"), ec.generate_private_key(ec.SECP256R1())
    first, again = enrol(live, token, "tank-a", key), enrol(live, token, "tank-a", key)
    mine = galaxy.load(live.folder / "controller")
    for got in (first, again):
        certificate = x509.load_der_x509_certificate(got.reply.certificate_der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [host_uri("milkyway", "tank-a")]
        assert got.reply.plan_keys == mine.plan_keys
        assert got.reply.release_keys == mine.release_keys
        assert got.reply.session_endpoint == live.session
    with live.operator() as client:
        assert [entry.enrolled for entry in client.hosts()] == [True, False]


def refusal(live: LiveController, token: str, name: str, kind: type[HalftrackError], **how: object) -> str:
    with pytest.raises(kind) as caught:
        enrol(live, token, name, **how)  # type: ignore[arg-type]
    return caught.value.reason


def test_what_is_refused(live: LiveController) -> None:
    """Another key, another host, a made-up secret, an unreadable or forged request: each with its reason; nobody is enrolled."""
    token = token_for(live, "tank-a")
    forged = token_of(token)
    stranger = token_text(type(forged)(forged.galaxy, forged.endpoint, forged.ca_der, "tank-a", "guess"))
    tampered = bytearray(signing_request(ec.generate_private_key(ec.SECP256R1())))
    tampered[-3] ^= 1
    assert refusal(live, token, "tank-b", Untrusted) == "bad-token"
    assert refusal(live, stranger, "tank-a", Untrusted) == "bad-token"
    assert refusal(live, token, "tank-a", InvalidInput, curve="short") == "bad-curve-key"
    assert refusal(live, token, "tank-a", InvalidInput, csr=b"\x30\x00") == "bad-csr"
    assert refusal(live, token, "tank-a", InvalidInput, csr=bytes(tampered)) == "bad-csr"
    with live.operator() as client:
        assert not any(entry.enrolled for entry in client.hosts())
    enrol(live, token, "tank-a")
    assert refusal(live, token, "tank-a", Untrusted) == "token-used"
    with live.operator() as client, pytest.raises(Refused, match="register it first"):
        client.create_token("tank-c", 600)


def test_a_token_ends(folder: Path) -> None:
    """An expired token is told apart from a wrong one, since the operator must act differently."""
    store = Store.open(folder / "controller", "milkyway")
    try:
        with store.transaction() as conn:
            conn.execute("insert into environments (name, labels, track) values ('home', '{}', 'stable')")
            conn.execute(
                "insert into hosts (name, environment, labels, bridge, agent) values ('a', 'home', '{}', '', '')"
            )
        store.add_token(TokenRow(hash_of("s"), "a", 1000, ""), 0)
        store.enrol(hash_of("s"), "a", "key", CURVE, 1000, 5000)
        with pytest.raises(Untrusted) as caught:
            store.enrol(hash_of("s"), "a", "key", CURVE, 1001, 5000)
        assert caught.value.reason == "token-expired"
        store.raise_time_floor(1000)
        store.enrol(hash_of("s"), "a", "key", CURVE, 1000, 5000)
        store.raise_time_floor(1001)
        with pytest.raises(Untrusted) as caught:  # by a clock that says 1970 again, as a board without a battery does
            store.enrol(hash_of("s"), "a", "key", CURVE, 5, 5000)
        assert caught.value.reason == "token-expired"
    finally:
        store.close()


def test_an_agent_pins_the_galaxy_in_its_token(live: LiveController, tmp_path: Path) -> None:
    """A controller of another galaxy at the same address is not talked to."""
    galaxy.init(tmp_path / "other", "andromeda", ["127.0.0.1"])
    other = LiveController(tmp_path / "other")
    try:
        token = token_for(live, "tank-a")
        with pytest.raises(HostFault) as caught:
            enrol(other, token, "tank-a")
        assert caught.value.reason == "unreachable"
    finally:
        other.stop()
