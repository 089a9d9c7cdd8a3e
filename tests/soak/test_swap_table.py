"""The table of faults is whole, and knows where a swap is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_model.swap import Phase, SwapRecord
from tests.soak.table_faults import FAULTS, NEVER, PHASES, PLACES, Row, hit, places_hit, reached, rows, seats
from tests.soak.table_run import Table

RECORD = SwapRecord("s", 1, 0, Phase.PENDING, 1, -1, 0, 0, 0, 0, "")
ORDER = [
    RECORD,
    *[
        replace(RECORD, leg=leg, phase=phase)
        for leg in (0, 1)
        for phase in (*PHASES, Phase.GONE)
        if (leg, phase) not in NEVER
    ],
]
ORDER.append(replace(RECORD, leg=1, phase=Phase.DONE))


@given(st.integers(0, 1 << 32))
def test_every_fault_strikes_every_place_once(seed: int) -> None:
    found = list(rows(seed, 0))
    assert len(found) == len(set(found)) == len(FAULTS) * len(PLACES)
    assert {row.fault for row in rows(seed, 1)} == set(FAULTS)
    assert len(list(rows(seed, 2))) == 2 * len(FAULTS)


@given(st.sampled_from(FAULTS), st.sampled_from(PLACES))
def test_a_place_is_reached_once_and_for_all(fault: str, place: tuple[int, Phase]) -> None:
    row = Row(fault, *place)  # type: ignore[arg-type]
    seen = [reached(row, record) for record in ORDER]
    assert seen == sorted(seen), "what is reached stays reached"
    first = ORDER[seen.index(True)]
    assert (first.leg, first.phase) == place
    assert not reached(row, None)
    assert not reached(row, replace(RECORD, leg=1, phase=Phase.ABORTING))


def test_who_sits_where() -> None:
    assert seats(0, "1.0.0", "1.0.1") == {"blue": "a@1.0.0", "green": "a@1.0.1", "other": "b@1.0.0"}
    assert seats(1, "1.0.0", "1.0.1") == {"blue": "b@1.0.0", "green": "b@1.0.1", "other": "a@1.0.1"}


def test_only_what_stood_still_was_struck_in_its_place() -> None:
    armed, cut = ORDER[4], ORDER[5]
    assert hit(Row("merge", 0, Phase.ARMED), armed, armed) == "armed 1"
    assert places_hit([hit(Row("merge", 0, Phase.ARMED), armed, cut), "cut 1"]) == {"cut 1"}


@pytest.mark.parametrize("name", ["lost", "duplicated", "reordered", "mismatched", "undone", "missing"])
def test_anything_that_must_not_be_makes_it_fail(name: str) -> None:
    table = Table(1)
    assert not table.wrong
    setattr(table, name, "why" if name == "missing" else 1)
    assert table.wrong
