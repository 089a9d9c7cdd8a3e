"""The agent's zygote: `python -I -u -m halftrack_agent.drivers.zygote CHANNEL_FD`. Forks shims whose workload, a process of the data plane,
needs no exec: all it would import is there.

Owns only what of a shim is otherwise for having been executed. It has the agent's user and rights, as a shim has before it lets go of them, but
none of the agent's memory (`halftrack_dataplane.zygote`).
"""

import os
import socket
import sys

from halftrack_agent.drivers import shim
from halftrack_dataplane import run, zygote

MODULE = "halftrack_agent.drivers.zygote"


def _begin(words: list[str], fds: list[int]) -> None:
    folder, (ready, lock) = words[0], fds
    os.setsid()
    zygote.entitle([sys.executable, "-I", "-S", shim.__file__, folder])
    shim.main(folder, ready, lock, _run)


def _run(argv: list[str], environment: dict[str, str], trouble_fd: int) -> None:
    """In place of exec, in the workload's own process."""
    os.environ.clear()
    os.environ.update(environment)
    zygote.entitle(argv)
    os.close(trouble_fd)  # what fails from here on, the program itself tells
    os._exit(run.outcome(argv[-1:]))


if __name__ == "__main__":
    zygote.serve(socket.socket(fileno=int(sys.argv[1])), _begin)
