"""The store's rows on who may speak for a host: tokens, keys, and when certificates end. Each function within the caller's transaction."""

import sqlite3

from halftrack_controller.tokens import TokenRow
from halftrack_model.errors import Refused, Untrusted


def add_token(conn: sqlite3.Connection, token: TokenRow, now_ms: int) -> None:
    """A fresh token; those whose time is over go."""
    if not conn.execute("select 1 from hosts where name = ?", (token.host,)).fetchone():
        raise Refused("unknown-host", f"no host {token.host!r}: register it first with `halftrack apply`")
    conn.execute("delete from tokens where expires_ms < ?", (now_ms,))
    row = (token.secret_hash, token.host, token.expires_ms, token.key_digest)
    conn.execute("insert into tokens values (?, ?, ?, ?)", row)


def end_tokens(conn: sqlite3.Connection, now_ms: int) -> None:
    """Those whose time is over stay so, though the clock may be set back; they are kept, to be told from tokens that never were."""
    conn.execute("update tokens set expires_ms = 0 where expires_ms < ?", (now_ms,))


def checked_token(conn: sqlite3.Connection, secret_hash: str, host: str, key_digest: str, now_ms: int) -> None:
    """Untrusted unless the token is for this host, in time, and nobody else's."""
    row = conn.execute("select * from tokens where secret_hash = ?", (secret_hash,)).fetchone()
    token = TokenRow(*row) if row else None
    if token is None or token.host != host:
        raise Untrusted(
            "bad-token", f"this token is unknown here, or not for {host!r}: `halftrack host token` makes one"
        )
    if token.expires_ms < now_ms:
        raise Untrusted(
            "token-expired", f"the token for {host} has expired: make a new one with `halftrack host token`"
        )
    if token.key_digest not in ("", key_digest):
        raise Untrusted("token-used", f"another key has enrolled with this token; if that was not {host}, look into it")


def enrol(conn: sqlite3.Connection, secret_hash: str, host: str, key_digest: str, curve_public: str) -> None:
    """The token is that key's from now on, and the key the host's."""
    conn.execute("update tokens set key_digest = ? where secret_hash = ?", (key_digest, secret_hash))
    conn.execute("update hosts set key_digest = ?, curve_public = ? where name = ?", (key_digest, curve_public, host))


def key_digest(conn: sqlite3.Connection, host: str) -> str:
    """The key that may speak for a host; empty for one that has not enrolled or does not exist."""
    row = conn.execute("select key_digest from hosts where name = ?", (host,)).fetchone()
    return str(row[0]) if row else ""


def checked_key(conn: sqlite3.Connection, host: str, shown: str) -> None:
    """Untrusted, in words that say which, when the host is not here any more or another key has taken its place."""
    held = key_digest(conn, host)
    if not held:
        raise Untrusted(
            "not-enrolled", f"{host!r} is not enrolled here (any more): register it, and enrol it with a fresh token"
        )
    if held != shown:
        raise Untrusted(
            "not-enrolled", f"another key speaks for {host!r} now: if this is still it, enrol it with a fresh token"
        )


def put_certificate(conn: sqlite3.Connection, host: str, ends_ms: int) -> None:
    """A certificate that the host is given."""
    conn.execute("insert or replace into certificates values (?, ?)", (host, ends_ms))


def put_shown(conn: sqlite3.Connection, host: str, ends_ms: int) -> None:
    """A certificate that the host has shown: what we know of one that an earlier version gave it."""
    conn.execute("insert or ignore into certificates select name, ? from hosts where name = ?", (ends_ms, host))


def certificate_ends_ms(conn: sqlite3.Connection, host: str) -> int:
    """When the host's certificate ends; 0 when nothing is known of one."""
    row = conn.execute("select ends_ms from certificates where host = ?", (host,)).fetchone()
    return int(row[0]) if row else 0
