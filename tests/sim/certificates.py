"""Hosts' certificates in a galaxy of services: they end by the controller's clock, and whoever holds the key that enrolled gets a fresh one.

When to renew is decided by the agent's real core, whether a proof counts by the controller's, over real keys. Attempts that must have failed while a line
was cut are not played one by one: what they leave behind is worked out when it is back. Randomness is of its own, so that older seeds strike as they did.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from halftrack_agent import renewal
from halftrack_controller import ca
from halftrack_controller.renewal import RANDOM_BYTES, Challenges, check_proof, key_of
from halftrack_model.errors import HalftrackError
from halftrack_model.renewals import Renewal, statement
from halftrack_proto.renewal import RenewRequest
from tests.sim.invariants import Violation

if TYPE_CHECKING:
    from tests.sim.fleet import Fleet
    from tests.sim.service_host import ServiceHost

LIVES_MS = (
    2 * 3_600_000,
    86_400_000,
    90 * 86_400_000,
)  # the first ends in a long power cut, as real ones do in a winter
GIVEN_UP_MS = 20_000  # within which three sessions over a line that is cut have come to nothing
PATIENCE_MS = renewal.RESTED.rule.cap_ms  # the longest pause between two attempts to renew


@cache
def key(number: int) -> ec.EllipticCurvePrivateKey:
    """The same in every run."""
    return ec.derive_private_key(number + 1, ec.SECP256R1())


AUTHORITY = key(1_000_000)


class Certificate:
    """Of one host, with what its agent remembers of renewals."""

    def __init__(self, world: Fleet, host: ServiceHost, number: int, life_ms: int) -> None:
        self.world, self.host, self.key, self.life_ms = world, host, key(number), life_ms
        self.rng = world.rng(f"certificate {host.name}")
        self.ends_ms = self.kept_ms = self.world.real_ms() + life_ms  # by the controller's clock; as the disk has it
        self.state = renewal.begun(self.rng.randint)
        self.renewals = self.renewals_late = 0  # and of those, after it had ended
        self._turned = 0  # jumps of the controller's clock when it was last looked at
        self._in_time = False  # was there a quarter of its life left when that was?
        self._asked = 0

    def good(self) -> bool:
        """Would the controller let it in now?"""
        return self.world.controller.clock_ms() < self.ends_ms

    def begun(self) -> None:
        """Its agent has started: of what it knew, only the file is left."""
        self.state, self.ends_ms = renewal.begun(self.rng.randint), self.kept_ms
        self._asked += 1

    def welcomed(self) -> None:
        """A session has begun with it."""
        if not self.good():
            raise Violation("C2", f"{self.host.name} has a session with a certificate that is over")
        left_ms = self.ends_ms - self.world.controller.clock_ms()
        self.state = renewal.welcomed(self.state, left_ms, self.life_ms, self.host.clock_ms())
        self._turned = self.world.struck["controller's clock jumps"]
        self._in_time = left_ms > self.life_ms // 4
        self._look_later()

    def refused(self) -> None:
        """A session came to nothing because of it."""
        self.state = renewal.unanswered(self.state)
        due_ms = renewal.due_ms(self.state)
        if due_ms is not None and due_ms <= self.host.clock_ms():
            self._renew()

    def back(self, away_ms: int) -> None:
        """The line is there again: meanwhile nobody was to be reached, neither for a session nor for a fresh certificate."""
        if away_ms < GIVEN_UP_MS:
            return
        now_ms = self.host.clock_ms()
        at_ms = max(0, now_ms - away_ms) + GIVEN_UP_MS
        for _ in range(renewal.SUSPECT_AFTER):
            self.state = renewal.unanswered(self.state)
        while (due_ms := renewal.due_ms(self.state)) is not None and max(at_ms, due_ms) < now_ms:
            self.state = renewal.failed(self.state, max(at_ms, due_ms), self.rng.randint)

    def _look_later(self) -> None:
        due_ms = renewal.due_ms(self.state)
        self._asked += 1
        asked, life = self._asked, self.host.life
        if due_ms is None:
            return

        def due() -> None:
            if self.host.alive and self.host.life == life and self._asked == asked:
                if self.host.session and self.world.controller.sessions.get(self.host.name) == self.host.session:
                    self.rested()
                self._renew()
                self._look_later()

        self.world.timeline.after(max(1, due_ms - self.host.clock_ms()), due)

    def _renew(self) -> None:
        """On the port that only the server authenticates."""
        controller, now_ms = self.world.controller, self.host.clock_ms()
        if not (controller.alive and self.world.up(self.host.name)) or not self._proved():
            self.state = renewal.failed(self.state, now_ms, self.rng.randint)
            return
        self.renewals_late += not self.good()
        self.ends_ms = controller.clock_ms() + self.life_ms
        self.kept_ms = self.kept_ms if self.host.disk.full else self.ends_ms
        self.state = renewal.renewed(self.state, self.life_ms, now_ms, self.rng.randint)
        self._turned = self.world.struck["controller's clock jumps"]
        self._in_time = True
        self.renewals += 1

    def _proved(self) -> bool:
        """The controller's real check of a signature over its challenge."""
        name, at_ms = self.host.name, self.world.now_ms
        nonce = CHALLENGES.made(name, self.rng.randbytes(RANDOM_BYTES), at_ms)
        asked = Renewal("sim", name, ca.key_digest(AUTHORITY.public_key()), nonce)
        signature = self.key.sign(statement(asked), ec.ECDSA(hashes.SHA256()))
        der = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        request = RenewRequest(name, nonce, der, signature)
        try:
            CHALLENGES.check(name, nonce, at_ms)
            check_proof(request, key_of(request), "sim", AUTHORITY.public_key())
        except HalftrackError:
            return False
        return True

    def rested(self) -> None:
        """C2: while a session stands it is renewed before it ends; who sets the controller's clock ahead ends it, and is no part of that."""
        turned = self._turned != self.world.struck["controller's clock jumps"]
        if self._in_time and not turned and not self.good():
            raise Violation("C2", f"the certificate of {self.host.name} has ended in the middle of a session")


CHALLENGES = Challenges(b"of this simulation, 32 bytes at least")
