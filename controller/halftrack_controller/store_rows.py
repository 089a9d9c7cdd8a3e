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
from halftrack_controller.store_graphs import read_deleted, read_records
from halftrack_controller.store_keys import certificate_ends_ms
from halftrack_controller.tables import Graphs, Hosts, Plans, Releases, Rollouts
from halftrack_model import canonical
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.edits import GraphRecord
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


@dataclass(frozen=True, slots=True)
class Told:
    """What is stored of a host's present: what it has said, and when its certificate ends."""

    observed: Observed | None
    seen_ms: int
    accepted_revision: int
    refusal: Refusal | None  # of the newest plan
    certificate_ends_ms: int

    def seen(self, now_ms: int, here: Presence | None, listening_ms: int = 0) -> Seen:
        """With what its session knows. Before its first one since our start, ages come from our own wall clock."""
        stored_age = max(0, now_ms - self.seen_ms) if self.observed is not None else -1
        known = here or Presence(False, stored_age, -1)
        return Seen(
            connected=known.connected,
            last_seen_age_ms=known.last_seen_age_ms,
            observed=self.observed,
            observed_age_ms=known.confirmed_age_ms if known.confirmed_age_ms >= 0 else stored_age,
            accepted_revision=self.accepted_revision,
            refusal=self.refusal,
            certificate_ends_ms=self.certificate_ends_ms,
            certificate_left_ms=self.certificate_ends_ms - now_ms if self.certificate_ends_ms else 0,
            silent_ms=known.last_seen_age_ms if here is not None else listening_ms,
            up_ms=known.up_ms,
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Everything that decisions are made from, as it is stored: a snapshot but for the present."""

    environments: Mapping[str, Environment]
    hosts: Hosts
    records: Mapping[tuple[str, str], GraphRecord]
    graphs: Graphs
    releases: Releases
    artifacts: frozenset[str]
    rollouts: Rollouts
    generations: tuple[Generation, ...]
    held: Plans
    told: Mapping[str, Told]  # one for each of `hosts`
    deleted: frozenset[tuple[str, str]]

    def snapshot(self, galaxy: str, now_ms: int, presence: Mapping[str, Presence], listening_ms: int = 0) -> Snapshot:
        """With what the sessions know. `listening_ms`: for how long hosts could have come to us."""
        return Snapshot(
            galaxy=galaxy,
            environments=self.environments,
            hosts=self.hosts,
            graphs=self.graphs,
            releases=self.releases,
            artifacts=self.artifacts,
            rollouts=self.rollouts,
            generations=self.generations,
            held=self.held,
            seen={name: told.seen(now_ms, presence.get(name), listening_ms) for name, told in self.told.items()},
            records=self.records,
            deleted=self.deleted,
        )


def read_rows(conn: sqlite3.Connection) -> Rows:
    """Everything, at the instant of the caller's transaction."""
    hosts, records = read_hosts(conn), read_records(conn)
    return Rows(
        read_environments(conn),
        hosts,
        records,
        graphs_of(records),
        read_releases(conn),
        read_artifacts(conn),
        read_rollouts(conn),
        read_generations(conn),
        Plans({host: _held(data) for host, data in conn.execute(_NEWEST_PLANS)}),
        {host: read_told(conn, host) for host in hosts},
        read_deleted(conn),
    )


def read_environments(conn: sqlite3.Connection) -> Mapping[str, Environment]:
    """By name."""
    rows = conn.execute("select name, labels, track, agent from environments order by name")
    return {row[0]: Environment(row[0], json.loads(row[1]), row[2], row[3]) for row in rows}


def read_hosts(conn: sqlite3.Connection) -> Hosts:
    """By name."""
    return Hosts({row[0]: _host(*row) for row in conn.execute(_HOSTS)})


def graphs_of(records: Mapping[tuple[str, str], GraphRecord]) -> Graphs:
    """As they are live."""
    return Graphs(record.live for record in records.values())


def read_releases(conn: sqlite3.Connection, known: Mapping[tuple[str, str], Published] | None = None) -> Releases:
    """By product and version; a release never changes, so those that are known need not be read."""
    have = known or {}
    keys = conn.execute("select product, version from releases order by product, version").fetchall()
    return Releases({key: have.get(key) or _published(*conn.execute(_RELEASE, key).fetchone()) for key in keys})


def read_artifacts(conn: sqlite3.Connection) -> frozenset[str]:
    """The digests of those that are here."""
    return frozenset(digest for (digest,) in conn.execute("select digest from artifacts"))


def read_rollouts(conn: sqlite3.Connection) -> Rollouts:
    """Oldest first."""
    return Rollouts(_rollout(row) for row in conn.execute("select * from rollouts order by created_ms, rollout_id"))


def read_generations(conn: sqlite3.Connection) -> tuple[Generation, ...]:
    """In the order of what they are for."""
    rows = conn.execute("select * from generations order by environment, graph, vertex, number")
    return tuple(Generation(*row) for row in rows)


def read_held(conn: sqlite3.Connection, host: str) -> Held | None:
    """The newest plan of a host."""
    row = conn.execute(_NEWEST_PLAN, (host,)).fetchone()
    return _held(row[0]) if row else None


def read_told(conn: sqlite3.Connection, host: str) -> Told:
    """What is stored of a host's present."""
    row = conn.execute("select canonical, seen_ms from observed where host = ?", (host,)).fetchone()
    answer = conn.execute(_ANSWER, (host,)).fetchone() or (0, 0, "", "")
    refusal = Refusal(answer[1], answer[2], answer[3]) if answer[1] or answer[2] else None
    newest = conn.execute("select max(revision) from plans where host = ?", (host,)).fetchone()[0] or 0
    return Told(
        observed=_observed(row[0]) if row else None,
        seen_ms=row[1] if row else 0,
        accepted_revision=answer[0],
        refusal=refusal if refusal and refusal.revision in (0, newest) and answer[0] != newest else None,
        certificate_ends_ms=certificate_ends_ms(conn, host),
    )


def read_kin(conn: sqlite3.Connection, digest: str) -> tuple[str, ...]:
    """Other artifacts of the products that have this one, the newest first."""
    return tuple(str(row[0]) for row in conn.execute(_KIN, (digest,)))


_KIN = (
    "select artifact from releases where product in (select product from releases where artifact = ?1) "
    "and artifact <> ?1 group by artifact order by max(published_ms) desc limit 64"
)
_HOSTS = "select name, environment, labels, bridge, agent, curve_public, bandwidth, site from hosts order by name"
_RELEASE = "select sealed, published_ms from releases where product = ? and version = ?"
_ANSWER = "select accepted_revision, refused_revision, reason, message from answers where host = ?"
_NEWEST_PLANS = """
select host, sealed from plans
where revision = (select max(revision) from plans as others where others.host = plans.host) order by host
"""

_NEWEST_PLAN = "select sealed from plans where host = ? order by revision desc limit 1"

# Parsed once: rows change rarely and a snapshot is taken at every step. The values are frozen, so sharing them is safe.


def _host(name: str, environment: str, labels: str, bridge: str, agent: str, key: str, windows: str, site: str) -> Host:
    limits = canonical.decode(tuple[BandwidthWindow, ...], windows.encode())
    return Host(name, environment, json.loads(labels), bridge, agent, key, limits, site)


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
