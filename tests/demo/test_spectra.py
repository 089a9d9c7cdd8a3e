"""The demo's releases: real recordings, a state that survives hand-over, a sink that survives being killed."""

import importlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from baseband import dada, data, guppi, vdif
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.demo.check import Reference
from examples.spectra import player, recorder
from halftrack_dataplane.frames import Cut, Frame

VERSIONS = ("1.0.0", "1.1.0", "1.2.0")
FRAMES = 48


@pytest.fixture(scope="session")
def blocks():
    return player.blocks(player.recordings())


def spectrometer(version):
    module = importlib.import_module(f"examples.spectra.spectrometer_{version.replace('.', '_')}")
    return module.Spectrometer({"raise_after": 10_000})


def frame(blocks, seq):
    return Frame(seq, 0, 0, bytes(blocks[seq % len(blocks)]))


# -------------------------------------------------------------------------------------------------------- recordings


def test_the_corrupt_recording_is_refused_frame_by_frame_and_the_others_go_on():
    found = {recording.name: recording for recording in player.recordings()}
    assert found["sample_drao_corrupted.vdif"].refused == 10
    assert found["sample_drao_corrupted.vdif"].frames == 0
    assert sum(recording.refused for recording in found.values()) == 10
    assert found["sample.vdif"].frames == 16
    assert player.Player({}).counters() == {"refused": 10}


def test_samples_are_what_basebands_own_stream_readers_decode():
    """Frame by frame (ours) and as a stream (baseband's) are two ways through its code."""
    with dada.open(data.SAMPLE_DADA, "rs") as stream:
        whole = np.ascontiguousarray(stream.read()).view(np.float32).ravel()
    np.testing.assert_array_equal(player.decoded("dada", Path(data.SAMPLE_DADA)).samples, whole)
    with guppi.open(data.SAMPLE_PUPPI, "rs") as stream:
        whole = np.ascontiguousarray(stream.read()).view(np.float32).ravel()
    ours = player.decoded("guppi", Path(data.SAMPLE_PUPPI)).samples
    np.testing.assert_array_equal(ours, whole[: len(ours)])
    with vdif.open(data.SAMPLE_VDIF, "rs") as stream:
        threads = stream.read()  # time by thread; in the file, threads follow each other frame by frame
    ours = player.decoded("vdif", Path(data.SAMPLE_VDIF)).samples
    assert sorted(np.unique(ours)) == sorted(np.unique(threads))
    assert ours.sum(dtype=np.float64) == threads.sum(dtype=np.float64)


def test_a_damaged_frame_in_the_middle_of_a_good_file_costs_only_itself(tmp_path):
    path = tmp_path / "damaged.vdif"
    shutil.copy(data.SAMPLE_VDIF, path)
    content = bytearray(path.read_bytes())
    length = 5032
    content[3 * length + 20] ^= 0xFF  # the sync pattern of the fourth frame's extended header
    path.write_bytes(content)
    whole = player.decoded("vdif", Path(data.SAMPLE_VDIF))
    damaged = player.decoded("vdif", path)
    assert (damaged.frames, damaged.refused) == (15, 1)
    np.testing.assert_array_equal(damaged.samples, np.delete(whole.samples.reshape(16, -1), 3, axis=0).ravel())


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=6000), st.integers(0, 80_512))
def test_whatever_is_in_a_recording_decoding_ends_and_never_crashes(noise, at):
    content = bytearray(Path(data.SAMPLE_VDIF).read_bytes()[:20_000])
    content[at % len(content) : at % len(content) + len(noise)] = noise
    memory = os.memfd_create("recording")
    try:
        os.write(memory, content)
        path = Path(f"/proc/self/fd/{memory}")
        found = player.decoded("vdif", path)
        assert found.frames + found.refused >= 1
    finally:
        os.close(memory)


# ------------------------------------------------------------------------------------------------------ spectrometer


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, FRAMES - 1), st.sampled_from(VERSIONS)), max_size=6), st.sampled_from(VERSIONS)
)
def test_handing_state_over_never_changes_an_output(blocks, handovers, version):  # invariant: S1
    """Cut at any frames, to any releases: each output is its release's own, except one suppressed after a mid-window change."""
    reference = Reference(blocks)
    changes = dict(handovers)
    member, outputs, suppressed = spectrometer(version), [], 0
    for seq in range(FRAMES):
        if seq in changes:
            state = member.snapshot()
            same = changes[seq] == version
            version = changes[seq]
            member = spectrometer(version)
            suppressed = max(suppressed if same else 0, member.restore(state, same_release=same))
        output = member.process(frame(blocks, seq))
        assert (output is not None) == (seq % 4 == 3)
        if output is not None:
            if suppressed:
                suppressed -= 1
            else:
                outputs.append((seq // 4, version, output))
    for number, label, output in outputs:
        assert output == reference.output(number, label), number


def test_the_broken_release_raises_after_its_frames(blocks):
    module = importlib.import_module("examples.spectra.spectrometer_1_2_0")
    member = module.Spectrometer({"raise_after": 5})
    for seq in range(5):
        member.process(frame(blocks, seq))
    with pytest.raises(ArithmeticError, match="frame 5"):
        member.process(frame(blocks, 5))


def test_a_payload_may_lie_anywhere_in_memory(blocks):
    """In the ring it does: results must not depend on its alignment."""
    first, second = spectrometer("1.1.0"), spectrometer("1.1.0")
    for seq in range(4):
        payload = bytes(blocks[seq])
        shifted = memoryview(bytearray(b"\0" * 4 + payload))[4:]
        one = first.process(Frame(seq, 0, 0, payload))
        other = second.process(Frame(seq, 0, 0, shifted))
    assert one == other


# ---------------------------------------------------------------------------------------------------------- recorder


def records(folder):
    return [(record.seq, record.epoch, record.gap, record.payload) for record in recorder.recorded(folder)]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=20), st.integers(1, 300))
def test_a_torn_end_is_cut_off_and_asked_for_again(tmp_path_factory, payloads, torn):  # invariant: S1
    folder = tmp_path_factory.mktemp("sink")
    sink = recorder.Recorder({}, str(folder))
    for seq, payload in enumerate(payloads):
        sink.consume(Frame(seq, 1, 0, payload))
    sink.flush()
    segment = recorder.segments(folder)[-1]
    os.truncate(segment, max(0, segment.stat().st_size - torn))
    again = recorder.Recorder({}, str(folder))
    resumed = again.next_seq()
    assert resumed <= len(payloads)
    for seq in range(resumed, len(payloads)):
        again.consume(Frame(seq, 1, 0, payloads[seq]))
    assert records(folder) == [(seq, 1, 0, payload) for seq, payload in enumerate(payloads)]


def test_segments_follow_each_other_and_gaps_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "SEGMENT_BYTES", 300)
    sink = recorder.Recorder({}, str(tmp_path))
    for seq in range(10):
        sink.consume(Frame(seq, 1, 0, b"x" * 100))
    sink.consume(Frame(10, 1, 0, b"", 5))
    assert len(recorder.segments(tmp_path)) > 2
    assert recorder.Recorder({}, str(tmp_path)).next_seq() == 15
    assert [record[0] for record in records(tmp_path)] == list(range(11))


def test_the_owner_table_is_written_when_it_changes(tmp_path):
    sink = recorder.Recorder({}, str(tmp_path))
    first, second = Cut(1, 1, None, 0, "1.0.0"), Cut(2, 2, 100, None, "1.1.0")
    sink.cuts((first,))
    sink.cuts((first,))
    sink.cuts((first, second))
    assert len((tmp_path / "cuts.jsonl").read_text().splitlines()) == 2
