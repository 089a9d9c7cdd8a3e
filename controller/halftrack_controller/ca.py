"""The galaxy's X.509: one CA, and certificates for its controller, hosts and operators. Signs; decides about nobody.

ECDSA P-256, because gRPC's TLS library offers no Ed25519 by default. Every certificate begins in 1950, and those that hosts check, the
CA's and the server's, never end: TLS holds dates against the clock of whoever checks, and a host whose clock is years wrong must still be
able to join (C1). Those that the controller checks, hosts' and operators', end, by the clock of the same machine that made them.
Who may speak for a host is decided at each connection by the key that the store holds (see `enrolment`). ADR 35.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from halftrack_model.errors import InvalidInput
from halftrack_model.ids import digest_of
from halftrack_proto.channel import SERVER_NAME, host_uri, operator_uri

ALWAYS = datetime(
    1950, 1, 1, tzinfo=UTC
)  # the earliest that a certificate can say as other than GeneralizedTime: no clock is before it
NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # RFC 5280, 4.1.2.5: "no well-defined expiration date"
MAX_CSR_BYTES = 8192


@dataclass(frozen=True)
class Authority:
    """A CA: its certificate and the key that signs."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True)
class Identity:
    """A certificate with its private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


def new_authority(galaxy: str, key: ec.EllipticCurvePrivateKey | None = None) -> Authority:
    """A self-signed CA with a fresh key; or with its old `key`, and then whatever it has signed is still its own."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = _name(f"halftrack galaxy {galaxy}")
    usage = _key_usage(signs_certificates=True)
    certificate = (
        _builder(name, name, key.public_key(), NEVER)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def server_identity(authority: Authority, addresses: Sequence[str]) -> Identity:
    """The controller's own certificate, for `SERVER_NAME` and every address under which it is reached."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Identity(pem(server_certificate(authority, addresses, key.public_key())), key_pem(key))


def server_certificate(authority: Authority, addresses: Sequence[str], key: object) -> x509.Certificate:
    """The same, for a key that is there."""
    assert isinstance(key, ec.EllipticCurvePublicKey), "only our own certificates get here"  # noqa: S101
    names: list[x509.GeneralName] = [x509.DNSName(SERVER_NAME), x509.DNSName("localhost")]
    names += [_general_name(address) for address in addresses]
    return _issued(authority, SERVER_NAME, key, names, ExtendedKeyUsageOID.SERVER_AUTH, NEVER)


def operator_identity(authority: Authority, galaxy: str, operator: str, until_ms: int) -> Identity:
    """A key and its certificate for a person or script that operates the galaxy."""
    key = ec.generate_private_key(ec.SECP256R1())
    return Identity(pem(operator_certificate(authority, galaxy, operator, key.public_key(), until_ms)), key_pem(key))


def operator_certificate(
    authority: Authority, galaxy: str, operator: str, key: ec.EllipticCurvePublicKey, until_ms: int
) -> x509.Certificate:
    """A certificate for an operator's key."""
    uri = x509.UniformResourceIdentifier(operator_uri(galaxy, operator))
    return _issued(authority, operator, key, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, _date(until_ms))


def operator_of(
    authority: Authority, galaxy: str, certificate: x509.Certificate
) -> tuple[str, ec.EllipticCurvePublicKey]:
    """Whose certificate it is, and for which key; InvalidInput unless this CA has made it for an operator. Its dates do not count."""
    key = certificate.public_key()
    try:
        certificate.verify_directly_issued_by(authority.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        raise InvalidInput("wrong-certificate", f"this certificate is not one of galaxy {galaxy!r}") from None
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        name = uri.rpartition("/")[2]
        if uri == operator_uri(galaxy, name) and isinstance(key, ec.EllipticCurvePublicKey):
            return name, key
    raise InvalidInput("wrong-certificate", "this certificate is not an operator's: hosts renew theirs by themselves")


def host_certificate(
    authority: Authority, galaxy: str, host: str, key: ec.EllipticCurvePublicKey, until_ms: int
) -> bytes:
    """A certificate for a host's key, DER. What a host is called, its token or the store says, never a request."""
    uri = x509.UniformResourceIdentifier(host_uri(galaxy, host))
    return der(_issued(authority, host, key, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, _date(until_ms)))


def key_of_request(data: bytes) -> ec.EllipticCurvePublicKey:
    """The key in a signing request, once that proves that whoever made it holds the key. Nothing else of it is used."""
    if len(data) > MAX_CSR_BYTES:
        raise InvalidInput("bad-csr", f"a signing request of {len(data)} bytes; at most {MAX_CSR_BYTES} are read")
    try:
        csr = x509.load_der_x509_csr(data)
        key, genuine = csr.public_key(), csr.is_signature_valid
    except Exception as error:  # noqa: BLE001 - foreign bytes; the library raises many kinds for bad ASN.1
        raise InvalidInput("bad-csr", f"not a certificate signing request: {type(error).__name__}") from None
    if not genuine or not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInput("bad-csr", "the request is not signed by its own P-256 key")
    return key


def key_digest(key: object) -> str:
    """The content address of a public key (SubjectPublicKeyInfo), by which the store knows who has enrolled."""
    assert isinstance(key, ec.EllipticCurvePublicKey), "only our own certificates and checked requests get here"  # noqa: S101
    return digest_of(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


def ends_ms(certificate: x509.Certificate) -> int:
    """When a certificate is over, in milliseconds since 1970."""
    return int(certificate.not_valid_after_utc.timestamp()) * 1000


def load_authority(certificate_pem: bytes, private_pem: bytes) -> Authority:
    """The CA from its two files; ValueError when they are not a certificate and its key."""
    key = serialization.load_pem_private_key(private_pem, password=None)
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("the certificate is for another key")
    return Authority(certificate, key)


def der(certificate: x509.Certificate) -> bytes:
    """The certificate as DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM: goes into files of mode 0600 and nowhere else."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pem(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])  # X.520 allows no more


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _date(at_ms: int) -> datetime:
    """A wall clock's milliseconds as a certificate's date; whatever the clock says, it is a date that there is."""
    seconds = min(max(0, at_ms // 1000), int(NEVER.timestamp()))
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(ALWAYS)
        .not_valid_after(until)
    )


def _issued(
    authority: Authority,
    common: str,
    key: ec.EllipticCurvePublicKey,
    names: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    until: datetime,
) -> x509.Certificate:
    """An end certificate with one purpose only: a host can never serve, a server never log in."""
    return (
        _builder(_name(common), authority.certificate.subject, key, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
