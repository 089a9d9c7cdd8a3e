"""Enrolment that is killed at any of its durable steps, on either side, goes on with the same token and the same key."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from halftrack_agent import enrol as enrolment
from halftrack_agent import identity
from halftrack_controller import ca, galaxy, store_keys
from halftrack_model.errors import HalftrackError, HostFault, Untrusted
from halftrack_proto.messages import Token
from halftrack_proto.tokens import token_of
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, enrol, host

STEPS_MAX = 60  # more than there are; a test that reaches it counts the wrong thing


class Killed(BaseException):
    """As SIGKILL: nothing of the program runs after it but what the kernel does."""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveController]:
    folder = tmp_path_factory.mktemp("enrolment") / "galaxy"
    galaxy.init(folder, "milkyway", ["127.0.0.1"])
    controller = LiveController(folder)
    with controller.operator() as client:
        client.apply([ENVIRONMENT, host("tank-a"), host("tank-b")])
    yield controller
    controller.stop()


def token_for(live: LiveController, name: str) -> Token:
    with live.operator() as client:
        return token_of(client.create_token(name, 600).token)


def killed_at(patch: pytest.MonkeyPatch, step: int, after: bool) -> None:
    """Die at the step-th call that makes something durable, before or after it has."""
    count = 0

    def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == step and not after:
                raise Killed
            found = real(*words, **named)
            if count == step:
                raise Killed
            return found

        return call

    patch.setattr(os, "fsync", wrapped(os.fsync))
    patch.setattr(Path, "rename", wrapped(Path.rename))
    patch.setattr(Path, "mkdir", wrapped(Path.mkdir))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_host_killed_at_each_durable_step_goes_on(
    live: LiveController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Either there is no trust.json yet, or the identity is whole; a key that the controller may know is never made anew."""
    # invariant: D1
    token = token_for(live, "tank-a")
    begin = asyncio.run(enrolment.enrol(tmp_path / "first", token))
    keys = {name: (tmp_path / "first" / name).read_bytes() for name in ("key.pem", "curve.key")}
    for step in range(1, STEPS_MAX):
        folder = tmp_path / f"id-{step}"
        folder.mkdir()
        for name, data in keys.items():  # the token is bound to this key; its own durable steps are tried below
            (folder / name).write_bytes(data)
        with monkeypatch.context() as patch:
            killed_at(patch, step, after)
            try:
                asyncio.run(enrolment.enrol(folder, token))
                break
            except Killed:
                pass
        if identity.enrolled(folder):
            identity.load(folder)
        assert asyncio.run(enrolment.enrol(folder, token)) == begin
        identity.load(folder)
    assert 9 < step < STEPS_MAX - 1, "three files, each written, renamed, and its folder told"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_key_once_made_is_the_one_that_asks(
    live: LiveController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Killed at each step again and again in one folder, with one token: no other key ever comes to it."""
    # invariant: D1
    token, folder, seen = token_for(live, "tank-b"), tmp_path / "deeper" / "id", set[bytes]()
    for step in range(1, STEPS_MAX):
        with monkeypatch.context() as patch:
            killed_at(patch, step, after)
            try:
                member = asyncio.run(enrolment.enrol(folder, token))
                break
            except Killed:
                pass
        if (folder / "key.pem").exists():
            seen.add((folder / "key.pem").read_bytes())
    assert 9 < step < STEPS_MAX - 1
    assert len(seen) == 1
    assert member.host == "tank-b"
    assert asyncio.run(enrolment.enrol(folder, token)) == member


def test_a_controller_that_dies_around_its_commit_is_asked_again(
    live: LiveController, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it, the token is free for whoever comes; after it, only for the key that came, though that has heard nothing."""
    # invariant: D1
    with live.operator() as client:
        text = client.create_token("tank-a", 600).token
    key, other = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))

    def dies(*_words: object) -> None:
        raise RuntimeError("the controller dies here")

    with monkeypatch.context() as patch:
        patch.setattr(store_keys, "put_certificate", dies)  # in the transaction, after the token and the key
        with pytest.raises(HalftrackError):
            enrol(live, text, "tank-a", other)
    with monkeypatch.context() as patch:
        patch.setattr(ca, "host_certificate", dies)  # after the commit
        with pytest.raises(HalftrackError):
            enrol(live, text, "tank-a", key)
    with pytest.raises(Untrusted) as caught:
        enrol(live, text, "tank-a", other)
    assert caught.value.reason == "token-used"
    assert enrol(live, text, "tank-a", key).reply.host == "tank-a"


def test_without_the_controllers_word_nothing_is_kept(
    live: LiveController, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its CA is in the token: another CA's controller is as good as none."""
    token = token_for(live, "tank-a")
    foreign = ca.der(ca.new_authority("milkyway").certificate)
    lying = Token(token.galaxy, token.endpoint, foreign, token.host, token.secret)
    monkeypatch.setattr(enrolment, "TIMEOUT_S", 0.5)
    with pytest.raises(HostFault):
        asyncio.run(enrolment.enrol(tmp_path / "id", lying))
    assert not identity.enrolled(tmp_path / "id")
