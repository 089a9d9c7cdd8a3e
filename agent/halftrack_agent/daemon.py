"""`halftrack-agent`: puts the parts together, runs them, and leaves in order. Holds no logic of its own."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halftrack_agent import files, identity, lock
from halftrack_agent.places import AGENT_PORT, BRIDGE_PORT, Places
from halftrack_agent.slots import STABLE_S
from halftrack_model import canonical
from halftrack_model.errors import HalftrackError, InvalidInput
from halftrack_model.observed import Observed
from halftrack_proto.gauges import TransferGauge
from halftrack_proto.watchdog import PATIENCE_S, Watchdog, managed

MAX_PORT = 65535  # ZeroMQ takes a larger number modulo 65536, and would listen where no other host looks
MAX_PATIENCE_S = 3600
DISK_LOST_PAUSE_S = 1.0  # as the unit has it: a disk that fails at once again is asked once a second
STATE, RUN = "/var/lib/halftrack-agent", "/run/halftrack-agent"

log = logging.getLogger("halftrack.agent")

if TYPE_CHECKING:
    from halftrack_agent.launching import Launched


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit status: 0 done, 1 an error that says what to do, 2 a wrong command line. `files.DiskLost` is 3."""
    options = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(
        level=options.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    os.umask(
        0o077
    )  # as the unit has it: streams, snapshots and logs are no other user's, whoever starts this and where
    places = Places(Path(options.state).absolute(), Path(options.run).absolute())
    try:
        match options.command:
            case "enrol":
                _enrol(places, options)
            case "status":
                _status(places, options.output)
            case "check":
                _check(places)
            case _:
                _run(places, options, sys.argv[1:] if argv is None else argv)
    except HalftrackError as error:
        print(f"halftrack-agent: {error.message} ({error.reason})", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="halftrack-agent",
        description="The agent of one host: runs what its galaxy's signed plans say.",
        epilog=_example("halftrack-agent run --state /var/lib/halftrack-agent --listen 10.0.0.2"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    examples = {
        "enrol": "halftrack-agent enrol --token-file /root/token",
        "run": "halftrack-agent run --listen 10.0.0.2",
        "status": "halftrack-agent status -o json",
        "check": "halftrack-agent check --state /tmp/copy/state --run /tmp/copy/run",
    }

    def command(name: str, purpose: str) -> argparse.ArgumentParser:
        epilog = _example(examples[name])
        plain = argparse.RawDescriptionHelpFormatter
        return commands.add_parser(name, help=purpose, description=purpose, epilog=epilog, formatter_class=plain)

    enrol = command("enrol", "make this host a member of a galaxy (may be repeated)")
    what = enrol.add_mutually_exclusive_group(required=True)
    what.add_argument("--token", help="what `halftrack host token HOST` printed")
    what.add_argument("--token-file", type=Path, help="a file that holds it: other users can read a command line")
    run = command("run", "run the agent (also what happens without a command)")
    status = command("status", "what the agent of this host last saw")
    status.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the result")
    check = command(
        "check", "could this version go on from that state? Asked of it, on a copy, before an update takes over"
    )
    for part in (parser, enrol, run, status, check):
        own = part is not parser  # options of the bare command must not be reset by a sub-command's defaults
        hush = argparse.SUPPRESS
        part.add_argument(
            "--state",
            default=hush if own else os.environ.get("STATE_DIRECTORY", STATE),
            metavar="DIR",
            help=f"what outlives a reboot: identity, journal, artifacts (default: $STATE_DIRECTORY or {STATE})",
        )
        part.add_argument(
            "--run",
            default=hush if own else os.environ.get("RUNTIME_DIRECTORY", RUN),
            metavar="DIR",
            help=f"what does not: rings, best in memory (default: $RUNTIME_DIRECTORY or {RUN})",
        )
        part.add_argument(
            "--log-level",
            default=hush if own else "INFO",
            choices=("DEBUG", "INFO", "WARNING", "ERROR"),
            help="the least that is worth a line (default: INFO)",
        )
    for part in (parser, run):
        own = part is not parser
        _add_listening(part, hush if own else None)
    return parser


def _add_listening(part: argparse.ArgumentParser, hush: str | None) -> None:
    def default(value: str | int) -> str | int:
        return value if hush is None else hush

    part.add_argument(
        "--listen",
        default=default("0.0.0.0"),  # noqa: S104 - admission is by key
        metavar="IP",
        help="address to listen on for other hosts (default: all)",
    )
    for name, port, what in (("agent", AGENT_PORT, "other agents"), ("bridge", BRIDGE_PORT, "other bridges")):
        text = f"where {what} reach this host, as its manifest says (default: {port})"
        part.add_argument(f"--{name}-port", type=_port, default=default(port), metavar="PORT", help=text)
    part.add_argument(
        "--cgroup", default=default(""), metavar="NAME", help="where control groups are made, below the top"
    )
    part.add_argument(
        "--stable",
        type=_seconds,
        default=STABLE_S if hush is None else hush,
        metavar="SECONDS",
        help=f"a new version of the agent stays once it has been well for so long (default: {STABLE_S:g})",
    )
    part.add_argument(
        "--patience",
        type=_seconds,
        default=PATIENCE_S if hush is None else hush,
        metavar="SECONDS",
        help=f"end, to be started again, when nothing has been done for so long; 0: never (default: {PATIENCE_S:g})",
    )
    part.add_argument(
        "--restarted-by",
        choices=("manager", "itself"),
        default=default("manager" if managed() else "itself"),
        help="who starts it again after such an end, or when its disk did not keep what was written (default: a service manager that has set $NOTIFY_SOCKET; else itself)",
    )


def _port(text: str) -> int:
    """A port from a command line; 0 lets the system choose."""
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= MAX_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number from 0 to {MAX_PORT}")
    return int(text)


def _seconds(text: str) -> float:
    """A duration from a command line."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_PATIENCE_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no such time: write seconds, at most {MAX_PATIENCE_S}")
    return seconds


def _example(line: str) -> str:
    return f"Example:\n  {line}\n\nExit status: 0 done; 1 an error, which says what to do; 2 a wrong command line;\n3 the disk did not keep what was written: start it again, and check the disk."


def _run(places: Places, options: argparse.Namespace, arguments: Sequence[str]) -> None:
    from halftrack_agent import launching

    itself = options.restarted_by == "itself"
    own = launching.begun(arguments)
    try:
        files.make_folder(places.state)
        launching.launched(launching.Start(places, arguments, options.stable, itself), own)
        anew = asyncio.run(_running(places, options, own))
    except files.DiskLost:
        if not itself:
            raise
        time.sleep(DISK_LOST_PAUSE_S)
        anew = True
    if anew:
        launching.again(own)


async def _running(places: Places, options: argparse.Namespace, own: "Launched") -> bool:
    """Returns whether the process is to begin anew."""
    from halftrack_agent import keepsake
    from halftrack_agent.agent import Agent, Listening  # heavy: the other commands do without
    from halftrack_agent.updating import Trialling

    stop, anew = asyncio.Event(), asyncio.Event()

    def again() -> None:
        anew.set()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    held = lock.StateLock(places.state)
    try:
        watchdog = Watchdog(options.patience, own.argv if options.restarted_by == "itself" else ())
        listening = Listening(options.listen, options.agent_port, options.bridge_port)
        member, cgroup = keepsake.whole(places.identity), options.cgroup or places.cgroup()
        trial = Trialling(own, options.stable, again)
        async with Agent(places, member, listening, cgroup, watchdog.beat, trial) as agent:
            watchdog.ready()
            await agent.run_until(stop)
            if anew.is_set():
                watchdog.hand_over()
            else:
                watchdog.close()
    finally:
        held.close()
    return anew.is_set()


def _check(places: Places) -> None:
    from halftrack_agent import checking

    print(canonical.encode(checking.answer(places)).decode())


def _enrol(places: Places, options: argparse.Namespace) -> None:
    from halftrack_agent import keepsake
    from halftrack_agent.enrol import enrol
    from halftrack_proto.tokens import token_of

    text = options.token
    if text is None:
        try:
            text = options.token_file.read_text(encoding="utf-8")
        except OSError as error:
            raise InvalidInput("no-token", f"{options.token_file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InvalidInput("no-token", f"{options.token_file} is not text, so it holds no token") from None
    held = lock.StateLock(places.state)
    try:
        member = asyncio.run(enrol(places.identity, token_of(text)))
        keepsake.whole(places.identity)  # a copy from the first hour on
    finally:
        held.close()
    print(
        f"This host is {member.host} of galaxy {member.galaxy}. Start the agent: halftrack-agent run --state {places.state}"
    )


def _status(places: Places, output: str) -> None:
    pid = lock.holder(places.state)
    observed: Observed | None = None
    with contextlib.suppress(OSError):
        observed = canonical.decode(Observed, places.observed.read_bytes())
    transfers: tuple[TransferGauge, ...] = ()
    with contextlib.suppress(OSError):
        transfers = canonical.decode(tuple[TransferGauge, ...], places.transfers.read_bytes()) if pid else ()
    if output == "json":
        tree = None if observed is None else json.loads(canonical.encode(observed))
        moving = json.loads(canonical.encode(transfers))
        print(json.dumps({"pid": pid, "observed": tree, "transfers": moving}, indent=1))
        return
    print(f"agent: {'not running' if pid is None else f'running (pid {pid})'}")
    if not identity.enrolled(places.identity):
        print("not enrolled: get a token with `halftrack host token HOST`, then run `halftrack-agent enrol`")
    if observed is None:
        return
    print(f"host {observed.host}, plan {observed.revision or 'none yet'}")
    if observed.agent is not None:
        trial = ", on trial" if observed.agent.on_trial else ""
        print(f"version {observed.agent.version}, {'updated' if observed.agent.artifact else 'as installed'}{trial}")
    for item in observed.instances:
        hung = f" (hung {item.hangs})" if item.hangs else ""
        print(f"  {item.phase:9} {item.workload}  restarts {item.restarts}{hung}  {item.detail}".rstrip())
    for record in observed.swaps:
        print(f"  swap {record.swap_id}: seat {record.leg + 1} {record.phase.value} {record.reason}".rstrip())
    for problem in observed.problems:
        print(f"  problem: {problem}")
    for transfer in transfers:
        print(f"  artifact {transfer}")


if __name__ == "__main__":
    sys.exit(main())
