"""The agent's notes, of which any byte may have changed: seen, and answered by the note before. And without sums, as versions before read and write them.

The model of each test is what was written last, and what before that: nothing else may ever be read.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_agent import clock, cutoff, files
from halftrack_agent.contact import ContactKeeper
from halftrack_agent.cutoff import Contact
from halftrack_agent.events import JournalPlan
from halftrack_agent.journal import Journal
from halftrack_agent.notes import BEFORE, Note, Notes, clock_of, contact_of, floor_of
from halftrack_agent.places import Places
from halftrack_agent.timekeeping import Floor
from halftrack_agent.wallclock import WallClock
from halftrack_model import canonical
from halftrack_model.seals import Sealed

few = settings(max_examples=60, deadline=None)  # each writes files and syncs them
contacts = st.builds(
    Contact, st.sampled_from(["boot-1", "boot-2"]), st.integers(-1, 10**7), st.integers(0, 10**7), st.integers(0, 10**7)
)
places_of_a_byte = st.integers(0), st.integers(1, 255)


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def flip(path: Path, where: int, bits: int) -> None:
    data = bytearray(path.read_bytes())
    data[where % len(data)] ^= bits
    path.write_bytes(data)


# invariant: D1
@few
@given(st.lists(contacts, min_size=1, max_size=4), st.sampled_from(["", BEFORE]), *places_of_a_byte)
def test_a_note_that_has_changed_is_never_read_and_the_one_before_it_is(
    written: list[Contact], which: str, where: int, bits: int
) -> None:
    with scratch() as folder:
        note = contact_of(folder / "contact")
        for each in written:
            note.write(each)
        path = folder / f"contact{which}"
        if path.exists():
            flip(path, where, bits)
        again = contact_of(folder / "contact")
        found = again.read()
        if which:
            assert (found, again.finding) == (written[-1], "")
        elif len(written) > 1:
            assert (found, again.finding) == (written[-2], "contact was damaged; the one before it is used")
        else:
            assert found is None
            assert again.finding.startswith("contact is damaged; ")
        again.write(written[0])  # of a damaged one nothing is kept: what was read stays the one before
        if not which and len(written) > 1:
            flip(path, where, bits)
            assert contact_of(folder / "contact").read() == written[-2]


# invariant: O1 D1
@few
@given(st.booleans(), st.integers(0, 10**9), st.sampled_from(["contact", "beat"]), *places_of_a_byte)
def test_a_changed_byte_brings_no_host_nearer_to_being_cut_off_by_more_than_a_minute(
    rebooted: bool, away_ms: int, which: str, where: int, bits: int
) -> None:
    """A workload with `stopAfter` must not end for it: beside the note of this minute lies that of the last."""
    with scratch() as folder:
        boot, now_ms = "an earlier boot" if rebooted else clock.boot_id(), clock.boot_ms()
        note, beat = contact_of(folder / "contact"), contact_of(folder / "beat", lasts=False)
        last = Contact(boot, -1, away_ms, now_ms)
        note.write(replace(last, noted_ms=max(0, now_ms - cutoff.NOTE_EVERY_MS)))
        note.write(last)
        beat.write(last)
        flip(folder / which, where, bits)
        keeper = ContactKeeper(contact_of(folder / "contact"), contact_of(folder / "beat", lasts=False), obeys=True)
        found_ms = keeper.look(in_step=False).away_ms
        expected_ms = cutoff.away_ms(cutoff.recovered(last, clock.boot_id(), now_ms), now_ms)
        assert expected_ms - cutoff.NOTE_EVERY_MS <= found_ms <= expected_ms + clock.boot_ms() - now_ms
        assert keeper.look(in_step=True).away_ms == 0


def test_of_a_note_of_which_nothing_is_left_the_controller_has_to_be_heard(tmp_path: Path) -> None:
    """As of one that was lost (ADR 40): another host may run its work by now."""
    note = contact_of(tmp_path / "contact")
    note.write(Contact("boot", 5, 0, 5))
    flip(tmp_path / "contact", 3, 1)
    keeper = ContactKeeper(contact_of(tmp_path / "contact"), contact_of(tmp_path / "beat", lasts=False), obeys=True)
    assert keeper.look(in_step=False).away_ms >= cutoff.UNKNOWN_MS


def test_room_is_made_for_a_note_before_it_is_written(tmp_path: Path) -> None:
    """What a note does not say after a power cut is time that a workload runs beyond its `stopAfter`."""
    asked: list[bool] = []
    keeper = ContactKeeper(
        contact_of(tmp_path / "contact"),
        contact_of(tmp_path / "beat", lasts=False),
        obeys=True,
        room=lambda: asked.append((tmp_path / "contact").exists()),
    )
    keeper.look(in_step=True)
    assert asked == [False]
    assert (tmp_path / "contact").exists()
    keeper.look(in_step=True)
    assert asked == [False], "no more often than it is written"


@few
@given(st.lists(contacts | st.none(), min_size=1, max_size=6), st.booleans())
def test_what_ends_with_the_boot_is_written_over_and_is_the_last_word_all_the_same(
    words: list[Contact | None], sums: bool
) -> None:
    """None: somebody takes the file away."""
    with scratch() as folder:
        beat = contact_of(folder / "contact", lasts=False)
        beat.sums = sums
        numbers = set[int]()
        for word in words:
            if word is None:
                (folder / "contact").unlink(missing_ok=True)
                continue
            for _ in range(2):
                beat.write(word)
            again = contact_of(folder / "contact", lasts=False)
            assert (again.read(), again.finding) == (word, "")
            before = (folder / "contact").stat().st_ino
            beat.write(word)
            numbers.add((folder / "contact").stat().st_ino - before)
            assert len(list(folder.iterdir())) == 1
        assert numbers <= {0}, "no new file for each"


def plan(revision: int) -> JournalPlan:
    return JournalPlan(Sealed("plan", b"%d" % revision, ()))


# invariant: P2 D1
@few
@given(
    st.lists(st.integers(1, 10**18), min_size=1, max_size=4, unique=True),
    st.sampled_from(["", BEFORE]),
    *places_of_a_byte,
)
def test_a_changed_byte_neither_raises_the_floor_nor_lowers_it_below_the_journal(
    revisions: list[int], which: str, where: int, bits: int
) -> None:
    revisions.sort()
    with scratch() as folder:
        journal = Journal(folder)
        for revision in revisions:
            journal.append(plan(revision))
            journal.raise_floor(revision)
        journal.close()
        path = folder / f"revision{which}"
        if path.exists():
            flip(path, where, bits)
        again = Journal(folder)
        assert again.floor in (0, *revisions)
        assert (again.floor == revisions[-1]) == (which == BEFORE)
        assert bool(again.findings) == (which == "")
        again.obeyed(revisions[-1])  # the plan that is found: what an agent does that starts
        again.close()
        healed = Journal(folder)
        assert (healed.floor, healed.findings) == (revisions[-1], ())
        healed.close()


# invariant: C1
@few
@given(st.sampled_from(["", BEFORE]), *places_of_a_byte)
def test_a_changed_byte_never_raises_the_floor_of_the_clock(which: str, where: int, bits: int) -> None:
    """A floor in the future would call every clock wrong until a controller is heard."""
    with scratch() as folder:
        now_ms, boot_ms = clock.wall_ms(), clock.boot_ms()
        note = clock_of(folder / "clock.json")
        for hours in (12, 0):
            note.write(Floor(now_ms - hours * 3_600_000, clock.boot_id(), boot_ms))
        flip(folder / f"clock.json{which}", where, bits)
        wall = WallClock(clock_of(folder / "clock.json"))
        assert wall.problems == ()


# --------------------------------------------------------------------------------------------------- versions before, and after


def read_before(path: Path) -> "Contact | Floor | int":
    """As agents read them that knew of no sums."""
    data = path.read_bytes()
    if path.name == "revision":
        assert re.fullmatch(r"\d{1,19}\n", data.decode())
        return int(data)
    return canonical.decode(Floor, data) if path.name == "clock.json" else canonical.decode(Contact, data)


def test_on_trial_and_before_another_version_begins_they_are_what_every_version_reads(tmp_path: Path) -> None:
    at = Places(tmp_path / "state", tmp_path / "run")
    for folder in (at.state, at.run):
        folder.mkdir()
    for sums, last in ((True, False), (False, True)):  # handing over; and on trial from the start
        notes = Notes(at, sums=sums)
        contact, floor = Contact("boot", 5, 0, 5), Floor(1, "boot", 2)
        for _ in range(2):
            notes.floor.write(7)
            notes.contact.write(contact)
            notes.beat.write(contact)
            notes.clock.write(floor)
        if not last:
            assert files.unsummed(at.contact.read_bytes()) == canonical.encode(contact)
            notes.settle(sums=False)
        found = [read_before(path) for path in (at.state / "revision", at.contact, at.beat, at.clock)]
        assert found == [7, contact, contact, floor]
        assert not list(tmp_path.glob(f"*/*{BEFORE}")), "it would be older than anybody thinks once others have written"
    after = Notes(at, sums=True)
    after.settled(sums=True)
    assert [note.read() for note in (after.floor, after.contact, after.beat, after.clock)] == found
    for path in (at.state / "revision", at.contact, at.beat, at.clock):
        assert files.summed(files.unsummed(path.read_bytes())) == path.read_bytes(), "who stays gives them sums"
    assert after.findings == ()


def test_a_damaged_note_is_told_and_mended_when_an_agent_starts(tmp_path: Path) -> None:
    at = Places(tmp_path, tmp_path)
    notes = Notes(at, sums=True)
    for wall_ms in (1, 2):
        notes.clock.write(Floor(wall_ms, "boot", 2))
    flip(at.clock, 3, 1)
    again = Notes(at, sums=True)
    assert again.clock.read() == Floor(1, "boot", 2)
    assert again.findings == ("clock.json was damaged; the one before it is used",)
    again.settled(sums=True)
    mended = Notes(at, sums=True)
    assert mended.clock.read() == Floor(1, "boot", 2)
    assert mended.findings == ()


def test_what_is_no_number_is_no_floor(tmp_path: Path) -> None:
    note: Note[int] = floor_of(tmp_path)
    for text in (b"", b"nine\n", b"12345678901234567890\n", b"1 2\n", b"7", b"7\n\n"):
        (tmp_path / "revision").write_bytes(text)
        found = note.read()
        assert found == (7 if text == b"7" else None)
