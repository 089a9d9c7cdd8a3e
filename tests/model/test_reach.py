"""What a step may reach: how an address is spelled, which are none, and that all faults of a graph's are told at once."""

import ipaddress
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_model import canonical
from halftrack_model.graph import Vertex
from halftrack_model.graph_rules import problems
from halftrack_model.reach import MAX_REACH, Way, faults, parsed, shown
from tests.planner.graphs import ALONE

SERVERS = st.sampled_from(["127.0.0.0/8", "10.0.0.0/8", "192.168.0.0/16", "::1/128", "fd00::/8", "2001:db8::/32"])
hosts = SERVERS.flatmap(lambda network: st.ip_addresses(network=network))
ports = st.integers(1, 65535)
LABELS = st.builds(
    "{}{}".format, st.sampled_from(string.ascii_letters), st.text(string.ascii_letters + string.digits, max_size=9)
)


@given(hosts, ports)
def test_an_address_has_one_spelling(host: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    text = f"[{host}]:{port}" if host.version == 6 else f"{host}:{port}"
    assert parsed(text) == Way(str(host), port)
    assert shown(parsed(text)) == text
    assert list(faults((text,))) == []


@given(st.lists(LABELS, min_size=1, max_size=4).map(".".join), hosts, ports)
def test_a_name_may_stand_before_it(name: str, host: ipaddress.IPv4Address, port: int) -> None:
    text = f"{name}={Way(str(host), port).place}"
    assert parsed(text) == Way(str(host), port, name)
    assert shown(parsed(text)) == text


@given(st.text("0123456789abcf:.[]-%= ", max_size=24))
def test_what_is_taken_is_spelled_as_it_is_shown(text: str) -> None:
    try:
        assert shown(parsed(text)) == text
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017 - either way it is judged


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("10.0.0.5", "no address to speak to: write an IP address and a port"),
        ("10.0.0.5:0", "no address to speak to"),
        ("10.0.0.5:65536", "no address to speak to"),
        ("10.0.5:5432", "no address to speak to"),
        ("10.0.0.5:05432", "is spelled '10.0.0.5:5432'"),
        ("[FD00::5]:80", "is spelled '[fd00::5]:80'"),
        ("fd00::5:80", "no address to speak to"),
        (
            "db.example:5432",
            "is a name, and a plan says addresses: write db.example=10.0.0.5:5432, with the address that `getent",
        ),
        ("localhost:5432", "with the address that `getent ahosts localhost` shows"),
        ("db.example=db:5432", "no address to speak to"),
        ("db example=10.0.0.5:5432", "names no host: write a host's name before the ="),
        ("=10.0.0.5:5432", "names no host"),
        ("10.0.0.6=10.0.0.5:5432", "names no host"),
        ("localhost=10.0.0.5:5432", "names no host"),
        ("a..b=10.0.0.5:5432", "names no host"),
        (f"{'a.' * 127}b=10.0.0.5:5432", "names no host"),
        ("0.0.0.0:5432", "since it means any address"),
        ("[::]:5432", "since it means any address"),
        ("224.0.0.1:5432", "since no single server has it"),
        ("255.255.255.255:5432", "since no single server has it"),
        ("[ff02::1]:5432", "since no single server has it"),
        ("[::ffff:10.0.0.5]:80", "since it stands for 10.0.0.5"),
        ("[fe80::1]:80", "since it means nothing without an interface"),
    ],
)
def test_what_is_no_address_is_told_what_to_write(text: str, said: str) -> None:
    assert [said in fault for fault in faults((text,))] == [True], list(faults((text,)))


def test_all_that_is_wrong_with_a_graph_is_told_at_once() -> None:
    many = tuple(f"10.0.0.5:{port}" for port in range(1, MAX_REACH + 2))
    sink = replace(ALONE.vertices[-1], reach=("10.0.0.5:80", "nobody:1", "db.example=10.0.0.5:80"))
    source = replace(ALONE.vertices[0], reach=many)
    found = problems(replace(ALONE, vertices=(source, *ALONE.vertices[1:-1], sink)))
    assert [text for text in found if f"{sink.name!r}: reach '10.0.0.5:80' stands twice" in text]
    assert [text for text in found if f"{sink.name!r}: reach: 'nobody:1' is a name" in text]
    assert [text for text in found if f"may reach {MAX_REACH + 1} addresses; at most {MAX_REACH}" in text]
    assert problems(replace(ALONE, vertices=(replace(source, reach=many[1:]), *ALONE.vertices[1:]))) == ()


def test_who_reaches_nothing_keeps_its_bytes() -> None:
    # invariant: R2
    vertex = ALONE.vertices[0]
    assert b"reach" not in canonical.encode(vertex)
    reaching = replace(vertex, reach=("10.0.0.5:80",))
    assert canonical.decode(Vertex, canonical.encode(reaching)) == reaching
