"""Every invariant that is built so far has a test that names it (`# invariant: P1`), and no test names one that is not.

The table itself is DESIGN.md's; here are the ones that the code claims today. A new claim is a new line.
"""

import re

from tests.house.source import ROOT, shown

CLAIMED = {
    "P1": "what executes was verified for this galaxy and this host, by type",
    "P2": "a revision never goes down without a signed grant",
    "P3": "redelivery is a no-op; acknowledged means durable",
    "R1": "identical desired state changes nothing; faults stop, and it converges in bounded steps",
    "R2": "a healthy, matching workload is never restarted",
    "R3": "an empty or missing desired state never means to delete everything",
    "O1": "unknown is not unhealthy",
    "O2": "one dead host never stops a wave; a returning host gets the current decision",
    "S1": "a stream's output is in source order, no gap, no duplicate, through any single failure in a swap",
    "S2": "beyond the declared buffer, loss is counted and reported",
    "D1": "acknowledged survives power loss; corruption is detected, never executed",
    "C1": "no safety decision compares two hosts' clocks; a clock that is years wrong still runs and rejoins",
    "C2": "an expired certificate never blocks its own renewal",
}
_NAMED = re.compile(r"# invariants?: *([A-Z]\d(?:[, ]+[A-Z]\d)*)")


def _named() -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for match in _NAMED.finditer(path.read_text()):
            for name in re.findall(r"[A-Z]\d", match[1]):
                named.setdefault(name, []).append(shown(path))
    return named


def test_every_invariant_is_tested_by_name() -> None:
    untested = [f"{name} ({meaning})" for name, meaning in CLAIMED.items() if name not in _named()]
    assert not untested, f"no test says `# invariant: …` for {'; '.join(untested)}"


def test_no_test_names_an_invariant_that_is_not_claimed() -> None:
    unknown = {name: paths for name, paths in _named().items() if name not in CLAIMED}
    assert not unknown, f"{unknown}: add it to CLAIMED, or correct the name"
