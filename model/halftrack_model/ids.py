"""Names and digests: what may be one, checked once at the edge so that everything inside can rely on it."""

import hashlib
import re

from halftrack_model.errors import InvalidInput

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def checked_name(text: str, what: str) -> str:
    """`text`, if it is a DNS label (RFC 1123, at most 63 characters); otherwise InvalidInput naming `what`."""
    if not _NAME.fullmatch(text):
        raise InvalidInput(
            "bad-name",
            f"{what} {text!r} is not a name: use 1 to 63 lower-case letters, digits and hyphens, "
            "starting and ending with a letter or digit",
        )
    return text


def digest_of(data: bytes) -> str:
    """The content address of `data`: `sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def checked_digest(text: str) -> str:
    """`text`, if it is a content address as `digest_of` writes it."""
    if not _DIGEST.fullmatch(text):
        raise InvalidInput("bad-digest", f"{text!r} is not a digest: expected sha256: and 64 hexadecimal digits")
    return text
