"""The verbs that put a stream into a file and back: `dump` and `replay`. The format is recording.py's."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from halftrack_dataplane.frames import RingError
from halftrack_dataplane.intake import Intake
from halftrack_dataplane.recording import Origin, Record, RecordingDamaged, RecordingReader, RecordingWriter
from halftrack_dataplane.ring import Ring
from halftrack_dataplane.ring_writer import Writer
from halftrack_dataplane.stream_cli_frame import (
    DONE,
    ERROR,
    SECONDS,
    Blocked,
    Failed,
    Program,
    Progress,
    Stop,
    Terminal,
    size_text,
    stoppable,
    verb,
)
from halftrack_dataplane.stream_cli_rings import (
    Full,
    Losses,
    Policy,
    creation_options,
    full_option,
    joined,
    opened,
    start_option,
    timeout_option,
)

LOOK_S = 0.1  # how late --seconds may end a recording of a stream that stands still
BATCH_FRAMES, BATCH_BYTES = 1024, 1 << 20  # what a replay holds in hand at most, but for a single frame that is larger


def declare(program: Program) -> None:
    """Add the verbs to the program."""
    _declare_dump(program)
    _declare_replay(program)


# ------------------------------------------------------------------------------------------------------------------- dump


@dataclass(frozen=True, slots=True)
class Limits:
    """When a recording is complete: after so many frames or seconds; a wait for a frame beyond `timeout_s` cuts it short."""

    count: int | None
    seconds: float | None
    timeout_s: float | None
    stop: Stop


@click.argument("ring")
@click.argument("file", type=click.Path(path_type=Path))
@start_option
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N frames.")
@click.option("--seconds", type=SECONDS, metavar="S", help="End after S seconds.")
@timeout_option
@click.option(
    "--policy",
    type=click.Choice(["lossless", "lossy"]),
    default="lossless",
    show_default=True,
    help="Hold the writer up, or be overrun.",
)
@click.option("--verify", is_flag=True, help="Compare checksums; what does not match is left out.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def dump(
    terminal: Terminal,
    ring: str,
    file: Path,
    start: str,
    count: int | None,
    seconds: float | None,
    timeout: float | None,
    policy: Policy,
    verify: bool,
    force: bool,
) -> int:
    """Record RING's frames in FILE, until --count, --seconds or Ctrl-C.

    FILE appears when it is complete and on the disk, however the recording ends; until then it is FILE.part, and stays that
    if the disk is full or the machine dies: `replay` reads it up to there.
    """
    if file.exists() and not force:
        raise Failed(f"{file} exists; choose another name, or --force to replace it")
    with (
        Ring.open(ring) as source,
        joined(source, start=start, policy=policy, name="dump", verify=verify) as reader,
    ):
        origin = Origin(source.label, source.schema, source.frame_bytes, source.generation, time.time_ns())
        intake = Intake(reader, source.capacity_bytes)
        losses = Losses(terminal, intake)
        with (
            RecordingWriter(file, origin, replace=force) as out,
            terminal.progress(f"recording {file}") as progress,
        ):
            try:
                with stoppable() as stop:
                    try:
                        _record(intake, losses, out, Limits(count, seconds, timeout, stop), progress)
                    finally:
                        _finish(terminal, out, losses, progress)
            except OSError as error:
                kept = f"What was recorded until then is in {out.part}, and can be replayed."
                raise Failed(f"{file} cannot be written: {error.strerror}. {kept}") from None
    return ERROR if intake.corrupt else DONE


def _declare_dump(program: Program) -> None:
    """Add the verb to the program."""
    verb(
        program,
        "dump",
        "halftrack-stream dump /dev/shm/adc.ring night.dump --seconds 60",
        "halftrack-stream dump /dev/shm/adc.ring last.dump --start oldest --count 1000 --policy lossy",
    )(dump)


def _record(intake: Intake, losses: Losses, out: RecordingWriter, limits: Limits, progress: Progress) -> None:
    began = heard = time.monotonic_ns()
    end = None if limits.seconds is None else began + int(limits.seconds * 1e9)
    while not limits.stop.asked and (limits.count is None or progress.frames < limits.count):
        taken = intake.take(LOOK_S if end is None else max(0.0, min(LOOK_S, (end - time.monotonic_ns()) / 1e9)))
        now = time.monotonic_ns()
        if taken is None:
            if end is not None and now >= end:
                return
            if limits.timeout_s is not None and now - heard >= limits.timeout_s * 1e9:
                raise Blocked(f"no frame within {limits.timeout_s} s; the recording ends with what came before")
            continue
        heard = now
        losses.tell(taken)
        if taken.gap:
            out.add(taken.seq, taken.epoch, taken.timestamp_ns, now - began, gap=taken.gap)
            continue
        if limits.count is not None:
            taken = taken.first(limits.count - progress.frames)
        size = taken.frame_bytes
        for at in range(taken.count):
            frame = taken.block[at * size : (at + 1) * size]
            out.add(taken.seq + at, taken.epoch, taken.timestamp_ns, now - began, frame)
        progress.add(taken.count, taken.count * size)
        if end is not None and now >= end:
            return


def _finish(terminal: Terminal, out: RecordingWriter, losses: Losses, progress: Progress) -> None:
    out.finish()
    losses.total()
    done = {"file": str(out.path), "frames": progress.frames, "bytes": progress.bytes, "records": out.records}
    terminal.summary(done, f"{out.path}: {progress.frames} frames, {size_text(progress.bytes)}")


# ----------------------------------------------------------------------------------------------------------------- replay


class Pace:
    """When what was recorded is due: each time against the beginning, so that no sleep's lateness adds up."""

    def __init__(self, began_s: float, speed: float | None) -> None:
        self._began_s, self._speed = began_s, speed
        self._first_ns: int | None = None

    def wait_s(self, arrival_ns: int, now_s: float) -> float:
        """How long until what arrived then is due; 0 when it is late."""
        if self._first_ns is None:
            self._first_ns = arrival_ns
        if self._speed is None:
            return 0.0
        return max(0.0, self._began_s + (arrival_ns - self._first_ns) / 1e9 / self._speed - now_s)


def speed_of(text: str) -> float | None:
    """How many times as fast as recorded; None: as fast as it goes."""
    if text == "max":
        return None
    try:
        speed = 1.0 if text == "original" else float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < 1e9:
        raise click.UsageError(f"--speed {text} is none; write original, max, or how many times as fast: 2.0")
    return speed


@click.argument("file", type=click.Path(path_type=Path))
@click.argument("ring")
@click.option("--speed", default="original", show_default=True, metavar="original|max|FACTOR", help="How fast.")
@click.option("--loop", type=click.IntRange(0), default=1, show_default=True, help="How often; 0: until Ctrl-C.")
@full_option
@timeout_option
@creation_options
def replay(
    terminal: Terminal,
    file: Path,
    ring: str,
    speed: str,
    loop: int,
    full: Full,
    timeout: float | None,
    create: bool,
    size: int | None,
    slots: int | None,
) -> int:
    """Write the frames that FILE holds into RING, as far apart as they were recorded.

    A ring that never held a frame gets the recorded sequence numbers; any other goes on with its own. Epochs and times are the
    recorded ones, and what was lost when recording becomes a declared gap. A damaged FILE is replayed up to the damage.
    """
    factor = speed_of(speed)
    with RecordingReader(file) as recording:
        described = {"frame_bytes": recording.origin.frame_bytes, "schema": recording.origin.schema}
        described |= {"label": recording.origin.label, "generation": recording.origin.generation}
        with opened(ring, create, size, slots, **described) as target:
            with target.writer(full=full, name="replay") as writer, terminal.progress("replaying") as progress:
                player = _Player(target, writer, timeout, progress)
                try:
                    _play(recording, player, factor, loop)
                except RecordingDamaged as error:
                    player.flush()
                    raise Failed(f"{error} They were replayed.") from None
                finally:
                    if player.dropped:
                        terminal.note(f"dropped: {player.dropped} frames for want of room, as --full drop says")
            done = {"ring": ring, "frames": progress.frames, "bytes": progress.bytes, "dropped": player.dropped}
            done |= {"first_seq": player.first_seq, "next_seq": target.head}
    terminal.summary(done, f"{progress.frames} frames, {size_text(progress.bytes)}, up to {done['next_seq']}")
    return DONE


def _declare_replay(program: Program) -> None:
    """Add the verb to the program."""
    verb(
        program,
        "replay",
        "halftrack-stream replay night.dump /dev/shm/again.ring --create --size 256MiB",
        "halftrack-stream replay night.dump /dev/shm/again.ring --speed max --full overwrite",
        "halftrack-stream replay night.dump /dev/shm/again.ring --speed 2.0 --loop 0",
    )(replay)


def _play(records: Iterable[Record], player: "_Player", speed: float | None, loops: int) -> None:
    played = 0
    while not loops or played < loops:
        before = player.frames
        player.begin(Pace(time.monotonic(), speed))
        for record in records:
            player.play(record)
        player.flush()
        played += 1
        if player.frames == before and not loops:
            return  # there is nothing to repeat


class _Player:
    """Records on their way into a ring, in batches of what has the same epoch and time and is due."""

    def __init__(self, ring: Ring, writer: Writer, timeout_s: float | None, progress: Progress) -> None:
        self._ring, self._writer, self._timeout_s, self._progress = ring, writer, timeout_s, progress
        self._pace = Pace(0.0, None)
        self._expected: int | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._stamp = (0, 0)
        self._fresh = True
        self.first_seq = ring.head
        self.frames = 0
        self.dropped = 0

    def begin(self, pace: Pace) -> None:
        """From the beginning (again), at this pace."""
        self._pace = pace
        self._expected = None

    def play(self, record: Record) -> None:
        """Write a record when it is due."""
        wait_s = self._pace.wait_s(record.arrival_ns, time.monotonic())
        stamp = (record.epoch, record.timestamp_ns)
        full = len(self._held) >= BATCH_FRAMES or self._held_bytes >= BATCH_BYTES
        jump = self._expected is not None and record.seq != self._expected
        if self._held and (wait_s > 0 or full or jump or record.gap or stamp != self._stamp):
            self.flush()
            wait_s = self._pace.wait_s(record.arrival_ns, time.monotonic())
        if wait_s > 0:
            time.sleep(wait_s)
        self._stamp = stamp
        self._place(record)
        self._expected = record.seq + (record.gap or 1)
        if record.gap:
            self._gap(record.gap)
        else:
            self._held.append(record.payload)
            self._held_bytes += len(record.payload)

    def _place(self, record: Record) -> None:
        """What is missing between two records was lost to the recorder; before the first one nothing was."""
        if self._fresh:
            self._fresh = False
            with suppress(RingError):  # it held frames before: it goes on with its own numbers
                self._writer.start_at(record.seq)
            self.first_seq = self._ring.head
        elif self._expected is not None and record.seq > self._expected:
            self._gap(record.seq - self._expected)

    def _gap(self, count: int) -> None:
        epoch, timestamp_ns = self._stamp
        self._writer.gap(count, epoch=epoch, timestamp_ns=timestamp_ns, timeout_s=self._timeout_s)

    def flush(self) -> None:
        """Write what is in hand."""
        if not self._held:
            return
        epoch, timestamp_ns = self._stamp
        frames, self._held, self._held_bytes = self._held, [], 0
        seqs = self._writer.write_many(frames, epoch=epoch, timestamp_ns=timestamp_ns, timeout_s=self._timeout_s)
        self.frames += len(seqs)
        self.dropped += len(frames) - len(seqs)
        self._progress.add(len(seqs), sum(map(len, frames[: len(seqs)])))
