"""The demo's network: a namespace for each host, joined by links that run through a wire in user space.

Owns names, addresses and interfaces. Every host has one address (a /32) and a host route over each of its links, so that no
traffic finds a way around a link that is cut. What a link does to frames is the wire's concern (`examples.lab.wire`).
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from examples.lab import kernel

MTU = 9000  # what telescope back-ends use; it keeps a wire written in Python well below a core
FOLDER = Path("/run/netns")  # where `ip netns` and `nsenter` look, too


@dataclass(frozen=True, slots=True)
class Link:
    """A cable between two hosts. Its ends in the hub, which the wire joins, are `NAME.0` (left) and `NAME.1` (right)."""

    name: str
    left: str
    right: str

    @property
    def ends(self) -> tuple[str, str]:
        """The interfaces in the hub."""
        return f"{self.name}.0", f"{self.name}.1"


class Network:
    """Host namespaces and their links, made in the calling process's network namespace, which becomes the hub."""

    def __init__(self, addresses: Mapping[str, str], links: Sequence[Link]) -> None:
        """Make everything; `addresses` has each host's only address."""
        self.addresses = dict(addresses)
        self.links = tuple(links)
        self._files: dict[str, int] = {}
        FOLDER.mkdir(parents=True, exist_ok=True)
        self._hub = os.open("/proc/self/ns/net", os.O_RDONLY)
        for host in addresses:
            self._files[host] = self._made(host)
        with IPRoute() as ip:
            _up(ip, "lo")
            for link in links:
                self._joined(link, ip)

    def start(self, host: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process on `host`, in a session of its own."""
        with self.inside(host):
            return subprocess.Popen(argv, start_new_session=True, **options)

    @contextmanager
    def inside(self, host: str) -> Iterator[None]:
        """The calling thread is on `host` meanwhile; what it forks stays there."""
        kernel.setns(self._files[host], kernel.CLONE_NEWNET)
        try:
            yield
        finally:
            kernel.setns(self._hub, kernel.CLONE_NEWNET)

    def _made(self, host: str) -> int:
        kernel.unshare(kernel.CLONE_NEWNET)
        try:
            path = FOLDER / host
            path.touch()
            kernel.mount("/proc/self/ns/net", str(path), "", kernel.MS_BIND)
            with IPRoute() as ip:
                _up(ip, "lo")
            return os.open(path, os.O_RDONLY)
        finally:
            kernel.setns(self._hub, kernel.CLONE_NEWNET)

    def _joined(self, link: Link, ip: IPRoute) -> None:
        for end, host, other in zip(link.ends, (link.left, link.right), (link.right, link.left), strict=True):
            device = f"to-{other}"
            peer = {"ifname": device, "net_ns_fd": self._files[host]}
            ip.link("add", ifname=end, kind="veth", peer=peer)
            ip.link("set", index=ip.link_lookup(ifname=end)[0], mtu=MTU)
            with self.inside(host):
                self._addressed(device, host, other)
            _silent(end)
            _up(ip, end)

    def _addressed(self, device: str, host: str, other: str) -> None:
        _silent(device)
        kernel.without_offloads(device)
        with IPRoute() as ip:
            index = ip.link_lookup(ifname=device)[0]
            ip.link("set", index=index, mtu=MTU, state="up")
            ip.addr("add", index=index, address=self.addresses[host], prefixlen=32)
            ip.route("add", dst=f"{self.addresses[other]}/32", oif=index, scope=253, prefsrc=self.addresses[host])


def _silent(interface: str) -> None:
    """No IPv6 on it: its neighbour discovery would only put noise on the wire."""
    switch = Path(f"/proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
    if switch.exists():
        switch.write_text("1")


def _up(ip: IPRoute, interface: str) -> None:
    ip.link("set", index=ip.link_lookup(ifname=interface)[0], state="up")
