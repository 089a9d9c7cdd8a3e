"""The fleet's network: a switch, and a cable from it to each machine, which can be pulled.

Owns namespaces, addresses and cables in the fleet's private world, whose own namespace is at the switch, too. What is cut here is a cable, so that a machine
sees its link go; links that lie are the lab's and the simulation's.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyroute2 import IPRoute

from examples.lab import kernel

FOLDER = Path("/run/netns")
SWITCH, HERE, PREFIX_BITS = "switch", "10.77.0.254", 24


class Cables:
    """Made in the calling process's network namespace."""

    def __init__(self, addresses: Mapping[str, str]) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        self._hub = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._files: dict[str, int] = {}
        for machine in addresses:
            self._files[machine] = self._made(machine)
        with IPRoute() as ip:
            ip.link("add", ifname=SWITCH, kind="bridge")
            index = ip.link_lookup(ifname=SWITCH)[0]
            ip.addr("add", index=index, address=HERE, prefixlen=PREFIX_BITS)
            _silent(SWITCH)
            ip.link("set", index=index, state="up")
            ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
            for machine, address in addresses.items():
                ip.link("add", ifname=machine, kind="veth", peer={"ifname": "eth0", "net_ns_fd": self._files[machine]})
                _silent(machine)
                ip.link("set", index=ip.link_lookup(ifname=machine)[0], state="up", master=index)
                with self.inside(machine):
                    _addressed(address)

    def pull(self, *machines: str) -> None:
        """Nothing comes through to or from these until `plug`."""
        self._set(machines, "down")

    def plug(self, *machines: str) -> None:
        """The cables are in again."""
        self._set(machines, "up")

    @contextmanager
    def inside(self, machine: str) -> Iterator[None]:
        """The calling thread is at that machine meanwhile; a socket made there stays there."""
        kernel.setns(self._files[machine], kernel.CLONE_NEWNET)
        try:
            yield
        finally:
            kernel.setns(self._hub, kernel.CLONE_NEWNET)

    def _set(self, machines: tuple[str, ...], state: str) -> None:
        with IPRoute() as ip:
            for machine in machines:
                ip.link("set", index=ip.link_lookup(ifname=machine)[0], state=state)

    def _made(self, machine: str) -> int:
        kernel.unshare(kernel.CLONE_NEWNET)
        try:
            path = FOLDER / machine
            path.touch()
            kernel.mount("/proc/self/ns/net", str(path), "", kernel.MS_BIND)
            return os.open(path, os.O_RDONLY)
        finally:
            kernel.setns(self._hub, kernel.CLONE_NEWNET)


def _addressed(address: str) -> None:
    _silent("eth0")
    with IPRoute() as ip:
        index = ip.link_lookup(ifname="eth0")[0]
        ip.link("set", index=ip.link_lookup(ifname="lo")[0], state="up")
        ip.link("set", index=index, state="up")
        ip.addr("add", index=index, address=address, prefixlen=PREFIX_BITS)


def _silent(interface: str) -> None:
    """No IPv6 on it: its neighbour discovery would only be noise."""
    switch = Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
    if switch.exists():
        switch.write_text("1")
