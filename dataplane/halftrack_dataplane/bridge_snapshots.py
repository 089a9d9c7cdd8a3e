"""Snapshots over the bridge: a member whose host has none that it could use asks the other member's host.

Owns both ends of that exchange. What arrives is checked by its digest and by what was asked for; the state inside is the
program's to judge.
"""

import re
from pathlib import Path

from halftrack_dataplane.bridge_data import WireError
from halftrack_dataplane.bridge_wire import (
    DEAD_S,
    SNAPSHOT_PART_BYTES,
    Message,
    SnapshotGet,
    SnapshotIs,
    SnapshotPart,
    SnapshotWanted,
    decode,
    encode,
)
from halftrack_dataplane.runspec import RunSpec, SnapshotPeer
from halftrack_dataplane.snapshots import Entry, Snapshot, SnapshotFolder, entry_of, unpack

_VERTEX = re.compile(r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9-]*")


def answer(root: str, asked: SnapshotWanted | SnapshotGet) -> SnapshotIs | SnapshotPart:
    """The server's answer, from the folder that holds all vertices' snapshots; WireError for names that are none."""
    if not _VERTEX.fullmatch(asked.vertex):
        raise WireError(f"{asked.vertex!r} is not a vertex")
    if isinstance(asked, SnapshotWanted):
        return _best(Path(root) / asked.vertex, asked) if root else SnapshotIs("", 0)
    if entry_of(asked.name) is None:
        raise WireError(f"{asked.name!r} is not a snapshot")
    try:
        with open(Path(root) / asked.vertex / asked.name, "rb") as file:
            file.seek(asked.offset)
            return SnapshotPart(asked.name, asked.offset, file.read(SNAPSHOT_PART_BYTES))
    except OSError:
        return SnapshotPart(asked.name, asked.offset, b"")


def _best(folder: Path, asked: SnapshotWanted) -> SnapshotIs:
    """The newest of the asker's release, else the newest of which it reads the schema."""
    snapshots = SnapshotFolder(str(folder))
    recent = [entry for entry in snapshots.entries() if entry.next_in >= asked.min_next_in]

    def readable(entry: Entry) -> bool:
        found = snapshots.read(entry)
        return found is not None and (found.release == asked.release or found.schema in asked.reads)

    for entry in sorted(recent, key=lambda entry: (entry.release != asked.release, -entry.next_in)):
        if readable(entry):
            try:
                return SnapshotIs(entry.name, (folder / entry.name).stat().st_size)
            except OSError:
                continue  # just replaced by a newer one
    return SnapshotIs("", 0)


def fetch(spec: RunSpec, peer: SnapshotPeer, vertex: str, min_next_in: int) -> Snapshot | None:
    """The peer's best snapshot for us; None when it has none or does not answer in time."""
    import zmq

    from halftrack_dataplane import bridge_sockets

    if not spec.curve_secret_path:
        return None
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        socket = bridge_sockets.client(context, spec, peer.connect, peer.server_public)

        def ask(message: SnapshotWanted | SnapshotGet) -> Message | None:
            if not socket.poll(int(DEAD_S * 1000), zmq.POLLOUT):
                return None  # no connection
            socket.send_multipart(encode(message), zmq.NOBLOCK)
            return decode(socket.recv_multipart()) if socket.poll(int(DEAD_S * 1000), zmq.POLLIN) else None

        found = ask(SnapshotWanted(vertex, spec.release, spec.state_reads, min_next_in))
        if not isinstance(found, SnapshotIs) or not found.name:
            return None
        data = bytearray()
        while len(data) < found.size:
            part = ask(SnapshotGet(vertex, found.name, len(data)))
            if not isinstance(part, SnapshotPart) or part.offset != len(data) or not part.body:
                return None
            data += part.body
        return unpack(bytes(data))
    except (WireError, ValueError, zmq.ZMQError):
        return None
    finally:
        context.destroy(0)
