"""A snapshot from a peer's host: fetched piece by piece into this host's folder, each verified when it comes, over as many connections as it takes.

Owns the asking end. What has come stays in a file beside the snapshots, so neither a cut link nor the death of this process begins it anew.
Holds a few pieces at a time, however large the state is.
"""

import contextlib
import errno
import os
import time
from dataclasses import dataclass

import zmq

from halftrack_dataplane import bridge_sockets, standing
from halftrack_dataplane.bridge_data import WireError
from halftrack_dataplane.bridge_wire import (
    DEAD_S,
    Message,
    SnapshotGet,
    SnapshotIs,
    SnapshotPart,
    SnapshotWanted,
    StandingIs,
    StandingWanted,
    decode,
    encode,
)
from halftrack_dataplane.runspec import RunSpec, SnapshotPeer
from halftrack_dataplane.snapshot_form import HEAD_BYTES, PIECE_BYTES, Entry, Head, entry_of, head_of
from halftrack_dataplane.snapshots import SnapshotFolder
from halftrack_dataplane.state_copy import first_bad
from halftrack_dataplane.status import STARTING, Status, StatusFile

AHEAD = (
    8  # pieces asked for before the first has come: more than a good link holds, and all that either end keeps of it
)
STALL_S = 5.0  # without a single piece for so long, somebody else is asked; what has come is kept


class _Gone(Exception):  # noqa: N818 - reads as what it is where it is raised
    """The peer no longer has that snapshot: it offers a newer one, or none."""


class _Damaged(Exception):  # noqa: N818
    """It is damaged at the peer, or was on the way."""


@dataclass(slots=True)
class _Draft:
    """What has come of one snapshot. `have` bytes of it are there, and verified."""

    name: str
    fd: int
    head: Head | None = None
    have: int = 0

    @property
    def whole(self) -> bool:
        return self.head is not None and self.have >= self.head.total_bytes

    @property
    def end(self) -> int:
        """Up to where it is known what to ask for."""
        return HEAD_BYTES if self.head is None else self.head.total_bytes

    def take(self, body: bytes) -> None:
        """The next piece; _Damaged when it is not what the head says."""
        if self.head is None:
            try:
                self.head = head_of(body)
            except ValueError as error:
                raise _Damaged(str(error)) from None
        else:
            number = (self.have - HEAD_BYTES) // PIECE_BYTES
            body = body[: min(PIECE_BYTES, self.head.total_bytes - self.have)]
            if first_bad(body, self.head.sums[number * 4 : number * 4 + 4], PIECE_BYTES) >= 0:
                raise _Damaged(f"piece {number} does not match its checksum")
        if os.pwrite(self.fd, body, self.have) < len(body):
            raise OSError(errno.ENOSPC, "no room for the rest of the snapshot")
        self.have += len(body)

    def resume(self, head: bytes) -> None:
        """Go on behind what a former life has left, if it is of the same snapshot, and as far as it is sound."""
        if os.pread(self.fd, HEAD_BYTES, 0) != head:
            os.ftruncate(self.fd, 0)
            self.take(head)
            return
        size = os.fstat(self.fd).st_size
        self.take(head)
        with contextlib.suppress(_Damaged):  # the last piece may be half there
            while self.have < min(size, self.end):
                self.take(os.pread(self.fd, PIECE_BYTES, self.have))


def fetch(
    spec: RunSpec,
    peer: SnapshotPeer,
    vertex: str,
    min_next_in: int,
    reads: tuple[str, ...],
    instance: str,
    folder: SnapshotFolder,
) -> Entry | None:
    """The peer's best snapshot for us, now in `folder`; None when it has none, or does not answer in time."""
    if not spec.curve_secret_path:
        return None
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        fetching = _Fetching(spec, peer, vertex, context)
        return fetching.run(SnapshotWanted(vertex, spec.release, reads, min_next_in), instance, folder)
    except (WireError, OSError, zmq.ZMQError):
        return None
    finally:
        context.destroy(0)


def standing_of(
    spec: RunSpec, peer: SnapshotPeer, vertex: str, ring: str, reads: tuple[str, ...]
) -> standing.Standing | None:
    """How the vertex stands at the peer's host; None when it does not answer."""
    if not spec.curve_secret_path:
        return None
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        found = _Fetching(spec, peer, vertex, context).answer(StandingWanted(vertex, ring, spec.release, reads))
    except (WireError, OSError, zmq.ZMQError):
        return None
    finally:
        context.destroy(0)
    return standing.Standing(found.hopes, found.published, ()) if isinstance(found, StandingIs) else None


class _Fetching:
    """One snapshot on its way, over any number of connections."""

    def __init__(
        self, spec: RunSpec, peer: SnapshotPeer, vertex: str, context: "zmq.Context[zmq.Socket[bytes]]"
    ) -> None:
        self._spec, self._peer, self._vertex, self._context = spec, peer, vertex, context
        self._socket: zmq.Socket[bytes] | None = None
        self._moved_at = time.monotonic()
        self._file = StatusFile(spec.status_path, STARTING)

    def run(self, wanted: SnapshotWanted, instance: str, folder: SnapshotFolder) -> Entry | None:
        """Ask, fetch, and ask again while what is offered keeps going; until nothing has come for too long."""
        while time.monotonic() - self._moved_at < STALL_S:
            found = self.answer(wanted)
            if not isinstance(found, SnapshotIs):
                self._hang_up()
                continue
            entry = entry_of(found.name)
            if entry is None:
                return None
            with folder.drafted(instance, entry) as fd:
                try:
                    if self._fetched(_Draft(found.name, fd)):
                        return folder.adopt(instance, entry)
                except _Gone:
                    continue
                except _Damaged:
                    folder.damaged += 1
                    return None
        return None

    def _fetched(self, draft: _Draft) -> bool:
        """Piece by piece, several asked for ahead; False when nothing comes any more."""
        asked = 0
        while not draft.whole:
            may_ask = asked < draft.end and asked - draft.have < AHEAD * PIECE_BYTES
            if may_ask and self._sent(SnapshotGet(self._vertex, draft.name, asked)):
                asked += PIECE_BYTES if asked else HEAD_BYTES
                continue
            part = self._heard()
            if part is None:
                if time.monotonic() - self._moved_at >= STALL_S:
                    return False
                self._hang_up()
                asked = draft.have
            elif isinstance(part, SnapshotPart) and (part.name, part.offset) == (draft.name, draft.have):
                if not part.body:
                    raise _Gone
                if draft.head is None:
                    draft.resume(part.body)
                    asked = draft.have
                else:
                    draft.take(part.body)
                self._moved_at = time.monotonic()
                self._file.offer(lambda: self._status(draft))
        return True

    def _status(self, draft: _Draft) -> Status:
        """A large state takes its time over a thin link, and that is no hanging."""
        text = f"fetches a snapshot from {self._peer.connect}: {draft.have} of {draft.end} bytes"
        return Status(self._spec.name, self._spec.role, message=text)

    def answer(self, wanted: SnapshotWanted | StandingWanted) -> Message | None:
        """What the peer says to that; None when it says nothing in time."""
        return self._heard() if self._sent(wanted) else None

    def _sent(self, message: SnapshotWanted | SnapshotGet | StandingWanted) -> bool:
        """False when there is no connection, or its queue is full."""
        if self._socket is None:
            self._socket = bridge_sockets.client(
                self._context, self._spec, self._peer.connect, self._peer.server_public
            )
        if not self._socket.poll(int(DEAD_S * 1000), zmq.POLLOUT):
            return False
        try:
            self._socket.send_multipart(encode(message), zmq.NOBLOCK)
        except zmq.Again:  # the link was cut in between
            return False
        return True

    def _heard(self) -> Message | None:
        if self._socket is None or not self._socket.poll(int(DEAD_S * 1000), zmq.POLLIN):
            return None
        return decode(self._socket.recv_multipart())

    def _hang_up(self) -> None:
        """A silent connection is of no more use; another may be."""
        if self._socket is not None:
            self._socket.close(0)
        self._socket = None
