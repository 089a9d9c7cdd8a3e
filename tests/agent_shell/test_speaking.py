"""When an agent speaks to its controller: often enough, no more often than that, and while it is awake for something else."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from halftrack_agent.identity import Identity, Membership
from halftrack_agent.link import EARLY, OBSERVED_EVERY_S, Ends, Link
from halftrack_model import pulse
from halftrack_model.observed import Observed
from halftrack_proto import codec
from halftrack_proto.messages import AgentSays, Alive, Heartbeat, Welcome
from tests.agent_shell.given_time import GivenTime
from tests.agent_shell.test_link import Bench as Ended

BEGAN_S = 1000.37


class Call:
    """The agent's half of a session: what it says, and when."""

    def __init__(self, loop: GivenTime) -> None:
        self._loop = loop
        self.said: list[tuple[float, AgentSays]] = []

    async def write(self, message: Any) -> None:
        self.said.append((self._loop.time(), codec.agent_of(message)))

    def at(self, *kinds: type) -> list[float]:
        return [at for at, said in self.said if isinstance(said, kinds)]


def link_of(folder: Path, bench: Ended, heartbeat_ms: int, *, takes_parts: bool) -> Link:
    member = Membership("g", "h", "127.0.0.1:1", "", {}, {}, 1)
    ends = Ends(bench.hello, bench.observed, lambda: (), bench.plans.append, bench.outbox)
    link = Link(lambda: Identity(folder, member, b"", b"", b""), ends)
    link._said_digest = bench.observed().digest()
    link._take(Welcome(heartbeat_ms, 0, takes_parts=takes_parts), None)  # type: ignore[arg-type]
    return link


@pytest.mark.parametrize("heartbeat_ms", [200, 1_000, 2_000, 15_000])
@pytest.mark.parametrize("takes_parts", [True, False])
def test_words_are_as_far_apart_as_they_may_be_and_at_round_instants(
    tmp_path: Path, heartbeat_ms: int, takes_parts: bool
) -> None:
    loop, bench = GivenTime(BEGAN_S), Ended(tmp_path)
    call, beat_s = Call(loop), heartbeat_ms / 1000
    link = link_of(tmp_path, bench, heartbeat_ms, takes_parts=takes_parts)
    loop.live(link._speak(call), 100 * beat_s)
    bench.outbox.close()
    words, beats = call.at(Alive, Heartbeat), call.at(Heartbeat)
    word_s = pulse.word_every_ms(heartbeat_ms) / 1000 if takes_parts else beat_s
    for at, every_s in ((words, word_s), (beats, beat_s)):
        assert all(
            every_s * (1 - EARLY) - 1e-3 < after - before < every_s + 1e-3 for before, after in itertools.pairwise(at)
        )
        if every_s <= 1 or every_s == round(every_s) < 10:
            assert at[-1] - at[40] == pytest.approx((len(at) - 41) * every_s), "no oftener in the long run"
    assert bool(call.at(Alive)) is takes_parts, "a controller of before would not know the word"
    unit_s = min(1.0, word_s)
    assert all(abs(at / unit_s - round(at / unit_s)) < 1e-3 for at in words[30:])


def test_what_is_new_is_said_soon_and_not_at_every_change(tmp_path: Path) -> None:
    loop, bench = GivenTime(BEGAN_S), Ended(tmp_path)
    call, link = Call(loop), link_of(tmp_path, bench, 2_000, takes_parts=True)
    changed = [BEGAN_S + 10 + number / 100 for number in range(50)]

    def change(at_s: float) -> None:
        bench.problems = (str(at_s),)
        link.stir()

    for at_s in changed:
        loop.call_at(at_s, change, at_s)
    loop.live(link._speak(call), 20)
    bench.outbox.close()
    told = call.at(Observed)
    assert told[0] == pytest.approx(changed[0], abs=OBSERVED_EVERY_S)
    assert told[-1] == pytest.approx(changed[-1], abs=OBSERVED_EVERY_S + 1e-3)
    assert all(after - before >= OBSERVED_EVERY_S - 1e-3 for before, after in itertools.pairwise(told))
    assert [said for _, said in call.said if isinstance(said, Observed)][-1].problems == bench.problems
    assert len(told) == 6
    for (before, _), (at, said) in itertools.pairwise(call.said):
        assert not isinstance(said, Alive) or at - before > 1 - EARLY - 1e-3, "what is new is a word, too"
