"""`stream tap` without a sink: frames shown as lines, or whole frames into a file of the operator's own."""

import os
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from halftrack_controller.cli_frame import DONE, Terminal
from halftrack_model.errors import HostFault, Refused
from halftrack_proto.shown import Shown, ShownFrame, WatchRequest

_LENGTH = struct.Struct("<I")  # what `halftrack-stream write --framed` and `replay` read


def look(terminal: Terminal, asked: WatchRequest, text: bool, record: Path | None) -> int:
    """Show or record frames until enough have come, the host ends it, or Ctrl-C."""
    with terminal.client() as client, closing(client.watch_stream(asked)) as shown:
        if record is None:
            for each in _told(terminal, shown):
                for frame in each.frames:
                    _show(terminal, frame, text)
        else:
            _record(terminal, shown, record)
    return DONE


def _told(terminal: Terminal, shown: Iterator[Shown]) -> Iterator[Shown]:
    """What is shown, while what was missed and why it ends is told beside it."""
    for each in shown:
        if each.missed:
            terminal.note(f"{each.missed} frames were missed: they came faster than they could be shown")
        yield each
        if each.problem:
            terminal.note(each.problem)


def _show(terminal: Terminal, frame: ShownFrame, text: bool) -> None:
    if terminal.json:
        terminal.line(frame)
        return
    stamp = time.strftime("%H:%M:%S", time.localtime(frame.timestamp_ns // 10**9))
    head = f"{frame.seq:>10}  {stamp}.{frame.timestamp_ns % 10**9 // 1000:06}"
    if frame.gap:
        terminal.out.print(f"{head}  gap: {frame.gap} frames are declared lost", soft_wrap=True)
        return
    cut = "…" if len(frame.payload) < frame.size_bytes else ""
    shown = frame.payload.decode(errors="replace") if text else frame.payload.hex(" ", 4)
    terminal.out.print(f"{head}  {frame.size_bytes:>8} B  {_printable(shown)}{cut}", soft_wrap=True)


def _printable(text: str) -> str:
    """A stream's bytes must not drive the operator's terminal."""
    return "".join(each if each.isprintable() else "·" for each in text)


def _record(terminal: Terminal, shown: Iterator[Shown], path: Path) -> None:
    count = size = 0
    with _new_file(path) as file:
        try:
            for each in _told(terminal, shown):
                for frame in each.frames:
                    if frame.gap:
                        terminal.note(f"frames {frame.seq} to {frame.seq + frame.gap - 1} are declared lost")
                        continue
                    if len(frame.payload) < frame.size_bytes:
                        raise Refused(
                            "frame-too-large",
                            f"frame {frame.seq} has {frame.size_bytes} bytes, more than is shown of one: record with a sink "
                            "(`halftrack stream tap … --product`)",
                        )
                    file.write(_LENGTH.pack(frame.size_bytes))
                    file.write(frame.payload)
                    count, size = count + 1, size + frame.size_bytes
        except KeyboardInterrupt:
            terminal.note("stopped")
    value = {"file": str(path), "frames": count, "bytes": size}
    terminal.result(
        value, f"{count} frames, {size} bytes in {path}; read it with `halftrack-stream write RING --framed < {path}`"
    )


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that was not there before, durable when this ends."""
    try:
        with path.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise Refused("exists", f"{path} is there already and is not overwritten") from None
    except OSError as error:
        raise HostFault("cannot-write", f"{path}: {error.strerror}") from None
