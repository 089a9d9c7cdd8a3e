"""The text of an enrolment token: `ht1.` and base64url of canonical JSON. Pure; it neither makes secrets nor checks them."""

import base64
import binascii
from dataclasses import dataclass

from halftrack_model import canonical
from halftrack_model.errors import InvalidInput
from halftrack_proto.messages import Token

PREFIX = "ht1."
MAX_TEXT = 8192  # a CA certificate is below 1 kB; what is longer is no token and is not looked at


@dataclass(frozen=True, slots=True)
class _Body:
    galaxy: str
    endpoint: str
    ca_der_base64: str
    host: str
    secret: str


def token_text(token: Token) -> str:
    """The text that an operator carries to the host. It is a secret."""
    ca = base64.b64encode(token.ca_der).decode()
    body = canonical.encode(_Body(token.galaxy, token.endpoint, ca, token.host, token.secret))
    return PREFIX + base64.urlsafe_b64encode(body).decode().rstrip("=")


def token_of(text: str) -> Token:
    """The token that `text` spells; InvalidInput, never repeating the text, when it spells none."""
    text = text.strip()
    if not text.startswith(PREFIX) or len(text) > MAX_TEXT:
        raise InvalidInput(
            "bad-token", f"not an enrolment token: one begins with {PREFIX} and `halftrack host token` makes it"
        )
    coded = text.removeprefix(PREFIX)
    try:
        data = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
        body = canonical.decode(_Body, data)
        ca = base64.b64decode(body.ca_der_base64, validate=True)
    except (InvalidInput, binascii.Error, ValueError):
        raise InvalidInput(
            "bad-token", "this enrolment token is damaged: copy it again, whole and in one line"
        ) from None
    return Token(body.galaxy, body.endpoint, ca, body.host, body.secret)
