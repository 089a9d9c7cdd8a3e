"""Looks at streams as messages: a part of the codec, and a file of its own for its length only."""

from halftrack_proto.shown import MAX_BYTES_EACH, Shown, ShownFrame, WantFrames, WatchRequest
from halftrack_proto.v1 import operator_pb2, session_pb2


def want_frames_message(value: WantFrames) -> session_pb2.WantFrames:
    """A wish."""
    return session_pb2.WantFrames(watch=value.watch, ring=value.ring, frames=value.frames, bytes_each=value.bytes_each)


def want_frames_of(message: session_pb2.WantFrames) -> WantFrames:
    """A wish, held within its bounds."""
    bytes_each = min(max(0, message.bytes_each), MAX_BYTES_EACH)
    return WantFrames(message.watch, message.ring, max(0, message.frames), bytes_each)


def shown_message(value: Shown) -> session_pb2.Shown:
    """Frames for whoever looks."""
    frames = [
        session_pb2.ShownFrame(
            seq=frame.seq,
            epoch=frame.epoch,
            timestamp_ns=frame.timestamp_ns,
            gap=frame.gap,
            size_bytes=frame.size_bytes,
            payload=frame.payload,
        )
        for frame in value.frames
    ]
    return session_pb2.Shown(watch=value.watch, frames=frames, missed=value.missed, problem=value.problem)


def shown_of(message: session_pb2.Shown) -> Shown:
    """Frames to look at."""
    frames = tuple(
        ShownFrame(frame.seq, frame.epoch, frame.timestamp_ns, frame.gap, frame.size_bytes, frame.payload)
        for frame in message.frames
    )
    return Shown(message.watch, frames, message.missed, message.problem)


def watch_request_message(value: WatchRequest) -> operator_pb2.WatchStreamRequest:
    """What an operator wants to look at."""
    graph = operator_pb2.GraphQuery(environment=value.environment, graph=value.graph)
    return operator_pb2.WatchStreamRequest(
        graph=graph, vertex=value.vertex, frames=value.frames, bytes_each=value.bytes_each
    )


def watch_request_of(message: operator_pb2.WatchStreamRequest) -> WatchRequest:
    """What an operator wants to look at."""
    graph = message.graph
    return WatchRequest(graph.environment, graph.graph, message.vertex, message.frames, message.bytes_each)
