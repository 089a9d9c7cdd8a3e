"""Inlets that cannot keep up, on real rings: what they lose is exactly what has gone, and no torn byte comes out.

invariant: S2
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_dataplane.parts import NONE
from tests.dataplane import inlet_reference as reference
from tests.dataplane.inlet_reference import Given, told
from tests.dataplane.test_inlet_rings import Act, Rig, rig, spec_of

COUNT = 120
STREAMS = [[Given(seq, 0, reference.noise(seq + 1000 * which, 40)) for seq in range(COUNT)] for which in range(2)]


def lost_of(made: Rig, which: int) -> int:
    """What the inlet says that it did not get of an input, whoever was to blame."""
    counts = made.inlet._status().inputs[f"in{which}"]
    return counts["missed"] + counts["lost"]


acts = st.lists(
    st.tuples(st.sampled_from(["0", "1", "step", "step", "die", "evict"]), st.integers(1, 24)).filter(
        lambda act: act[0] not in ("die", "evict") or act[1] < 4
    ),
    max_size=40,
)


@settings(max_examples=120)
@given(acts, st.sampled_from(["lossy", "lossless"]), st.booleans())
def test_a_sequence_of_lossy_inputs_is_whole_or_declared(acts: list[Act], policy: str, partial: bool) -> None:
    with rig(STREAMS, spec_of(2, "sequence", policy=policy, partial=partial), acts, 8, 4096) as made:
        found = reference.read(made.output)
        whole = reference.sequence(STREAMS, partial, [1, 1])
        assert len(found) == COUNT
        for seq, (out, wanted) in enumerate(zip(found, whole, strict=True)):
            if not partial:
                assert out is None or out == wanted
                continue
            for each in [] if out is None else told(out):
                assert each.seq == seq
                assert each.lost == 1 or each.payload == STREAMS[each.input][seq].payload
        counted = made.inlet._status().counters["gap_frames"]
        lives = any(what == "die" for what, _ in acts)
        assert lives or counted == found.count(None), "what is lost is counted"
        status = made.inlet._status()
        missed = sum(row["missed"] for row in status.inputs.values())
        assert status.counters["lost"] == (missed if policy == "lossless" else 0), "and told, if it was not to be"
        if policy == "lossless" and not any(what in ("evict", "die") for what, _ in acts):
            assert found == whole
        if partial and not lives:
            came = [{each.input for each in told(out) if not each.lost} if out else set() for out in found]
            absent = [sum(which not in each for each in came) for which in range(2)]
            assert [lost_of(made, which) for which in range(2)] == absent, "of each input, what did not come"


@settings(max_examples=80)
@given(acts, st.sampled_from(["lossy", "lossless"]))
def test_in_order_each_input_is_whole_or_declared(acts: list[Act], policy: str) -> None:
    with rig(STREAMS, spec_of(2, "order", policy=policy), acts, 8, 4096) as made:
        parts = [each for out in reference.read(made.output) if out for each in told(out)]
        lost, lives = 0, any(what == "die" for what, _ in acts)
        for which, stream in enumerate(STREAMS):
            mine = [each for each in parts if each.input == which]
            expected = mine[0].seq if mine and lives else 0  # who dies before its first frame begins anew
            for each in mine:
                assert each.seq == expected, "neither a hole nor twice"
                assert each.lost or each.payload == stream[each.seq].payload
                expected += each.lost or 1
                lost += each.lost
            mine_lost = sum(each.lost for each in mine)
            assert lives or lost_of(made, which) == mine_lost
        assert lives or made.inlet._status().counters["gap_frames"] == lost


@settings(max_examples=60)
@given(acts, st.integers(2, 4))
def test_a_lossy_partition_is_whole_or_declared(acts: list[Act], of: int) -> None:
    stream = STREAMS[0]
    spec = spec_of(1, policy="lossy", key_bytes=4, key_of=of, key_take=(0,))
    with rig([stream], spec, [act for act in acts if act[0] != "1"], 8, 4096) as made:
        found = reference.read(made.output)
        wanted = reference.single(reference.partition(stream, 0, 4, of, (0,)))
        assert len(found) == COUNT
        assert all(out is None or out == whole for out, whole in zip(found, wanted, strict=True))
        assert any(out is not None and out.payload == NONE for out in wanted)
