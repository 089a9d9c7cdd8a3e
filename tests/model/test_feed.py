"""The sockets of a source: how an address is spelled, what one source may have, and who has bound an address already."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_model.feed import MAX_FEEDS, Feed, Protocol, clashes, faults, parsed_bind
from halftrack_model.graph import Edge, Role, StreamGraph, Vertex
from halftrack_model.graph_rules import problems

hosts = st.ip_addresses()
ports = st.integers(1, 65535)


def feed(name: str = "data", bind: str = "0.0.0.0:4001", protocol: Protocol = Protocol.UDP) -> Feed:
    return Feed(name, protocol, bind, 1 << 20)


@given(hosts, ports)
def test_an_address_has_one_spelling(host: object, port: int) -> None:
    text = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    assert parsed_bind(text) == (str(host), port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost:4001", "no address to bind"),
        ("0.0.0.0:0", "port from 1 to 65535"),
        ("0.0.0.0:65536", "port from 1 to 65535"),
        ("0.0.0.0", "no address to bind"),
        (":4001", "no address to bind"),
        ("1.2.3:4001", "no address to bind"),
        ("[0::0]:4001", "is spelled '[::]:4001'"),
        ("10.0.0.1:04001", "is spelled '10.0.0.1:4001'"),
    ],
)
def test_what_is_no_address_is_told_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("[", r"\[").replace("]", r"\]")):
        parsed_bind(text)
    assert any(said in fault for fault in faults((feed(bind=text),)))


def test_feeds_of_one_source_have_names_of_their_own_and_are_not_too_many() -> None:
    assert list(faults((feed("a"), feed("b")))) == []
    assert list(faults((feed("a"), feed("a")))) == ["feed 'a' stands twice"]
    many = tuple(feed(f"n{number}") for number in range(MAX_FEEDS + 1))
    assert list(faults(many)) == [f"has {MAX_FEEDS + 1} feeds; at most {MAX_FEEDS}"]
    assert "65536 to 1073741824 bytes" in next(faults((Feed("a", Protocol.UDP, "0.0.0.0:1", 1),)))


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("0.0.0.0:4001", "10.0.0.1:4001", True),
        ("10.0.0.1:4001", "10.0.0.1:4001", True),
        ("10.0.0.1:4001", "10.0.0.2:4001", False),
        ("10.0.0.1:4001", "10.0.0.1:4002", False),
        ("[::]:4001", "10.0.0.1:4001", True),
    ],
)
def test_an_address_is_bound_once_on_a_host(one: str, other: str, clash: bool) -> None:
    owners = [("left", feed("a", one)), ("right", feed("b", other))]
    found = list(clashes(owners))
    assert [owner for owner, _ in found] == (["right"] if clash else [])
    tcp = ("right", feed("b", other, Protocol.TCP))
    assert list(clashes([owners[0], tcp])) == []
    assert any("binds" in text for text in problems(graph(one, other, "tank-a"))) == clash
    assert not any("binds" in text for text in problems(graph(one, other, "tank-b")))


def graph(one: str, other: str, second: str) -> StreamGraph:
    left = Vertex("left", Role.SOURCE, "capture", ("tank-a",), {}, 1 << 16, 64, feeds=(feed("a", one),))
    right = Vertex("right", Role.SOURCE, "capture", (second,), {}, 1 << 16, 64, feeds=(feed("b", other),))
    sinks = [Vertex(f"sink{n}", Role.SINK, "keeper", ("tank-a",), {}, 0, 0) for n in range(2)]
    return StreamGraph("line", "home", (left, right, *sinks), (Edge("left", "sink0"), Edge("right", "sink1")))


def test_only_a_source_reads_sockets() -> None:
    source = Vertex("source", Role.SOURCE, "capture", ("tank-a",), {}, 1 << 16, 64)
    sink = Vertex("sink", Role.SINK, "keeper", ("tank-a",), {}, 0, 0, feeds=(feed(),))
    found = problems(StreamGraph("line", "home", (source, sink), (Edge("source", "sink"),)))
    assert found == ("vertex 'sink': a sink reads streams, not sockets: leave feeds out, or put a source before it",)
