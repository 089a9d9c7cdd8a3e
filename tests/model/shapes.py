"""Hypothesis strategies for the model's documents: anything that the types allow, so that codecs meet more than we thought of."""

from hypothesis import strategies as st

from halftrack_model.graph import (
    Edge,
    Full,
    Join,
    JoinBy,
    Partition,
    Place,
    Policy,
    Rate,
    Role,
    Sample,
    Spool,
    StreamGraph,
    Vertex,
)
from halftrack_model.observed import Health, InstanceObserved, Observed, SwapWaits
from halftrack_model.plan import Peer, Plan
from halftrack_model.release import (
    Approval,
    Artifact,
    Compare,
    Migration,
    OnStateLoss,
    Release,
    StateSchemas,
    SwapStrategy,
)
from halftrack_model.report import Happened, Report
from halftrack_model.seals import Seal, Sealed
from halftrack_model.swap import Phase, Seat, SwapRecord, SwapSpec
from halftrack_model.verdict import Check, FieldTolerance, Verdict
from halftrack_model.versions import Version
from halftrack_model.workload import (
    Inlet,
    InletInput,
    Judge,
    JudgedPair,
    Kind,
    Member,
    RingSpec,
    Runs,
    SpoolLimits,
    Workload,
)

TEXT = st.text(max_size=12)
NUMBERS = st.integers(-(2**63) + 1, 2**63 - 1)
FEW = {"max_size": 3}

names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
params = st.dictionaries(TEXT, st.one_of(TEXT, NUMBERS, st.booleans()), **FEW)
_labels = st.one_of(
    st.integers(0, 99).map(str),
    st.from_regex(r"[a-z-][0-9a-z-]{0,4}", fullmatch=True),
)
versions = st.builds(Version, *(st.integers(0, 30) for _ in range(3)), st.lists(_labels, max_size=3).map(tuple))

artifacts = st.builds(Artifact, digest=TEXT, size_bytes=NUMBERS)
migrations = st.builds(Migration, source=TEXT, target=TEXT, entry=TEXT)
schemas = st.builds(
    StateSchemas,
    writes=TEXT,
    reads=st.lists(TEXT, **FEW).map(tuple),
    migrations=st.lists(migrations, **FEW).map(tuple),
    one_way=st.booleans(),
    on_loss=st.sampled_from(OnStateLoss),
    replay_frames=NUMBERS,
    replay_ms=NUMBERS,
)
tolerances = st.builds(FieldTolerance, name=TEXT, dtype=TEXT, count=NUMBERS, absolute=TEXT, relative=TEXT)
verdicts = st.builds(
    Verdict,
    check=st.sampled_from(Check),
    fields=st.lists(tolerances, **FEW).map(tuple),
    entry=TEXT,
    **dict.fromkeys(
        ("frames", "mismatches", "latency_p99_percent", "memory_percent", "memory_bytes", "cpu_percent"), NUMBERS
    ),
)
strategies = st.builds(
    SwapStrategy,
    **dict.fromkeys(
        (
            "surge",
            "lag_frames",
            "caught_up_ms",
            "shadow_ms",
            "shadow_frames",
            "drain_ms",
            "deadline_ms",
            "green_deaths",
        ),
        NUMBERS,
    ),
    compare=st.sampled_from(Compare),
    approval=st.sampled_from(Approval),
    verdict=st.none() | verdicts,
)
releases = st.builds(
    Release,
    product=TEXT,
    version=TEXT,
    artifact=artifacts,
    entry=TEXT,
    params=params,
    state=schemas,
    strategy=strategies,
)
members = st.builds(Member, graph=TEXT, vertex=TEXT, member=TEXT, version=TEXT, generation=NUMBERS)
rings = st.builds(
    RingSpec,
    name=TEXT,
    capacity_bytes=NUMBERS,
    slots=NUMBERS,
    member=st.none() | members,
    retain_ms=st.just(0) | NUMBERS,
)
inlet_inputs = st.builds(
    InletInput,
    **dict.fromkeys(("name", "ring", "policy"), TEXT),
    **dict.fromkeys(
        ("every", "rate_per_s", "key_offset", "key_bytes", "key_of", "replay_ms", "evict_after_ms"), NUMBERS
    ),
    latest=st.booleans(),
    key_take=st.lists(NUMBERS, **FEW).map(tuple),
    spool=st.just("") | TEXT,
)
inlets = st.builds(
    Inlet, inputs=st.lists(inlet_inputs, **FEW).map(tuple), join=TEXT, join_width_ns=NUMBERS, join_partial=st.booleans()
)
judges = st.builds(
    Judge,
    pairs=st.lists(st.builds(JudgedPair, blue_ring=TEXT, green_ring=TEXT), **FEW).map(tuple),
    verdict=verdicts,
    lag_frames=NUMBERS,
)
workloads = st.builds(
    Workload,
    name=TEXT,
    kind=st.sampled_from(Kind),
    runs=st.sampled_from(Runs),
    artifact=TEXT,
    entry=TEXT,
    argv=st.lists(TEXT, **FEW).map(tuple),
    params=params,
    reads_ring=TEXT,
    writes_ring=TEXT,
    from_host=TEXT,
    version=TEXT,
    state=schemas,
    member=st.none() | members,
    inlet=st.none() | inlets,
    spool=st.none() | st.builds(SpoolLimits, size_bytes=NUMBERS, retain_ms=NUMBERS, full=TEXT),
    judge=st.none() | judges,
)
seals = st.builds(Seal, key_id=TEXT, signature=st.binary(max_size=8))
sealed = st.builds(Sealed, kind=TEXT, payload=st.binary(max_size=16), seals=st.lists(seals, **FEW).map(tuple))
seats = st.builds(Seat, host=TEXT, blue=members, green=members, blue_workload=TEXT, green_workload=TEXT)
swaps = st.builds(
    SwapSpec,
    swap_id=TEXT,
    graph=TEXT,
    vertex=TEXT,
    leader=TEXT,
    seats=st.lists(seats, **FEW).map(tuple),
    input_ring=TEXT,
    merged_ring=TEXT,
    strategy=strategies,
    abort=st.booleans(),
)
records = st.builds(
    SwapRecord,
    swap_id=TEXT,
    phase=st.sampled_from(Phase),
    reason=TEXT,
    diff=st.lists(TEXT, **FEW).map(tuple),
    **dict.fromkeys(
        ("number", "leg", "epoch", "fence", "fence_moves", "since_ms", "leg_since_ms", "green_deaths"), NUMBERS
    ),
)
peers = st.builds(Peer, host=TEXT, bridge=TEXT, agent=TEXT, curve_public=TEXT)
plans = st.builds(
    Plan,
    galaxy=TEXT,
    environment=TEXT,
    host=TEXT,
    revision=NUMBERS,
    releases=st.lists(sealed, **FEW).map(tuple),
    rings=st.lists(rings, **FEW).map(tuple),
    workloads=st.lists(workloads, **FEW).map(tuple),
    swaps=st.lists(swaps, max_size=1).map(tuple),
    peers=st.lists(peers, **FEW).map(tuple),
    siblings=st.lists(peers, **FEW).map(tuple),
    decommission=st.booleans(),
)
instances = st.builds(
    InstanceObserved,
    workload=TEXT,
    digest=TEXT,
    phase=TEXT,
    health=st.sampled_from(Health),
    restarts=NUMBERS,
    detail=TEXT,
)
observed = st.builds(
    Observed,
    host=TEXT,
    revision=NUMBERS,
    instances=st.lists(instances, **FEW).map(tuple),
    swaps=st.lists(records, **FEW).map(tuple),
    problems=st.lists(TEXT, **FEW).map(tuple),
    waits=st.lists(st.builds(SwapWaits, swap_id=TEXT, text=TEXT), **FEW).map(tuple),
)
reports = st.builds(
    Report, host=TEXT, number=NUMBERS, at_ms=NUMBERS, happened=st.sampled_from(Happened), subject=TEXT, detail=TEXT
)
documents = st.one_of(releases, workloads, sealed, swaps, records, plans, observed, reports)

# Graphs: few names, so that duplicates, loops and loose ends are common.
_few_names = st.sampled_from(["a", "b", "c", "d"])
_small = st.sampled_from([0, 1, 2, 1000])
rates = st.none() | st.builds(Rate, bytes_per_s=_small, frames_per_s=_small)
vertices = st.builds(
    Vertex,
    name=_few_names,
    role=st.sampled_from(Role),
    product=names,
    hosts=st.lists(st.sampled_from(["x", "y", "z"]), min_size=0, max_size=3).map(tuple),
    params=params,
    ring_bytes=st.sampled_from([0, 1, 1 << 16, 1 << 20]),
    ring_slots=st.sampled_from([0, 1, 3, 64, 1024]),
    join=st.none() | st.builds(Join, by=st.sampled_from(JoinBy), width_ms=_small, partial=st.booleans()),
    state=st.sampled_from(["", "s"]),
    rate=rates,
    capacity=rates,
)
partitions = st.builds(
    Partition,
    offset=st.integers(-1, 2),
    key_bytes=st.integers(0, 2),
    of=st.integers(0, 4),
    take=st.lists(st.integers(-1, 4), **FEW).map(tuple),
)
edges = st.builds(
    Edge,
    source=_few_names,
    target=_few_names,
    policy=st.sampled_from(Policy),
    sample=st.none() | st.builds(Sample, every=_small, rate_per_s=_small, latest=st.booleans()),
    partition=st.none() | partitions,
    **dict.fromkeys(("replay_ms", "retain_ms", "credit_bytes", "evict_after_ms"), _small),
    placement=st.none() | st.sampled_from(Place),
    spool=st.none()
    | st.builds(Spool, size_bytes=st.sampled_from([0, 1 << 30]), retain_ms=_small, full=st.sampled_from(Full)),
)
graphs = st.builds(
    StreamGraph,
    name=names,
    environment=names,
    vertices=st.lists(vertices, max_size=5).map(tuple),
    edges=st.lists(edges | st.builds(Edge, source=_few_names, target=_few_names), max_size=6).map(tuple),
)
