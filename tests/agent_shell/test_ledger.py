"""Ledger and journal: any prefix recovers, any damage is noticed, no room is said loudly and changes nothing."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halftrack_agent import ledger
from halftrack_agent.events import ForgetSwap, JournalPlan, JournalSwap
from halftrack_agent.journal import Entry, Journal, decoded, encoded, living
from halftrack_agent.ledger import End, Ledger, framed, magic_of, scan
from halftrack_model.errors import HostFault
from halftrack_model.seals import Seal, Sealed
from halftrack_model.swap import Phase, SwapRecord

MAGIC = magic_of("test")
# Entries are JSON: no zero bytes, and a brace at the end.
payloads = st.lists(st.text(max_size=60).map(lambda text: text.encode().replace(b"\0", b"0") + b"}"), max_size=6)


def written(items: list[bytes]) -> bytes:
    return MAGIC + b"".join(framed(number + 1, item) for number, item in enumerate(items))


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """A real refusal by the kernel: the process's limit on file sizes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# invariant: D1 P3
@given(payloads)
def test_every_prefix_recovers_exactly_the_whole_entries(items: list[bytes]) -> None:
    data = written(items)
    ends = [len(written(items[:count])) for count in range(len(items) + 1)]
    for cut in range(len(data) + 1):
        found = scan(data[:cut], MAGIC)
        whole = sum(end <= cut for end in ends[1:])
        assert found.payloads == tuple(items[:whole])
        assert found.end is (End.CLEAN if cut in ends else End.TORN)
        assert found.next_number == whole + 1


# invariant: D1
@given(payloads.filter(bool), st.data())
def test_a_flipped_bit_is_never_executed(items: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(written(items))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    found = scan(bytes(whole), MAGIC)
    assert found.end is End.CORRUPT
    assert found.payloads == tuple(items[: len(found.payloads)])


# invariant: D1
@given(payloads, st.integers(0, 3), st.integers(1, 2000))
def test_sectors_that_never_reached_the_disk_are_a_torn_end(items: list[bytes], sector: int, size: int) -> None:
    """The file has grown, but from some sector on the last entry reads as zeros."""
    start = len(written(items))
    data = written([*items, b"x" * size])
    lost = min(start // 512 + sector + 1, len(data) // 512) * 512
    found = scan(data[: max(start, lost)].ljust(len(data), b"\0"), MAGIC)
    if max(start, lost) < len(data):
        assert (found.end, found.payloads) == (End.TORN, tuple(items))


def test_entries_cannot_be_dropped_or_swapped_unnoticed() -> None:
    frames = [framed(number, b"entry %d" % number) for number in (1, 2, 3)]
    assert scan(MAGIC + frames[0] + frames[2], MAGIC).end is End.CORRUPT
    assert scan(MAGIC + frames[1] + frames[0], MAGIC).end is End.CORRUPT
    assert scan(b"#!/bin/sh\n" + frames[0], MAGIC).end is End.CORRUPT


def test_a_torn_end_is_cut_off_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(written([b"one", b"two"])[:-1])
    book = Ledger(path, "test")
    assert book.recovered == (b"one",)
    assert "cut off" in book.findings[0]
    assert book.append(b"second") == 2
    book.close()
    again = Ledger(path, "test")
    assert (again.recovered, again.findings) == ((b"one", b"second"), ())
    again.close()


# invariant: D1
def test_a_damaged_file_is_set_aside_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    data = bytearray(written([b"one", b"two", b"three"]))
    data[len(written([b"one"])) + 50] ^= 1
    for round_number in (1, 2):
        path.write_bytes(data)
        book = Ledger(path, "test")
        assert book.recovered == ()
        assert book.quarantined == tmp_path / f"a.quarantined.{round_number}"
        assert book.quarantined.read_bytes() == data
        book.append(b"new")
        book.close()


# invariant: D1
def test_a_file_that_the_disk_does_not_give_back_is_set_aside_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sector kept the agent from starting, for ever."""
    path = tmp_path / "a"
    path.write_bytes(written([b"one"]))

    def unreadable(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.files, "from_disk", unreadable)
        book = Ledger(path, "test")
    assert (book.recovered, book.quarantined) == ((), tmp_path / "a.quarantined.1")
    assert "damaged" in book.findings[0]
    book.append(b"new")
    book.close()
    again = Ledger(path, "test")
    assert (again.recovered, again.findings) == ((b"new",), ())
    again.close()


@given(st.integers(0, 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_without_room_nothing_changes_and_it_is_said(tmp_path: Path, room: int) -> None:
    path = tmp_path / "a"
    path.unlink(missing_ok=True)
    book = Ledger(path, "test")
    book.append(b"one")
    with files_no_longer_than(book.size_bytes + min(room, 40 + 299)), pytest.raises(HostFault) as raised:
        book.append(b"y" * 300)
    assert raised.value.reason == "disk-full"
    assert book.append(b"two") == 2  # there is room again
    book.close()
    again = Ledger(path, "test")
    assert (again.recovered, again.findings) == ((b"one", b"two"), ())
    again.close()


def test_after_a_failed_sync_nothing_more_is_appended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a disk that has failed does to the program is `test_lost_disks.py`'s; this one is full, and says so late."""
    book = Ledger(tmp_path / "a", "test")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.os, "fsync", full)
        with pytest.raises(HostFault, match="No space left"):
            book.append(b"one")
    with pytest.raises(HostFault, match="written anew"):
        book.append(b"two")
    book.close()


def test_an_entry_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MAX_ENTRY_BYTES", 10)
    monkeypatch.setattr(ledger, "MAX_LEDGER_BYTES", 150)
    book = Ledger(tmp_path / "a", "test")
    with pytest.raises(HostFault, match="11 bytes"):
        book.append(b"x" * 11)
    book.append(b"x")
    with pytest.raises(HostFault, match="150 bytes"):
        [book.append(b"x") for _ in range(3)]
    book.close()


# -------------------------------------------------------------------------------------------------------------- journal


def record(swap_id: str, number: int) -> SwapRecord:
    return SwapRecord(swap_id, number, 0, Phase.JOINING, 1, -1, 0, 5, 5, 0, "")


def plan(number: int, size: int = 10) -> Sealed:
    return Sealed("halftrack.v1.plan", b"%d " % number + b"p" * size, (Seal("key", b"s" * 64),))


entries = st.lists(
    st.one_of(
        st.integers(0, 9).map(lambda n: JournalPlan(plan(n))),
        st.builds(record, st.sampled_from("abc"), st.integers(0, 9)).map(JournalSwap),
        st.sampled_from("abc").map(ForgetSwap),
    ),
    max_size=12,
)


@given(entries)
def test_entries_survive_their_encoding(items: list[Entry]) -> None:
    assert [decoded(encoded(item)) for item in items] == items


@given(entries, entries)
def test_what_still_counts_does_not_depend_on_when_one_compacts(first: list[Entry], second: list[Entry]) -> None:
    assert living((*living(tuple(first)), *second)) == living((*first, *second))


# invariant: D1 P3
@given(entries)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_the_journal_remembers_across_restarts(tmp_path: Path, items: list[Entry]) -> None:
    (tmp_path / "journal").unlink(missing_ok=True)
    for item in items:
        journal = Journal(tmp_path)
        journal.append(item)
        journal.close()
    journal = Journal(tmp_path)
    assert living(journal.entries) == living(tuple(items))
    journal.close()


def test_the_journal_is_rewritten_before_it_grows_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halftrack_agent.journal.COMPACT_AT_BYTES", 4096)
    journal = Journal(tmp_path)
    for number in range(200):
        journal.append(JournalPlan(plan(number, 500)))
        journal.append(JournalSwap(record("a", number)))
        assert journal.size_bytes < 8192
    journal.close()
    again = Journal(tmp_path)
    assert living(again.entries) == (JournalPlan(plan(199, 500)), JournalSwap(record("a", 199)))
    assert again.findings == ()
    again.close()


# invariant: D1 P3
@pytest.mark.parametrize("before", [0, 2])
def test_a_journal_whose_disk_was_full_too_late_takes_entries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """With nobody's help, as soon as there is room; it had to be started again for that."""

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    known: tuple[Entry, ...] = (JournalPlan(plan(1)), JournalSwap(record("a", 1)))[:before]
    journal = Journal(tmp_path)
    for each in known:
        journal.append(each)
    with monkeypatch.context() as patch:
        patch.setattr(ledger.os, "fsync", full)
        for number in (2, 3):
            with pytest.raises(HostFault, match="No space left"):
                journal.append(JournalPlan(plan(number)))
    assert journal.entries == known
    for number in (4, 5):
        journal.append(JournalPlan(plan(number)))
    wanted = living((*known, JournalPlan(plan(4)), JournalPlan(plan(5))))
    assert living(journal.entries) == wanted
    journal.close()
    again = Journal(tmp_path)
    assert (living(again.entries), again.findings) == (wanted, ())
    again.close()


def test_an_entry_of_a_newer_agent_is_refused_with_what_to_do(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "journal", "journal")
    book.append(b'{"plan":null,"swap":null,"forget":null,"lease":{}}')
    book.close()
    with pytest.raises(HostFault, match="install the version"):
        Journal(tmp_path)
