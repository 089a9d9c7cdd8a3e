"""`halftrack`: the operator's command line. Here is only which verbs there are; each family has a module of its own.

halftrack galaxy init · controller serve · host · apply · plan · release · rollout · stream · explain · schema · completion
"""

from importlib.metadata import version

import click

from halftrack_controller import cli_apply, cli_galaxy, cli_host, cli_release, cli_rollout, cli_stream
from halftrack_controller.cli_frame import CONFIG_VARIABLE, EXIT_STATUS, Program


@click.group(cls=Program, epilog=EXIT_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", metavar="DIR", help=f"The operator's folder that `galaxy init` made [env: {CONFIG_VARIABLE}]."
)
@click.version_option(version("halftrack"), message="halftrack %(version)s")
def main(config: str | None) -> None:
    """Deploy to places that cannot be relied on being reachable, and upgrade streams without losing a frame."""
    del config  # verbs read it from the root context, so that it may stand before or after them


for family in (cli_galaxy, cli_host, cli_apply, cli_release, cli_rollout, cli_stream):
    family.declare(main)

if __name__ == "__main__":
    main()
