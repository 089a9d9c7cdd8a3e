"""A long message of a session in parts, so that each of them is a word: on a thin link a whole plan takes longer than silence is borne. No I/O.

Only to a side that takes parts (`Hello`, `Welcome`). They come one after the other, with nothing in between.
"""

from typing import Generic, TypeVar

from google.protobuf.message import DecodeError

from halftrack_model.errors import InvalidInput
from halftrack_proto.channel import MAX_MESSAGE_BYTES
from halftrack_proto.v1 import session_pb2

PART_BYTES = 1 << 10  # a link of 5 kbit/s carries it within two heartbeats of a second
Message = TypeVar("Message", session_pb2.AgentMessage, session_pb2.ControllerMessage)


def cut(message: Message) -> list[Message]:
    """The message, or its parts."""
    size = message.ByteSize()
    if size <= PART_BYTES:
        return [message]
    data, made = message.SerializeToString(), []
    for begin in range(0, size, PART_BYTES):
        piece = data[begin : begin + PART_BYTES]
        made.append(type(message)(part=session_pb2.Part(data=piece, left=size - begin - len(piece))))
    return made


class Joining(Generic[Message]):
    """Messages as they come, and whole ones out of it."""

    def __init__(self) -> None:
        self._had = bytearray()
        self._left = 0

    def whole(self, message: Message) -> Message | None:
        """The message that is complete with this one; None while more is to come. InvalidInput for parts that do not fit together."""
        if message.WhichOneof("message") != "part":
            if self._left:
                raise InvalidInput("bad-part", f"{self._left} bytes of a message are missing")
            return message
        part = message.part
        fits = part.left >= 0 and part.data and (not self._left or len(part.data) + part.left == self._left)
        if not fits or len(self._had) + len(part.data) + part.left > MAX_MESSAGE_BYTES:
            raise InvalidInput(
                "bad-part", f"{len(part.data)} bytes, and {part.left} to follow, where {self._left} were"
            )
        self._had += part.data
        self._left = part.left
        if self._left:
            return None
        data, self._had = bytes(self._had), bytearray()
        try:
            joined = type(message).FromString(data)
        except DecodeError as error:
            raise InvalidInput("bad-part", f"the parts make no message: {error}") from None
        if joined.WhichOneof("message") == "part":
            raise InvalidInput("bad-part", "parts of parts")
        return joined


def from_agent() -> Joining[session_pb2.AgentMessage]:
    """For what comes from an agent, in one session."""
    return Joining()


def from_controller() -> Joining[session_pb2.ControllerMessage]:
    """For what comes from a controller, in one session."""
    return Joining()
