"""The fleet in short: one host and its controller, each a machine with a systemd of its own. `make fleet` has all of it."""

import os
from pathlib import Path

import pytest

from halftrack_agent.drivers import shim
from tests.fleet import installing
from tests.soak.short_form import short_form

TRIALS = ("rebooted_offline", "watchdog_soon")


# invariant: R2 D1
@pytest.mark.host
def test_a_real_unit_outlives_a_reboot_without_a_link_a_restart_and_its_own_standstill(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root makes machines")
    if reason := installing.missing():
        assert "HALFTRACK_REQUIRE_HOST" not in os.environ, reason
        pytest.skip(reason)
    report = short_form("tests.fleet.run", "fleet.json", tmp_path, ONLY=",".join(TRIALS), HOSTS=1)
    assert report["machines"] == 2
    assert report["held"] == report["trials"] == 1 + len(TRIALS), report["outcomes"]
    assert [outcome["trial"] for outcome in report["outcomes"]] == ["installed", *TRIALS]


def test_a_host_that_is_shut_down_is_known_by_its_first_process(tmp_path: Path) -> None:
    """What follows from it is seen above: a reboot is reported as nobody's exit."""
    first = tmp_path / "comm"
    for name, ends in (("systemd-shutdow\n", True), ("systemd\n", False), ("sh\n", False)):
        first.write_text(name)
        assert shim.host_ends(str(first)) is ends
    assert not shim.host_ends(str(tmp_path / "hidden"))
    assert not shim.host_ends()
