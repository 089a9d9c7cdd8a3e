"""What `status` reads is as the host is, costs no write while nothing changes, and no agent when there is no room."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent.places import Places
from halftrack_agent.posted import EVERY_MS, Posted
from halftrack_model import canonical
from halftrack_model.observed import Observed
from halftrack_proto.gauges import TransferGauge
from tests.agent_shell.test_ledger import files_no_longer_than

HOST = Observed("h", 0, (), (), ())
MOVING = (TransferGauge("sha256:0", 1, 2, 3, "whole", ""),)


def test_what_has_changed_is_written_and_nothing_else(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path)
    posted, steps = Posted(places), [(HOST, ()), (HOST, MOVING), (replace(HOST, revision=1), MOVING), (HOST, ())]
    for observed, moving in steps:
        posted.post(observed, moving)
        assert canonical.decode(Observed, places.observed.read_bytes()) == observed
        if places.transfers.exists() or moving:
            assert canonical.decode(tuple[TransferGauge, ...], places.transfers.read_bytes()) == moving
        before = [path.stat().st_ino for path in tmp_path.iterdir()]
        posted.post(observed, moving)
        assert [path.stat().st_ino for path in tmp_path.iterdir()] == before, "none is written anew"
    with files_no_longer_than(1):
        posted.post(replace(HOST, revision=2), MOVING)


@given(st.lists(st.integers(0, 3 * EVERY_MS), max_size=30))
def test_it_is_due_every_half_second_and_not_more_often(pauses: list[int]) -> None:
    posted, now_ms, last_ms = Posted(Places(Path(), Path())), 0, -EVERY_MS
    for pause in pauses:
        now_ms += pause
        assert posted.due(now_ms) is (now_ms - last_ms >= EVERY_MS)
        last_ms = now_ms if now_ms - last_ms >= EVERY_MS else last_ms
