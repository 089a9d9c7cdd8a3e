"""What `halftrack` says of certificates: an operator's that ends soon or is over, and what is left of a host's."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from halftrack_controller import ca, galaxy, render
from halftrack_controller.service import wall_ms
from halftrack_model.observed import Health
from halftrack_proto import messages as said
from tests.cli.test_verbs import run

DAY_MS = 86_400_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    galaxy.init(tmp_path / "north", "north", ["127.0.0.1"], session_port=9, enrolment_port=10)  # nobody answers there
    return tmp_path / "north"


def left(folder: Path, left_ms: int) -> None:
    """Give the operator a certificate with so much left."""
    mine, path = galaxy.load(folder / "controller"), folder / "operator/operator.pem"
    key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    path.write_bytes(ca.pem(ca.operator_certificate(mine.authority, "north", "operator", key, wall_ms() + left_ms)))


def test_an_operators_certificate_that_ends_is_told_in_time_and_renewed(folder: Path) -> None:
    operator = str(folder / "operator")
    status, _, err = run("host", "list", config=operator)
    assert (status, "certificate" in err) == (1, False)
    left(folder, 20 * DAY_MS)
    status, _, err = run("host", "list", config=operator)
    assert "the operator's certificate is good for 19 d more: have it renewed with `halftrack galaxy renew" in err
    assert "no answer" in err
    left(folder, -3 * DAY_MS)
    status, _, err = run("host", "list", config=operator)
    assert status == 1
    assert "error: the operator's certificate is over since 3 d, by this machine's clock" in err
    assert "halftrack galaxy renew STATE --operator operator.pem" in err
    status, out, err = run("galaxy", "renew", str(folder / "controller"), "--operator", operator)
    assert (status, "the certificate of operator is good until" in out) == (0, True), err
    assert "certificate" not in run("host", "list", config=operator)[2]


def test_the_galaxys_own_certificates_are_replaced_for_the_same_keys(folder: Path) -> None:
    before = galaxy.load(folder / "controller")
    assert run("galaxy", "renew", str(folder / "controller"))[0] == 0
    after = galaxy.load(folder / "controller")
    assert after.ca_pem != before.ca_pem
    assert after.server.certificate_pem != before.server.certificate_pem
    assert (after.server.key_pem, ca.key_pem(after.authority.key)) == (
        before.server.key_pem,
        ca.key_pem(before.authority.key),
    )
    for held in (before, after):  # whoever knows either CA certificate knows the other's work
        x509.load_pem_x509_certificate(after.server.certificate_pem).verify_directly_issued_by(
            held.authority.certificate
        )


def test_init_takes_lifetimes_in_words(tmp_path: Path) -> None:
    words = ("--host-certificates", "7d", "--operator-certificates", "30d")
    assert run("galaxy", "init", str(tmp_path / "g"), "--name", "g", "--address", "127.0.0.1", *words)[0] == 0
    mine = galaxy.load(tmp_path / "g/controller")
    assert (mine.host_certificate_s, mine.operator_certificate_s) == (7 * 86_400, 30 * 86_400)
    status, _, err = run(
        "galaxy", "init", str(tmp_path / "h"), "--name", "h", "--address", "127.0.0.1", "--host-certificates", "5m"
    )
    assert (status, "a certificate is good for an hour to a hundred years" in err) == (1, True)


def test_what_is_left_of_a_hosts_is_told() -> None:
    def text(ends_ms: int, left_ms: int) -> str:
        entry = said.HostEntry("a", "e", {}, True, True, 0, 1, 1, "", "", (), Health.HEALTHY, ends_ms, left_ms)
        return render.certificate_text(entry)

    assert text(0, 0) == "-"
    assert text(5, 47 * DAY_MS) == "47 d left"
    assert text(5, -DAY_MS) == "over for 24 h"
