"""The command `halftrack-stream`: rings from a shell. Owns the list of verbs, and nothing that they do."""

import click

from halftrack_dataplane import (
    stream_cli_bench,
    stream_cli_pipe,
    stream_cli_read,
    stream_cli_record,
    stream_cli_top,
    stream_cli_write,
)  # fmt: skip
from halftrack_dataplane.stream_cli_frame import Program


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="halftrack", prog_name="halftrack-stream")
def main() -> None:
    """Make, fill, read, watch, record and replay rings: streams of numbered frames in shared memory.

    Frames come and go through standard input and output, so rings compose with pipes.
    """


for _verbs in (stream_cli_write, stream_cli_read, stream_cli_pipe, stream_cli_record, stream_cli_top, stream_cli_bench):
    _verbs.declare(main)

if __name__ == "__main__":
    main()
