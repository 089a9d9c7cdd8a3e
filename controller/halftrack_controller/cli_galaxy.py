"""Verbs that need no running controller: `galaxy`, `controller serve`, `schema`, `completion`."""

import time
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from halftrack_controller.cli_frame import DONE, Duration, Program, Terminal, verb

PORT = click.IntRange(0, 65535)


def declare(program: Program) -> None:
    """Add the verbs to the program."""

    @program.group("galaxy")
    def galaxy_group() -> None:
        """Make the realm that one controller rules."""

    @program.group("controller")
    def controller_group() -> None:
        """Run the controller."""

    _declare_galaxy(galaxy_group)
    _declare_operator(galaxy_group)
    _declare_renew(galaxy_group)
    _declare_controller(controller_group)
    _declare_local(program)


def _declare_galaxy(group: click.Group) -> None:
    @verb(
        group,
        "init",
        "halftrack galaxy init ./north --name north --address 10.0.0.1",
        "halftrack galaxy init /etc/halftrack --name dome --address controller.dome.example --address 10.0.0.1",
        online=False,
    )
    @click.argument("folder", type=click.Path(path_type=Path))
    @click.option("--name", required=True, help="The galaxy's name.")
    @click.option(
        "--address",
        "addresses",
        multiple=True,
        required=True,
        help="Where hosts reach the controller; the first is dialled.",
    )
    @click.option(
        "--session-port", type=click.IntRange(1, 65535), default=7443, show_default=True, help="Hosts, operators."
    )
    @click.option("--enrolment-port", type=click.IntRange(1, 65535), default=7444, show_default=True, help="New hosts.")
    @click.option(
        "--host-certificates", type=Duration(), default="90d", show_default=True, help="How long they are good."
    )
    @click.option("--operator-certificates", type=Duration(), default="365d", show_default=True, help="The same.")
    def init(
        terminal: Terminal,
        folder: Path,
        name: str,
        addresses: tuple[str, ...],
        session_port: int,
        enrolment_port: int,
        host_certificates: int,
        operator_certificates: int,
    ) -> int:
        """Make a galaxy in FOLDER: its keys, its certificates, and an operator's configuration.

        FOLDER/controller is for the machine of the controller; FOLDER/operator is yours, with the key that seals releases. Keep
        them apart: whoever steals the controller can then install nothing that you have not sealed.

        Hosts renew their certificates by themselves, also when they are over; an operator's is renewed with `halftrack galaxy renew`.
        """
        from halftrack_controller import galaxy

        folder = folder.absolute()  # what is shown is copied into profiles and units
        lives = (host_certificates, operator_certificates)
        galaxy.init(folder, name, addresses, session_port, enrolment_port, certificates_s=lives)
        terminal.result(
            {"galaxy": name, "controller": str(folder / "controller"), "operator": str(folder / "operator")},
            f"galaxy {name} is made",
            f"  start it   halftrack controller serve --state {folder / 'controller'}",
            f"  use it     export HALFTRACK_CONFIG={folder / 'operator'}",
        )
        return DONE


def _declare_operator(group: click.Group) -> None:
    @verb(
        group,
        "operator",
        "halftrack galaxy operator ./north/controller --name ada --to ./ada",
        online=False,
    )
    @click.argument("state", type=click.Path(path_type=Path))
    @click.option("--name", required=True, help="Who they are; graphs name their editors so.")
    @click.option("--to", "folder", required=True, type=click.Path(path_type=Path), help="The folder to make for them.")
    def operator(terminal: Terminal, state: Path, name: str, folder: Path) -> int:
        """Make the folder of one more operator, from the controller's folder STATE, where the galaxy's CA is.

        They can do everything but seal releases: give them a copy of release.key as well if they shall.
        """
        from halftrack_controller import galaxy

        folder = folder.absolute()
        galaxy.add_operator(state, name, folder)
        terminal.result(
            {"operator": name, "folder": str(folder)},
            f"{name} is an operator now; the folder is theirs alone: export HALFTRACK_CONFIG={folder}",
        )
        return DONE


def _declare_renew(group: click.Group) -> None:
    @verb(
        group,
        "renew",
        "halftrack galaxy renew ./north/controller --operator ./north/operator",
        "halftrack galaxy renew ./north/controller --operator ./from-ada/operator.pem",
        "halftrack galaxy renew ./north/controller",
        online=False,
    )
    @click.argument("state", type=click.Path(path_type=Path))
    @click.option(
        "--operator",
        "path",
        type=click.Path(path_type=Path),
        default=None,
        help="Theirs: the certificate, or the folder it is in.",
    )
    def renew(terminal: Terminal, state: Path, path: Path | None) -> int:
        """Replace a certificate by a fresh one for the same key, from the controller's folder STATE, where the galaxy's CA is.

        With --operator theirs, whether it is over or not: the file operator.pem is enough, and no secret, so it can be sent to and fro.
        Without it those of the controller and of the CA, which need it only in galaxies made before they were good for ever; a
        controller that runs takes its own up by itself, and hosts get the CA's with their first renewal after its next start.
        """
        from halftrack_controller import galaxy

        if path is None:
            galaxy.renew_own(state)
            terminal.result(
                {"state": str(state)}, "the certificates of the CA and of the controller are fresh, and do not end"
            )
            return DONE
        name, until_ms = galaxy.renew_operator(state, path)
        day = time.strftime("%Y-%m-%d", time.gmtime(until_ms / 1000))
        terminal.result(
            {"operator": name, "ends_ms": until_ms}, f"the certificate of {name} is good until {day}: {path}"
        )
        return DONE


def _declare_controller(group: click.Group) -> None:
    @verb(
        group,
        "serve",
        "halftrack controller serve --state ./north/controller",
        "halftrack controller serve --state /etc/halftrack/controller --listen 10.0.0.1",
        online=False,
        shaped=False,
    )
    @click.option("--state", required=True, type=click.Path(path_type=Path), help="The galaxy's controller folder.")
    @click.option("--listen", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104 - all, like most daemons
    @click.option("--session-port", type=PORT, default=None, help="Instead of the galaxy's; 0: any free one.")
    @click.option("--enrolment-port", type=PORT, default=None, help="Instead of the galaxy's; 0: any free one.")
    def serve(
        terminal: Terminal, state: Path, listen: str, session_port: int | None, enrolment_port: int | None
    ) -> int:
        """Run the controller until SIGTERM or Ctrl-C. Hosts go on without it, and it goes on where it was."""
        del terminal
        from halftrack_controller import daemon

        return daemon.serve(state, listen, session_port, enrolment_port)


def _declare_local(program: Program) -> None:
    @verb(program, "schema", "halftrack schema > halftrack.schema.json", online=False, shaped=False)
    def schema(terminal: Terminal) -> int:
        """Print the JSON Schema of manifests, for editors and CI."""
        from halftrack_controller.manifest_schema import json_schema

        terminal.json = True
        terminal.result(json_schema())
        return DONE

    @verb(
        program,
        "completion",
        "halftrack completion bash > ~/.local/share/bash-completion/completions/halftrack",
        "halftrack completion fish > ~/.config/fish/completions/halftrack.fish",
        online=False,
        shaped=False,
    )
    @click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
    def completion(terminal: Terminal, shell: str) -> int:
        """Print the script that completes halftrack's verbs and options in SHELL."""
        kind = get_completion_class(shell)
        assert kind is not None, "click knows the shells that the choice allows"  # noqa: S101
        terminal.result("", kind(program, {}, "halftrack", "_HALFTRACK_COMPLETE").source())
        return DONE
