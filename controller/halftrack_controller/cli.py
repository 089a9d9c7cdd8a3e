"""`halftrack`: the operator's command line. Here is only which verbs there are; each family has a module of its own, read when one of its verbs is asked for.

halftrack galaxy init · controller serve · host · apply · delete · plan · release · rollout · stream · explain · schema · completion
"""

import click

from halftrack_controller.cli_frame import CONFIG_VARIABLE, EXIT_STATUS, Program


@click.group(cls=Program, epilog=EXIT_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", metavar="DIR", help=f"The operator's folder that `galaxy init` made [env: {CONFIG_VARIABLE}]."
)
@click.version_option(package_name="halftrack", message="halftrack %(version)s")
def main(config: str | None) -> None:
    """Deploy to places that cannot be relied on being reachable, and upgrade streams without losing a frame."""
    del config  # verbs read it from the root context, so that it may stand before or after them


@main.family("galaxy", "controller", "schema", "completion")
def _galaxy(program: Program) -> None:
    from halftrack_controller import cli_galaxy

    cli_galaxy.declare(program)


@main.family("host")
def _host(program: Program) -> None:
    from halftrack_controller import cli_host

    cli_host.declare(program)


@main.family("apply", "delete", "plan")
def _apply(program: Program) -> None:
    from halftrack_controller import cli_apply

    cli_apply.declare(program)


@main.family("release")
def _release(program: Program) -> None:
    from halftrack_controller import cli_release

    cli_release.declare(program)


@main.family("rollout")
def _rollout(program: Program) -> None:
    from halftrack_controller import cli_rollout

    cli_rollout.declare(program)


@main.family("stream", "explain")
def _stream(program: Program) -> None:
    from halftrack_controller import cli_stream

    cli_stream.declare(program)


if __name__ == "__main__":
    main()
