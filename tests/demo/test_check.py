"""The judge must find what is wrong: every kind of error is planted, and must be counted as what it is."""

import dataclasses
import importlib
import random

import pytest

from examples.demo.check import Epoch, Judge, Reference, judged
from examples.spectra import player
from examples.spectra.recorder import Record, Recorder
from halftrack_dataplane.frames import Cut, Frame

OUTPUTS, CUT_AT = 60, 30
EPOCHS = {1: Epoch("1.0.0", 0), 2: Epoch("1.1.0", CUT_AT)}


@pytest.fixture(scope="module")
def blocks():
    return player.blocks(player.recordings())


@pytest.fixture(scope="module")
def reference(blocks):
    return Reference(blocks)


@pytest.fixture(scope="module")
def stream(blocks):
    """A right stream, made by the releases themselves, with the state handed over at the cut."""
    versions = [importlib.import_module(f"examples.spectra.spectrometer_1_{n}_0").Spectrometer({}) for n in (0, 1)]
    records, member = [], versions[0]
    for seq in range(OUTPUTS * 4):
        if seq == CUT_AT * 4:
            versions[1].restore(member.snapshot(), same_release=False)
            member = versions[1]
        output = member.process(Frame(seq, 0, 0, bytes(blocks[seq % len(blocks)])))
        if output is not None:
            number = seq // 4
            records.append(Record(number, 1 if number < CUT_AT else 2, number * 8_000_000, 0, output))
    return records


def counts(reference, records, *, epochs=None, frames_in=OUTPUTS * 4):
    judge = Judge(reference, EPOCHS if epochs is None else epochs)
    for record in records:
        judge.take(record)
    verdict = judge.end(frames_in)
    return verdict.lost, verdict.duplicated, verdict.reordered, verdict.mismatched


def flipped(record, bit):
    payload = bytearray(record.payload)
    payload[bit // 8] ^= 1 << bit % 8
    return record._replace(payload=bytes(payload))


def test_a_right_stream_has_only_zeros(reference, stream):
    assert counts(reference, stream) == (0, 0, 0, 0)


def test_lost(reference, stream):
    assert counts(reference, stream[:10] + stream[13:]) == (3, 0, 0, 0)


def test_lost_at_the_very_end(reference, stream):
    assert counts(reference, stream[:-2]) == (2, 0, 0, 0)
    assert counts(reference, [], frames_in=40) == (10, 0, 0, 0)


def test_lost_at_the_very_beginning(reference, stream):
    assert counts(reference, stream[2:]) == (2, 0, 0, 0)


def test_declared_lost_is_lost(reference, stream):
    gap = stream[20]._replace(gap=4, payload=b"")
    assert counts(reference, [*stream[:20], gap, *stream[24:]]) == (4, 0, 0, 0)


def test_duplicated(reference, stream):
    assert counts(reference, [*stream[:10], stream[9], *stream[10:]]) == (0, 1, 0, 0)
    assert counts(reference, [*stream, stream[0]]) == (0, 1, 0, 0)


def test_reordered(reference, stream):
    swapped = [*stream[:10], stream[11], stream[10], *stream[12:]]
    assert counts(reference, swapped) == (0, 0, 1, 0)


def test_one_flipped_bit_anywhere(reference, stream):
    rng = random.Random(7)
    for _ in range(50):
        at = rng.randrange(OUTPUTS)
        bit = rng.randrange(len(stream[at].payload) * 8)
        wrong = [*stream[:at], flipped(stream[at], bit), *stream[at + 1 :]]
        assert counts(reference, wrong) == (0, 0, 0, 1)


def test_the_wrong_release_at_a_sequence(reference, stream):
    early = {1: Epoch("1.0.0", 0), 2: Epoch("1.1.0", CUT_AT - 1)}
    assert counts(reference, stream, epochs=early)[3] == 1  # an output of 1.0.0 where 1.1.0 owned
    relabelled = [record._replace(epoch=1) for record in stream]
    assert counts(reference, relabelled)[3] == OUTPUTS - CUT_AT
    swapped = {1: Epoch("1.1.0", 0), 2: Epoch("1.0.0", CUT_AT)}
    assert counts(reference, stream, epochs=swapped)[3] == OUTPUTS


def test_an_epoch_that_nobody_owned(reference, stream):
    assert counts(reference, stream, epochs={1: EPOCHS[1]})[3] == OUTPUTS - CUT_AT
    assert counts(reference, stream, epochs={1: EPOCHS[1], 2: Epoch("1.1.0", None)})[3] == OUTPUTS - CUT_AT


def test_a_frame_processed_twice_or_never_shows_in_every_later_output(reference, blocks):
    for order in ([*range(8), 7, *range(8, 40)], [*range(8), *range(9, 41)], [*range(8), 9, 8, *range(10, 40)]):
        member = importlib.import_module("examples.spectra.spectrometer_1_0_0").Spectrometer({})
        outputs = [member.process(Frame(n, 0, 0, bytes(blocks[seq % len(blocks)]))) for n, seq in enumerate(order[:36])]
        records = [Record(n, 1, n, 0, output) for n, output in enumerate(filter(None, outputs))]
        judge = Judge(reference, EPOCHS)
        for record in records:
            judge.take(record)
        assert judge.mismatched == len(records) - 2


def test_the_longest_pause_and_the_pause_at_the_cut(reference, stream):
    late = [
        record._replace(
            arrival_ns=record.arrival_ns + (record.seq >= CUT_AT) * 5_000_000 + (record.seq > 40) * 92_000_000
        )
        for record in stream
    ]
    judge = Judge(reference, EPOCHS)
    for record in late:
        judge.take(record)
    verdict = judge.end(None)
    assert (verdict.cut_pause_ms, verdict.max_output_gap_ms) == (13.0, 100.0)
    assert verdict.releases == {"1.0.0": CUT_AT, "1.1.0": OUTPUTS - CUT_AT}


def test_the_digest_is_of_sequences_and_payloads(reference, stream):
    def digest(records):
        judge = Judge(reference, EPOCHS)
        for record in records:
            judge.take(record)
        return judge.end(None).stream_digest

    assert digest(stream) == digest([record._replace(arrival_ns=5) for record in stream])
    assert digest(stream) != digest(stream[:-1])


def test_from_the_sinks_folder(tmp_path, stream):
    sink = Recorder({}, str(tmp_path))
    sink.cuts((Cut(1, 1, None, 0, "1.0.0"), Cut(2, 2, CUT_AT, None, "1.1.0")))
    for record in stream:
        if record.seq == CUT_AT:
            sink.cuts((Cut(1, 1, None, 0, "1.0.0"), Cut(2, 2, CUT_AT, CUT_AT, "1.1.0")))
        sink.consume(Frame(record.seq, record.epoch, 0, record.payload))
    sink.flush()
    verdict = judged(tmp_path, OUTPUTS * 4)
    assert dataclasses.asdict(verdict) | {
        "lost": 0,
        "duplicated": 0,
        "reordered": 0,
        "mismatched": 0,
    } == dataclasses.asdict(verdict)
    assert (verdict.corrupt_refused, verdict.frames_out, verdict.cuts) == (10, OUTPUTS, 1)
