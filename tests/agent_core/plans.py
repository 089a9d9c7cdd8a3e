"""Plans and swaps of a small pair on two hosts, as a controller would make them, with whatever a test wants changed."""

from dataclasses import replace

from halftrack_model import canonical, seals
from halftrack_model.ids import digest_of
from halftrack_model.plan import Peer, Plan
from halftrack_model.probes import Checks, Probe, ProbeKind
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import Sealed
from halftrack_model.swap import Seat, SwapSpec
from halftrack_model.workload import Inlet, InletInput, Kind, Member, RingSpec, Runs, SpoolLimits, Workload
from tests.sim import keys

GALAXY = "sim"
A, B = "tank-a", "tank-b"
NO_STATE = StateSchemas("", ())


def release(version: str) -> Release:
    """Of the spectrometer."""
    artifact = Artifact(digest_of(version.encode()), 1000)
    return Release("spectrometer", version, artifact, "spectrometer:Main", {}, NO_STATE, SwapStrategy())


def sealed_release(version: str, *signers: object) -> Sealed:
    """By the release key, unless told otherwise."""
    return keys.sealed(seals.RELEASE, canonical.encode(release(version)), *(signers or (keys.RELEASE,)))  # type: ignore[arg-type]


def member(name: str, version: str) -> Member:
    """Generation 1 is 1.0.0, 2 is 1.1.0."""
    return Member("spectra", "spectrometer", name, version, 1 if version == "1.0.0" else 2)


def ring(name: str, of: Member | None = None) -> RingSpec:
    """A small one."""
    return RingSpec(name, 1 << 16, 256, of)


def member_workload(name: str, version: str) -> Workload:
    """A member as a process."""
    return Workload(
        name=f"spectra.spectrometer.{name}@{version}",
        kind=Kind.VERTEX,
        runs=Runs.MEMBER,
        artifact=release(version).artifact.digest,
        entry="spectrometer:Main",
        argv=(),
        params={},
        reads_ring="spectra/source",
        writes_ring=f"spectra/spectrometer.{name}@{version}",
        from_host="",
        version=version,
        state=NO_STATE,
        member=member(name, version),
    )


def merge() -> Workload:
    """The pair's merge."""
    return replace(
        member_workload("a", "1.0.0"),
        name="spectra.spectrometer.merge",
        runs=Runs.MERGE,
        artifact="",
        entry="",
        version="",
        reads_ring="",
        writes_ring="spectra/spectrometer",
        member=None,
    )


def inlet(**fields: object) -> Workload:
    """What joins two streams for the pair; `fields` are of its first input."""
    one = InletInput("left", "spectra/left", "lossless", 1, 0, False, 4, 8, 3, (0, 2), 30_000, 500)
    inputs = (replace(one, **fields), InletInput("right", "spectra/right", "sample", 5, 0, False, 0, 0, 0, (), 0, 0))  # type: ignore[arg-type]
    return replace(
        merge(),
        name="spectra.spectrometer.in",
        runs=Runs.INLET,
        writes_ring="spectra/spectrometer.in",
        inlet=Inlet(inputs, "union", 0, False),
    )


def spool() -> Workload:
    """What keeps the first of the inlet's streams for it."""
    return replace(
        merge(),
        name="spectra.spectrometer.spool-left",
        runs=Runs.SPOOL,
        reads_ring="spectra/left",
        writes_ring="",
        spool=SpoolLimits(1 << 30, 5000, "drop-oldest"),
    )


def seat(name: str, host: str) -> Seat:
    """1.0.0 → 1.1.0."""
    old, new = member_workload(name, "1.0.0"), member_workload(name, "1.1.0")
    return Seat(host, member(name, "1.0.0"), member(name, "1.1.0"), old.name, new.name)


SWAP = SwapSpec(
    swap_id="swap-2",
    graph="spectra",
    vertex="spectrometer",
    leader=A,
    seats=(seat("a", A), seat("b", B)),
    input_ring="spectra/source",
    merged_ring="spectra/spectrometer",
    strategy=SwapStrategy(),
    abort=False,
)


def plan(host: str = A, revision: int = 1, swap: bool = False) -> Plan:
    """The pair's parts on one host."""
    versions = ("1.0.0", "1.1.0") if swap else ("1.0.0",)
    here, there = ("a", "b") if host == A else ("b", "a")
    names = (here, there) if host == A else (here,)
    rings = [ring(f"spectra/spectrometer.{n}@{v}", member(n, v)) for n in names for v in versions]
    workloads = [member_workload(here, version) for version in versions]
    return Plan(
        galaxy=GALAXY,
        environment="tank",
        host=host,
        revision=revision,
        releases=tuple(sealed_release(version) for version in versions),
        rings=(ring("spectra/source"), *([ring("spectra/spectrometer")] if host == A else []), *rings),
        workloads=(*workloads, *([merge()] if host == A else [])),
        swaps=(SWAP,) if swap else (),
        peers=(Peer(B if host == A else A, "10.0.0.2:7450", "10.0.0.2:7451", "k" * 40),),
        decommission=False,
    )


def sealed(wanted: Plan) -> Sealed:
    """By the plan key."""
    return keys.sealed(seals.PLAN, canonical.encode(wanted), keys.PLAN)


COMMAND = ("python3", "{artifact}", "{params.port}")
CHECKS = Checks((Probe("http", ProbeKind.HTTP, port="{params.port}", path="/healthz"),))


def service_release() -> Release:
    """Of a page."""
    made = replace(release("1.0.0"), product="page", entry="", command=COMMAND, health=CHECKS, params={"port": 8080})
    return replace(made, artifact=Artifact(digest_of(b"page"), 1000))


def service() -> Workload:
    """The page as a workload."""
    made = service_release()
    return Workload(
        name="page.page",
        kind=Kind.SERVICE,
        runs=Runs.COMMAND,
        artifact=made.artifact.digest,
        entry="",
        argv=COMMAND,
        params={"port": 8080},
        reads_ring="",
        writes_ring="",
        from_host="",
        version=made.version,
        state=NO_STATE,
        member=None,
        host_network=True,
        checks=CHECKS,
    )


def service_plan() -> Plan:
    """Nothing but the page, on one host."""
    seal = keys.sealed(seals.RELEASE, canonical.encode(service_release()), keys.RELEASE)
    return Plan(GALAXY, "tank", A, 1, (seal,), (), (service(),), (), (), decommission=False)
