"""What the person sees: a live picture on a terminal, plain lines anywhere else.

Owns the form only. It is handed a `Picture` and events in words; it never looks at the world itself.
"""

import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

EVENTS = 14
PLAIN_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class RingPicture:
    """A ring at one moment."""

    host: str
    name: str
    head: int
    filled: float  # 0 to 1
    lag: int  # of its slowest reader
    frames_per_s: float


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything at one moment."""

    elapsed_s: float
    of_s: float
    step: str
    swap: str
    daemons: Mapping[str, bool]
    workloads: Mapping[str, tuple[str, ...]]  # by host
    links: Mapping[str, tuple[str, float]]  # what it does to frames, MB/s
    rings: tuple[RingPicture, ...]


class Display(Protocol):
    """Either form."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def tell(self, at_s: float, text: str) -> None:
        """Something happened."""

    def show(self, picture: Picture) -> None:
        """This is how it looks now."""


class Plain:
    """Lines, for logs."""

    def __init__(self) -> None:
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout.flush()

    def tell(self, at_s: float, text: str) -> None:
        """One line."""
        print(f"{at_s:7.2f}  {text}", flush=True)

    def show(self, picture: Picture) -> None:
        """Now and then, one line."""
        if picture.elapsed_s < self._due:
            return
        self._due = picture.elapsed_s + PLAIN_EVERY_S
        links = ", ".join(f"{name} {state} {rate:.1f} MB/s" for name, (state, rate) in picture.links.items())
        fullest = max(picture.rings, key=lambda ring: ring.filled, default=None)
        filled = f"; fullest ring {fullest.host}:{fullest.name} {fullest.filled:.0%}" if fullest else ""
        print(f"{picture.elapsed_s:7.2f}  … {picture.step}; links: {links}{filled}", flush=True)


class Drawn:
    """A picture that is drawn over itself."""

    def __init__(self, console: Console) -> None:
        self._events: deque[Text] = deque(maxlen=EVENTS)
        self._live = Live(console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def tell(self, at_s: float, text: str) -> None:
        """Another line below the picture."""
        style = "red" if text.startswith(("cut", "killed", "kill ")) else "yellow" if "undone" in text.lower() else ""
        self._events.append(Text(f"{at_s:7.2f}  {text}", style=style, overflow="ellipsis", no_wrap=True))

    def show(self, picture: Picture) -> None:
        """Draw."""
        head = Text(f"Halftrack demo   {picture.elapsed_s:5.1f} of {picture.of_s:.0f} s   {picture.step}", style="bold")
        swap = Text(picture.swap or "no swap", style="cyan")
        self._live.update(Group(head, swap, _hosts(picture), _links(picture), _rings(picture), *self._events))


def _hosts(picture: Picture) -> Table:
    table = Table("daemon", "runs", "its workloads", box=None, padding=(0, 2, 0, 0))
    for name, up in picture.daemons.items():
        workloads = picture.workloads.get(name.removeprefix("agent "), ())
        short = "  ".join(workload.removeprefix("spectra.") for workload in workloads)
        table.add_row(name, Text("yes", "green") if up else Text("no", "bold red"), short)
    return table


def _links(picture: Picture) -> Table:
    table = Table("link", "is", "MB/s", box=None, padding=(0, 2, 0, 0))
    for name, (state, rate) in picture.links.items():
        table.add_row(name, Text(state, "green" if state == "good" else "bold red"), f"{rate:6.1f}")
    return table


def _rings(picture: Picture) -> Table:
    table = Table("ring", "on", "head", "frames/s", "lag", "waiting", box=None, padding=(0, 2, 0, 0))
    for ring in picture.rings:
        bar = "█" * round(ring.filled * 20)
        table.add_row(
            ring.name,
            ring.host,
            str(ring.head),
            f"{ring.frames_per_s:.0f}",
            str(ring.lag),
            f"{bar:·<20} {ring.filled:4.0%}",
        )
    return table


def chosen() -> Display:
    """The form that suits where standard output goes."""
    console = Console()
    return Drawn(console) if console.is_terminal else Plain()
