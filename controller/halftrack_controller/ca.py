"""The galaxy's X.509: one CA, and certificates for its controller, hosts and operators. Signs; decides about nobody.

ECDSA P-256, because gRPC's TLS library offers no Ed25519 by default. Certificates begin in 2020 and last long: a host whose
clock is years wrong must still be able to join (C1), and this version has no renewal that an expiry would be for. Who may
speak is decided at each connection by the key that the store holds for that host, not by dates (see `enrolment`).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from halftrack_model.errors import InvalidInput
from halftrack_model.ids import digest_of
from halftrack_proto.channel import SERVER_NAME, host_uri, operator_uri

NOT_BEFORE = datetime(2020, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2070, 1, 1, tzinfo=UTC)
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


def new_authority(galaxy: str) -> Authority:
    """A fresh, self-signed CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"halftrack galaxy {galaxy}")
    usage = _key_usage(signs_certificates=True)
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def server_identity(authority: Authority, addresses: Sequence[str]) -> Identity:
    """The controller's own certificate, for `SERVER_NAME` and every address under which it is reached."""
    names: list[x509.GeneralName] = [x509.DNSName(SERVER_NAME), x509.DNSName("localhost")]
    names += [_general_name(address) for address in addresses]
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _issued(authority, SERVER_NAME, key.public_key(), names, ExtendedKeyUsageOID.SERVER_AUTH)
    return Identity(pem(certificate), key_pem(key))


def operator_identity(authority: Authority, galaxy: str, operator: str) -> Identity:
    """A certificate for a person or script that operates the galaxy."""
    key = ec.generate_private_key(ec.SECP256R1())
    uri = x509.UniformResourceIdentifier(operator_uri(galaxy, operator))
    certificate = _issued(authority, operator, key.public_key(), [uri], ExtendedKeyUsageOID.CLIENT_AUTH)
    return Identity(pem(certificate), key_pem(key))


def host_certificate(authority: Authority, galaxy: str, host: str, csr: x509.CertificateSigningRequest) -> bytes:
    """A host's certificate, DER. Of the request only the key is used: what a host is called, its token says."""
    uri = x509.UniformResourceIdentifier(host_uri(galaxy, host))
    key = csr.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidInput("bad-csr", "the request's key must be on an elliptic curve (P-256)")
    certificate = _issued(authority, host, key, [uri], ExtendedKeyUsageOID.CLIENT_AUTH)
    return certificate.public_bytes(serialization.Encoding.DER)


def checked_csr(data: bytes) -> x509.CertificateSigningRequest:
    """The signing request, once it proves that whoever made it holds the key."""
    if len(data) > MAX_CSR_BYTES:
        raise InvalidInput("bad-csr", f"a signing request of {len(data)} bytes; at most {MAX_CSR_BYTES} are read")
    try:
        csr = x509.load_der_x509_csr(data)
        genuine = csr.is_signature_valid and isinstance(csr.public_key(), ec.EllipticCurvePublicKey)
    except Exception as error:  # noqa: BLE001 - foreign bytes; the library raises many kinds for bad ASN.1
        raise InvalidInput("bad-csr", f"not a certificate signing request: {type(error).__name__}") from None
    if not genuine:
        raise InvalidInput("bad-csr", "the request is not signed by its own P-256 key")
    return csr


def key_digest(key: object) -> str:
    """The content address of a public key (SubjectPublicKeyInfo), by which the store knows who has enrolled."""
    assert isinstance(key, ec.EllipticCurvePublicKey), "only our own certificates and checked requests get here"  # noqa: S101
    return digest_of(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


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


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
    )


def _issued(
    authority: Authority,
    common: str,
    key: ec.EllipticCurvePublicKey,
    names: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
) -> x509.Certificate:
    """An end certificate with one purpose only: a host can never serve, a server never log in."""
    return (
        _builder(_name(common), authority.certificate.subject, key)
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
