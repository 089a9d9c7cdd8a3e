"""Where an agent's files lie. Owns the names only; whoever writes a file owns it.

STATE outlives reboots, RUN does not: what can be made anew (rings, snapshots, status files) is in memory where RUN is a tmpfs.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

BRIDGE_PORT = 7450  # where this host's bridge serves rings to its peers
AGENT_PORT = 7451  # where this agent hears other agents


@dataclass(frozen=True, slots=True)
class Places:
    """One agent's two folders, both absolute."""

    state: Path
    run: Path

    @property
    def identity(self) -> Path:
        """Keys, certificate, trust."""
        return self.state / "identity"

    @property
    def clock(self) -> Path:
        """The floor under the wall clock."""
        return self.state / "clock.json"

    @property
    def retained(self) -> Path:
        """Which of the artifacts must not go."""
        return self.state / "retained.json"

    @property
    def artifacts(self) -> Path:
        """Programs by content."""
        return self.state / "artifacts"

    @property
    def unpacked(self) -> Path:
        """Those that are archives, unpacked."""
        return self.state / "unpacked"

    @property
    def instances(self) -> Path:
        """One folder for each instance."""
        return self.state / "instances"

    @property
    def logs(self) -> Path:
        """What workloads have printed."""
        return self.state / "logs"

    @property
    def spare_instances(self) -> Path:
        """Folders of instances that were begun while the disk of STATE took no change."""
        return self.run / "instances"

    @property
    def spare_logs(self) -> Path:
        """What those have printed."""
        return self.run / "logs"

    @property
    def rings(self) -> Path:
        """Streams in shared memory."""
        return self.run / "rings"

    @property
    def status(self) -> Path:
        """What data-plane processes say about themselves."""
        return self.run / "status"

    @property
    def peers(self) -> Path:
        """Whom the bridge's server admits."""
        return self.run / "peers.json"

    @property
    def observed(self) -> Path:
        """What the agent last saw, for `halftrack-agent status`."""
        return self.run / "observed.json"

    @property
    def transfers(self) -> Path:
        """Artifacts on their way, for `halftrack-agent status`."""
        return self.run / "transfers.json"

    @property
    def counted(self) -> Path:
        """Which counters of data-plane processes were reported."""
        return self.run / "counted.json"

    def ring(self, name: str) -> str:
        """The path of a ring; empty for no ring."""
        return str(self.rings / f"{name}.ring") if name else ""

    def snapshots(self, graph: str = "", vertex: str = "") -> Path:
        """The snapshots of a vertex; of all of them when none is named. They end with the rings that they are replayed from."""
        return self.run / "snapshots" / graph / vertex

    def feeds(self, workload: str) -> Path:
        """Where a source asks for its sockets."""
        return self.run / "feeds" / workload

    def data(self, workload: str) -> Path:
        """A sink's or a service's own durable folder."""
        return self.state / "data" / workload

    def numbers(self, ring: str) -> Path:
        """What numbers a ring may have given out. Releases come and go, a seat's numbers go on."""
        graph, _, name = ring.partition("/")
        vertex, at, _ = name.partition("@")
        return self.state / "numbers" / graph / (vertex.replace(".", "@") if at else vertex)

    @property
    def contact(self) -> Path:
        """When this host was last in step with its controller."""
        return self.state / "contact"

    @property
    def beat(self) -> Path:
        """The same, of this boot only, and as of a second ago."""
        return self.run / "contact"

    @property
    def probes(self) -> Path:
        """Sockets of probes that need one."""
        return self.run / "probes"

    @property
    def spools(self) -> Path:
        """One folder for each spool: on a disk, since it holds more than memory does."""
        return self.state / "spools"

    def spool(self, name: str) -> str:
        """A spool's folder; empty for no spool."""
        return str(self.spools / name) if name else ""

    def cgroup(self) -> str:
        """The name of this agent's control groups: several agents of one machine share the hierarchy."""
        return "halftrack/" + hashlib.sha256(str(self.state).encode()).hexdigest()[:8]
