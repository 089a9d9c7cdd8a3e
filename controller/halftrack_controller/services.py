"""Where a service runs: which of its hosts, what happens when one is lost, and which stays when it comes back. Pure.

A place is kept for as long as it is one: nothing moves because something else might be better. What is lost is decided by how long this
controller has itself waited for a word (`Seen.silent_ms`), so neither its wall clock nor its own absence makes anybody lost; by a longer while, which is a
bound, for a host that a sibling still sees (ADR 45); and when fewer than half of
an environment's hosts are visible it suspects itself, and replaces nobody (O1).

While a replacement runs, its plan names whom it replaces. When that host is back, `reconcile` says which of the two goes on, and the other one
becomes idle once the one that stays is seen to be healthy; it keeps the service in its plan, since a plan that says nothing stops nothing (R3).
"""

from collections.abc import Iterable, Mapping, Sequence

from halftrack_controller import placement, standing
from halftrack_controller.expansion import Place
from halftrack_controller.quantities import age_text, rough_age_text
from halftrack_controller.snapshot import Reason, Snapshot
from halftrack_model import disconnect
from halftrack_model.disconnect import Disconnect, Reconcile
from halftrack_model.graph import Role, StreamGraph, Vertex
from halftrack_model.observed import Health, InstanceObserved

NOTHING = Disconnect()
Places = dict[str, Place]


def placed(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex) -> tuple[Mapping[str, Place], tuple[Reason, ...]]:
    """The part of each host that has one, and why some are missing."""
    name = placement.workload_name(graph.name, vertex.name)
    places = {host: place for host in vertex.hosts if (place := _held(snapshot, host, name)) is not None}
    declared, reasons = vertex.disconnect or NOTHING, list[str]()
    _settle_pairs(snapshot, places, name, declared)
    _fill(snapshot, vertex, places)
    if declared.replace:
        reasons += _seen_elsewhere(snapshot, places, declared)
        reasons += _replace(snapshot, graph.environment, vertex, places, declared)
    if not declared.replace:
        reasons += _silent(snapshot, places)
    return places, tuple(Reason("", f"{graph.name}/{vertex.name}", text) for text in reasons)


def hosts_of(snapshot: Snapshot, graph: StreamGraph, vertex: Vertex) -> tuple[str, ...]:
    """Where a vertex runs: of a service, the hosts whose plans have it run there."""
    if vertex.role is not Role.SERVICE:
        return vertex.hosts
    name = placement.workload_name(graph.name, vertex.name)
    return tuple(host for host in vertex.hosts if (place := _held(snapshot, host, name)) is not None and not place.idle)


def _held(snapshot: Snapshot, host: str, workload: str) -> Place | None:
    """What the host's newest plan says of it."""
    held, known = snapshot.held.get(host), snapshot.hosts.get(host)
    if held is None or known is None or not known.enrolled:
        return None
    if all(each.name != workload for each in held.plan.workloads):
        return None
    holding = held.plan.holding(workload)
    return Place(holding.idle, holding.replaces)


# ------------------------------------------------------------------------------------------------------------ how many


def _fill(snapshot: Snapshot, vertex: Vertex, places: Places) -> None:
    """As many as are asked for: those that are there stay, the first of the manifest come next; those too many become idle, the last first."""
    wanted = vertex.instances or len(vertex.hosts)
    mine = [host for host in vertex.hosts if host in places and not places[host].idle and not places[host].replaces]
    for host in mine[wanted:]:
        places[host] = Place(idle=True)
    others = [host for host in _by_readiness(snapshot, vertex.hosts) if host not in mine and host not in places]
    idle = [host for host in _by_readiness(snapshot, vertex.hosts) if host in places and places[host].idle]
    stood_for = {place.replaces for place in places.values()} - {""}
    missing = max(0, wanted - len(mine) - len(stood_for - set(mine)))
    for host in (*(host for host in idle if host not in stood_for), *others)[:missing]:
        places[host] = Place()


def _by_readiness(snapshot: Snapshot, hosts: Sequence[str]) -> list[str]:
    """In the manifest's order, those that are seen before those that are not, and none that has not enrolled."""
    enrolled = [host for host in hosts if host in snapshot.hosts and snapshot.hosts[host].enrolled]
    return sorted(enrolled, key=lambda host: not standing.visible(snapshot, host))


# ------------------------------------------------------------------------------------------------------------ the lost


def _replace(
    snapshot: Snapshot, environment: str, vertex: Vertex, places: Places, declared: Disconnect
) -> Iterable[str]:
    covered = {place.replaces for place in places.values()}
    lost = [
        host
        for host, place in places.items()
        if not place.idle and host not in covered and is_lost(snapshot, host, declared)
    ]
    if not lost:
        return
    if blind(snapshot, environment):
        yield "fewer than half of the environment's hosts are seen, so it is this controller that may be cut off: nobody is replaced"
        return
    spare = [h for h in vertex.hosts if standing.visible(snapshot, h) and (h not in places or places[h].idle)]
    spare.sort(key=lambda host: _load(snapshot, host))
    for host in lost:
        age = rough_age_text(snapshot.seen[host].silent_ms)
        if not spare:
            yield f"{host} is lost (no word for {age}), and no other of its hosts is seen to be free: name more, or bring it back"
            continue
        stand_in = spare.pop(0)
        # The replacement of a replacement stands for the first one lost.
        original = places[host].replaces or host
        if original != host:
            places[host] = Place(idle=True)
        places[stand_in] = Place(replaces=original)
        yield f"{stand_in} runs it in place of {original}, of which nothing was heard for {age}"


def is_lost(snapshot: Snapshot, host: str, declared: Disconnect) -> bool:
    """Has nothing been heard of it for as long as it was declared, or for longer where another host sees it?"""
    seen = standing.seen(snapshot, host)
    after_ms = disconnect.lost_after_ms(declared, sighted=bool(standing.sighted_by(snapshot, host)))
    return bool(declared.lost_after_ms) and not seen.connected and seen.silent_ms >= after_ms


def _seen_elsewhere(snapshot: Snapshot, places: Places, declared: Disconnect) -> Iterable[str]:
    """Who would be lost by now, if no other host of its site saw it."""
    covered = {place.replaces for place in places.values()}
    for host, place in places.items():
        silent_ms, by = standing.seen(snapshot, host).silent_ms, standing.sighted_by(snapshot, host)
        if by and not place.idle and host not in covered and silent_ms >= declared.lost_after_ms:
            after_ms = disconnect.lost_after_ms(declared, sighted=True)
            if silent_ms < after_ms:
                yield (
                    f"nothing was heard of {host} for {rough_age_text(silent_ms)}, but {by} sees it: "
                    f"it is lost after {age_text(after_ms)}"
                )


def blind(snapshot: Snapshot, environment: str) -> bool:
    """Is so little seen that it is rather this controller that is cut off?"""
    hosts = snapshot.machines.enrolled(environment)
    return 2 * sum(standing.visible(snapshot, host) for host in hosts) < len(hosts)


def _load(snapshot: Snapshot, host: str) -> int:
    """How much a host has to run."""
    held = snapshot.held.get(host)
    return 0 if held is None else sum(not held.plan.holding(w.name).idle for w in held.plan.workloads)


def _silent(snapshot: Snapshot, places: Places) -> Iterable[str]:
    for host, place in places.items():
        if not place.idle and (silence := standing.silence(snapshot, host)):
            yield f"{silence}: it may well run on there"


# ------------------------------------------------------------------------------------------------- the lost that are back


def _settle_pairs(snapshot: Snapshot, places: Places, workload: str, declared: Disconnect) -> None:
    for stand_in, place in list(places.items()):
        original = place.replaces
        if not original or place.idle:
            continue
        if original not in places:  # it is no host of the service any more
            places[stand_in] = Place()
            continue
        stays = _stays(snapshot, original, stand_in, workload, declared)
        if stays == original and _healthy(snapshot, original, workload):
            places[stand_in], places[original] = Place(idle=True), Place()
        elif stays == stand_in and _healthy(snapshot, stand_in, workload):
            places[stand_in], places[original] = Place(), Place(idle=True)


def _stays(snapshot: Snapshot, original: str, stand_in: str, workload: str, declared: Disconnect) -> str:
    """Which of the two shall go on; the original's return is needed for it to be that one."""
    if not standing.visible(snapshot, original):
        return stand_in if declared.reconcile is Reconcile.KEEP_REPLACEMENT else ""
    match declared.reconcile:
        case Reconcile.KEEP_REPLACEMENT:
            return stand_in
        case Reconcile.BEST_SCORE:
            return stand_in if _load(snapshot, stand_in) < _load(snapshot, original) else original
        case Reconcile.LONGEST_RUNNING:
            one, other = (_uptime_ms(snapshot, host, workload) for host in (original, stand_in))
            return stand_in if other > one else original
        case Reconcile.KEEP_ORIGINAL:
            return original


def _instance(snapshot: Snapshot, host: str, workload: str) -> InstanceObserved | None:
    observed = standing.seen(snapshot, host).observed
    return next((row for row in observed.instances if row.workload == workload), None) if observed else None


def _healthy(snapshot: Snapshot, host: str, workload: str) -> bool:
    row = _instance(snapshot, host, workload)
    return (
        standing.visible(snapshot, host) and row is not None and row.phase == "running" and row.health is Health.HEALTHY
    )


def _uptime_ms(snapshot: Snapshot, host: str, workload: str) -> int:
    """How long its instance has run, by its host's own clock; -1 while it does not, or that is not known."""
    row, up_ms = _instance(snapshot, host, workload), standing.seen(snapshot, host).up_ms
    if row is None or row.phase != "running" or not row.started_ms or up_ms < row.started_ms:
        return -1
    return up_ms - row.started_ms
