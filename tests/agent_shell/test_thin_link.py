"""A real agent behind a narrow window: cut in mid-transfer, it goes on where it was; an upgrade moves what has changed."""

import dataclasses
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from halftrack_agent.pacing import BURST_MS, LEAST_PIECE_BYTES
from halftrack_controller.artifacts import ArtifactService
from halftrack_model import canonical
from halftrack_model.bandwidth import BandwidthWindow
from halftrack_model.ids import digest_of
from halftrack_model.release import Artifact, Release, StateSchemas, SwapStrategy
from halftrack_model.seals import RELEASE
from halftrack_proto import messages as said
from tests.agent_shell.test_agent import SOURCE, AgentProcess, agent, live, until  # noqa: F401 - fixtures
from tests.controller_shell.shell_harness import ENVIRONMENT, LiveController, graph, host

BYTES_PER_S = 2_000  # the first parcel would take many seconds: however busy the machine is, it is cut
FIRST = SOURCE + b"".join(b"# %s\n" % random.Random(line).randbytes(40).hex().encode() for line in range(700))
SECOND = FIRST.replace(b'{"refused": 3}', b'{"refused": 4}')


@dataclasses.dataclass
class Served:
    """What the controller was asked for, by offset."""

    wishes: list[tuple[str, int]]

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        opened = ArtifactService._opened

        async def seen(service: ArtifactService, context: Any, wish: said.FetchRequest) -> Any:
            self.wishes.append((wish.digest, wish.offset))
            return await opened(service, context, wish)

        patch.setattr(ArtifactService, "_opened", seen)


def publish(live: LiveController, folder: Path, version: str, program: bytes) -> str:  # noqa: F811
    path = folder / f"counter-{version}.py"
    path.write_bytes(program)
    made = Release(
        "counter",
        version,
        Artifact(digest_of(program), len(program)),
        "source:Source",
        {"rate_bytes_per_s": 400_000},
        StateSchemas("", ()),
        SwapStrategy(),
    )
    with live.operator() as client:
        client.put_artifact(path)
        client.publish_release(client.load_release_key().sealed(RELEASE, canonical.encode(made)))
    return digest_of(program).removeprefix("sha256:")


# invariant: D1 R2
def test_a_cut_transfer_goes_on_within_the_limit_and_an_upgrade_moves_what_has_changed(
    live: LiveController,  # noqa: F811
    agent: AgentProcess,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = Served([])
    served.watch(monkeypatch)
    agent.start()
    until(lambda: agent.recorded() > 10, "frames arrive in the sink")
    limited = dataclasses.replace(host("tank-a"), bandwidth=(BandwidthWindow(BYTES_PER_S, 0, 0),))
    with live.operator() as client:
        client.apply([ENVIRONMENT, limited, host("tank-b"), graph("tank-a")])
    store = agent.places.artifacts
    began = time.monotonic()
    first = publish(live, tmp_path, "1.1.0", FIRST)

    def part() -> int:
        return max((path.stat().st_size for path in store.glob(f"{first}.*")), default=0)

    until(lambda: part() > 1_500, "some of it has come")

    def shown() -> Any:
        with live.operator() as client:
            return client.host("tank-a").transfers

    (transfer,) = until(shown, "the controller shows the transfer")
    assert (transfer.digest, transfer.way) == (f"sha256:{first}", "parcel")
    until(lambda: "artifact sha256:" in agent.command("status").stdout, "the host's owner sees it, too")
    agent.end(signal.SIGKILL)
    had = part()
    assert had < transfer.all_bytes
    assert had <= BYTES_PER_S * (time.monotonic() - began + BURST_MS / 1000) + LEAST_PIECE_BYTES
    with live.operator() as client:
        client.apply([ENVIRONMENT, host("tank-a"), host("tank-b"), graph("tank-a")])
    agent.start()
    until((store / first).exists, "the rest has come, and it was rebuilt")
    wishes = [wish for wish in served.wishes if served.wishes[-1][0] == wish[0]]
    assert wishes[0][1] == 0
    assert wishes[-1][1] >= had > 0, "not a byte of what was there came again"

    second = publish(live, tmp_path, "1.2.0", SECOND)
    until((store / second).exists, "the upgrade has come")
    assert (store / second).read_bytes() == SECOND
    until(lambda: "1.2.0" in agent_runs(live), "it runs")
    sizes = [path.stat().st_size for path in (live.folder / "controller/artifacts/parcels").glob(f"{second}.{first}.*")]
    assert sizes
    assert sizes[0] < 200
    assert f"sha256:{second}" not in {digest for digest, _ in served.wishes}, "the whole never moved"
    recorded = agent.recorded()
    until(lambda: agent.recorded() > recorded + 10, "frames go on")


def agent_runs(live: LiveController) -> set[str]:  # noqa: F811
    """The versions of what runs as it is planned."""
    with live.operator() as client:
        detail = client.host("tank-a")
    assert detail.observed is not None
    assert detail.plan is not None
    running = {each.digest for each in detail.observed.instances if each.phase == "running"}
    return {workload.version for workload in detail.plan.workloads if workload.digest() in running}
