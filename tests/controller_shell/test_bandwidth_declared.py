"""Windows on a host's link: from the manifest through the store into the plan, and refused when nothing could ever come."""

from dataclasses import replace
from pathlib import Path

import pytest

from halftrack_controller import documents, manifests
from halftrack_controller.manifests import BadManifests
from halftrack_controller.operator_client import document_of
from halftrack_controller.snapshot import Host
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.errors import InvalidInput
from tests.controller_shell.test_store import ENVIRONMENT, host, opened
from tests.planner.world import deployed

WINDOWS = (BandwidthWindow(32_000, 480, 1080), BandwidthWindow(2_000_000, 1320, 0), BandwidthWindow(0, 0, 30))
MANIFEST = """\
apiVersion: halftrack/v1
kind: Host
metadata: {name: tank-a}
spec:
  environment: home
  address: 10.0.0.1
  bandwidth: WINDOWS
"""


def declared(folder: Path, windows: str) -> Host:
    path = folder / "host.yaml"
    path.write_text(MANIFEST.replace("WINDOWS", windows))
    (found,) = manifests.read([str(path)]).hosts
    return found


def test_windows_are_what_the_manifest_says(tmp_path: Path) -> None:
    text = '[{limit: 256kbit/s, from: "08:00", to: "18:00"}, {limit: 2MB/s, from: "22:00"}, {limit: 0, to: "00:30"}]'
    found = declared(tmp_path, text)
    assert found.bandwidth == WINDOWS
    assert documents.declared(document_of(found)) == found
    assert declared(tmp_path, "[]").bandwidth == ()


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ('{limit: fast, from: "08:00"}', "256kbit/s"),
        ("{limit: 256, from: '08:00'}", "is not a rate of a link; write the number with its unit: 256kbit/s"),
        ("{limit: 1bit/s}", "is no rate that a link has"),
        ("{limit: 1kbit/s, from: 8}", '"18:00"'),
        ("{limit: 1kbit/s, to: '24:00'}", "is not a time of the day"),
        ("{from: '08:00'}", "limit"),
    ],
)
def test_a_window_that_says_nothing_is_told_what_to_write(tmp_path: Path, window: str, text: str) -> None:
    with pytest.raises(BadManifests) as caught:
        declared(tmp_path, f"[{window}]")
    assert text in str(caught.value)


def test_windows_are_stored_and_a_store_of_before_has_none(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.apply([ENVIRONMENT, replace(host("tank-a"), bandwidth=WINDOWS)])
    store.close()
    store = opened(tmp_path)
    assert store.snapshot(0, {}).hosts["tank-a"].bandwidth == WINDOWS
    with store.transaction() as conn:
        conn.execute("alter table hosts drop column bandwidth")
        conn.execute("delete from _sqlite_migrations where name = '0005-bandwidth'")
    store.close()
    store = opened(tmp_path)
    assert store.snapshot(0, {}).hosts["tank-a"].bandwidth == ()
    store.close()


def test_the_plan_carries_them_and_only_what_could_ever_work_is_taken() -> None:
    world = deployed()
    before = world.held["tank-a"].plan
    assert before.bandwidth == ()
    limited = replace(world.hosts["tank-a"], bandwidth=WINDOWS)
    world.hosts["tank-a"] = limited
    world.settle()
    assert world.held["tank-a"].plan == replace(before, revision=before.revision + 1, bandwidth=WINDOWS)
    assert world.held["tank-b"].plan.bandwidth == ()
    shut = replace(limited, bandwidth=(BandwidthWindow(0, 0, 0),))
    with pytest.raises(InvalidInput, match="leave an hour"):
        documents.checked(world.snapshot(), [shut])
