"""A sink into NATS JetStream: every frame once and in order, whatever dies in between.

Owns the messages' form and where the stream goes on after a break. One JetStream stream takes one Halftrack stream, and nothing else: each
message is published under the condition that it follows directly on the one before (`Nats-Expected-Last-Sequence`), so nothing that
was lost on the way leaves a hole, and nothing that is sent twice is stored twice, however long after the duplicate window. What JetStream
has is asked from JetStream: the newest message says where it ends.

A message's payload is the frame's. Its headers: `Nats-Msg-Id` STREAM:EPOCH:SEQUENCE, `Halftrack-Timestamp-Ns`, and for a declared gap, which
has no payload, `Halftrack-Gap`, the number of sequences that are lost.

Params: `servers` (nats://127.0.0.1:4222, comma-separated), `js_stream`, `subject` (the stream's name), `stream` (the id's first part; the
stream's name), `credentials_path`, `create_bytes` (make the stream if there is none, of so many bytes at most; a full one makes us wait),
`begin_seq` (what an empty stream begins with), `window_frames`.
"""

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from halftrack_dataplane.engines.in_flight import FRAMES, InFlight, end_of
from halftrack_dataplane.engines.nats_link import NOT_FOUND, Link, ServerError, answer_of
from halftrack_dataplane.engines.nats_messages import GAP, MSG_ID, TIMESTAMP, last_position
from halftrack_dataplane.engines.retry import Retry
from halftrack_dataplane.engines.settings import Settings, wrong
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Away, Cut, Param

T = TypeVar("T")

BATCH = 64  # frames handed to the connection at once: what a call costs is by then a small part
PATIENCE_S = 2.0  # without any acknowledgement while some are due: the connection or its server hangs
HEADER_BYTES = 512  # room for our headers beside a payload
NOT_NEXT = 10071  # "wrong last sequence": something is missing before it, or it has arrived already


class JetStreamSink:
    """See the module. Subclass it to change `headers` of a message, or name it as it is."""

    def __init__(self, params: Mapping[str, Param], data_dir: str) -> None:
        settings = self._settings = Settings(params)
        self._js_stream = settings.text("js_stream")
        self._subject = settings.text("subject", self._js_stream)
        self._name = settings.text("stream", self._js_stream)
        self._create_bytes = settings.whole("create_bytes", 0)
        self._begin_seq = settings.whole("begin_seq", -1, -1)
        self._note = Path(data_dir) / "jetstream.json"
        self._window = InFlight(settings.whole("window_frames", FRAMES, 1, 1 << 16))
        self._begun = False
        self._link: Link | None = None
        self._retry = Retry()
        self._js_next = 0  # what the newest message's sequence in JetStream will be, before the next one is sent
        self._inbox = ""
        self._round = 0
        self._counts = {"stored": 0, "stored_before": 0, "connections": 0}
        self._following: dict[int, int] = {}  # what comes after messages that we sent, by their number in JetStream
        self._noted = -1

    def next_seq(self) -> int:
        """What JetStream lacks."""
        self._connected()
        return self._window.first

    def consume(self, frame: Frame) -> None:
        """Send it soon; waits while there is too much in flight."""
        link = self._connected()
        if self._window.full:
            self._drain(link, until=self._window_has_room)
        if len(frame.payload) > link.max_payload - HEADER_BYTES:
            raise wrong(
                f"frame {frame.seq} has {len(frame.payload)} bytes, and the NATS server takes {link.max_payload} with headers: "
                "raise max_payload in its configuration, or send smaller frames"
            )
        if not self._window.take(frame):
            self._counts["stored_before"] += 1
        elif self._window.unsent >= BATCH:
            self._send(link)
            self._hear(link, 0)

    def cuts(self, cuts: Sequence[Cut]) -> None:
        """A message's id has its epoch; nothing more is kept."""

    def flush(self) -> None:
        """Until JetStream has acknowledged everything."""
        self._drain(self._connected(), until=lambda: not len(self._window))
        self._note_position()

    def counters(self) -> dict[str, int]:
        """For the status."""
        return self._counts | {"in_flight": len(self._window), "lost_by_engine": self._window.lost_frames}

    def close(self) -> None:
        """Without a flush: what is in flight is asked for again by the next life."""
        self._lose_link()

    def headers(self, frame: Frame) -> dict[str, str]:
        """More headers for a message; ours have precedence."""
        return {}

    # ------------------------------------------------------------------------------------------------------ the connection

    def _connected(self) -> Link:
        if self._link is None:
            now = time.monotonic()
            if now < self._retry.due_s:
                raise Away(
                    f"JetStream at {self._settings.text('servers', 'the default address')} is away; trying again"
                )
            self._retry = self._retry.failed(now, random.random())  # noqa: S311 - jitter, no secret
            self._link = Link.open(self._settings)
            self._counts["connections"] += 1
            self._inbox = f"_HALFTRACK.{uuid.uuid4().hex}"
            try:
                self._link.listen(self._inbox)
                self._resume(self._link)
            except ServerError as error:
                self._lose_link()
                raise Away(f"JetStream stream {self._js_stream!r}: {error}") from None
            except Away:
                self._lose_link()
                raise
            self._retry = Retry()
        return self._link

    def _lose_link(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def _resume(self, link: Link) -> None:
        """Ask what is stored, and forget what was in flight under other conditions."""
        state = self._stream(link)["state"]
        last = int(state["last_seq"])
        engine_next = self._position(link, last)
        if not self._begun:
            self._begun = True
            self._window.begin(engine_next)
        self._window.resumed(engine_next)
        self._js_next = last
        self._round += 1  # answers to what was sent before say nothing about what will be

    def _stream(self, link: Link) -> dict[str, Any]:
        try:
            return link.ask(f"$JS.API.STREAM.INFO.{self._js_stream}", {})
        except ServerError as error:
            if error.code not in NOT_FOUND:
                raise
        if not self._create_bytes:
            raise wrong(
                f"there is no JetStream stream {self._js_stream!r}: make it, for subject {self._subject!r} alone, with discard policy "
                "'new' so that it never drops what nobody has read, or have it made by the param create_bytes"
            )
        wanted = {
            "name": self._js_stream,
            "subjects": [self._subject],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_bytes": self._create_bytes,
            "num_replicas": 1,
        }
        return link.ask(f"$JS.API.STREAM.CREATE.{self._js_stream}", wanted)

    def _position(self, link: Link, last: int) -> int:
        """The first sequence that the stream lacks, by its newest message, or by our note when that was removed."""
        if last == 0:
            return max(self._begin_seq, 0)
        try:
            at, name, following = last_position(link.ask(f"$JS.API.STREAM.MSG.GET.{self._js_stream}", {"seq": last}))
        except ServerError as error:
            if error.code not in NOT_FOUND:
                raise
            at = 0
        if at == last:
            if name != self._name:
                raise wrong(
                    f"JetStream stream {self._js_stream!r} ends with a message of {name!r}: give each stream one of its own"
                )
            return following
        if last in self._following or self._read_note() == last:
            return self._following[last]
        if self._begin_seq >= 0 and not self._begun:
            return self._begin_seq
        raise wrong(
            f"the newest message of JetStream stream {self._js_stream!r} was removed (it was number {last}), so nothing says which frame "
            "comes next: say so by the param begin_seq"
        )

    # ---------------------------------------------------------------------------------------------------------- the frames

    def _send(self, link: Link) -> None:
        while frames := self._window.to_send(BATCH):
            messages = []
            for frame in frames:
                headers = self.headers(frame) | {
                    MSG_ID: f"{self._name}:{frame.epoch}:{frame.seq}",
                    TIMESTAMP: str(frame.timestamp_ns),
                    "Nats-Expected-Last-Sequence": str(self._js_next),
                }
                if frame.gap:
                    headers[GAP] = str(frame.gap)
                self._following[self._js_next + 1] = end_of(frame)  # if it is stored at all, then under this number
                messages.append(
                    (self._subject, bytes(frame.payload), f"{self._inbox}.{self._round}-{frame.seq}", headers)
                )
                self._js_next += 1
            self._guarded(partial(link.publish, messages))

    def _drain(self, link: Link, until: Callable[[], bool]) -> None:
        self._send(link)
        heard = time.monotonic()
        while not until():
            if self._hear(link, 0.1):
                heard = time.monotonic()
                link = self._connected()
                self._send(link)
            elif time.monotonic() - heard > PATIENCE_S:
                self._lose_link()
                raise Away(f"JetStream stream {self._js_stream!r} acknowledges nothing")

    def _window_has_room(self) -> bool:
        return not self._window.full

    def _hear(self, link: Link, timeout_s: float) -> bool:
        """Take acknowledgements in; was there any?"""
        answers = self._guarded(lambda: link.answers(timeout_s))
        for answer in answers:
            number, _, seq = answer.token.partition("-")
            if int(number) != self._round:
                continue
            try:
                if answer.headers.get("Status") == "503":
                    raise Away("the NATS server has no JetStream (yet)")
                duplicate = answer_of(answer.data).get("duplicate", False)
            except ServerError as error:
                self._refused(link, error)
                return True
            except Away:
                self._lose_link()
                raise
            self._counts["stored_before" if duplicate else "stored"] += 1
            self._window.acknowledged(int(seq))
        return bool(answers)

    def _refused(self, link: Link, error: ServerError) -> None:
        if error.code == NOT_NEXT:  # the reason is in the stream: look, and go on from there
            self._guarded(lambda: self._resume(link))
            return
        self._lose_link()  # no room, not the leader, too many …: it will have to be asked again later
        raise Away(f"JetStream stream {self._js_stream!r} takes nothing: {error}")

    def _guarded(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except Away:
            self._lose_link()
            raise

    # ------------------------------------------------------------------------------------- a note, for when all else is gone

    def _note_position(self) -> None:
        """Which frame follows on which message: used only when the newest message is removed before we ask."""
        if self._noted == self._js_next:
            return
        draft = self._note.with_suffix(".draft")
        try:
            draft.write_text(json.dumps({"js_seq": self._js_next, "next_seq": self._window.first}))
            os.replace(draft, self._note)
        except OSError:
            return  # a full disk here is no reason to stop a stream whose frames are elsewhere
        self._noted = self._js_next
        self._following = {self._js_next: self._window.first}

    def _read_note(self) -> int:
        try:
            tree = json.loads(self._note.read_text())
            js_seq, following = int(tree["js_seq"]), int(tree["next_seq"])
        except (OSError, ValueError, KeyError, TypeError):
            return -1
        self._following.setdefault(js_seq, following)
        return js_seq
