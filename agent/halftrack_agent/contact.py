"""The file that remembers when this host was last in step with its controller. Owns reading and writing it; what it means is `cutoff`'s.

On the disk once a minute, and whenever that begins or ends, so a host that loses its power forgets at most a minute of having been cut off. In memory
once a second: an agent that is started again goes on where the one before it ended.
"""

import contextlib
from collections.abc import Callable
from dataclasses import replace

from halftrack_agent import clock, cutoff
from halftrack_agent.cutoff import Contact, ContactSeen, Keeping
from halftrack_agent.notes import Note
from halftrack_model.errors import HostFault

RETRY_MS = 5_000  # a disk that was full


class ContactKeeper:
    """One agent's. `note` is on the disk, `beat` where files do not outlive a reboot; `obeys`: this host has a plan; `room` makes some for the note: what it
    does not say after a power cut is time that a workload runs beyond its `stopAfter`, beside its replacement."""

    def __init__(
        self,
        note: Note[Contact],
        beat: Note[Contact],
        *,
        obeys: bool,
        room: Callable[[], None] = lambda: None,
        keeps: bool = True,
    ) -> None:
        self._note, self._beat, self._room = note, beat, room
        now_ms = clock.boot_ms()
        contact = cutoff.recovered(note.read(), clock.boot_id(), now_ms, beat=beat.read(), obeys=obeys, keeps=keeps)
        self._keeping = Keeping(contact, False, now_ms, now_ms)

    def look(self, *, in_step: bool) -> ContactSeen:
        """Where it stands now."""
        now_ms = clock.boot_ms()
        self._keeping, note, beat = cutoff.looked(self._keeping, now_ms, in_step=in_step)
        if beat:
            with contextlib.suppress(HostFault):  # then the note is what an agent that is started again has
                self._beat.write(self._keeping.contact)
        if note:
            self._room()
            try:
                self._note.write(self._keeping.contact)
            except HostFault:
                self._keeping = replace(self._keeping, note_at_ms=now_ms + RETRY_MS)
        return cutoff.seen(self._keeping.contact, now_ms)
