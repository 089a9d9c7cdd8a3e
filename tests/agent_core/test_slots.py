"""Versions of the agent: whatever a new one does at its starts, the one before comes back, and each start of a trial is counted first."""

from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from halftrack_agent import slots
from halftrack_agent.slots import MAX_ATTEMPTS, MAX_FAILED, Slot, Slots

STEPS = st.lists(st.sampled_from(["start", "stay", "lose", "order 1", "order 2", "order 3", "damage", "install"]), max_size=60)  # fmt: skip


def slot(number: int) -> Slot:
    return Slot(f"sha256:{number:064x}", f"{number}.0.0", ("/agent",))


@dataclass
class Host:
    """A host whose agent may die after any step; `record` is what is on its disk."""

    record: Slots = field(default_factory=lambda: Slots("one"))
    installed: str = "one"
    runs: str = ""
    starts: int = 0  # of the version on trial

    def step(self, word: str) -> None:
        trial = self.record.trial
        match word.split():
            case ["start"]:
                self.record, found = slots.started(self.record, self.installed)
                self.runs = found.digest if found else ""
                on_trial = self.record.trial is not None and self.runs == self.record.trial.slot.digest
                self.starts = self.starts + 1 if on_trial else 0
            case ["stay"] if trial is not None and self.runs == trial.slot.digest:
                self.record, self.starts = slots.stayed(self.record), 0
            case ["lose"] if trial is not None and self.runs == trial.slot.digest:
                self.record, self.starts = slots.gone_back(self.record, "it did not find all"), 0
            case ["order", number]:
                wanted = slot(int(number))
                if slots.wants(self.record, wanted.digest, self.runs):
                    self.record, self.starts = slots.tried(self.record, wanted, ()), 0
            case ["damage"] if self.runs:
                self.record, self.starts = slots.lost(self.record, self.runs), 0
                self.runs = ""
            case ["install"]:
                self.installed += "+"


# invariant: D1
@given(STEPS)
def test_a_trial_has_few_starts_and_what_is_given_up_is_not_tried_again(steps: list[str]) -> None:
    host = Host()
    for word in steps:
        before = host.record
        host.step(word)
        assert host.starts <= MAX_ATTEMPTS
        assert len(host.record.failed) <= MAX_FAILED
        trial = host.record.trial
        assert trial is None or not host.record.has_failed(trial.slot.digest)
        if host.record.committed != before.committed and host.record.installed == before.installed:
            stayed = before.trial is not None and host.record.committed == before.trial.slot
            assert stayed or word == "damage", "only what was on trial comes to stay"


@given(STEPS)
def test_starts_alone_always_come_back_to_what_stayed_last(steps: list[str]) -> None:
    """Bug class: a version that dies at its start, for ever."""
    host = Host()
    for word in steps:
        host.step(word)
    stayed = host.record.committed if host.record.installed == host.installed else None
    for _ in range(MAX_ATTEMPTS + 1):
        host.step("start")
    assert host.record.trial is None
    assert host.runs == (stayed.digest if stayed else "")


def test_another_installed_program_goes_before_what_was_brought() -> None:
    record = slots.stayed(slots.tried(Slots("one"), slot(1), ()))
    assert slots.started(record, "one") == (record, slot(1))
    assert slots.started(record, "two") == (Slots("two"), None)


def test_each_failure_is_told_once() -> None:
    record = slots.failed(Slots("one"), slot(1).digest, "1.0.0", "x" * 1000)
    assert [each.told for each in record.failed] == [False]
    assert len(record.failed[0].reason) == slots.MAX_REASON
    assert all(each.told for each in slots.all_told(record).failed)
    assert replace(slots.all_told(record), failed=()) == Slots("one")
