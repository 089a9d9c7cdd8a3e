"""A stream into an engine, of real processes: a source, a ring, a sink; and frames that tell their number."""

from pathlib import Path

from halftrack_dataplane.runspec import Param, RunSpec
from tests.dataplane.processes import PROGRAM, Host, until
from tests.dataplane.stream_program import frame_of

SIZE = 256


class Stream(Host):
    """Source and sink around one ring. The sink's program is the text of a user's file."""

    def __init__(
        self, folder: Path, program: str, entry: str, *, data: Path, rate_frames_per_s: int = 1000, slots: int = 8192
    ) -> None:
        super().__init__(folder)
        self.source_ring = self.ring("s/source", slots=slots, capacity_bytes=slots * SIZE)
        self._program = folder / "program.py"
        self._program.write_text(program)
        self._entry = entry
        self._data = data
        self.source = RunSpec(
            role="source",
            name="s.source",
            status_path=str(folder / "status/s.source"),
            program=str(PROGRAM),
            entry="stream_program:Counter",
            output_ring=self.path("s/source"),
            params={"rate_bytes_per_s": rate_frames_per_s * SIZE, "frame_bytes": SIZE},
        )

    def sink(self, **params: Param) -> RunSpec:
        """The sink's spec."""
        return RunSpec(
            role="sink",
            name="s.sink",
            status_path=str(self.folder / "status/s.sink"),
            program=str(self._program),
            entry=self._entry,
            input_ring=self.path("s/source"),
            data_dir=str(self._data),
            params=params,
        )

    def count(self, name: str, counter: str) -> int:
        """A counter of a process's status; -1 before it has one."""
        status = self.status(name)
        return -1 if status is None else status.counters.get(counter, -1)

    def seq_out(self, name: str) -> int:
        """The next sequence of a process by its status."""
        status = self.status(name)
        return -1 if status is None else status.seq_out

    def settled_so_far(self, name: str) -> None:
        """Wait until it has consumed something of what was there a moment ago: it is at work."""
        self.settled(name, max(self.source_ring.head - 200, 1), empty=False)

    def settled(self, name: str, last: int, *, empty: bool = True) -> None:
        """Wait until it has consumed all up to `last`, and (`empty`) its engine has taken all."""
        try:
            until(
                lambda: self.seq_out(name) >= last and not (empty and self.count(name, "in_flight") > 0),
                f"{name} at {last}",
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.status(name)}; {self.log(name)[-3000:]}") from None


def assert_whole(found: list[tuple[int, int, bytes]], least: int) -> None:
    """`found` are (seq, gap, payload), at least so many: all sequences from 0 on, in order, once each, nothing lost, every byte as sent."""
    assert [seq for seq, _, _ in found] == list(range(len(found)))
    assert not any(gap for _, gap, _ in found)
    assert all(payload == frame_of(seq, SIZE) for seq, _, payload in found)
    assert len(found) >= least
