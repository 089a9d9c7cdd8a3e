"""An inlet's orders: exact, and refused by field when they contradict themselves."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane import runspec
from halftrack_dataplane.runspec import InletInput, RunSpec, SpecError

PARTITION = InletInput("adc", "/r/g/adc.ring", key_offset=8, key_bytes=4, key_of=3, key_take=(0, 2), evict_after_ms=500)
SAMPLE = InletInput("gps", "/r/g/gps.ring", policy="sample", every=10, replay_ms=30_000)
GOOD = RunSpec(
    role="inlet", name="g.fit.in", output_ring="/r/g/fit.in.ring", inputs=(PARTITION, SAMPLE), join="time", join_width_ns=1000
)  # fmt: skip


def test_an_inlets_spec_survives_the_file() -> None:
    assert runspec.load(runspec.dump(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": []}, "1 to 32 inputs"),
        ({"join": "guess"}, "one of sequence, time, order, union"),
        ({"join": "", "join_width_ns": 0}, "a way to join for several inputs"),
        ({"join_width_ns": 0}, "the width of a bucket"),
        ({"join": "order"}, "the width of a bucket"),
        ({"join_partial": True}, "only sequences"),
        ({"join_partial": 1}, "a truth value"),
        ({"output_ring": ""}, "an inlet needs it"),
    ],
)
def test_a_join_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    tree = json.loads(runspec.dump(GOOD)) | change
    with pytest.raises(SpecError, match=message):
        runspec.load(json.dumps(tree).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "guess"}, "policy"),
        ({"ring": "adc.ring"}, "absolute path"),
        ({"spool": "spool"}, "absolute path"),
        ({"spool": "/spool", "policy": "lossy"}, "a folder only where all is read"),
        ({"name": "gps"}, "names that differ"),
        ({"every": 2}, "and that with policy 'sample'"),
        ({"every": 0}, "an integer from 1 on"),
        ({"rate_per_s": -1}, "an integer from 0 on"),
        ({"key_take": [3]}, "parts below 3"),
        ({"key_take": [0, 0]}, "parts that differ"),
        ({"key_take": []}, "the parts to take"),
        ({"key_take": ["0"]}, "a list of integers"),
        ({"key_bytes": 0}, "the length of the key"),
        ({"key_of": 0}, "if there is a key"),
        ({"key_of": 1 << 20}, "at most 4096 parts"),
        ({"policy": "sample", "latest": True}, "not both"),
        ({"latest": 1}, "a truth value"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_an_input_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    tree = json.loads(runspec.dump(GOOD))
    tree["inputs"][0] |= change
    with pytest.raises(SpecError, match=message):
        runspec.load(json.dumps(tree).encode())


def test_frames_without_numbers_are_not_joined_by_number() -> None:
    for join in ("sequence", "union"):
        for sample in (
            InletInput("gps", "/r/gps", policy="sample", latest=True),
            InletInput("gps", "/r/gps", policy="sample", rate_per_s=5),
        ):
            spec = dataclasses.replace(GOOD, join=join, join_width_ns=0, inputs=(PARTITION, sample))
            with pytest.raises(SpecError, match="frames that have numbers"):
                runspec.dump(spec)


@given(st.sampled_from([entry.name for entry in dataclasses.fields(InletInput)]))
def test_a_missing_field_of_an_input_is_refused(name: str) -> None:
    tree = json.loads(runspec.dump(GOOD))
    del tree["inputs"][1][name]
    with pytest.raises(SpecError, match=name):
        runspec.load(json.dumps(tree).encode())
