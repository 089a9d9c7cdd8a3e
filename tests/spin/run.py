"""`make spin`: every search within its bounds, and every planted mistake; `spin.json` says what was seen. Exit status 1 on any error."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

from tests.spin import checking
from tests.spin.planted import PLANTED


def main() -> int:
    """All searches, one after the other: each may take most of the memory there is."""
    if checking.missing():
        print(f"{checking.missing()} is not installed: apt-get install spin gcc", file=sys.stderr)
        return 2
    searches = [_searched(case) for case in (*checking.SHORT, *checking.LONG)]
    mistakes = {}
    for planted in PLANTED:
        with pytest.MonkeyPatch.context() as patch:
            planted.plant(patch)
            mistakes[planted.name] = _searched(planted.case)
    missed = [name for name, seen in mistakes.items() if not seen.error]
    wrong = [seen for seen in searches if seen.error]
    report = {
        "searches": [seen.row() for seen in searches],
        "planted": {name: seen.row() for name, seen in mistakes.items()},
        "missed": missed,
    }
    Path("spin.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    for seen in wrong:
        print(f"{seen.case}: {seen.error}\n{seen.story}\n")
    states, seconds = sum(seen.states for seen in searches), sum(seen.seconds for seen in searches)
    print(
        f"{len(searches)} searches, {states} states in {seconds:.0f} s: {len(wrong)} with errors; "
        f"{len(mistakes) - len(missed)} of {len(mistakes)} planted mistakes found"
        + (f", missed: {', '.join(missed)}" if missed else "")
    )
    return 1 if wrong or missed else 0


def _searched(case: checking.Case) -> checking.Verdict:
    with tempfile.TemporaryDirectory(prefix="halftrack-spin-") as folder:
        return checking.searched(case, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
