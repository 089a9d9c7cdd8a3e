"""The file that remembers when this host was last in step with its controller. Owns reading and writing it; what it means is `cutoff`'s.

On the disk once a minute, and whenever that begins or ends, so a host that loses its power forgets at most a minute of having been cut off. In memory
once a second: an agent that is started again goes on where the one before it ended.
"""

import contextlib
from dataclasses import replace
from pathlib import Path

from halftrack_agent import clock, cutoff, files
from halftrack_agent.cutoff import Contact, ContactSeen, Keeping
from halftrack_model import canonical
from halftrack_model.errors import HostFault, InvalidInput

RETRY_MS = 5_000  # a disk that was full


class ContactKeeper:
    """One agent's. `path` is on the disk, `beat` where files do not outlive a reboot; `obeys`: this host has a plan."""

    def __init__(self, path: Path, beat: Path, *, obeys: bool) -> None:
        self._path, self._beat = path, beat
        now_ms = clock.boot_ms()
        contact = cutoff.recovered(_read(path), clock.boot_id(), now_ms, beat=_read(beat), obeys=obeys)
        self._keeping = Keeping(contact, False, now_ms, now_ms)

    def look(self, *, in_step: bool) -> ContactSeen:
        """Where it stands now."""
        now_ms = clock.boot_ms()
        self._keeping, note, beat = cutoff.looked(self._keeping, now_ms, in_step=in_step)
        data = canonical.encode(self._keeping.contact) if beat else b""
        if beat:
            with contextlib.suppress(HostFault):  # then the note is what an agent that is started again has
                files.replace(self._beat, data, durable=False)
        if note:
            try:
                files.replace(self._path, data)
            except HostFault:
                self._keeping = replace(self._keeping, note_at_ms=now_ms + RETRY_MS)
        return cutoff.seen(self._keeping.contact, now_ms)


def _read(path: Path) -> Contact | None:
    try:
        return canonical.decode(Contact, path.read_bytes())
    except (OSError, InvalidInput):
        return None
