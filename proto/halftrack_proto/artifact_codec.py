"""What travels of artifacts, translated as in `codec`, which also says by what rules."""

from halftrack_proto import messages as said
from halftrack_proto.artifact_messages import OfferReply, OfferRequest
from halftrack_proto.codec import fields, made
from halftrack_proto.v1 import artifacts_pb2


def offer_request_message(value: OfferRequest) -> artifacts_pb2.OfferRequest:
    """A wish for the cheapest way to an artifact."""
    return artifacts_pb2.OfferRequest(**fields(value))


def offer_request_of(message: artifacts_pb2.OfferRequest) -> OfferRequest:
    """A wish for the cheapest way to an artifact."""
    return made(OfferRequest, message)


def offer_reply_message(value: OfferReply) -> artifacts_pb2.OfferReply:
    """A parcel, or none."""
    return artifacts_pb2.OfferReply(**fields(value))


def offer_reply_of(message: artifacts_pb2.OfferReply) -> OfferReply:
    """A parcel, or none."""
    return made(OfferReply, message)


def fetch_request_message(value: said.FetchRequest) -> artifacts_pb2.FetchRequest:
    """A wish for an artifact's bytes."""
    return artifacts_pb2.FetchRequest(**fields(value))


def fetch_request_of(message: artifacts_pb2.FetchRequest) -> said.FetchRequest:
    """A wish for an artifact's bytes."""
    return made(said.FetchRequest, message)


def fetch_chunk_message(value: said.FetchChunk) -> artifacts_pb2.FetchChunk:
    """Bytes on their way to a host."""
    return artifacts_pb2.FetchChunk(**fields(value))


def fetch_chunk_of(message: artifacts_pb2.FetchChunk) -> said.FetchChunk:
    """Bytes that have come."""
    return made(said.FetchChunk, message)


def put_chunk_message(value: said.PutChunk) -> artifacts_pb2.PutChunk:
    """Bytes on their way to the controller."""
    return artifacts_pb2.PutChunk(**fields(value))


def put_chunk_of(message: artifacts_pb2.PutChunk) -> said.PutChunk:
    """Bytes that have come."""
    return made(said.PutChunk, message)


def put_reply_message(value: said.PutReply) -> artifacts_pb2.PutReply:
    """The artifact is durable."""
    return artifacts_pb2.PutReply(**fields(value))


def put_reply_of(message: artifacts_pb2.PutReply) -> said.PutReply:
    """The artifact is durable."""
    return made(said.PutReply, message)
