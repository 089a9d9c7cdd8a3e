"""The trial of agents that update themselves, under the real unit: to a good version, to one that dies, to one that hangs."""

from tests.agent_shell.test_updating import DIES
from tests.fleet.judging import Watched, expect
from tests.fleet.machine import until
from tests.fleet.site import AGENT, Figures, Site

IMPATIENT = "\nExecStart=/opt/halftrack/bin/halftrack-agent run --stable 3 --patience 8"  # instead of the unit's own
UPDATED_S = 180.0
HANGS = """
import time
from halftrack_proto.watchdog import Watchdog
ready = Watchdog.ready
def hang(self):
    ready(self)
    time.sleep(600)
Watchdog.ready = hang
"""


def self_updated(site: Site) -> Figures:
    """Agents become a good version, and stay one; one that dies at its start and one whose loop hangs are given up, and the good one is back. Instances notice nothing."""
    for host in site.hosts:
        watched = Watched(site, host)
        site.machines[host].drop_in(AGENT, {"ExecStart": IMPATIENT})
        site.machines[host].run("systemctl", "restart", AGENT)
        watched.adopted()
    good, all_watched = "9.1.0", [Watched(site, host) for host in site.hosts]
    agents = [site.agent(host) for host in site.hosts]

    def settled() -> bool:
        return site.agents() == dict.fromkeys(site.hosts, (good, False))

    site.order_agent(good)
    until(settled, "every agent is of the good version, and stays", UPDATED_S)
    expect("processes of the agents", [site.agent(host) for host in site.hosts], agents)
    ran_on = sum(each.unharmed() for each in all_watched)
    for bad, fault in (("9.2.0", DIES), ("9.3.0", HANGS)):
        site.order_agent(bad, fault)
        until(lambda bad=bad: any(version == bad for version, _ in site.given_up()), f"{bad} is given up", UPDATED_S)
        until(settled, "the good version is back", UPDATED_S)
        ran_on += sum(each.unharmed() for each in all_watched)
    reason = "it did not stay up, 3 times"
    expect("what was given up", site.given_up(), {("9.2.0", reason), ("9.3.0", reason)})
    site.order_agent(good)
    site.in_step()
    return {"updated": len(agents), "given_up": 2, "ran_on": ran_on}
