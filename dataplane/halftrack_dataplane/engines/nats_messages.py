"""What a frame is as a JetStream message, both ways. Pure: bytes in, numbers out."""

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

MSG_ID = "Nats-Msg-Id"
GAP = "Halftrack-Gap"
TIMESTAMP = "Halftrack-Timestamp-Ns"


class Position(NamedTuple):
    """Message number `js_seq`, the stream whose frame it is, and the sequence that has to follow; `stream` empty: not ours."""

    js_seq: int
    stream: str
    following: int


class Numbered(NamedTuple):
    """What a message's headers say: whose frame it is, its epoch and number, and how many sequences it declares as lost."""

    stream: str
    epoch: int
    seq: int
    gap: int


def numbered(headers: Mapping[str, str]) -> Numbered | None:
    """The frame that a message is, by its headers; None when it is none of ours."""
    stream, _, rest = headers.get(MSG_ID, "").rpartition(":")
    stream, _, epoch = stream.rpartition(":")
    gap = headers.get(GAP, "0")
    if not stream or not (epoch.isdecimal() and rest.isdecimal() and gap.isdecimal()):
        return None
    return Numbered(stream, int(epoch), int(rest), int(gap))


class Delivered(NamedTuple):
    """What a delivery's reply subject says: the message's number in its stream, which delivery of its consumer it is, when it was stored."""

    js_seq: int
    delivery: int
    timestamp_ns: int


def delivered(reply: str) -> Delivered | None:
    """`$JS.ACK.STREAM.CONSUMER.COUNT.SEQ.DELIVERY.NS.PENDING`, newer servers with a domain and an account before STREAM; None if it is none."""
    words = reply.split(".")
    if words[:2] != ["$JS", "ACK"] or len(words) < 9:
        return None
    numbers = words[5:8] if len(words) == 9 else words[7:10]
    if not all(number.isdecimal() for number in numbers):
        return None
    return Delivered(*map(int, numbers))


def last_position(answer: Mapping[str, Any]) -> Position:
    """Where a stream stands after the message that STREAM.MSG.GET answered."""
    message = answer.get("message", {})
    js_seq = int(message.get("seq", 0))
    found = numbered(headers_of(base64.b64decode(message.get("hdrs") or "")))
    return Position(js_seq, "", 0) if found is None else Position(js_seq, found.stream, found.seq + max(found.gap, 1))


def headers_of(block: bytes) -> dict[str, str]:
    """A NATS header block's lines, but its first."""
    found = {}
    for line in block.decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found[name.strip()] = value.strip()
    return found
