"""One process of the data plane: `python -m halftrack_dataplane.run SPEC.json` does what the spec's role says, until SIGTERM.

Owns the way from a spec to a role's loop, and from an end to an exit status. Imports only what the role needs: a killed
member must be back in a fraction of a second.
"""

import contextlib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable

from halftrack_dataplane.frames import RingError
from halftrack_dataplane.runspec import SpecError, load_file
from halftrack_dataplane.runtime import EXIT_DONE, EXIT_PROGRAM, EXIT_RING, EXIT_SPEC, Orders, Stop, Unable

MODULES = {
    "source": "source",
    "member": "member",
    "sink": "sink",
    "merge": "merging",
    "bridge-server": "bridge_server",
    "bridge-receiver": "bridge_receiver",
    "inlet": "joining",
    "judge": "judge",
    "keeper": "keeper",
    "spool": "spooling",
}


def main(argv: list[str] | None = None) -> int:
    """Run the spec that the one argument names; the exit status says why it ended."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        return _say(EXIT_SPEC, "usage: python -m halftrack_dataplane.run SPEC.json")
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.ask())
    try:
        orders = Orders(arguments[0])  # before they are read: what comes in between is seen later
        spec = load_file(arguments[0])
        role: Callable[..., None] = importlib.import_module(f"halftrack_dataplane.{MODULES[spec.role]}").run
        role(spec, stop, *([orders] if spec.role == "inlet" else []))
    except SpecError as error:
        return _say(EXIT_SPEC, str(error))
    except Unable as error:
        return EXIT_DONE if error.code == EXIT_DONE else _say(error.code, str(error))
    except RingError as error:
        return _say(EXIT_RING, f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 - whatever a user's program raises ends here, and is told
        traceback.print_exc()
        return _say(EXIT_PROGRAM, "".join(traceback.format_exception_only(error)).strip().replace("\n", " "))
    return EXIT_DONE


def _say(code: int, message: str) -> int:
    """The last line of the log explains the exit: the agent shows it as the instance's detail.

    A log without room for it changes no exit status: what the surroundings did must not look like the program's own fault.
    """
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)
    return code


def outcome(arguments: list[str]) -> int:
    """`main`, as all that this process is for: the exit status, whichever way a program ends, with nothing left unsaid."""
    sys.argv[:] = [__file__, *arguments]
    try:
        status = main(arguments)
    except SystemExit as asked:  # a program's own way to end, and what the interpreter would make of it
        plain = asked.code is None or isinstance(asked.code, int)
        status = int(asked.code or 0) if plain else _say(1, str(asked.code))
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    return status & 0xFF


if __name__ == "__main__":
    os._exit(outcome(sys.argv[1:]))  # a program's own threads must not keep a finished process alive
