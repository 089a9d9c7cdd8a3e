"""Render: what the controller says as tables and sentences for people. Pure; rich objects and strings out, nothing printed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

from halftrack_controller.quantities import age_text, size_text, times_text
from halftrack_controller.standing import SIGHTED_MS
from halftrack_model.observed import AgentSeen, Observed
from halftrack_model.plan import Plan
from halftrack_proto import messages as said
from halftrack_proto.gauges import RingRow
from halftrack_proto.graph_messages import Deletion


@dataclass(frozen=True, slots=True)
class HostStep:
    """What changes on one host from the plan it holds to the next."""

    host: str
    from_revision: int
    starts: tuple[str, ...]
    stops: tuple[str, ...]
    restarts: tuple[str, ...]  # replaced by another form of the same name
    keeps: int
    swaps: tuple[str, ...]


def host_step(change: said.HostChange) -> HostStep:
    """The difference between two plans, by what it means for what runs."""
    held = _running(change.held) if change.held else {}
    following = _running(change.next)
    # A green member is in the plan and starts only when the swap has come so far; a blue one ends the same way.
    names = sorted(set(held) & set(following))
    return HostStep(
        host=change.host,
        from_revision=change.revision_held,
        starts=tuple(sorted(set(following) - set(held))),
        stops=tuple(sorted(set(held) - set(following))),
        restarts=tuple(name for name in names if held[name] != following[name]),
        keeps=sum(held[name] == following[name] for name in names),
        swaps=tuple(_swap_texts(change.held, change.next)),
    )


def _running(plan: Plan) -> dict[str, str]:
    """What a plan has run, by digest: not what it has another host run."""
    return {w.name: w.digest() for w in plan.workloads if not plan.holding(w.name).idle}


def _swap_texts(held: Plan | None, following: Plan) -> Iterable[str]:
    before = {swap.swap_id: swap for swap in held.swaps} if held else {}
    for swap in following.swaps:
        if swap.abort and not (swap.swap_id in before and before[swap.swap_id].abort):
            yield f"undo {swap.swap_id}"
        elif swap.swap_id not in before:
            order = (" and " if swap.strategy.surge == 2 else " then ").join(swap.hosts)
            yield f"{swap.swap_id}: {swap.blue.version} → {swap.green.version}, {order}"
    yield from (f"{name} is over" for name in sorted(set(before) - {swap.swap_id for swap in following.swaps}))


def host_step_lines(number: int, step: HostStep) -> list[str]:
    """One host of `halftrack plan`."""
    lines = [
        f"{number}. {step.host}: revision {step.from_revision} is replaced; {step.keeps} workloads stay as they are"
    ]
    lines += [f"     swap    {text}" for text in step.swaps]
    lines += [f"   + start   {name}" for name in step.starts]
    lines += [f"   ~ restart {name}" for name in step.restarts]
    lines += [f"   - stop    {name}" for name in step.stops]
    return lines


def deletion_lines(deletion: Deletion, dry_run: bool) -> list[str]:
    """What ends with a graph, and who hears of it only later."""
    name = f"{deletion.environment}/{deletion.name}"
    if not deletion.hosts:
        return [f"{name}: {'would be deleted' if dry_run else 'deleted'}; no host runs anything of it"]
    lines = [f"{name}: would end on" if dry_run else f"{name}: deleted; it ends on"]
    for each in deletion.hosts:
        age_ms = each.last_seen_age_ms
        seen = f"not seen for {age_text(age_ms)}" if age_ms > 0 else "never seen"
        lines.append(f"  {each.host}: {', '.join(each.workloads)}" + (f" ({seen}: when it is back)" if age_ms else ""))
    return lines


def plan_lines(reply: said.PlanReply, steps: Sequence[HostStep]) -> list[str]:
    """The whole of `halftrack plan`: what would change, where, in which order, and why not elsewhere."""
    lines = document_lines(change for change in reply.changes if change.action != "unchanged")
    if reply.rollouts:
        lines += ["Rollouts:", *(f"  {rollout_way(entry)}" for entry in reply.rollouts)]
    if steps:
        lines.append("Hosts, in this order:")
        for number, step in enumerate(steps, 1):
            lines += [f"  {line}" for line in host_step_lines(number, step)]
    if reply.reasons:
        lines += ["Why not otherwise:", *(f"  {reason_line(why)}" for why in reply.reasons)]
    return lines or ["Nothing to do: everything is as it shall be."]


def document_lines(changes: Iterable[said.DocumentChange]) -> list[str]:
    """What applying does to each document."""
    return [f"{change.kind} {change.name}: {change.action}" for change in changes]


def reason_line(why: said.Why) -> str:
    """A reason, led by what it is about."""
    return f"{why.subject or why.host}: {why.text}"


def rollout_way(entry: said.RolloutEntry) -> str:
    """A rollout in one line, without its reason."""
    way = f"{entry.from_version} → {entry.to_version}" if entry.from_version else f"{entry.to_version}, the first"
    return f"{entry.rollout_id}: {entry.product} {way}"


def rollout_table(entries: Iterable[said.RolloutEntry]) -> Table:
    """Rollouts as they stand."""
    table = _table("ROLLOUT", "PRODUCT", "FROM", "TO", "PHASE", "SWAP", "WHY")
    for entry in entries:
        swap = f"seat {entry.swap.leg + 1}: {entry.swap.phase.value}" if entry.swap else ""
        row = (entry.rollout_id, entry.product, entry.from_version or "-", entry.to_version, entry.phase, swap)
        table.add_row(*row, entry.reason)
    return table


def host_table(entries: Iterable[said.HostEntry]) -> Table:
    """Hosts, one a line."""
    table = _table("HOST", "ENVIRONMENT", "LINK", "HEALTH", "PLAN", "AGENT", "CERTIFICATE", "PROBLEMS")
    for entry in entries:
        problems = [*entry.problems, *([f"refused: {entry.refusal_reason}"] if entry.refusal_reason else [])]
        plan = f"{entry.accepted_revision}/{entry.revision}"
        row = (entry.name, entry.environment, link_text(entry), entry.health.value, plan)
        table.add_row(*row, agent_text(entry), certificate_text(entry), "; ".join(problems))
    return table


def link_text(entry: said.HostEntry) -> str:
    """How we stand with a host, with the age of what we know."""
    if not entry.enrolled:
        return "not enrolled"
    if entry.connected:
        return "connected"
    if entry.sighted_by and 0 <= entry.sighted_age_ms <= SIGHTED_MS:
        return f"cut off from here; seen by {entry.sighted_by} {age_text(entry.sighted_age_ms)} ago"
    ages = [age_ms for age_ms in (entry.last_seen_age_ms, entry.sighted_age_ms) if age_ms >= 0]
    if entry.watched:
        return f"not seen by anybody for {age_text(min(ages))}" if ages else "not seen by anybody"
    return "never seen" if entry.last_seen_age_ms < 0 else f"last seen {age_text(entry.last_seen_age_ms)} ago"


def agent_text(entry: said.HostEntry) -> str:
    """The version of a host's agent, as it last said."""
    return f"{entry.agent or '-'}{' (on trial)' if entry.agent_on_trial else ''}"


def certificate_text(entry: said.HostEntry) -> str:
    """How long a host's certificate is good for, by the controller's clock. One that is over is renewed when the host comes back."""
    if not entry.certificate_ends_ms:
        return "-"
    left_ms = entry.certificate_left_ms
    return f"{age_text(left_ms)} left" if left_ms > 0 else f"over for {age_text(-left_ms)}"


def host_texts(detail: said.HostDetail) -> list[Table | str]:
    """One host in full."""
    entry = detail.entry
    revisions = f"plan {entry.revision}, accepted {entry.accepted_revision}"
    texts: list[Table | str] = [
        f"{entry.name} in {entry.environment}: {link_text(entry)}, {entry.health.value}; {revisions}"
    ]
    if entry.refusal_reason:
        texts.append(f"it refused its newest plan: {entry.refusal_reason}: {entry.refusal_message}")
    if detail.observed is not None and detail.observed.agent is not None:
        texts += _agent_texts(detail.observed.agent)
    if entry.certificate_ends_ms:
        texts.append(f"certificate: {certificate_text(entry)}")
    texts += [f"problem: {problem}" for problem in entry.problems]
    if detail.observed is not None:
        texts.append(_instance_table(detail.observed, detail.plan))
        texts += [
            f"swap {swap.swap_id}: seat {swap.leg + 1} {swap.phase.value}{f' ({swap.reason})' if swap.reason else ''}"
            for swap in detail.observed.swaps
        ]
        texts += [f"  {line}" for swap in detail.observed.swaps for line in swap.diff]
        texts += [f"swap {each.swap_id} waits for evidence: {each.text}" for each in detail.observed.waits]
    texts += [f"artifact {transfer}" for transfer in detail.transfers]
    texts += [f"#{r.number} {r.happened.value} {r.subject}: {r.detail}" for r in detail.reports]
    return texts


def _agent_texts(agent: AgentSeen) -> list[str]:
    how = f"as artifact {agent.artifact[7:19]}" if agent.artifact else "as it was installed"
    trial = ", on trial" if agent.on_trial else ""
    failed = [f"agent artifact {digest[7:19]} was given up: {why}" for digest, why in sorted(agent.failed.items())]
    return [f"agent {agent.version}, {how}{trial}", *failed]


def _instance_table(observed: Observed, plan: Plan | None) -> Table:
    wanted = {w.name: w.digest() for w in plan.workloads} if plan else {}
    table = _table("WORKLOAD", "PHASE", "HEALTH", "RESTARTS", "FORM", "DETAIL")
    for row in observed.instances:
        form = "as planned" if wanted.get(row.workload) == row.digest else "not in the newest plan"
        restarts = f"{row.restarts}, hung {times_text(row.hangs)}" if row.hangs else str(row.restarts)
        table.add_row(row.workload, row.phase, row.health.value, restarts, form, row.detail)
    return table


def release_table(entries: Iterable[said.ReleaseEntry]) -> Table:
    """Releases, one a line."""
    table = _table("PRODUCT", "VERSION", "ARTIFACT", "SIZE", "STATE", "SEALED BY")
    for entry in entries:
        release = entry.release
        size = size_text(release.artifact.size_bytes)
        row = (release.product, release.version, release.artifact.digest[7:19], size, release.state.writes or "-")
        table.add_row(*row, ", ".join(entry.key_ids))
    return table


def ring_table(rows: Iterable[RingRow]) -> Table:
    """Rings as of their hosts' last heartbeats."""
    table = _table("HOST", "RING", "HEAD", "FILL", "FRAMES/S", "LOST", "DROPPED", "READERS (LAG)", "AGE")
    for row in rows:
        fill = f"{100 * (row.head - row.tail) / row.slots:.0f}%" if row.slots else "-"
        rate = "-" if row.frames_per_1000_s < 0 else f"{row.frames_per_1000_s / 1000:.1f}"
        lags = ", ".join(f"{name} ({lag}{_missed_text(row, name)})" for name, lag in sorted(row.lags.items()))
        counts = (str(row.head), fill, rate, str(row.lost), str(row.dropped))
        table.add_row(row.host, row.ring, *counts, lags, age_text(row.age_ms))
    return table


def _missed_text(row: RingRow, reader: str) -> str:
    return f", {row.missed[reader]} missed" if row.missed.get(reader) else ""


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
