"""An operator's terminal that is always open: prints, as a line of JSON, what the controller knows, several times a second.

Runs on the controller's host, through the same API as `halftrack host list` and `halftrack rollout status`, and knows only what
the controller has been told: while its links are cut, its view grows old.

    python -m examples.demo.observer OPERATOR_FOLDER
"""

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halftrack_controller.operator_client import OperatorClient
from halftrack_model.errors import HalftrackError

INTERVAL_S = 0.15


def main(argv: Sequence[str]) -> int:
    """Print until killed. While the controller is down (it is killed in some runs), nothing."""
    with OperatorClient.from_config(Path(argv[0]), 2.0) as client:
        while True:
            try:
                seen = {"hosts": _plain(client.hosts()), "rollouts": _plain(client.rollouts())}
            except HalftrackError:
                seen = {}
            print(json.dumps(seen, default=str), flush=True)
            time.sleep(INTERVAL_S)


def _plain(entries: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {one.name: getattr(entry, one.name) for one in dataclasses.fields(entry) if one.name != "swap"}
        for entry in entries
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
