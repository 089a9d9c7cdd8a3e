"""The file that remembers when this host was last in step with its controller. Owns reading and writing it; what it means is `cutoff`'s.

It is written once a minute, and whenever that begins or ends, so a host that loses its power forgets at most a minute of having been cut off.
"""

import contextlib
from pathlib import Path

from halftrack_agent import clock, cutoff, files
from halftrack_agent.cutoff import Contact, ContactSeen
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput

NOTE_EVERY_MS = 60_000
RETRY_MS = 5_000  # a disk that was full


class ContactKeeper:
    """One agent's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        noted: Contact | None = None
        with contextlib.suppress(OSError, InvalidInput):
            noted = canonical.decode(Contact, path.read_bytes())
        now_ms = clock.boot_ms()
        self._contact = cutoff.recovered(noted, clock.boot_id(), now_ms)
        self._was_in_step = False
        self._write_at_ms = now_ms

    def look(self, *, in_step: bool) -> ContactSeen:
        """Where it stands now."""
        now_ms = clock.boot_ms()
        if in_step:
            self._contact = cutoff.in_step(self._contact, now_ms)
        if in_step is not self._was_in_step:
            self._was_in_step, self._write_at_ms = in_step, now_ms
        if now_ms >= self._write_at_ms:
            self._write(now_ms)
        return cutoff.seen(self._contact, now_ms)

    def _write(self, now_ms: int) -> None:
        contact = Contact(self._contact.boot_id, self._contact.in_step_ms, self._contact.before_ms, now_ms)
        try:
            files.replace(self._path, canonical.encode(contact))
            self._write_at_ms = now_ms + NOTE_EVERY_MS
        except HostFault:  # it is only a memory: what it forgets makes the host wait longer, never stop sooner
            self._write_at_ms = now_ms + RETRY_MS
