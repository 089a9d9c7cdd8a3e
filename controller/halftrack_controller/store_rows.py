"""Reading the store's rows as the types that decisions are made from. Reads only, within the caller's transaction."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from halftrack_controller.snapshot import (
    Environment,
    Generation,
    Held,
    Host,
    Published,
    Refusal,
    Rollout,
    RolloutPhase,
    Seen,
    Snapshot,
)
from halftrack_controller.store_graphs import read_records
from halftrack_controller.store_keys import certificate_ends_ms
from halftrack_model import canonical
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.observed import Observed
from halftrack_model.plan import Plan
from halftrack_model.release import Release
from halftrack_model.seals import Sealed


@dataclass(frozen=True, slots=True)
class Presence:
    """A host as its session knows it, by this controller's monotonic clock; it outlives the session, not the controller."""

    connected: bool
    last_seen_age_ms: int
    confirmed_age_ms: int  # since it last said that its observed state is the one stored; -1: not since we started
    up_ms: int = -1  # since its machine booted, as of now by its own word; -1 while it has not told


def read_snapshot(
    conn: sqlite3.Connection, galaxy: str, now_ms: int, presence: Mapping[str, Presence], listening_ms: int = 0
) -> Snapshot:
    """Everything, at the instant of the caller's transaction. `listening_ms`: for how long hosts could have come to us."""
    hosts = {row[0]: _host(*row) for row in conn.execute(_HOSTS)}
    records = read_records(conn)
    return Snapshot(
        galaxy=galaxy,
        environments={
            row[0]: Environment(row[0], json.loads(row[1]), row[2], row[3])
            for row in conn.execute("select name, labels, track, agent from environments order by name")
        },
        hosts=hosts,
        graphs=tuple(record.live for record in records.values()),
        releases={(row[0], row[1]): _published(row[2], row[3]) for row in conn.execute(_RELEASES)},
        artifacts=frozenset(digest for (digest,) in conn.execute("select digest from artifacts")),
        rollouts=tuple(_rollout(row) for row in conn.execute("select * from rollouts order by created_ms, rollout_id")),
        generations=tuple(
            Generation(*row)
            for row in conn.execute("select * from generations order by environment, graph, vertex, number")
        ),
        held={host: _held(data) for host, data in conn.execute(_NEWEST_PLANS)},
        seen={host: read_seen(conn, now_ms, presence, host, listening_ms) for host in hosts},
        records=records,
    )


def read_seen(
    conn: sqlite3.Connection, now_ms: int, presence: Mapping[str, Presence], host: str, listening_ms: int = 0
) -> Seen:
    """What is known of a host's present. Before its first session since our start, ages come from our own wall clock."""
    row = conn.execute("select canonical, seen_ms from observed where host = ?", (host,)).fetchone()
    answer = conn.execute(_ANSWER, (host,)).fetchone() or (0, 0, "", "")
    stored_age = max(0, now_ms - row[1]) if row else -1
    here = presence.get(host, Presence(False, stored_age, -1))
    confirmed = here.confirmed_age_ms if here.confirmed_age_ms >= 0 else stored_age
    refusal = Refusal(answer[1], answer[2], answer[3]) if answer[1] or answer[2] else None
    newest = conn.execute("select max(revision) from plans where host = ?", (host,)).fetchone()[0] or 0
    ends_ms = certificate_ends_ms(conn, host)
    return Seen(
        connected=here.connected,
        last_seen_age_ms=here.last_seen_age_ms,
        observed=_observed(row[0]) if row else None,
        observed_age_ms=confirmed,
        accepted_revision=answer[0],
        refusal=refusal if refusal and refusal.revision in (0, newest) and answer[0] != newest else None,
        certificate_ends_ms=ends_ms,
        certificate_left_ms=ends_ms - now_ms if ends_ms else 0,
        silent_ms=here.last_seen_age_ms if host in presence else listening_ms,
        up_ms=here.up_ms,
    )


def read_kin(conn: sqlite3.Connection, digest: str) -> tuple[str, ...]:
    """Other artifacts of the products that have this one, the newest first."""
    return tuple(str(row[0]) for row in conn.execute(_KIN, (digest,)))


_KIN = (
    "select artifact from releases where product in (select product from releases where artifact = ?1) "
    "and artifact <> ?1 group by artifact order by max(published_ms) desc limit 64"
)
_HOSTS = "select name, environment, labels, bridge, agent, curve_public, bandwidth, site from hosts order by name"
_RELEASES = "select product, version, sealed, published_ms from releases order by product, version"
_ANSWER = "select accepted_revision, refused_revision, reason, message from answers where host = ?"
_NEWEST_PLANS = """
select host, sealed from plans
where revision = (select max(revision) from plans as others where others.host = plans.host) order by host
"""

# Parsed once: rows change rarely and a snapshot is taken at every step. The values are frozen, so sharing them is safe.


def _host(name: str, environment: str, labels: str, bridge: str, agent: str, key: str, windows: str, site: str) -> Host:
    limits = canonical.decode(tuple[BandwidthWindow, ...], windows.encode())
    return Host(name, environment, json.loads(labels), bridge, agent, key, limits, site)


@lru_cache(maxsize=1024)
def _published(data: bytes, published_ms: int) -> Published:
    sealed = canonical.decode(Sealed, data)
    return Published(canonical.decode(Release, sealed.payload), sealed, published_ms)


@lru_cache(maxsize=1024)
def _held(data: bytes) -> Held:
    sealed = canonical.decode(Sealed, data)
    return Held(canonical.decode(Plan, sealed.payload), sealed)


@lru_cache(maxsize=1024)
def _observed(data: bytes) -> Observed:
    return canonical.decode(Observed, data)


def _rollout(row: sqlite3.Row | tuple[str, str, str, str, str, str, str, int, int, str, str, int]) -> Rollout:
    rollout_id, environment, graph, vertex, product, old, new, old_number, number, phase, reason, created_ms = row
    return Rollout(
        rollout_id,
        environment,
        graph,
        vertex,
        product,
        old,
        new,
        old_number,
        number,
        RolloutPhase(phase),
        reason,
        created_ms,
    )
