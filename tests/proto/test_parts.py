"""Long messages in parts: whatever is cut is joined again, and what is no such thing is refused and never grows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_model.errors import InvalidInput
from halftrack_proto import codec, parts_codec
from halftrack_proto.channel import MAX_MESSAGE_BYTES
from halftrack_proto.messages import Alive, Declined
from halftrack_proto.v1.session_pb2 import AgentMessage, Part


@given(st.lists(st.integers(0, 5 * parts_codec.PART_BYTES), max_size=4))
def test_what_is_cut_is_joined_again_and_no_part_is_long(lengths: list[int]) -> None:
    joining, out = parts_codec.Joining[AgentMessage](), []
    said = [codec.agent_message(Declined(number, "because", "x" * length)) for number, length in enumerate(lengths)]
    for message in said:
        pieces = parts_codec.cut(message)
        assert len(pieces) == max(1, -(-message.ByteSize() // parts_codec.PART_BYTES))
        for piece in pieces:
            assert piece.ByteSize() <= parts_codec.PART_BYTES + 16
            out += [whole] if (whole := joining.whole(piece)) is not None else []
    assert out == said


LONG = codec.agent_message(Declined(1, "because", "x" * 3 * parts_codec.PART_BYTES))


def _part(data: bytes, left: int) -> AgentMessage:
    return AgentMessage(part=Part(data=data, left=left))


@pytest.mark.parametrize(
    "said",
    [
        [parts_codec.cut(LONG)[0], codec.agent_message(Alive())],
        [parts_codec.cut(LONG)[0], parts_codec.cut(LONG)[2]],
        [_part(b"", 5)],
        [_part(b"x", -1)],
        [_part(b"x", MAX_MESSAGE_BYTES)],
        [_part(b"\xff\xff", 0)],
        [_part(_part(b"x", 0).SerializeToString(), 0)],
    ],
)
def test_what_does_not_fit_together_is_refused(said: list[AgentMessage]) -> None:
    joining = parts_codec.Joining[AgentMessage]()
    *good, bad = said
    assert [joining.whole(each) for each in good] == [None] * len(good)
    with pytest.raises(InvalidInput):
        joining.whole(bad)
