"""A galaxy's folder: made once by `init`, read by the controller and by operators. Owns the layout, replaces certificates only.

    DIR/controller/   galaxy.json  ca.pem ca.key  server.pem server.key  plan.key  (and later the store and the artifacts)
    DIR/operator/     config.json  ca.pem  operator.pem operator.key  release.key

The two halves are meant to part: the release key stays with the operator, and the controller never holds it.
"""

import ipaddress
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from halftrack_controller import ca, keys, papers
from halftrack_controller.ca import Authority, Identity
from halftrack_controller.keys import SealingKey
from halftrack_controller.papers import OperatorFile
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput, Refused
from halftrack_model.ids import checked_name

SESSION_PORT = 7443
ENROLMENT_PORT = 7444
DAY_S = 86_400
HOST_CERTIFICATE_S = (
    90 * DAY_S
)  # renewed after some 60: a site may be cut off for a month, and come back with one that is still good
OPERATOR_CERTIFICATE_S = 365 * DAY_S  # renewed by hand, and the only thing that ends a lost operator's folder
CERTIFICATE_MIN_S, CERTIFICATE_MAX_S = (
    3600,
    36_500 * DAY_S,
)  # shorter, and a controller that is restarted sees renewals only
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GalaxyFile:
    """`galaxy.json`: what the controller knows about its galaxy besides keys."""

    galaxy: str
    addresses: tuple[str, ...]
    session_port: int
    enrolment_port: int
    release_keys: Mapping[str, bytes]
    release_threshold: int
    host_certificate_s: int = canonical.added(
        HOST_CERTIFICATE_S
    )  # how long those that are made from now on are good for
    operator_certificate_s: int = canonical.added(OPERATOR_CERTIFICATE_S)


@dataclass(frozen=True)
class ControllerGalaxy:
    """All that the controller needs to be this galaxy's."""

    name: str
    addresses: tuple[str, ...]
    session_port: int
    enrolment_port: int
    authority: Authority
    server: Identity
    plan_key: SealingKey
    release_keys: Mapping[str, bytes]
    release_threshold: int
    ca_pem: bytes = field(repr=False)
    host_certificate_s: int = HOST_CERTIFICATE_S
    operator_certificate_s: int = OPERATOR_CERTIFICATE_S

    @property
    def plan_keys(self) -> Mapping[str, bytes]:
        """The public plan keys by id, as agents hold them."""
        return {self.plan_key.key_id: self.plan_key.public}


@dataclass(frozen=True)
class OperatorGalaxy:
    """All that an operator needs to reach the controller as themselves."""

    galaxy: str
    endpoint: str
    ca_pem: bytes
    identity: Identity
    release_key_path: Path
    ends_ms: int = 0  # of the certificate; 0 when that is not known


def init(
    folder: Path,
    name: str,
    addresses: Sequence[str],
    session_port: int = SESSION_PORT,
    enrolment_port: int = ENROLMENT_PORT,
    operator: str = "operator",
    certificates_s: tuple[int, int] = (HOST_CERTIFICATE_S, OPERATOR_CERTIFICATE_S),
) -> None:
    """Make a galaxy in `folder`; refuses when one is there. `addresses[0]` is the one that hosts and operators dial.

    `certificates_s`: how long those of hosts and of operators are good for.

    A galaxy cut short by a crash has no `config.json`, which is written last, and is refused as well: it has never run, so
    the folder can be removed and made again.
    """
    checked_name(name, "galaxy")
    checked_name(operator, "operator")
    if not addresses:
        raise InvalidInput("no-address", "say with at least one --address where hosts reach this controller")
    for address in addresses:
        _checked_address(address)
    if session_port == enrolment_port:
        raise InvalidInput("same-port", f"sessions and enrolment need a port each: {session_port} cannot be both")
    _check_lives(certificates_s)
    controller, operators = folder / "controller", folder / "operator"
    for path in (controller, operators):
        _new_folder(path)
    authority, plan_key, release_key = ca.new_authority(name), keys.new_key(), keys.new_key()
    server = ca.server_identity(authority, addresses)
    person = ca.operator_identity(authority, name, operator, _from_now_ms(certificates_s[1]))
    ca_pem = ca.pem(authority.certificate)
    galaxy = GalaxyFile(
        name,
        tuple(addresses),
        session_port,
        enrolment_port,
        {release_key.key_id: release_key.public},
        1,
        *certificates_s,
    )
    endpoint = endpoint_text(addresses[0], session_port)
    config = OperatorFile(name, endpoint, "ca.pem", "operator.pem", "operator.key", "release.key")
    keys.save_key(plan_key, controller / "plan.key")
    keys.save_key(release_key, operators / "release.key")
    for path, data in (
        (controller / "ca.pem", ca_pem),
        (controller / "ca.key", ca.key_pem(authority.key)),
        (controller / "server.pem", server.certificate_pem),
        (controller / "server.key", server.key_pem),
        (operators / "ca.pem", ca_pem),
        (operators / "operator.pem", person.certificate_pem),
        (operators / "operator.key", person.key_pem),
        (controller / "galaxy.json", canonical.encode(galaxy)),
        (operators / "config.json", canonical.encode(config)),
    ):
        keys.write_new(path, data)


def add_operator(state: Path, operator: str, folder: Path) -> None:
    """One more operator of the galaxy whose controller folder is `state`, in a folder of their own; refuses when it is there.

    They get no release key: who may seal releases is not decided by whoever has the controller's machine.
    """
    checked_name(operator, "operator")
    galaxy = load(state)
    _new_folder(folder)
    until_ms = _from_now_ms(galaxy.operator_certificate_s)
    person = ca.operator_identity(galaxy.authority, galaxy.name, operator, until_ms)
    endpoint = endpoint_text(galaxy.addresses[0], galaxy.session_port)
    config = OperatorFile(galaxy.name, endpoint, "ca.pem", "operator.pem", "operator.key", "release.key")
    for path, data in (
        (folder / "ca.pem", galaxy.ca_pem),
        (folder / "operator.pem", person.certificate_pem),
        (folder / "operator.key", person.key_pem),
        (folder / "config.json", canonical.encode(config)),
    ):
        keys.write_new(path, data)


def renew_operator(state: Path, path: Path) -> tuple[str, int]:
    """A fresh certificate in place of an operator's, for the same key: whose it is, and until when it is good.

    `path` is the certificate or the folder that it is in; the operator's key is not needed, and may be elsewhere.
    """
    galaxy = load(state)
    path = path / "operator.pem" if papers.looked_at(path, Path.is_dir) else path
    held = x509.load_pem_x509_certificate(_certificate(path))
    name, key = ca.operator_of(galaxy.authority, galaxy.name, held)
    until_ms = _from_now_ms(galaxy.operator_certificate_s)
    keys.replace(path, ca.pem(ca.operator_certificate(galaxy.authority, galaxy.name, name, key, until_ms)))
    return name, until_ms


def renew_own(state: Path) -> None:
    """Fresh certificates of the CA and the controller, for the keys that they have: for galaxies made when these still ended.

    Whoever trusts the old CA's certificate trusts the new one's work, and the other way round: it is the key that signs.
    """
    galaxy = load(state)
    authority = ca.new_authority(galaxy.name, galaxy.authority.key)
    held = x509.load_pem_x509_certificate(galaxy.server.certificate_pem)
    keys.replace(state / "server.pem", ca.pem(ca.server_certificate(authority, galaxy.addresses, held.public_key())))
    keys.replace(state / "ca.pem", ca.pem(authority.certificate))


def load(state: Path) -> ControllerGalaxy:
    """The galaxy whose controller folder is `state`."""
    if not papers.looked_at(state / "galaxy.json", Path.exists):
        raise Refused(
            "no-galaxy",
            f"{state} holds no galaxy: make one with `halftrack galaxy init`, and name its controller/ folder",
        )
    galaxy = papers.settings(GalaxyFile, state / "galaxy.json")
    for life_s in (galaxy.host_certificate_s, galaxy.operator_certificate_s):
        if not 0 < life_s <= CERTIFICATE_MAX_S:
            raise InvalidInput("bad-settings", f"{state / 'galaxy.json'}: a certificate cannot be good for {life_s} s")
    authority = _pair(state / "ca.pem", state / "ca.key")
    return ControllerGalaxy(
        name=galaxy.galaxy,
        addresses=galaxy.addresses,
        session_port=galaxy.session_port,
        enrolment_port=galaxy.enrolment_port,
        authority=authority,
        server=_identity(state / "server.pem", state / "server.key"),
        plan_key=keys.load_key(state / "plan.key"),
        release_keys=galaxy.release_keys,
        release_threshold=galaxy.release_threshold,
        ca_pem=ca.pem(authority.certificate),
        host_certificate_s=galaxy.host_certificate_s,
        operator_certificate_s=galaxy.operator_certificate_s,
    )


def load_operator(path: Path) -> OperatorGalaxy:
    """The operator's half: `path` is `config.json` or the folder that it is in. Its certificates and its key are looked at, too."""
    found = papers.of_operator(path)
    identity = _identity(found.certificate, found.key)
    return OperatorGalaxy(
        found.galaxy,
        found.endpoint,
        _certificate(found.ca),
        identity,
        found.release_key,
        ca.ends_ms(x509.load_pem_x509_certificate(identity.certificate_pem)),
    )


def endpoint_text(address: str, port: int) -> str:
    """`address:port`, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _check_lives(lives_s: tuple[int, int]) -> None:
    for life_s in lives_s:
        if not CERTIFICATE_MIN_S <= life_s <= CERTIFICATE_MAX_S:
            raise InvalidInput(
                "bad-lifetime", f"a certificate is good for an hour to a hundred years, not for {life_s} s"
            )


def _from_now_ms(life_s: int) -> int:
    return time.time_ns() // 1_000_000 + life_s * 1000


def _checked_address(text: str) -> None:
    """An address is for ever: it is in the certificate, in every token, and in what hosts keep."""
    with suppress(ValueError):
        ipaddress.ip_address(text)
        return
    if not _HOST_NAME.fullmatch(text) or len(text) > 253 or text.rpartition(".")[2].isdigit():
        raise InvalidInput(
            "bad-address",
            f"--address {text!r} is neither an IP address nor a host name: write one such as 10.0.0.1 or "
            "controller.dome.example; ports have options of their own",
        )


def _pair(certificate: Path, key: Path) -> Authority:
    """A certificate and the key that it is for, of the CA or of anybody else."""
    try:
        return ca.load_authority(papers.read(certificate), papers.read(key))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        text = f"{certificate} and {key} are not a certificate and its key: put both back from a copy"
        raise InvalidInput("wrong-key", text) from None


def _identity(certificate: Path, key: Path) -> Identity:
    """The same, for TLS. Checked here, because gRPC would only say that it cannot connect."""
    _pair(certificate, key)
    return Identity(papers.read(certificate), papers.read(key))


def _certificate(path: Path) -> bytes:
    """A certificate's PEM."""
    pem = papers.read(path)
    try:
        x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise InvalidInput("wrong-certificate", f"{path} holds no certificate: put it back from a copy") from None
    return pem


def _new_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise Refused("exists", f"{path} is there already: a galaxy is made once and never overwritten") from None
    except OSError as error:
        raise HostFault("cannot-write", f"{path}: {os.strerror(error.errno or 0)}") from None
