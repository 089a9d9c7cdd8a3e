"""What all verbs of `halftrack-stream` share: how they are declared, how they speak, and how they end. No verb is in here.

A verb prints its result on standard output (frames, text, or JSON with `-o json`), everything else on standard error, and returns its
exit status. Errors become one paragraph that says what to do, never a traceback. It looks like `halftrack`, whose code the data plane
may not import.
"""

import dataclasses
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from halftrack_dataplane import frames
from halftrack_dataplane.recording import RecordingError

DONE, ERROR, BLOCKED = 0, 1, 3
INTERRUPTED, TERMINATED = 130, 143  # what shells make of SIGINT and SIGTERM
EXIT_STATUS = "Exit status: 0 done; 3 blocked: no room, or nothing came in time; 1 error; 130 interrupted."
PROGRAM = "halftrack-stream"
WIDE = 200  # columns when nobody watches: what reads us must not meet a wrapped line
REFRESH_S = 0.25

_HINTS: Mapping[type[Exception], str] = {
    frames.RingMissing: f"Make it with `{PROGRAM} create`, or add --create where the verb has it.",
    frames.RingFull: f"`{PROGRAM} top --once` shows which reader lags; --full drop or overwrite does not wait for it.",
    frames.FrameTooLarge: "Cut the frames smaller, or create the ring with a greater --size.",
    frames.WrongLength: "See --frame-bytes of `create` and of this verb.",
    frames.Evicted: "Frames from there on may be gone: go on with --start and that sequence.",
    frames.WriterBusy: "Stop it first; a dead one's place would have been taken.",
}
_SIZES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TB": 10**12,
    "TiB": 1 << 40,
    "": 1,
}


class Failed(Exception):  # noqa: N818 - reads as what it is at the place where it is raised
    """The verb ends here; the message says why and what to do."""

    status = ERROR


class Blocked(Failed):
    """No room, or nothing came in time: exit status 3."""

    status = BLOCKED


class Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C, with another exit status."""


class Terminal:
    """Where a verb speaks."""

    def __init__(self, output: str) -> None:
        self.json = output == "json"
        width = None if sys.stdout.isatty() else WIDE
        self.out = Console(markup=False, highlight=False, emoji=False, width=width)
        self.notes = Console(stderr=True, markup=False, highlight=False, emoji=False)

    def result(self, value: Any, text: Any) -> None:
        """The verb's result: `value` as JSON, or `text` (whatever rich can print) for people."""
        if self.json:
            self.line(value)
        else:
            self.out.print(text, soft_wrap=isinstance(text, str))

    def line(self, value: Any) -> None:
        """One JSON value on one line, at once."""
        click.echo(json.dumps(plain(value), ensure_ascii=False))
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Something for people that is not the result."""
        self.notes.print(text, soft_wrap=True)

    def summary(self, value: Any, text: str) -> None:
        """How it went: JSON on standard output if asked for, else a note where a person watches."""
        if self.json:
            self.line(value)
        elif self.notes.is_terminal:
            self.note(text)

    @contextmanager
    def progress(self, doing: str, *, quiet: bool = False) -> Iterator["Progress"]:
        """Shows how far it is while a person watches."""
        if quiet or not self.notes.is_terminal:
            yield Progress(doing, None)
            return
        with self.notes.status(doing) as status:
            yield Progress(doing, status)


class Stop:
    """Whether somebody asked us to end what we are at, and by which signal."""

    def __init__(self) -> None:
        self.asked = 0


@contextmanager
def stoppable() -> Iterator[Stop]:
    """The first SIGINT or SIGTERM only asks, so that nothing is left half written; the next one ends us at once.

    After it, the exit status is the signal's.
    """
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        stop.asked = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stop.asked:
        raise Terminated if stop.asked == signal.SIGTERM else KeyboardInterrupt


class Progress:
    """Counts frames and bytes, and shows them now and then."""

    def __init__(self, doing: str, status: Status | None) -> None:
        self.frames = 0
        self.bytes = 0
        self._doing, self._status = doing, status
        self._began = self._shown = time.monotonic()

    def add(self, frames_more: int, bytes_more: int) -> None:
        """So many more have passed."""
        self.frames += frames_more
        self.bytes += bytes_more
        if self._status is not None and (now := time.monotonic()) - self._shown > REFRESH_S:
            self._shown = now
            rate = self.bytes / (now - self._began)
            self._status.update(f"{self._doing}: {self.frames} frames, {size_text(self.bytes)}, {size_text(rate)}/s")


def size_bytes(value: str) -> int:
    """Bytes as people write them: 65536, 64KiB, 1.5GiB."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s?([A-Za-z]*)", value.strip())
    if match is None or match[2] not in _SIZES:
        known = ", ".join(filter(None, _SIZES))
        raise click.BadParameter(f"{value!r} is not a size; write a number and one of {known}: 64MiB")
    return int(float(match[1]) * _SIZES[match[2]])


def start_place(value: str) -> str:
    """Where a reader joins: "now", "oldest", a sequence, or @ and a time in ns."""
    if not re.fullmatch(r"now|oldest|@?[0-9]{1,18}", value):
        raise click.BadParameter(
            f"{value!r} is no place to start; write now, oldest, a sequence, or @ and a time in nanoseconds"
        )
    return value


SECONDS = click.FloatRange(min=0)


def plain(value: Any) -> Any:
    """`value` as JSON can say it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def size_text(number: float) -> str:
    """`number` bytes in the largest binary unit that leaves at least one."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if number >= _SIZES[unit]:
            amount = number / _SIZES[unit]
            return f"{amount:.0f}{unit}" if amount == int(amount) else f"{amount:.1f}{unit}"
    return f"{number:.0f}B"


# ----------------------------------------------------------------------------------------------------------- declaring verbs


class Verb(click.Command):
    """A command whose help ends with examples and the exit statuses."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples are written as they are: a wrapped one cannot be pasted."""
        with formatter.section("Examples"):
            formatter.write("".join(f"  {example}\n" for example in self.examples))
        formatter.write_paragraph()
        formatter.write_text(EXIT_STATUS)


def verb(group: click.Group, name: str, *examples: str, **settings: Any) -> Callable[[Callable[..., int]], Verb]:
    """Declare a verb of `group`. It gets a Terminal first, and -o."""

    def declare(work: Callable[..., int]) -> Verb:
        def run(output: str = "text", **options: Any) -> int:
            return work(Terminal(output), **options)

        run.__doc__, run.__name__ = work.__doc__, work.__name__
        run.__click_params__ = list(getattr(work, "__click_params__", []))  # type: ignore[attr-defined]
        choice = click.Choice(["text", "json"])
        click.option("-o", "--output", type=choice, default="text", show_default=True, help="Form of the result.")(run)
        declared = click.command(name, cls=Verb, examples=examples, **settings)(run)
        group.add_command(declared)
        return declared

    return declare


class Program(click.Group):
    """The whole program: ends with our exit statuses, whatever ends it."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit; with `standalone_mode=False` return as click does."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        signal.signal(signal.SIGTERM, _terminated)
        try:
            status = super().main(args, PROGRAM, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except click.ClickException as error:
            error.show()
            status = ERROR
        except (click.Abort, KeyboardInterrupt) as error:
            status = TERMINATED if isinstance(error.__cause__ or error, Terminated) else INTERRUPTED
        except BrokenPipeError:  # whoever read us has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = ERROR
        except (Failed, RecordingError, frames.RingError, OSError) as error:
            status = _told(error)
        sys.exit(status if isinstance(status, int) else DONE)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _told(error: Exception) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), "")
    ended = text if text.endswith((".", "!", "?")) or not hint else f"{text}."
    click.echo(f"error: {ended} {hint}".rstrip(), err=True)
    if isinstance(error, Failed):
        return error.status
    return BLOCKED if isinstance(error, frames.RingFull) else ERROR
