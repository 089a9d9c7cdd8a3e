"""Who of a site brings an artifact over its link, and whom the others take it from. Pure: `now_ms` is an argument.

Hosts of a site ask each other how they stand with an artifact. In this order:

1. One that has it, whole and verified, is taken from; of several a different one by each host.
2. Without a controller there is nothing else to do than to ask again.
3. While one brings it from the controller, the others wait. Of two that do, the one behind yields: they have begun before they had heard of each
   other. What is heard is a little old and bytes only become more, so of two never both yield.
4. When nobody has begun, the first in rank of those who want it begins. Rank is by hash, so each artifact has another order, the same for all.
5. Nobody is waited for who is silent, or has got no further for as long as PATIENCE_MS says; and nobody for longer than MOST_MS, also not one that gives
   it byte by byte.

`now_ms` is of a clock that stands still while this host could bring nothing itself, its link gone or the windows closed: then waiting costs nothing,
and who was waited for before is waited for after.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

HEAR_MS = 3_000  # for a first answer: the other agent may just have its plan, and let us in at the second knock
SILENT_MS = 5_000  # without an answer from one that had answered
MOST_MS = 12 * 3_600_000  # of waiting, whatever others say
PIECE_BYTES = 48 << 10  # of one answer: with what stands around it below what agents take of each other at once


class Stands(Enum):
    """How a host stands with an artifact."""

    HAS = "has"
    BUSY = "busy"  # it has it, and gives it to as many others as it may
    BRINGS = "brings"  # from the controller
    WANTS = "wants"
    CUT_OFF = "cut-off"  # it wants it, and has no controller
    NOTHING = "nothing"  # it neither has it nor wants it


PATIENCE_MS = {
    Stands.WANTS: 10_000,  # it is its turn to begin
    Stands.BRINGS: 150_000,  # a controller may take two minutes to pack a parcel, in which no byte comes
    Stands.BUSY: 1_800_000,  # others are served, and serve when they have it
}
SLACK_BYTES = 256 << 10  # of two that bring it, one that is not further ahead than this is first by its rank


@dataclass(frozen=True, slots=True)
class Wish:
    """What one host asks another: how it stands with an artifact, and for `count` bytes of it from `offset` on, which may be none."""

    number: int
    digest: str
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    """To the wish of that number. `size_bytes` is the artifact's, for who has it; `done_bytes` all that has come, for who brings it."""

    number: int
    stands: Stands
    size_bytes: int
    done_bytes: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What a sibling said last, when, the most that it had, and since when it has got no further."""

    stands: Stands
    done_bytes: int
    at_ms: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class Here:
    """This host: can it reach the controller, how much has it brought from there (None: it does not), since when has it wanted it?"""

    host: str
    linked: bool
    brought: int | None
    since_ms: int


@dataclass(frozen=True, slots=True)
class Take:
    """Take it from a sibling."""

    host: str


@dataclass(frozen=True, slots=True)
class Bring:
    """Bring it from the controller, or go on with that."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again in a while."""

    why: str


Choice = Take | Bring | Wait


def said(before: Heard | None, answer: Answer, now_ms: int) -> Heard:
    """After an answer. To stand otherwise is no progress: one that begins and breaks off for ever is not waited for."""
    if before is None or _kind(before.stands) != _kind(answer.stands) or answer.done_bytes > before.done_bytes:
        return Heard(answer.stands, answer.done_bytes, now_ms, now_ms)
    return Heard(answer.stands, before.done_bytes, now_ms, before.since_ms)


def choice(digest: str, here: Here, heard: Mapping[str, Heard | None], now_ms: int) -> Choice:
    """What to do now. `heard` has those who are asked, None while they have not answered; not those who are left alone."""
    known = {host: one for host, one in heard.items() if one is not None and now_ms - one.at_ms < SILENT_MS}
    if holders := [host for host, one in known.items() if one.stands is Stands.HAS]:
        return Take(min(holders, key=lambda host: rank(digest, f"{here.host} {host}")))
    if not here.linked:
        return Wait(_without_link(known))
    if too_long(here.since_ms, now_ms):
        return Bring()
    mine = here.brought or 0
    at_work = [
        host for host, one in known.items() if one.stands in (Stands.BRINGS, Stands.BUSY) and _patient(one, now_ms)
    ]
    ahead = [host for host in at_work if here.brought is None or _ahead(digest, host, known[host], here.host, mine)]
    if ahead:
        return Wait(f"{min(ahead)} brings it")
    if here.brought is not None:
        return Bring()
    turns = [host for host, one in known.items() if one.stands is Stands.WANTS and _patient(one, now_ms)]
    first = min((here.host, *turns), key=lambda host: rank(digest, host))
    if first != here.host:
        return Wait(f"{first} is to bring it")
    if None in heard.values() and now_ms - here.since_ms < HEAR_MS:
        return Wait("asks the other hosts of its site")
    return Bring()


def too_long(since_ms: int, now_ms: int) -> bool:
    """Is what has been wanted since then to be brought from the controller by this host, whatever others say or give?"""
    return now_ms - since_ms >= MOST_MS


def rank(digest: str, who: str) -> str:
    """The lowest is first."""
    return hashlib.sha256(f"{digest} {who}".encode()).hexdigest()


def _kind(stands: Stands) -> int:
    if stands is Stands.NOTHING:
        return 0
    return 2 if stands in (Stands.HAS, Stands.BUSY) else 1


def _patient(one: Heard, now_ms: int) -> bool:
    return now_ms - one.since_ms < PATIENCE_MS[one.stands]


def _ahead(digest: str, host: str, one: Heard, me: str, mine: int) -> bool:
    """Is it ahead of this host, which brings it as well?"""
    lead = one.done_bytes - mine
    return lead > SLACK_BYTES or (lead >= -SLACK_BYTES and rank(digest, host) < rank(digest, me))


def _without_link(known: Mapping[str, Heard]) -> str:
    if not known:
        return "neither the controller nor a host of its site answers"
    return "the controller does not answer, and no host of its site has it"
