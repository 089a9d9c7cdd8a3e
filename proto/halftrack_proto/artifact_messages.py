"""What is said of the ways to an artifact, as in `messages`; what is fetched and put itself is there."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OfferRequest:
    """What is the cheapest way to an artifact, for who holds `bases`?"""

    digest: str
    bases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OfferReply:
    """A parcel: the artifact as zstd, with `base` as dictionary (empty: none). An empty digest: the artifact itself is the cheapest."""

    digest: str
    size_bytes: int
    base: str
