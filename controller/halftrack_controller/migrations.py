"""The store's schema, as the numbered steps by which it came to be: each applied once, in order, and recorded.

A step that has been released is never edited: stores in the field have it behind them. Rules that must hold whatever code
writes (a revision rises, a release never changes, a generation is never reused) are in the schema itself.
"""

from sqlite_utils import Database, Migrations

from halftrack_model.errors import Refused

MIGRATIONS = Migrations("halftrack-controller")
NAMES = (
    "0001-first",
    "0002-live-graphs",
    "0003-certificates",
    "0004-time-floor",
    "0005-bandwidth",
    "0006-sites",
    "0007-agents",
)  # every step below; the schema of a store that has others is not ours to touch

_FIRST = """
create table environments (
  name text primary key,
  labels text not null,
  track text not null
) strict;
create table hosts (
  name text primary key,
  environment text not null references environments (name),
  labels text not null,
  bridge text not null,
  agent text not null,
  curve_public text not null default '',
  key_digest text not null default ''  -- of the certificate that may speak for it; empty until it has enrolled
) strict;
create table graphs (
  environment text not null references environments (name),
  name text not null,
  canonical blob not null,
  primary key (environment, name)
) strict;
create table artifacts (
  digest text primary key,
  size_bytes integer not null
) strict;
create table releases (
  product text not null,
  version text not null,
  artifact text not null references artifacts (digest),
  sealed blob not null,
  published_ms integer not null,
  primary key (product, version)
) strict;
create table rollouts (
  rollout_id text primary key,
  environment text not null,
  graph text not null,
  vertex text not null,
  product text not null,
  from_version text not null,
  to_version text not null,
  from_generation integer not null,
  to_generation integer not null,
  phase text not null,
  reason text not null,
  created_ms integer not null
) strict;
create table generations (
  environment text not null,
  graph text not null,
  vertex text not null,
  number integer not null check (number > 0),
  product text not null,
  version text not null,
  primary key (environment, graph, vertex, number)
) strict;
create table plans (
  host text not null references hosts (name),
  revision integer not null check (revision > 0),
  sealed blob not null,
  made_ms integer not null,
  primary key (host, revision)
) strict;
create table tokens (
  secret_hash text primary key,
  host text not null references hosts (name),
  expires_ms integer not null,
  key_digest text not null default ''
) strict;
create table reports (
  host text not null references hosts (name),
  number integer not null,
  canonical blob not null,
  received_ms integer not null,
  primary key (host, number)
) strict;
create table report_marks (  -- the highest number consumed: what stays when old reports go
  host text primary key references hosts (name),
  upto integer not null
) strict;
create table observed (
  host text primary key references hosts (name),
  digest text not null,
  canonical blob not null,
  seen_ms integer not null
) strict;
create table answers (  -- what a host has said about its plans
  host text primary key references hosts (name),
  accepted_revision integer not null default 0,
  refused_revision integer not null default 0,
  reason text not null default '',
  message text not null default ''
) strict;
create trigger plans_rise before insert on plans
  when new.revision <= (select coalesce(max(revision), 0) from plans where host = new.host)
  begin select raise(abort, 'a revision never goes down'); end;
create trigger plans_stay before update on plans
  begin select raise(abort, 'a plan never changes'); end;
create trigger plans_newest_stays before delete on plans
  when old.revision = (select max(revision) from plans where host = old.host)
  begin select raise(abort, 'the newest plan of a host stays'); end;
create trigger releases_stay before update on releases
  begin select raise(abort, 'a release never changes'); end;
create trigger generations_stay before update on generations
  begin select raise(abort, 'a generation is never given twice'); end;
create trigger marks_rise before update on report_marks when new.upto < old.upto
  begin select raise(abort, 'a report is consumed once'); end
"""


@MIGRATIONS(name=NAMES[0])
def first(db: Database) -> None:
    """Everything that the first version keeps."""
    for statement in _statements(_FIRST):
        db.conn.execute(statement)


_LIVE_GRAPHS = """
create table graph_records (  -- `graphs` has what is live; a graph without a row here is as it was declared, at revision 1
  environment text not null,
  name text not null,
  revision integer not null check (revision > 0),
  declared blob not null,
  primary key (environment, name),
  foreign key (environment, name) references graphs (environment, name)
) strict;
create table graph_changes (
  environment text not null,
  name text not null,
  revision integer not null check (revision > 0),
  operator text not null,
  at_ms integer not null,
  what text not null,
  primary key (environment, name, revision)
) strict;
create trigger graph_revisions_rise before update on graph_records when new.revision <= old.revision
  begin select raise(abort, 'a graph''s revision never goes down'); end;
create trigger graph_changes_stay before update on graph_changes
  begin select raise(abort, 'what has happened to a graph never changes'); end
"""


@MIGRATIONS(name=NAMES[1])
def live_graphs(db: Database) -> None:
    """What was declared of a graph, apart from what is live after edits, and who has edited it."""
    for statement in _statements(_LIVE_GRAPHS):
        db.conn.execute(statement)


_CERTIFICATES = """
create table certificates (  -- the last one that each host was given, or has shown: for people, who ask how long it is still good for
  host text primary key references hosts (name),
  ends_ms integer not null
) strict;
"""


@MIGRATIONS(name=NAMES[2])
def certificates(db: Database) -> None:
    """When the certificates of hosts end."""
    for statement in _statements(_CERTIFICATES):
        db.conn.execute(statement)


_TIME_FLOOR = """
create table time_floor (  -- one row: the highest that this controller's clock has said
  one integer primary key check (one = 1),
  wall_ms integer not null
) strict;
create trigger time_floor_rises before update on time_floor when new.wall_ms < old.wall_ms
  begin select raise(abort, 'the floor under the time never goes down'); end
"""


@MIGRATIONS(name=NAMES[3])
def time_floor(db: Database) -> None:
    """What the time has been at least."""
    for statement in _statements(_TIME_FLOOR):
        db.conn.execute(statement)


@MIGRATIONS(name=NAMES[4])
def bandwidth(db: Database) -> None:
    """What artifacts may take of a host's link."""
    db.conn.execute("alter table hosts add column bandwidth text not null default '[]'")


@MIGRATIONS(name=NAMES[5])
def sites(db: Database) -> None:
    """Which hosts give each other artifacts."""
    db.conn.execute("alter table hosts add column site text not null default ''")


@MIGRATIONS(name=NAMES[6])
def agents(db: Database) -> None:
    """Which version the agents of an environment shall be."""
    db.conn.execute("alter table environments add column agent text not null default ''")


def migrate(db: Database) -> None:
    """Bring the store to this version's schema; refuses one that a later version has already changed."""
    strange = [step.name for step in MIGRATIONS.applied(db) if step.name not in NAMES]
    if strange:
        raise Refused(
            "store-too-new",
            f"this store has been changed by a later version of halftrack (step {strange[-1]}): run that version, or restore "
            "a copy from before the upgrade",
        )
    MIGRATIONS.apply(db)


def _statements(script: str) -> list[str]:
    """The script's statements one by one: `executescript` would commit whatever transaction it is called in."""
    statements: list[str] = []
    current = ""
    for line in script.splitlines(keepends=True):
        current += line
        if line.startswith((") strict;", "  begin ")):
            statements.append(current)
            current = ""
    return statements
