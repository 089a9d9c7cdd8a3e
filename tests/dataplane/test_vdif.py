"""VDIF headers: to bytes and back, held against the baseband package, which read them independently of us."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane import vdif
from halftrack_dataplane.vdif import Header, Numbering, VdifError, epoch_s, unix_s

_HEADERS = st.builds(
    Header,
    seconds=st.integers(0, (1 << 30) - 1),
    epoch=st.integers(0, 63),
    frame=st.integers(0, (1 << 24) - 1),
    frame_bytes=st.integers(5, (1 << 24) - 1).map(lambda words: words * 8),
    thread=st.integers(0, 1023),
    channels=st.integers(0, 31).map(lambda power: 1 << power),
    bits=st.integers(1, 32),
    station=st.integers(0, 65535),
    complex_data=st.booleans(),
    invalid=st.booleans(),
    legacy=st.booleans(),
    version=st.integers(0, 7),
)


@given(_HEADERS)
def test_a_header_is_what_it_was_made_from(header: Header) -> None:
    data = header.to_bytes()
    assert len(data) == header.header_bytes
    assert Header.parse(data) == header
    assert Header.parse(data + b"samples" * 5) == header


@given(_HEADERS)
def test_baseband_reads_the_same(header: Header) -> None:
    from baseband.vdif.header import VDIFHeader

    words = np.frombuffer(header.to_bytes(), "<u4").tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = VDIFHeader(words, verify=False)
    assert theirs["seconds"] == header.seconds
    assert theirs["ref_epoch"] == header.epoch
    assert theirs["frame_nr"] == header.frame
    assert theirs["frame_length"] * 8 == header.frame_bytes
    assert theirs["thread_id"] == header.thread
    assert 1 << theirs["lg2_nchan"] == header.channels
    assert theirs["bits_per_sample"] + 1 == header.bits
    assert theirs["station_id"] == header.station
    assert bool(theirs["complex_data"]) is header.complex_data
    assert bool(theirs["invalid_data"]) is header.invalid
    assert bool(theirs["legacy_mode"]) is header.legacy
    assert theirs["vdif_version"] == header.version


@pytest.mark.parametrize("name", ["SAMPLE_VDIF", "SAMPLE_AROCHIME_VDIF", "SAMPLE_BPS1_VDIF", "SAMPLE_MWA_VDIF"])
def test_of_real_recordings_we_see_what_baseband_sees(name: str) -> None:
    import baseband.data
    from astropy.units import Hz
    from baseband import vdif as theirs

    path = getattr(baseband.data, name)
    with open(path, "rb") as file:
        header = Header.parse(file.read(32))
    with theirs.open(path, "rb") as opened:
        seen = opened.read_header()
    assert header.frame_bytes == seen.frame_nbytes
    assert header.header_bytes == seen.nbytes
    assert (header.bits, header.channels, header.complex_data) == (seen.bps, seen.nchan, seen.complex_data)
    if seen.edv in (1, 3):
        assert header.per_second == seen.frame_rate.to_value(Hz)
    else:
        assert header.per_second == 0
    numbering = Numbering(header.per_second or 25600)
    assert numbering.time_ns(header) / 1e9 == pytest.approx(
        seen.get_time(frame_rate=numbering.per_second * Hz).unix, abs=1e-6
    )


@given(_HEADERS, st.integers(1, 1 << 20), st.integers(1, 1024))
def test_numbers_follow_threads_then_frames_then_seconds(header: Header, per_second: int, threads: int) -> None:
    numbering = Numbering(per_second, threads)
    if header.frame >= per_second or header.thread >= threads:
        with pytest.raises(VdifError, match="does not fit"):
            numbering.number(header)
        return
    number = numbering.number(header)
    rest, thread = divmod(number, threads)
    second, frame = divmod(rest, per_second)
    assert (thread, frame) == (header.thread, header.frame)
    assert second == epoch_s(header.epoch) + header.seconds
    assert 0 <= number < 1 << 62
    assert numbering.time_ns(header) == unix_s(second) * 10**9 + frame * 10**9 // per_second


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "16 bytes at least, and here are 0"),
        (bytes(15), "here are 15"),
        (bytes(32), "no VDIF"),
        (Header(0, 0, 0, 96).to_bytes()[:20], "has 32 bytes, and here are 20"),
    ],
)
def test_what_is_no_header_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(VdifError, match=reason):
        Header.parse(data)


@pytest.mark.parametrize("frame_bytes", [0, 32, 97, (1 << 24) * 8])
def test_lengths_that_no_frame_has_are_refused(frame_bytes: int) -> None:
    with pytest.raises(VdifError, match="multiple of 8"):
        Header(0, 0, 0, frame_bytes).to_bytes()


@pytest.mark.parametrize(("per_second", "threads"), [(0, 1), (1, 0), (1, 1025), (1 << 24, 128), ((1 << 24) + 1, 1)])
def test_streams_that_cannot_be_are_refused(per_second: int, threads: int) -> None:
    with pytest.raises(VdifError, match="no VDIF stream"):
        Numbering(per_second, threads)


@given(st.integers(0, 63))
def test_epochs_are_half_years(epoch: int) -> None:
    from datetime import UTC, datetime

    assert datetime.fromtimestamp(unix_s(epoch_s(epoch)), UTC) == datetime(
        2000 + epoch // 2, [1, 7][epoch % 2], 1, tzinfo=UTC
    )
    assert vdif.EPOCHS == 64
