"""A network that a test has for itself, with addresses like a host's: what it starts, its driver included, is in it."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from halftrack_agent.drivers import confine, egress

_CLONE_NEWNET = 0x40000000
ADDRESSES = ("10.77.0.5", "10.77.0.6", "fd77::5")


@contextmanager
def host_network() -> Iterator[None]:
    """Of this thread, and of threads and processes that it starts; needs root."""
    if os.geteuid():
        pytest.skip("only root may leave its network and come back")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        confine.enter_own_network()
        for address in ADDRESSES:
            egress.add_address(address)
        yield
    finally:
        libc = ctypes.CDLL(None, use_errno=True)
        returned = libc.setns(before, _CLONE_NEWNET)
        os.close(before)
        assert returned == 0, "this test's network would be the next one's"
