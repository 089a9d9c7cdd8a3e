"""The decision trees as C, for the verifier of `swap.pml`, which includes what is written here. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Iterator

from halftrack_model.swap import Phase
from tests.spin import decisions
from tests.spin.decisions import Node, Tree

# The answers that the model gives; the oracle's questions, each a variable of that name.
QUESTIONS = (
    *("f_abort", "f_own", "f_was_green", "f_own_ours", "f_row", "f_row_ours", "f_dist"),
    *(f"f_{what}{seat}" for seat in (0, 1) for what in ("running", "failed", "lag", "green_head", "blue_head")),
    *(f"f_{what}{seat}" for seat in (0, 1) for what in ("blue_runs", "blue_stays", "shadow")),
    *("f_known", "f_agreed", "f_knows", "f_heard", "f_ripe_phase", "f_late_phase", "f_late_leg", "f_ripe_leg"),
    *decisions.PARTS,
)


NUMBERS = {phase: number for number, phase in enumerate(Phase)}
NO_RECORD, WITHDRAW = len(NUMBERS), 4


def words() -> str:
    """`decisions.h`: the phases by name, for the model and for the trees."""
    lines = [f"#define {phase.name} {number}" for phase, number in NUMBERS.items()]
    return "\n".join([*lines, f"#define NO_RECORD {NO_RECORD}", f"#define WITHDRAW {WITHDRAW}", ""])


def trees(surge: int) -> str:
    """`decisions.c`: what is asked, what is answered, and the trees of swaps of that surge."""
    lines = [f"static unsigned char {', '.join(QUESTIONS)};"]
    lines.append("static unsigned char r_moved, r_leg, r_phase, r_act, r_bad, r_part;")
    lines += [*_wanted(surge), *_due()]
    for question in decisions.PARTS:
        lines += _function(f"decide_{question}", _part(question, surge))
    lines += _function("decide_moves", _moves(surge))
    lines += _function("decide_writes", _writes(surge))
    return "\n".join([*lines, ""])


def _part(question: str, surge: int) -> Iterator[tuple[int, Phase, Tree]]:
    for leg in (0, 1) if surge == 1 else (0,):
        yield leg, Phase.ABORTING, decisions.part(question, surge, leg)


def _moves(surge: int) -> Iterator[tuple[int, Phase, Tree]]:
    for leg, phase in decisions.places(surge):
        calm, ordered = (decisions.moves(surge, abort, leg, phase) for abort in (False, True))
        yield leg, phase, calm if calm == ordered else Node("f_abort", ((0, calm), (1, ordered)))


def _writes(surge: int) -> Iterator[tuple[int, Phase, Tree]]:
    for leg, phase in decisions.places(surge):
        yield leg, phase, decisions.writes(surge, leg, phase)


def _function(title: str, trees: Iterator[tuple[int, Phase, Tree]]) -> Iterator[str]:
    yield f"static void {title}(int leg, int phase) {{"
    yield "r_moved = r_act = r_part = 0; r_leg = leg; r_phase = phase;"
    yield "switch (phase * 2 + leg) {"
    for leg, phase, tree in trees:
        yield f"case {NUMBERS[phase] * 2 + leg}: /* {phase.value}, leg {leg} */"
        yield from _statements(tree)
        yield "break;"
    yield "default: r_bad = 1;" if title in ("decide_moves", "decide_writes") else "default: ;"
    yield "}}"


def _statements(tree: Tree) -> Iterator[str]:
    if isinstance(tree, Node):
        yield f"switch ({tree.question}) {{"
        for answer, branch in tree.answers:
            yield f"case {answer}:"
            yield from _statements(branch)
            yield "break;"
        yield "}"
        return
    match tree:
        case (False, _, _) | ():
            return
        case (bool(answer),):
            yield f"r_part = {int(answer)};"
        case (True, leg, Phase() as phase):
            yield f"r_moved = 1; r_leg = {leg}; r_phase = {NUMBERS[phase]};"
        case (decisions.WITHDRAW,):
            yield f"r_act = {WITHDRAW};"
        case ("propose", int(row)):
            yield f"r_act = {row};"
        case _:
            raise AssertionError(tree)


def _wanted(surge: int) -> Iterator[str]:
    """By leg, record and member: blue a, blue b, green a, green b."""
    yield f"static const unsigned char wants[2][{len(Phase) + 1}][4] = {{"
    known = set(decisions.places(surge))
    for leg in (0, 1):
        rows = [decisions.wanted(surge, leg if (leg, p) in known else 0, p) for p in Phase]
        rows.append(decisions.wanted(surge, 0, None))
        yield "{" + ", ".join("{" + ", ".join(str(int(one)) for one in row) + "}" for row in rows) + "},"
    yield "};"


def _due() -> Iterator[str]:
    """By row and distance: does the merge apply it?"""
    rows = (decisions.NO_ROW, decisions.BLUE_NOW, decisions.GREEN_NOW, decisions.GREEN_AT_FENCE)
    spans = (decisions.PASSED, decisions.AT, decisions.MARGIN, decisions.AHEAD)
    yield "static const unsigned char is_due[4][4] = {"
    for row in rows:
        yield "{" + ", ".join(str(int(row != decisions.NO_ROW and decisions.due(row, span))) for span in spans) + "},"
    yield "};"
