"""The verbs on rollouts: `rollout status`, `pause`, `resume`, `promote` and `abort`."""

from collections.abc import Callable, Iterable

import click

from halftrack_controller import render
from halftrack_controller.cli_frame import BLOCKED, DONE, PENDING, Blocked, Program, Terminal, verb
from halftrack_controller.snapshot import RolloutPhase
from halftrack_model.errors import Refused
from halftrack_proto import messages as said

LOOK_EVERY_S = 0.5  # faster than a person reads, slower than anything that would burden a controller
_STEERS = {
    "pause": (said.Steer.PAUSE, "Take no further step with a rollout. Hosts finish a swap that they already hold."),
    "resume": (said.Steer.RESUME, "Go on with a rollout that was paused."),
    "promote": (said.Steer.PROMOTE, "Let a rollout begin that waits for approval."),
    "abort": (said.Steer.ABORT, "End a rollout: the release before it stays, or comes back. Hosts undo a swap safely."),
}


def declare(program: Program) -> None:
    """Add the verbs to the program."""

    @program.group("rollout")
    def group() -> None:
        """Watch releases on their way to hosts, and steer them."""

    @verb(
        group,
        "status",
        "halftrack rollout status",
        "halftrack rollout status tank.spectra.spectrometer.2 --watch",
        "halftrack rollout status --environment tank -o json",
    )
    @click.argument("rollout", required=False, default="")
    @click.option("--environment", default="", help="Only the rollouts of this environment.")
    @click.option("--watch", is_flag=True, help="Stay until they have ended; with -o json, a line for each change.")
    def status(terminal: Terminal, rollout: str, environment: str, watch: bool) -> int:
        """Show where rollouts stand: one ROLLOUT, or all.

        The exit status speaks of the newest rollout of each vertex: 2 while one is under way, 3 when one needs a person (it waits
        for approval, is paused, or has failed), 0 otherwise.
        """
        with terminal.client() as client:

            def look() -> tuple[said.RolloutEntry, ...]:
                return client.rollouts(rollout, environment)

            entries = _watched(terminal, look) if watch else look()
        if not watch:
            terminal.result(entries, render.rollout_table(entries) if entries else "there is no rollout")
        return standing_of(entries)

    for name in _STEERS:
        _declare_steer(group, name)


def _declare_steer(group: click.Group, name: str) -> None:
    steer, text = _STEERS[name]

    def work(terminal: Terminal, rollout: str) -> int:
        with terminal.client() as client:
            try:
                entry = client.steer(rollout, steer)
            except Refused as error:
                if error.reason == "unknown-rollout":  # a wrong name, which no waiting will mend
                    raise
                raise Blocked(error.reason, error.message) from None
        terminal.result(
            entry, f"{render.rollout_way(entry)} is {entry.phase}" + (f": {entry.reason}" if entry.reason else "")
        )
        return DONE

    work.__doc__ = text
    verb(group, name, f"halftrack rollout {name} tank.spectra.spectrometer.2")(click.argument("rollout")(work))


def standing_of(entries: Iterable[said.RolloutEntry]) -> int:
    """The exit status that the newest rollout of each vertex amounts to."""
    newest = {(entry.environment, entry.graph, entry.vertex): entry for entry in entries}
    phases = {RolloutPhase(entry.phase) for entry in newest.values()}
    if phases & {RolloutPhase.WAITING_APPROVAL, RolloutPhase.PAUSED, RolloutPhase.FAILED}:
        return BLOCKED
    return PENDING if phases & {RolloutPhase.PENDING, RolloutPhase.RUNNING} else DONE


def _watched(terminal: Terminal, look: Callable[[], tuple[said.RolloutEntry, ...]]) -> tuple[said.RolloutEntry, ...]:
    """Look until every rollout has ended."""
    shown: tuple[said.RolloutEntry, ...] | None = None
    with terminal.watching() as show:
        for entries in terminal.looks(look, LOOK_EVERY_S):
            if entries != shown:
                show(entries, render.rollout_table(entries) if entries else "there is no rollout")
            shown = entries
            if all(RolloutPhase(entry.phase).ended for entry in entries):
                break
    return shown or ()
