"""The inbox: the one place where bytes become a plan that this host will act on. Pure: no I/O, no clock.

A plan is accepted only when, in this order, each rule holds; the first that fails names the refusal, and nothing changes:

1. It is not longer than `MAX_PLAN_BYTES` (checked before a byte is read).
2. A plan key of this galaxy has sealed it, as a plan (`seals.opened`).
3. It decodes strictly.
4. It is for this galaxy and this host.
5. Its revision is higher than the one held. The same revision with the same bytes is a redelivery, and no event at all;
   with other bytes somebody has reused a number, which no honest controller does. A host whose journal was damaged holds no
   plan, but knows how high it has been, and goes below that for nobody (P2).
6. It is not empty, unless it says that the host is to be decommissioned, or is about the agent of a host that is to run nothing yet (R3).
7. Each release in it is sealed by enough release keys, and each artifact it runs is named by one of those releases, with the
   same entry and version: a stolen controller key alone installs nothing, the agent's own next version included. A command's words, a probe's and what a judge asks are what the
   release is sealed with, and nothing else.
8. Its parts fit together and this host (`fitting`): a genuine plan that no agent could carry out would stop each one that tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from halftrack_agent import fitting
from halftrack_model import canonical, seals
from halftrack_model.errors import InvalidInput, Refused, Untrusted
from halftrack_model.limits import MAX_PLAN_BYTES
from halftrack_model.plan import Plan, agent_of
from halftrack_model.release import Release
from halftrack_model.seals import Sealed, Verify
from halftrack_model.workload import Runs, Workload

MAX_FAULTS = 16  # of a plan that are told: enough for whoever corrects it, and a refusal stays a short message
_WARRANT = object()
_RELEASED = (Runs.COMMAND, Runs.SOURCE, Runs.MEMBER, Runs.SINK, Runs.JUDGE)


@dataclass(frozen=True)
class Trust:
    """Whom this host obeys: fixed at enrolment. Keys are raw Ed25519 public keys by key id."""

    galaxy: str
    host: str
    plan_keys: Mapping[str, bytes]
    release_keys: Mapping[str, bytes]
    release_threshold: int
    verify: Verify


@dataclass(frozen=True)
class TrustedPlan:
    """A plan that `judged` has verified for this galaxy and host (P1). Executors take nothing else.

    `artifacts` are the sizes of what its releases name, by digest.
    """

    plan: Plan
    sealed: Sealed
    artifacts: Mapping[str, int]
    warrant: object

    def __post_init__(self) -> None:
        assert self.warrant is _WARRANT, "only inbox.judged makes a TrustedPlan"  # noqa: S101 - a programmer's error


def judged(sealed: Sealed, trust: Trust, held: TrustedPlan | None, floor: int = 0) -> TrustedPlan | None:
    """The plan that `sealed` carries, once all rules above hold; None when it is the one already held.

    Raises Untrusted, InvalidInput or Refused, with the reason that goes into the refusal.
    """
    if len(sealed.payload) > MAX_PLAN_BYTES:
        raise InvalidInput("plan-too-long", f"{len(sealed.payload)} bytes, at most {MAX_PLAN_BYTES} are read")
    payload = seals.opened(sealed, seals.PLAN, trust.plan_keys, trust.verify)
    plan = canonical.decode(Plan, payload)
    _check_addressee(plan, trust)
    if held is not None and plan.revision <= held.plan.revision:
        _check_redelivery(plan, payload, held)
        return None
    if plan.revision < floor:
        raise Refused("older-revision", f"revision {plan.revision} is older than {floor}, which this host had accepted")
    if plan.bare and not (plan.agent and (held is None or held.plan.bare)):
        raise Refused("empty-plan", "a plan without workloads that does not say `decommission` is not obeyed")
    artifacts = _check_releases(plan, trust)
    _check_agent(plan)
    if faults := tuple(fitting.misfits(plan)):
        raise InvalidInput("plan-misfit", "; ".join(faults[:MAX_FAULTS]))
    return TrustedPlan(plan, sealed, artifacts, _WARRANT)


def revision_of(sealed: Sealed, trust: Trust) -> int:
    """The revision of a plan that this galaxy has sealed for this host, for the refusal to name; 0 when it cannot be known.

    A refusal without a number would be taken for one of whatever was sent last, and fail a rollout that nobody has refused.
    """
    if len(sealed.payload) > MAX_PLAN_BYTES:
        return 0
    try:
        plan = canonical.decode(Plan, seals.opened(sealed, seals.PLAN, trust.plan_keys, trust.verify))
        _check_addressee(plan, trust)
    except (Untrusted, InvalidInput):
        return 0
    return plan.revision


def _check_addressee(plan: Plan, trust: Trust) -> None:
    if plan.galaxy != trust.galaxy:
        raise Untrusted("wrong-galaxy", f"a plan of galaxy {plan.galaxy!r}; this host belongs to {trust.galaxy!r}")
    if plan.host != trust.host:
        raise Untrusted("wrong-host", f"a plan for {plan.host!r}; this is {trust.host!r}")


def _check_redelivery(plan: Plan, payload: bytes, held: TrustedPlan) -> None:
    if plan.revision == held.plan.revision:
        if payload == held.sealed.payload:
            return
        raise Untrusted("revision-reused", f"another plan with revision {plan.revision}, which this host already has")
    raise Refused(
        "older-revision", f"revision {plan.revision} is older than {held.plan.revision}, which is in force here"
    )


def _check_releases(plan: Plan, trust: Trust) -> Mapping[str, int]:
    """Sizes of all released artifacts by digest, after rule 7."""
    releases: dict[str, Release] = {}
    for sealed in plan.releases:
        payload = seals.opened(sealed, seals.RELEASE, trust.release_keys, trust.verify, trust.release_threshold)
        release = canonical.decode(Release, payload)
        releases[f"{release.artifact.digest} {release.entry} {release.version}"] = release
    for workload in plan.workloads:
        if workload.runs in _RELEASED and f"{workload.artifact} {workload.entry} {workload.version}" not in releases:
            raise Untrusted(
                "unreleased-artifact",
                f"{workload.name} would run {workload.artifact or 'nothing'} as {workload.entry} {workload.version}, "
                "which no release in this plan vouches for",
            )
        if workload.runs in _RELEASED and workload.runs is not Runs.JUDGE:
            _check_words(workload, releases[f"{workload.artifact} {workload.entry} {workload.version}"])
        if workload.judge is not None:
            release = releases[f"{workload.artifact} {workload.entry} {workload.version}"]
            if workload.judge.verdict != release.strategy.verdict:
                raise Untrusted(
                    "unreleased-verdict",
                    f"{workload.name} would judge {release.version} by another verdict than the one that it is sealed with",
                )
    return {release.artifact.digest: release.artifact.size_bytes for release in releases.values()}


def _check_agent(plan: Plan) -> None:
    """After rule 7: whatever its releases say is what the release keys have sealed."""
    if not plan.agent:
        return
    release = agent_of(plan)
    if release is None or not release.unpack or not release.command:
        raise Untrusted(
            "unreleased-agent", f"the agent would become {plan.agent}, which no release in this plan vouches for"
        )


def _check_words(workload: Workload, release: Release) -> None:
    """What would be executed beside the artifact itself: the words of a command, and those of probes."""
    if workload.argv != release.command or workload.unpacked != release.unpack:
        raise Untrusted(
            "unreleased-command", f"{workload.name} would run another command than {release.version} is sealed with"
        )
    if workload.checks is not None and workload.checks != release.health:
        raise Untrusted(
            "unreleased-probe", f"{workload.name} would be probed otherwise than {release.version} is sealed with"
        )
