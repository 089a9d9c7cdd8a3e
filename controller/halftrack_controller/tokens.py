"""Enrolment tokens as the controller keeps them: a hash, a host, an end. The secret itself is only in the token's text."""

import hashlib
import secrets
from dataclasses import dataclass

from halftrack_model.errors import InvalidInput

MIN_TTL_S = 60  # time to copy a line to another machine
MAX_TTL_S = 30 * 86400  # a host on its way to a site by ship; longer, and a lost token is a lasting hole
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token in the store. `key_digest` is empty until a host has used it, and from then on only that key may again."""

    secret_hash: str
    host: str
    expires_ms: int
    key_digest: str


def new_secret() -> str:
    """A secret that nobody guesses."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_of(secret: str) -> str:
    """What is stored of a secret. Plain SHA-256 suffices: 256 random bits need no slow hash against guessing."""
    return hashlib.sha256(secret.encode()).hexdigest()


def checked_ttl(ttl_s: int) -> int:
    """`ttl_s` within its bounds."""
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise InvalidInput("bad-ttl", f"a token lives {MIN_TTL_S} to {MAX_TTL_S} seconds, not {ttl_s}")
    return ttl_s
