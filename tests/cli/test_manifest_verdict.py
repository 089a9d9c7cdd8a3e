"""A release's verdict in a manifest: each kind is read, what contradicts itself is told, and what the documents show can be applied."""

import re
from pathlib import Path

import pytest

from halftrack_controller import manifests
from halftrack_controller.manifests import BadManifests
from halftrack_model.verdict import Check, FieldTolerance, Verdict

RELEASE = (
    "apiVersion: halftrack/v1\nkind: Release\n"
    "spec: {product: x, version: 1.0.0, entry: 'a:B', artifact: {file: HERE}, strategy: STRATEGY}\n"
).replace("HERE", __file__)


def problems(strategy: str) -> str:
    with pytest.raises(BadManifests) as caught:
        manifests.parsed([("x.yaml", RELEASE.replace("STRATEGY", strategy))])
    return " ".join(problem.text for problem in caught.value.problems)


def verdict_of(text: str) -> Verdict | None:
    text = RELEASE.replace("STRATEGY", f"{{verdict: {text}}}")
    return manifests.parsed([("-", text)]).releases[0].strategy.verdict


def test_each_kind_of_verdict_is_read() -> None:
    assert verdict_of("{check: equal}") == verdict_of("{check: {equal: true}}") == Verdict(Check.EQUAL)
    field = FieldTolerance("value", "<f4", 0, "0.5", "1e-06")
    near = verdict_of("{check: {tolerance: {dtype: <f4, absolute: 0.5, relative: 1.0e-6}}, frames: 7, mismatches: 2}")
    assert near == Verdict(Check.TOLERANCE, (field,), frames=7, mismatches=2)
    fields = verdict_of(
        "{check: {tolerance: {fields: [{name: n, dtype: <u8}, {name: p, dtype: <c8, count: rest, absolute: 1}]}}}"
    )
    assert fields == Verdict(Check.TOLERANCE, (FieldTolerance("n", "<u8"), FieldTolerance("p", "<c8", 0, "1", "0")))
    assert verdict_of("{check: {function: 'a:same'}}") == Verdict(Check.FUNCTION, entry="a:same")
    assert verdict_of("{check: {differs: expected, invariant: 'a:sane'}}") == Verdict(Check.INVARIANT, entry="a:sane")
    bounds = verdict_of("{latency: {p99: 1.5x}, memory: 64MiB, cpu: 2x}")
    assert bounds == Verdict(latency_p99_percent=150, memory_bytes=64 << 20, cpu_percent=200)
    assert verdict_of("{memory: 1.25x}") == Verdict(memory_percent=125)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "a verdict that asks for nothing"),
        ("{check: same}", "'same' is not a check; write equal, or {tolerance"),
        ("{check: {equal: true, function: 'a:b'}}", "write exactly one"),
        ("{check: {differs: expected}}", "needs an invariant"),
        ("{check: {invariant: 'a:b', equal: true}}", "needs an invariant"),
        ("{check: {tolerance: {dtype: <f4, fields: [{name: n, dtype: <f4}]}}}", "of one dtype or of fields"),
        ("{check: {tolerance: {dtype: float}}}", "'float' is not a dtype"),
        ("{check: {tolerance: {dtype: <f4, absolute: -1}}}", "a number from 0 on"),
        ("{check: {tolerance: {dtype: <f4, relative: '1e-6'}}}", "is not a number"),
        ("{check: {tolerance: {fields: [{name: n, dtype: <f4, count: rest}, {name: m, dtype: <f4}]}}}", "only the last can"),
        ("{check: {tolerance: {fields: [{name: n, dtype: <f4}, {name: n, dtype: <f4}]}}}", "name each once"),
        ("{check: equal, frames: 3, mismatches: 3}", "tolerate fewer than are judged"),
        ("{latency: {p99: 150%}}", "is not a factor"),
        ("{cpu: 0x}", "leaves nothing at all"),
        ("{memory: 12}", "is not text"),
        ("{memory: 12 apples}", "is not a size"),
    ],
)  # fmt: skip
def test_a_verdict_that_contradicts_itself_is_told(text: str, told: str) -> None:
    assert told in problems(f"{{verdict: {text}}}")


def test_equal_outputs_and_a_check_that_lets_them_differ_contradict_each_other() -> None:
    assert "drop one of them" in problems("{compare: equal, verdict: {check: {function: 'a:b'}}}")


def test_the_examples_about_upgrades_are_manifests(tmp_path: Path) -> None:
    (tmp_path / "spectrometer.py").write_text("class Spectrometer: ...\n")
    page = (Path(__file__).parents[2] / "docs/upgrades.md").read_text()
    examples = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for number, text in enumerate(examples):
        (tmp_path / f"{number}.yaml").write_text(text)
    found = manifests.read([str(tmp_path)]).releases
    assert [release.strategy.verdict.check for release in found if release.strategy.verdict] == [
        Check.TOLERANCE,
        Check.TOLERANCE,
        Check.INVARIANT,
    ]
