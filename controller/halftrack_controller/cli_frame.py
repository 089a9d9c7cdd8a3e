"""What all verbs of `halftrack` share: how they are declared, how they speak, and how they end. No verb is in here.

A verb prints its result on standard output (text, or JSON with `-o json`), everything else on standard error, and returns its exit
status. Errors become one clear line and what to do, never a traceback.
"""

import dataclasses
import enum
import io
import json
import os
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from halftrack_controller.quantities import age_text, duration_ms
from halftrack_model.errors import HalftrackError, HostFault, Refused

if TYPE_CHECKING:
    from rich.console import Console

    from halftrack_controller.operator_client import OperatorClient

T = TypeVar("T")
DONE, ERROR, PENDING, BLOCKED = 0, 1, 2, 3
INTERRUPTED = 130  # what shells make of SIGINT
EXIT_STATUS = "Exit status: 0 nothing to do, or done; 2 changes are pending; 3 blocked; 1 error."
CONFIG_VARIABLE = "HALFTRACK_CONFIG"
NEAR_MS = (
    30 * 86_400_000
)  # a certificate that ends within a month is told at each verb: renewing it takes a person who may be away
WIDE = 200  # columns when nobody watches: what reads us must not meet a wrapped line

_HINTS: Mapping[str, str] = {
    "unreachable": "Is the controller running, is it this galaxy's, and does its address in the operator's config.json lead "
    "there from here? What runs on hosts goes on without it.",
    "unimplemented": "Something else listens there, or another version: the endpoint in the operator's config.json is the "
    "controller's session port.",
    "permission-denied": "The operator's certificate does not belong to this controller's galaxy: check --config.",
    "certificate-over": "Its owner has the galaxy's controller/ folder, and needs no key of yours for a fresh one: "
    "`halftrack galaxy renew STATE --operator operator.pem`.",
    "no-config": f"Pass --config DIR or set {CONFIG_VARIABLE}.",
}


class Terminal:
    """Where a verb speaks, and how it reaches the controller."""

    def __init__(self, output: str, config: str | None) -> None:
        self.form, self.json = output, output == "json"
        self._ascii = (
            "utf" not in (sys.stdout.encoding or "").lower()
        )  # JSON has escapes for what the output cannot spell
        self.config = config

    @cached_property
    def out(self) -> "Console":
        """Standard output."""
        from rich.console import Console

        width = None if sys.stdout.isatty() else WIDE
        return Console(markup=False, highlight=False, emoji=False, width=width)

    @cached_property
    def notes(self) -> "Console":
        """Standard error."""
        from rich.console import Console

        return Console(stderr=True, markup=False, highlight=False, emoji=False)

    def client(self) -> "OperatorClient":
        """A connection to the controller, as the operator that --config names."""
        from halftrack_controller.operator_client import OperatorClient

        if not self.config:
            raise Refused("no-config", "which galaxy? Nothing names the operator's folder that `galaxy init` made")
        client = OperatorClient.from_config(Path(self.config))
        self.note_end(client.ends_ms)
        return client

    def note_end(self, certificate_ends_ms: int) -> None:
        """Say in time when the operator's certificate ends; 0: not known. By this machine's clock: for people."""
        left_ms = certificate_ends_ms - time.time_ns() // 1_000_000
        if 0 < left_ms < NEAR_MS:
            self.note(
                f"the operator's certificate is good for {age_text(left_ms)} more: have it renewed with "
                "`halftrack galaxy renew STATE --operator operator.pem`"
            )

    def result(self, value: Any, *texts: Any) -> None:
        """The verb's result: `value` as JSON, or `texts` (whatever rich can print) for people."""
        if self.json:
            print(json.dumps(plain(value), indent=2, ensure_ascii=self._ascii))
            return
        for text in texts:
            if isinstance(text, str) and text.isprintable():  # needs nothing of rich, which is slow to import
                print(text)
            else:
                self.out.print(text, soft_wrap=isinstance(text, str))

    def line(self, value: Any) -> None:
        """One JSON value on one line, at once: for whoever follows a watch."""
        click.echo(json.dumps(plain(value), ensure_ascii=self._ascii))
        sys.stdout.flush()

    @contextmanager
    def watching(self) -> Iterator[Callable[[Any, Any], None]]:
        """A way to show a value again and again: in place where a person watches, one after the other elsewhere."""
        if self.json or not self.out.is_terminal:
            yield lambda value, text: self.line(value) if self.json else self.out.print(text)
            return
        from rich.live import Live

        with Live(console=self.out, auto_refresh=False) as live:
            yield lambda _, text: live.update(text, refresh=True)

    def looks(self, look: Callable[[], T], every_s: float) -> Iterator[T]:
        """What `look` sees, again and again. A controller that goes away meanwhile is waited for, which is told once."""
        yield look()
        away = False
        while True:
            time.sleep(every_s)
            try:
                seen = look()
            except HostFault as error:
                if error.reason != "unreachable":
                    raise
                if not away:
                    self.note("the controller does not answer; hosts go on without it")
                away = True
                continue
            away = False
            yield seen

    def note(self, text: str) -> None:
        """Something for people that is not the result."""
        if not self.json:
            self.notes.print(text, soft_wrap=True)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """While something takes its time: a spinner where a person watches, a line elsewhere."""
        if self.json or not self.notes.is_terminal:
            self.note(text)
            yield
            return
        with self.notes.status(text):
            yield
        self.note(text)


def plain(value: Any) -> Any:
    """`value` as JSON can say it."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return value


# ----------------------------------------------------------------------------------------------------------- declaring verbs


class Verb(click.Command):
    """A command whose help ends with examples and the exit statuses."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            formatter.write("".join(f"  {example}\n" for example in self.examples))
        formatter.write_paragraph()
        formatter.write_text(EXIT_STATUS)


def verb(
    group: click.Group,
    name: str,
    *examples: str,
    online: bool = True,
    shaped: bool = True,
    forms: Sequence[str] = ("text", "json"),
) -> Callable[[Callable[..., int]], click.Command]:
    """Declare a verb of `group`. It gets a Terminal first; `online` gives it --config, `shaped` gives it -o.

    `forms` are what -o can be; a verb with more than the usual two looks at `Terminal.form`.
    """

    def declare(work: Callable[..., int]) -> click.Command:
        def run(output: str = "text", config: str | None = None, **options: Any) -> int:
            outer = click.get_current_context().find_root().params.get("config")
            return work(Terminal(output, config or outer or os.environ.get(CONFIG_VARIABLE)), **options)

        run.__doc__, run.__name__ = work.__doc__, work.__name__
        run.__click_params__ = list(getattr(work, "__click_params__", []))  # type: ignore[attr-defined]
        if shaped:
            choice = click.Choice(forms)
            click.option("-o", "--output", type=choice, default="text", show_default=True, help="Form of the result.")(
                run
            )
        if online:
            click.option("--config", metavar="DIR", help=f"The operator's folder [env: {CONFIG_VARIABLE}].")(run)
        declared = click.command(name, cls=Verb, examples=examples)(run)
        group.add_command(declared)
        return declared

    return declare


class Duration(click.ParamType[int]):
    """A duration such as 30s or 24h, as whole seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            seconds = duration_ms(str(value)) // 1000
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return seconds or self.fail("shorter than a second", param, ctx)


class Program(click.Group):
    """The whole program: ends with our exit statuses (click's own for a usage error would say "changes are pending").

    A family of verbs is declared when one of them is asked for: what the others need takes longer to import than most verbs to run.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._families: dict[str, Callable[[Program], None]] = {}

    def family(self, *verbs: str) -> Callable[[Callable[["Program"], None]], Callable[["Program"], None]]:
        """What declares these verbs, at the top level of the program."""

        def declare(family: Callable[[Program], None]) -> Callable[[Program], None]:
            self._families.update(dict.fromkeys(verbs, family))
            return family

        return declare

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, by name."""
        return sorted(self._families)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, declared now unless it is already."""
        if cmd_name in self._families and cmd_name not in self.commands:
            self._families[cmd_name](self)
        return super().get_command(ctx, cmd_name)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit; with `standalone_mode=False` return as click does."""
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read at its import: our own error says it in one line
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # an arrow becomes a question mark, and not a traceback
        try:
            status = super().main(args, "halftrack", complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            sys.exit(ERROR)
        except (click.Abort, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has nowhere to go
            if not isinstance(error, BrokenPipeError):  # whoever read us has seen enough
                click.echo(f"error: {error.filename or 'standard output'}: {error.strerror}", err=True)
            sys.exit(ERROR)
        except HalftrackError as error:
            _fail(error)
        sys.exit(status if isinstance(status, int) else DONE)


class Blocked(HalftrackError):  # noqa: N818 - reads as what it is at the place where it is raised
    """What was asked for is valid and must wait, or be done another way: exit status 3."""


def _fail(error: HalftrackError) -> NoReturn:
    click.echo(f"error: {error.message}", err=True)
    if hint := _HINTS.get(error.reason):
        click.echo(hint, err=True)
    sys.exit(BLOCKED if isinstance(error, Blocked) else ERROR)
