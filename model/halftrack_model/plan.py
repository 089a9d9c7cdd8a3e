"""Plans: the complete desired state of one host at one revision, with all that is needed to finish or undo it offline."""

from dataclasses import dataclass

from halftrack_model import canonical
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.disconnect import Disconnect
from halftrack_model.release import AGENT, Release
from halftrack_model.seals import Sealed
from halftrack_model.swap import SwapSpec
from halftrack_model.workload import RingSpec, Workload


@dataclass(frozen=True, slots=True)
class Peer:
    """Another host of the environment: where its bridge and its agent listen, and the CurveZMQ key that it answers with."""

    host: str
    bridge: str  # host:port
    agent: str  # host:port
    curve_public: str  # Z85, 40 characters


@dataclass(frozen=True, slots=True)
class Holding:
    """What a plan says of one of its workloads beside what it runs. None of it makes it another workload, so nothing restarts for it (R2).

    `idle`: another host runs it, and this one is ready to. `replaces` names the host that was lost, for as long as its own might come back.
    """

    workload: str
    disconnect: Disconnect | None = None
    idle: bool = False
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one host shall be. An empty `workloads` takes nothing away unless `decommission` says so (R3)."""

    galaxy: str
    environment: str
    host: str
    revision: int
    releases: tuple[Sealed, ...]
    rings: tuple[RingSpec, ...]
    workloads: tuple[Workload, ...]
    swaps: tuple[SwapSpec, ...]
    peers: tuple[Peer, ...]
    decommission: bool
    bandwidth: tuple[BandwidthWindow, ...] = canonical.added(())  # what artifacts may take of the host's link
    holdings: tuple[Holding, ...] = canonical.added(())  # of those workloads of which there is something to say
    siblings: tuple[Peer, ...] = canonical.added(())  # of its site: they give each other artifacts

    agent: str = canonical.added(
        ""
    )  # the version that the agent itself shall be, of a release in `releases`; empty: as it is

    @property
    def bare(self) -> bool:
        """It says nothing of what the host runs, and all of that is left alone: it is about the agent."""
        return not self.workloads and not self.decommission

    def holding(self, workload: str) -> Holding:
        """What is said of that workload."""
        return next((each for each in self.holdings if each.workload == workload), Holding(workload))


def agent_of(plan: Plan) -> Release | None:
    """The release that the agent itself shall be; None when the plan says nothing of it, or has none."""
    if not plan.agent:
        return None
    releases = (canonical.decode(Release, sealed.payload) for sealed in plan.releases)
    return next((each for each in releases if (each.product, each.version) == (AGENT, plan.agent)), None)
