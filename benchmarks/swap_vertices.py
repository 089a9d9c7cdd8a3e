"""A vertex behind the swap soak's own: it takes its sums apart and adds them up again, so that a chain of two does as much as a pair."""

from halftrack_dataplane.sdk import Frame
from tests.soak.swap_stream import INPUT, MASK, OUTPUT, SPREAD, Sums


class Again(Sums):
    """Its inputs are the outputs of Sums."""

    def process(self, frame: Frame) -> bytes:
        """As if the frame's word had come."""
        number, _, _ = OUTPUT.unpack(frame.payload)
        return super().process(
            Frame(frame.seq, frame.epoch, frame.timestamp_ns, INPUT.pack(number, number * SPREAD & MASK), frame.gap)
        )
