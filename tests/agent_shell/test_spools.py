"""The folders of a host's spools: seen, taken away whole, and finished with by the next agent where one died in between."""

from pathlib import Path

from halftrack_agent.spools import Spools
from tests.agent_shell.test_agent import until


def test_folders_are_seen_and_taken_away_whole_also_by_the_next_agent(tmp_path: Path) -> None:
    folder = tmp_path / "spools"
    assert Spools(folder).seen() == frozenset()
    for name in ("one", "two"):
        (folder / name / "spool").mkdir(parents=True)
        (folder / name / "spool" / "segment").write_bytes(b"frames")
    spools = Spools(folder)
    assert spools.seen() == {"one", "two"}
    spools.remove("one")
    assert spools.seen() == {"two"}
    spools.remove("one")  # said again: nothing happens
    until(lambda: sorted(path.name for path in folder.iterdir()) == ["two"], "it is gone from the disk")
    (folder / "two").rename(folder / ".going-two")  # an agent that died in the middle of it
    assert Spools(folder).seen() == frozenset()
    until(lambda: not list(folder.iterdir()), "the next one finishes")
