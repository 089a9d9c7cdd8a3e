"""The command `halftrack-stream`: rings from a shell. Owns the list of verbs, and nothing that they do."""

import click

from halftrack_dataplane import stream_cli_bench as bench
from halftrack_dataplane import stream_cli_capture as capture
from halftrack_dataplane import stream_cli_export as export
from halftrack_dataplane import stream_cli_import as importing
from halftrack_dataplane import stream_cli_pipe as pipe
from halftrack_dataplane import stream_cli_read as read
from halftrack_dataplane import stream_cli_record as record
from halftrack_dataplane import stream_cli_spead as spead
from halftrack_dataplane import stream_cli_spool as spool
from halftrack_dataplane import stream_cli_top as top
from halftrack_dataplane import stream_cli_write as write
from halftrack_dataplane.stream_cli_frame import EXIT_STATUS, Program


@click.group(cls=Program, epilog=EXIT_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="halftrack", message="halftrack-stream %(version)s")
def main() -> None:
    """Make, fill, read, watch, record and replay rings: streams of numbered frames in shared memory.

    Frames come and go through standard input and output, so rings compose with pipes.
    """


for family in (write, read, pipe, record, spool, importing, export, top, bench):
    family.declare(main)
spead.declare(main, capture.declare(main))

if __name__ == "__main__":
    main()
