"""What the fleet's machines go through, and what must be seen of it: a function for each trial, which raises `Failed` where something else was seen.

A trial finds the site well and leaves it well. Its figures are milliseconds, and counts that must come out as they are written in it. Owns what is judged;
how a machine is rebooted or a page is asked for is `machine`'s and `site`'s.
"""

import signal
import time
from collections.abc import Callable, Mapping, Sequence

from halftrack_model.report import Happened
from tests.fleet import installing
from tests.fleet.judging import BACK_S, Watched, expect
from tests.fleet.machine import WAIT_S, Failed, until
from tests.fleet.site import AGENT, BASE, CONTROLLER, RATE, RUN, STATE, Figures, Site
from tests.fleet.updates import self_updated

WRONG_S = 10 * 365 * 86_400


# ------------------------------------------------------------------------------------------------------------------- trials


def installed(site: Site) -> Figures:
    """Enrolled and enabled as the README says; every host serves, and is well."""
    for host in site.hosts:
        until(lambda host=host: site.page(host), f"{host} serves")
        until(lambda host=host: site.well(host), f"{host} is well")
        expect(f"{host}: its unit", site.property(host, AGENT, "UnitFileState"), "enabled")
        expect(f"{host}: its unit", site.property(host, AGENT, "ActiveState"), "active")
        expect(f"{host}: its problems", site.problems(host), ())
        site.networked(host)
    if site.stream:
        until(site.kept, "frames arrive in the sink")
    with site.operator() as client:
        until(lambda: all(rollout.phase == "succeeded" for rollout in client.rollouts()), "all rollouts have succeeded")
    return {"serving": len(site.hosts)}


def unit_restarted(site: Site) -> Figures:
    """`systemctl restart`: systemd ends the agent and nothing else, and the next one adopts."""
    adopted = 0
    for host in site.hosts:
        watched = Watched(site, host)
        site.machines[host].run("systemctl", "restart", AGENT)
        adopted += watched.adopted()
    return {"adopted": adopted}


def unit_stopped(site: Site) -> Figures:
    """`systemctl stop`, and `systemctl start` a while later: what runs goes on meanwhile."""
    adopted = ran_on = 0
    for host in site.hosts:
        watched = Watched(site, host)
        site.machines[host].run("systemctl", "stop", AGENT)
        expect(f"{host}: its unit", site.property(host, AGENT, "ActiveState"), "inactive")
        ran_on += watched.unharmed()
        expect(f"{host}: it serves", bool(site.page(host)), True)
        site.machines[host].run("systemctl", "start", AGENT)
        adopted += watched.adopted()
    return {"ran_on": ran_on, "adopted": adopted}


def agent_killed(site: Site) -> Figures:
    """SIGKILL, as from the kernel when memory is short: systemd starts another, which adopts."""
    adopted = 0
    for host in site.hosts:
        watched = Watched(site, host)
        site.machines[host].signal(site.agent(host), signal.SIGKILL)
        adopted += watched.adopted()
    return {"adopted": adopted}


def out_of_memory(site: Site) -> Figures:
    """The kernel itself kills an agent for want of memory, of which it gets none any more. The last host has control groups of version 1, which can do that."""
    host = site.hosts[-1]
    machine, watched = site.machines[host], Watched(site, host)
    group = "/sys/fs/cgroup/memory/short"
    machine.run("mkdir", group)
    machine.write(f"{group}/memory.limit_in_bytes", str(64 << 10))
    machine.write(f"{group}/cgroup.procs", str(site.agent(host)))
    adopted = watched.adopted()
    expect("killed by the kernel", "oom_kill 1" in machine.path(f"{group}/memory.oom_control").read_text(), True)
    machine.run("rmdir", group)
    return {"adopted": adopted}


def watchdog(site: Site) -> Figures:
    """One agent stands still, another one's loop hangs, and so does the controller, all at once: each is ended and is back within 30 s."""
    still, hung = site.hosts[0], site.hosts[-1]
    watched = {host: Watched(site, host) for host in site.hosts}
    began_s = time.monotonic()
    site.machines[still].signal(site.agent(still), signal.SIGSTOP)
    held, back_ms = _wedged(site, hung) if hung != still else 0, {}
    controller = int(site.property(BASE, CONTROLLER, "MainPID"))
    site.base.signal(controller, signal.SIGSTOP)
    for host in (hung, still) if hung != still else (still,):
        if host == hung and held:
            until(lambda: site.agent(hung) != watched[hung]._agent, "the agent that hangs is ended", BACK_S)
            site.machines[hung].signal(held, signal.SIGCONT)
        watched[host].adopted()
        back_ms[host] = round((time.monotonic() - began_s) * 1000)
    until(
        lambda: int(site.property(BASE, CONTROLLER, "MainPID")) not in (0, controller),
        "another controller is there",
        BACK_S,
    )
    until(site.listens, "it listens", BACK_S)
    controller_ms = round((time.monotonic() - began_s) * 1000)
    late = {name: ms for name, ms in {**back_ms, BASE: controller_ms}.items() if ms > BACK_S * 1000}
    expect("back too late (ms)", late, {})
    if "Watchdog timeout" not in site.machines[still].journal(AGENT):
        raise Failed(f"{still}: it was not systemd that ended its agent")
    site.in_step()
    return {
        "ended": len(back_ms) + 1,
        "stopped_back_ms": back_ms[still],
        "wedged_back_ms": back_ms[hung],
        "controller_back_ms": controller_ms,
    }


def watchdog_soon(site: Site) -> Figures:
    """`unit_restarted` and the first part of `watchdog`, by an administrator who is less patient: for the short form."""
    host, settings = site.hosts[0], {"WatchdogSec": "2s"}
    machine, watched = site.machines[host], Watched(site, host)
    machine.drop_in(AGENT, settings)
    machine.run("systemctl", "restart", AGENT)
    adopted = watched.adopted()
    watched, began_s = Watched(site, host), time.monotonic()
    machine.signal(site.agent(host), signal.SIGSTOP)
    adopted += watched.adopted()
    if "Watchdog timeout" not in machine.journal(AGENT):
        raise Failed(f"{host}: it was not systemd that ended its agent")
    return {"adopted": adopted, "back_ms": round((time.monotonic() - began_s) * 1000)}


def _wedged(site: Site, host: str) -> int:
    """The agent's next look never ends: it reads a pipe to which nobody writes. The process whose file that was, which has to stand still meanwhile."""
    machine = site.machines[host]
    name = next(name for name in site.pids(host) if name.startswith("line.sum."))
    pid = site.pids(host)[name][0]
    status = f"{RUN}/status/{name}.json"
    machine.signal(pid, signal.SIGSTOP)  # it would put a file in the pipe's place
    machine.run("mkfifo", f"{status}.pipe")
    machine.run("mv", f"{status}.pipe", status)
    return pid


def rebooted_offline(site: Site) -> Figures:
    """No cable is in. Each host reboots in order, by its own systemd, and serves again; so does the stream, which goes on where it was."""
    return _booted(site, lambda host: site.machines[host].reboot())


def power_cut_offline(site: Site) -> Figures:
    """The same, without any order: everything on the host ends at once."""

    def cut(host: str) -> None:
        site.machines[host].power_cut()
        site.machines[host].boot()

    return _booted(site, cut)


def _booted(site: Site, boot: Callable[[str], None]) -> Figures:
    with site.operator() as client:
        before = {host: client.host(host).entry.accepted_revision for host in site.hosts}
        phases = [(rollout.rollout_id, rollout.phase) for rollout in client.rollouts()]
    recorded, exits = site.kept(), site.reported(Happened.INSTANCE_EXITED)
    site.cables.pull(*site.hosts)
    names = {host: sorted(site.pids(host)) for host in site.hosts}
    serving_ms: list[int] = []
    for host in site.hosts:
        boot(host)
        serving_ms.append(site.served(host, site.machines[host].switched_on_s))
        until(lambda host=host: site.well(host), f"{host} is well without a link")
        expect(f"{host}: what runs", sorted(site.pids(host)), names[host])
        site.networked(host)
    if site.stream:
        until(
            lambda: site.kept() > recorded + 100,
            "the stream goes on where it was, beyond what it had, without a link",
            WAIT_S + 2 * recorded / RATE,  # from the first frame on: the ring, which numbers them, was in memory
        )
    site.cables.plug(*site.hosts)
    site.in_step()
    with site.operator() as client:
        expect("revisions", {host: client.host(host).entry.accepted_revision for host in site.hosts}, before)
        expect("rollouts", [(rollout.rollout_id, rollout.phase) for rollout in client.rollouts()], phases)
    expect(
        "exits that were reported: a host that goes down is nobody's exit",
        site.reported(Happened.INSTANCE_EXITED),
        exits,
    )
    figures = {"boots": len(serving_ms), "slowest_serving_ms": max(serving_ms)}
    return figures | ({"frames": site.kept()} if site.stream else {})


def cut_half_way(site: Site) -> Figures:
    """A host loses its power and its link as soon as a new plan is there. It serves one or the other by itself; with its link, the newer one."""
    host = site.hosts[-1]
    machine = site.machines[host]
    with site.operator() as client:
        before = client.host(host).entry.accepted_revision
        site.publish(client, "page", "1.0.1")
        until(lambda: client.host(host).entry.accepted_revision > before, f"{host} has accepted the plan")
    site.cables.pull(host)
    machine.power_cut()
    machine.boot()
    serving_ms = site.served(host, machine.switched_on_s)
    until(lambda: site.well(host), f"{host} is well without a link")
    expect("one of both is served", site.page(host) in ("1.0.0", "1.0.1"), True)
    newer = site.page(host) == "1.0.1"
    site.cables.plug(host)
    for each in site.hosts:
        until(lambda each=each: site.page(each) == "1.0.1", f"{each} serves the newer page")
    site.in_step()
    with site.operator() as client:
        until(lambda: all(rollout.phase == "succeeded" for rollout in client.rollouts()), "the cut was nobody's fault")
    return {"serving_ms": serving_ms, "finished_offline": int(newer)}


def wrong_clock(site: Site) -> Figures:
    """A host boots without a link, ten years ahead: it serves, comes back into step, and says what is wrong with its clock."""
    host = site.hosts[0]
    machine = site.machines[host]
    (machine.root / "opt/clock.so").write_bytes(installing.clock(site.folder / "clock.so").read_bytes())
    machine.drop_in(AGENT, {"Environment": f"LD_PRELOAD=/opt/clock.so FLEET_CLOCK_S={WRONG_S}"})
    site.cables.pull(host)
    machine.reboot()
    serving_ms = site.served(host, machine.switched_on_s)
    site.cables.plug(host)
    site.in_step()

    def clock() -> list[str]:  # its sink may tell meanwhile of a stream that has begun anew
        return [text for text in site.problems(host) if "clock" in text]

    told = until(clock, "it says that its clock is wrong")
    machine.drop_in(AGENT, {})
    watched = Watched(site, host)
    machine.run("systemctl", "restart", AGENT)
    watched.adopted()
    until(lambda: not clock(), "its clock is right again")
    return {"told": len(told), "serving_ms": serving_ms}


def full_disk(site: Site) -> Figures:
    """A host's disk is full: its agent is restarted and adopts; an order that needs no new program is carried out with what was kept back, and that is said."""
    host = site.hosts[-1]
    machine, watched = site.machines[host], Watched(site, host)
    machine.run("dd", "if=/dev/zero", f"of={STATE}/filler", "bs=64k", check=False)
    machine.run("systemctl", "restart", AGENT)
    adopted = watched.adopted()
    with site.operator() as client:
        site.publish(client, "page", "1.1.0")
    for each in site.hosts:
        until(lambda each=each: site.page(each) == "1.1.0", f"{each} serves the newer page")
    told = until(lambda: [text for text in site.problems(host) if "full" in text], "it says that its disk is full")
    machine.run("rm", f"{STATE}/filler")
    until(lambda: not site.problems(host), "with room again it has no problem")
    site.in_step()
    return {"adopted": adopted, "told": len(told)}


def controller_rebooted(site: Site) -> Figures:
    """The controller's machine reboots in order, and loses its power: it serves its galaxy again, and hosts notice nothing."""
    watched = [Watched(site, host) for host in site.hosts]
    with site.operator() as client:
        phases = [(rollout.rollout_id, rollout.phase) for rollout in client.rollouts()]
    serving_ms = []
    for cut in (False, True):
        if cut:
            site.base.power_cut()
            site.base.boot()
        else:
            site.base.reboot()
        until(site.listens, "the controller listens")
        serving_ms.append(round((time.monotonic() - site.base.switched_on_s) * 1000))
        site.in_step()
    with site.operator() as client:
        expect("rollouts", [(rollout.rollout_id, rollout.phase) for rollout in client.rollouts()], phases)
    return {"boots": 2, "ran_on": sum(each.unharmed() for each in watched), "slowest_serving_ms": max(serving_ms)}


TRIALS: Mapping[str, Callable[[Site], Figures]] = {
    trial.__name__: trial
    for trial in (
        installed,
        rebooted_offline,
        power_cut_offline,
        unit_restarted,
        unit_stopped,
        agent_killed,
        out_of_memory,
        cut_half_way,
        watchdog,
        watchdog_soon,
        controller_rebooted,
        wrong_clock,
        full_disk,
        self_updated,
    )
}


def chosen(names: Sequence[str]) -> list[Callable[[Site], Figures]]:
    """Those of the names, in order; all when none is named."""
    if unknown := sorted(set(names) - set(TRIALS)):
        raise Failed(f"no such trial: {', '.join(unknown)}; there are {', '.join(TRIALS)}")
    return [trial for name, trial in TRIALS.items() if name in (names or set(TRIALS) - {watchdog_soon.__name__})]
