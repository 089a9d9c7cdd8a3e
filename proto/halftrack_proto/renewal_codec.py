"""Renewal: the part of the codec for what a host and the enrolment port say when a certificate is renewed.

As in `codec`: `x_message(value)` makes the message, `x_of(message)` the value.
"""

from halftrack_proto import codec
from halftrack_proto.renewal import RenewReply, RenewRequest
from halftrack_proto.v1 import enrolment_pb2


def challenge_request_message(host: str) -> enrolment_pb2.ChallengeRequest:
    """A wish for something to sign."""
    return enrolment_pb2.ChallengeRequest(host=host)


def challenge_request_of(message: enrolment_pb2.ChallengeRequest) -> str:
    """Who wishes for something to sign."""
    return message.host


def challenge_reply_message(nonce: bytes) -> enrolment_pb2.ChallengeReply:
    """Something to sign."""
    return enrolment_pb2.ChallengeReply(nonce=nonce)


def challenge_reply_of(message: enrolment_pb2.ChallengeReply) -> bytes:
    """Something to sign."""
    return message.nonce


def renew_request_message(value: RenewRequest) -> enrolment_pb2.RenewRequest:
    """A host asks for a fresh certificate."""
    return enrolment_pb2.RenewRequest(**codec.fields(value))


def renew_request_of(message: enrolment_pb2.RenewRequest) -> RenewRequest:
    """A host has asked for a fresh certificate."""
    return codec.made(RenewRequest, message)


def renew_reply_message(value: RenewReply) -> enrolment_pb2.RenewReply:
    """A fresh certificate."""
    return enrolment_pb2.RenewReply(**codec.fields(value))


def renew_reply_of(message: enrolment_pb2.RenewReply) -> RenewReply:
    """A fresh certificate."""
    return codec.made(RenewReply, message)
