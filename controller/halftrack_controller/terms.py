"""What a host is told of its certificate when a session begins. Pure.

The host's wall clock decides nothing (C1): it is told how long the certificate that it has shown is still good for, by the clock that
will refuse it, and counts from there on its own boot-time clock.
"""

from dataclasses import dataclass

from halftrack_proto.messages import Welcome

LONGER = (
    11,
    10,
)  # a certificate good for more than this share of what a fresh one would be is from before renewal, or the setting


@dataclass(frozen=True, slots=True)
class Terms:
    """The galaxy's settings: how long a host's certificate lives, and where it is renewed."""

    certificate_life_s: int
    enrolment_endpoint: str

    def welcome(self, heartbeat_ms: int, reports_upto: int, ends_ms: int, now_ms: int, revision: int = 0) -> Welcome:
        """The terms of a session with a host whose certificate ends at `ends_ms`, and whose newest plan is `revision`.

        Where to renew is said only to a host that may not know it: a host that comes back a thousand times need not hear it each time.
        """
        left_s = max(1, (ends_ms - now_ms) // 1000)
        old = left_s * LONGER[1] > self.certificate_life_s * LONGER[0]
        return Welcome(
            heartbeat_ms=heartbeat_ms,
            reports_upto=reports_upto,
            certificate_left_s=left_s,
            certificate_life_s=self.certificate_life_s,
            enrolment_endpoint=self.enrolment_endpoint if old else "",
            now_ms=now_ms,
            revision=revision,
            takes_parts=True,
        )
