"""`python -m tests.museum.run`: every bug of the museum is planted, and must be found; museum.json says by what, and after how many seeds.

ONLY="word,word" shows those whose names hold a word. Exit status 1 when one is not found.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from hypothesis import Phase, settings

# Before the tests are imported: no example of an earlier visit is tried first, and what was found is not made smaller.
settings.register_profile("museum", database=None, phases=[Phase.explicit, Phase.generate], deadline=None)
settings.load_profile("museum")

from tests.museum.exhibits import EXHIBITS  # noqa: E402


def main() -> int:
    """Show all of it."""
    words = [word.strip() for word in os.environ.get("ONLY", "").split(",") if word.strip()]
    shown = [each for each in EXHIBITS if not words or any(word in each.which for word in words)]
    if not shown:
        print(f"no exhibit is called so: {', '.join(words)}", file=sys.stderr)
        return 2
    rows: list[dict[str, Any]] = []
    began_s = time.monotonic()
    for number, each in enumerate(shown, 1):
        found, after = each.show()
        rows.append({"which": each.which, "bug": each.bug, "by": each.by, "after": after, "caught": found})
        print(
            f"{number}/{len(shown)} {each.which}: {'found' if found else 'NOT FOUND'} by {each.by}, after {after}",
            flush=True,
        )
    caught = sum(row["caught"] for row in rows)
    report = {"planted": len(rows), "caught": caught, "exhibits": rows}
    Path("museum.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(f"museum: {caught} of {len(rows)} bugs found, in {time.monotonic() - began_s:.0f} s")
    return 0 if caught == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
