"""Errors, typed by who must act: the operator, whoever built the input, or the host's owner.

Every error says what happened and what to do next; `reason` is a stable word for machines, the message is for people.
"""


class HalftrackError(Exception):
    """Anything that Halftrack refuses or cannot do. `reason` is a stable kebab-case word that scripts may match."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class InvalidInput(HalftrackError):  # noqa: N818 - reads as what it is at the place where it is raised
    """The caller's input breaks a rule; nothing was changed. The author of the input must act."""


class Untrusted(HalftrackError):  # noqa: N818
    """Bytes that claim authority they do not have. The galaxy's owner should look at where they came from."""


class Refused(HalftrackError):  # noqa: N818
    """A valid request that the present state forbids. The operator chooses another way, or waits."""


class HostFault(HalftrackError):  # noqa: N818
    """The machine cannot do what was asked: disk full, no permission, a missing kernel feature. The site owner must act."""
