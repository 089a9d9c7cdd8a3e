"""Every order of a growing record's steps and of a reader's that goes from record to record: see model/growth.py.

Proven: each frame is looked for in the record that has it, however far that has grown meanwhile and whatever an older record left in the next
descriptor's place. And each rule is needed.
"""

import pytest

from tests.ring.model import growth
from tests.ring.model.explorer import BrokenError, Explorer


def states(without: str = "") -> int:
    memory = growth.WORDS | {"nowhere": 0}
    return Explorer((growth.writer(without), growth.reader(without)), memory).explore()


# invariant: S1
def test_a_frame_is_found_in_the_record_that_has_it() -> None:
    assert states() > 500


@pytest.mark.parametrize("without", ["descriptor first", "head first", "next", "release"])
def test_each_rule_of_growing_is_needed(without: str) -> None:
    with pytest.raises(BrokenError, match="where it is not"):
        states(without)
