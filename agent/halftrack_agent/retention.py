"""Which artifacts stay on a host: pure rules over what is held, and what is remembered of the plans before.

Never taken is what the plan in force names, what the same product ran before it (the way back, with no link), and what a workload that still
runs names. Of the rest, the newest stay as a reserve, by size, for as long as the disk has room for what a plan wants.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from halftrack_model import canonical
from halftrack_model.plan import Plan
from halftrack_model.release import AGENT, Release

MAX_PRODUCTS = 256  # remembered; a host runs a few
SPARE_BYTES = 512 << 20
SPARE = 64  # files: a site's own tools list them


@dataclass(frozen=True, slots=True)
class Versions:
    """The artifacts of one product: of the plan in force, and of the last one before it that had others."""

    now: tuple[str, ...]
    before: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retained:
    """What must not go. `running` are artifacts of workloads that ran when this was written, in the plan or not."""

    products: Mapping[str, Versions]
    running: tuple[str, ...]

    @property
    def digests(self) -> frozenset[str]:
        """All of them."""
        named = (digest for each in self.products.values() for digest in (*each.now, *each.before))
        return frozenset((*named, *self.running))


@dataclass(frozen=True, slots=True)
class Held:
    """A complete artifact on the disk; of two, the one with the higher `came` is the newer."""

    size_bytes: int
    came: int


NOTHING = Retained({}, ())


def artifacts_of(plan: Plan, agents: Collection[str] = ()) -> Mapping[str, frozenset[str]]:
    """The artifacts of each product in a plan that `inbox` has judged; what is no release's is listed under no product.

    `agents` are those of the agent's own versions that this host goes back to, whatever the plan says.
    """
    found: dict[str, set[str]] = {AGENT: set(agents)} if agents else {}
    for sealed in plan.releases:
        release = canonical.decode(Release, sealed.payload)
        found.setdefault(release.product, set()).add(release.artifact.digest)
    named = set().union(*found.values())
    if others := {each.artifact for each in plan.workloads if each.artifact} - named:
        found[""] = others
    return {product: frozenset(digests) for product, digests in found.items()}


def archives_of(plan: Plan) -> frozenset[str]:
    """The artifacts that are to be unpacked."""
    found = (canonical.decode(Release, sealed.payload) for sealed in plan.releases)
    return frozenset(release.artifact.digest for release in found if release.unpack)


def retained(known: Retained, plan: Mapping[str, Collection[str]], running: Collection[str] | None) -> Retained:
    """After a plan whose products have these artifacts. `running` is None while nobody has looked: what ran before runs on.

    A product that is in no plan any more keeps what it had, for as long as no more than MAX_PRODUCTS are remembered.
    """
    products: dict[str, Versions] = {}
    for product in sorted({*known.products, *plan}):
        now = tuple(sorted(plan.get(product, ())))
        held = known.products.get(product, Versions((), ()))
        products[product] = held if now == held.now else Versions(now, held.now or held.before)
    gone = [product for product in products if product not in plan]
    for product in gone[: max(0, len(products) - MAX_PRODUCTS)]:
        del products[product]
    return Retained(products, known.running if running is None else tuple(sorted(set(running))))


def bases(held: Mapping[str, Held], known: Retained, digest: str, most: int) -> tuple[str, ...]:
    """What a parcel of that artifact may be made against: its product's own first, and then the newest. A host may hold more than one wish can name."""
    kin = {
        other
        for each in known.products.values()
        if digest in (*each.now, *each.before)
        for other in (*each.now, *each.before)
    }
    likeliest = sorted(held.keys() - {digest}, key=lambda other: (other not in kin, -held[other].came, other))
    return tuple(likeliest[:most])


def spare(held: Mapping[str, Held], kept: Collection[str]) -> tuple[str, ...]:
    """What nobody names, the oldest first: the order in which it may go when a plan needs the room."""
    return tuple(sorted(held.keys() - set(kept), key=lambda digest: (held[digest].came, digest)))


def doomed(
    held: Mapping[str, Held], kept: Collection[str], most_bytes: int = SPARE_BYTES, most: int = SPARE
) -> tuple[str, ...]:
    """What goes now, the oldest first: whatever the reserve has no room for. One that is larger than all of it is not spared."""
    going, left, count = [], most_bytes, 0
    for digest in reversed(spare(held, kept)):
        if count >= most or held[digest].size_bytes > left:
            going.append(digest)
        else:
            left, count = left - held[digest].size_bytes, count + 1
    return tuple(reversed(going))
