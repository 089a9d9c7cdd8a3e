"""From a workload to a command line: what the exec driver runs, and the orders that a data-plane process reads.

Owns the mapping from a plan's words to paths on this host. Starts nothing.
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from halftrack_agent import feed_orders, files, inlet_orders, judge_orders, reach_orders, spool_orders
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.drivers import egress, rooms
from halftrack_agent.drivers.instances import Launch
from halftrack_agent.identity import Identity
from halftrack_agent.places import Places
from halftrack_dataplane.runspec import RESTART, RESUME, WAIT, RunSpec, SnapshotPeer, SpecError, StateWay, dump
from halftrack_model.errors import InvalidInput
from halftrack_model.params import filled
from halftrack_model.plan import Peer
from halftrack_model.release import Migration, OnStateLoss
from halftrack_model.workload import Runs, Workload

_LINKED = frozenset({Runs.BRIDGE_SERVER, Runs.BRIDGE_RECEIVER})  # these speak with other hosts
_NUMBERING = frozenset({Runs.SOURCE, Runs.MEMBER, Runs.INLET})  # these may number frames that cannot be given again
_ON_LOSS = {OnStateLoss.WAIT: WAIT, OnStateLoss.RESTART: RESTART, OnStateLoss.RESUME: RESUME}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Launcher:
    """Knows the paths of this host and the peers of the plan in force."""

    def __init__(
        self, places: Places, identity: Identity, store: ArtifactStore, listen: str, own_network: bool
    ) -> None:
        self._places, self._identity, self._store = places, identity, store
        self._listen, self._own_network, self._rooms = listen, own_network, rooms.of(places)
        self._peers: Mapping[str, Peer] = {}
        self._workloads: tuple[Workload, ...] = ()
        # No workload needs the key that speaks for the host to the controller.
        self._hidden = (str(identity.key_path), str(identity.kept_path))
        self._all_hidden = (*self._hidden, str(identity.curve_secret_path))  # most do not speak to other hosts either

    def use(self, peers: Mapping[str, Peer], workloads: Sequence[Workload] = ()) -> None:
        """These are the hosts that bridges and members may ask from now on, and all that the plan may run here."""
        self._peers, self._workloads = dict(peers), tuple(workloads)

    def __call__(self, workload: Workload) -> Launch:
        """How to run `workload`; HostFault while its artifact is missing, InvalidInput when it cannot be run here."""
        environment = self.environment(workload)
        alone = self._own_network and workload.runs not in _LINKED and not workload.host_network
        peers = sorted(self._peers.items()) if workload.runs is Runs.MEMBER else []
        doors = egress.doors([peer.bridge for _, peer in peers], reach_orders.places(workload)) if alone else ()
        hosts = reach_orders.hosts(workload, _own_hosts()) if alone else ""
        if workload.runs is Runs.COMMAND:
            if workload.artifact:
                self._store.look(workload.artifact, workload.unpacked)
            argv = self.words(workload, workload.argv)
            if not argv:
                raise InvalidInput("no-command", f"{workload.name} runs a command, and names none")
            files.make_folder(self._places.data(workload.name))
            return Launch(argv, environment, alone, b"", doors, self._all_hidden, (), workload.resources, hosts=hosts)
        twins = self._twins_of(workload)
        asked = (SnapshotPeer(_way_to(peer, doors), peer.curve_public, host in twins) for host, peer in peers)
        try:
            orders = dump(self._spec(workload, tuple(asked)))
        except SpecError as error:
            raise InvalidInput("bad-workload", f"{workload.name} cannot be run: {error}") from None
        # -I: nothing from the environment or a user's site folder decides what a process with our orders imports.
        path = str(self._rooms.now().instances / workload.name / "run.json")
        argv = (sys.executable, "-I", "-u", "-m", "halftrack_dataplane.run", path)
        speaks = workload.runs in _LINKED or workload.runs is Runs.MEMBER
        feeds = feed_orders.bound(workload.feeds) if workload.runs is Runs.KEEPER else ()
        hidden = self._hidden if speaks else self._all_hidden
        return Launch(argv, environment, alone, orders, doors, hidden, feeds, workload.resources, True, hosts)

    def environment(self, workload: Workload) -> dict[str, str]:
        """What the workload, and whatever a probe runs beside it, finds in its environment."""
        found = {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "HOME": str(self._rooms.now().instances / workload.name),
            "HALFTRACK_WORKLOAD": workload.name,
        }
        if workload.runs is Runs.COMMAND:
            found["HALFTRACK_DATA"] = str(self._places.data(workload.name))
        return found

    def words(self, workload: Workload, command: Sequence[str]) -> tuple[str, ...]:
        """A command of the workload's release, filled in. Settings first: what one of them says is never taken for the artifact's place."""
        program = str(self._store.program(workload.artifact, workload.unpacked)) if workload.artifact else ""
        try:
            return tuple(
                program.join(filled(part, workload.params) for part in word.split("{artifact}")) for word in command
            )
        except ValueError as error:
            raise InvalidInput("bad-command", f"{workload.name} cannot be run: {error}") from None

    def _spec(self, workload: Workload, snapshot_peers: tuple[SnapshotPeer, ...]) -> RunSpec:
        places, runs, member = self._places, workload.runs, workload.member
        linked = runs in _LINKED
        server = self._server_of(workload)
        snapshots = places.snapshots() if runs is Runs.BRIDGE_SERVER else None
        if member is not None and runs is Runs.MEMBER:
            snapshots = files.make_folder(places.snapshots(member.graph, member.vertex))
        if runs is Runs.SINK:
            files.make_folder(places.data(workload.name))
        if runs in _NUMBERING:
            files.make_folder(places.numbers(workload.writes_ring).parent)
        files.make_folder(places.status)
        with contextlib.suppress(OSError):  # a process that never gets so far as to beat shall be missed all the same
            (places.status / f"{workload.name}.json").touch(exist_ok=False)
        spec = RunSpec(
            role=runs.value,
            name=workload.name,
            program=str(self._store.path(workload.artifact)) if workload.artifact else "",
            entry=workload.entry,
            params=dict(workload.params),
            input_ring="" if linked else places.ring(workload.reads_ring),
            output_ring=places.ring(workload.writes_ring),
            release=workload.version,
            generation=0 if member is None else member.generation,
            state_writes=workload.state.writes,
            state_reads=workload.state.reads,
            state_inward=_ways(workload.state.inward()),
            state_outward=_ways(workload.state.outward()),
            replay_frames=workload.state.replay_frames,
            replay_ms=workload.state.replay_ms,
            state_on_loss=_ON_LOSS[workload.state.on_loss] if self._decides(workload) else WAIT,
            snapshot_dir="" if snapshots is None else str(snapshots),
            data_dir=str(places.data(workload.name)) if runs is Runs.SINK else "",
            numbers_path=str(places.numbers(workload.writes_ring)) if runs in _NUMBERING else "",
            status_path=str(places.status / f"{workload.name}.json"),
            rings_dir=str(places.rings) if runs in (Runs.MERGE, Runs.BRIDGE_SERVER) else "",
            ring_name=workload.reads_ring if runs is Runs.BRIDGE_RECEIVER else "",
            merge_prefix=workload.writes_ring if runs is Runs.MERGE else "",
            listen=self._listen if runs is Runs.BRIDGE_SERVER else "",
            connect="" if server is None else server.bridge,
            curve_secret_path=str(self._identity.curve_secret_path) if linked or runs is Runs.MEMBER else "",
            curve_public=self._identity.member.curve_public if linked or runs is Runs.MEMBER else "",
            server_public="" if server is None else server.curve_public,
            peers_path=str(places.peers) if runs is Runs.BRIDGE_SERVER else "",
            snapshot_peers=snapshot_peers,
        )
        reader = workload.keeps_for or workload.name
        who = str(self._rooms.now().instances / reader / "instance.json")
        if workload.feeds:
            files.make_folder(places.feeds(reader))
        spec = feed_orders.ordered(spec, workload, str(places.feeds(reader)), who)
        if workload.spool is not None:
            files.make_folder(places.spools / workload.name)
        spec = spool_orders.ordered(spec, workload.spool, places.spool(workload.name))
        spec = inlet_orders.ordered(spec, workload.inlet, places.ring, places.spool)
        return judge_orders.ordered(spec, workload.judge, places.ring)

    def _twins_of(self, workload: Workload) -> frozenset[str]:
        """The hosts of the other members of its vertex. Those whose outputs come here, where they are merged."""
        member = workload.member
        if member is None:
            return frozenset()
        prefix = f"{member.graph}/{member.vertex}."
        heard = (each for each in self._workloads if each.runs is Runs.BRIDGE_RECEIVER)
        return frozenset(
            each.from_host for each in heard if each.reads_ring.startswith(prefix) and "@" in each.reads_ring
        )

    def _decides(self, workload: Workload) -> bool:
        """May it say for its vertex that the state is lost? Where the outputs are merged, or without a twin."""
        merged = {each.writes_ring for each in self._workloads if each.runs is Runs.MERGE}
        member = workload.member
        return member is None or "@" not in workload.writes_ring or f"{member.graph}/{member.vertex}" in merged

    def _server_of(self, workload: Workload) -> Peer | None:
        if workload.runs is not Runs.BRIDGE_RECEIVER:
            return None
        if workload.from_host not in self._peers:
            raise InvalidInput(
                "unknown-peer", f"{workload.name} is to hear {workload.from_host!r}, which is no peer in the plan"
            )
        return self._peers[workload.from_host]


def _ways(chains: Mapping[str, tuple[Migration, ...]]) -> tuple[StateWay, ...]:
    return tuple(StateWay(schema, tuple(step.entry for step in chain)) for schema, chain in chains.items())


def _way_to(peer: Peer, doors: Sequence[egress.Door]) -> str:
    """Where an instance reaches that peer's bridge: itself, or the door that leads to it."""
    return next((near for near, target in doors if target == peer.bridge), peer.bridge)


def _own_hosts() -> str:
    try:
        return Path("/etc/hosts").read_text(errors="surrogateescape")
    except OSError:
        return ""
