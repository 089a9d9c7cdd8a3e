"""What is said to renew a host's certificate, as frozen dataclasses. `renewal_codec` turns them into messages."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RenewRequest:
    """A host proves that it holds the key that has enrolled, and asks for a fresh certificate. See `halftrack_model.renewals`."""

    host: str
    nonce: bytes
    public_key_der: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class RenewReply:
    """A fresh certificate, and what else a host should know by now."""

    certificate_der: bytes
    ca_der: bytes
    certificate_life_s: int
    enrolment_endpoint: str
    now_ms: int
