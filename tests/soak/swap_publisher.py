"""An operator's terminal of a swap soak: publishes what it reads as lines of JSON, and prints how rollouts stand, several times a second.

    python -m tests.soak.swap_publisher OPERATOR_FOLDER PROGRAM

A line is `{"product", "version", "entry", "params", "state", "surge"}`, with `verdict` where the release asks for one on itself, and `on_loss` where it does not wait for a lost state; what is published once is no news
the second time, so a line whose fate is unknown may be sent again. While the controller does not answer, it prints `{}` and tries again.
"""

import json
import os
import select
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from halftrack_controller.operator_client import OperatorClient
from halftrack_model import canonical, seals
from halftrack_model.errors import HalftrackError
from halftrack_model.release import Artifact, Compare, OnStateLoss, Release, StateSchemas, SwapStrategy
from halftrack_model.verdict import Check, FieldTolerance, Verdict

INTERVAL_S = 0.1
STRATEGY = SwapStrategy(
    lag_frames=4096,  # a quarter of a second: the two machines' processes share two processors
    caught_up_ms=50,
    shadow_ms=100,
    shadow_frames=64,
    drain_ms=100,
    deadline_ms=300_000,
    green_deaths=1000,  # those are ours
    compare=Compare.DIFFERS_EXPECTED,
)


def verdict_of(asked: dict[str, Any]) -> Verdict:
    """As a release's manifest says it, in words of JSON."""
    fields = tuple(FieldTolerance(*field) for field in asked.get("fields", ()))
    return Verdict(**{**asked, "check": Check(asked.get("check", "nothing")), "fields": fields})


def published(client: OperatorClient, program: Path, asked: dict[str, Any]) -> None:
    """As `halftrack release publish` does it."""
    held = client.put_artifact(program)
    schema = asked["state"]
    release = Release(
        asked["product"],
        asked["version"],
        Artifact(held.digest, held.size_bytes),
        asked["entry"],
        asked["params"],
        StateSchemas(schema, (schema,) if schema else (), on_loss=OnStateLoss(asked.get("on_loss", "wait"))),
        replace(STRATEGY, surge=asked["surge"], verdict=verdict_of(asked["verdict"]) if "verdict" in asked else None),
    )
    client.publish_release(client.load_release_key().sealed(seals.RELEASE, canonical.encode(release)))


def main(argv: Sequence[str]) -> int:
    """Until the input ends."""
    waiting: list[dict[str, Any]] = []
    rest = b""
    with OperatorClient.from_config(Path(argv[0]), 2.0) as client:
        while True:
            if select.select([sys.stdin], [], [], INTERVAL_S)[0]:
                data = os.read(sys.stdin.fileno(), 1 << 16)  # not readline: it would keep lines that select cannot see
                if not data:
                    return 0
                *lines, rest = (rest + data).split(b"\n")
                waiting += map(json.loads, lines)
            try:
                while waiting:
                    published(client, Path(argv[1]), waiting[0])
                    waiting.pop(0)
                known = client.rollouts()
                rows = {f"{rollout.product} {rollout.to_version}": rollout.phase for rollout in known}
                each = {f"{rollout.vertex} {rollout.to_version}": rollout.phase for rollout in known}
                why = {f"{rollout.product} {rollout.to_version}": rollout.reason for rollout in known}
                ready = sum(host.connected for host in client.hosts())
                print(json.dumps({"rollouts": rows, "vertices": each, "reasons": why, "connected": ready}), flush=True)
            except HalftrackError as error:
                print(json.dumps({"error": str(error)}), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
