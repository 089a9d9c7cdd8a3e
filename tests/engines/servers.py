"""Real servers for the tests, each in the test's own folder, on loopback: started, killed, started again where they were."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
STARTS_S = 20.0


def needed(program: str, package: str) -> str:
    """Where `program` is; without it the test is skipped, or fails where nothing may be missing."""
    found = shutil.which(program, path=PATH)
    if found is None:
        absent(f"{program} is not here (Debian's package {package})")
    assert found is not None
    return found


def absent(reason: str) -> None:
    """Skip, or fail where HALFTRACK_REQUIRE_HOST says that nothing may be missing."""
    if os.environ.get("HALFTRACK_REQUIRE_HOST"):
        pytest.fail(reason)
    pytest.skip(reason, allow_module_level=True)


def free_port() -> int:
    """A port that nobody has; a server that is started again has to get the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """Debian's nats-server with JetStream, file storage."""

    def __init__(self, folder: Path, *, max_file_bytes: int = 1 << 30) -> None:
        self._program = needed("nats-server", "nats-server")
        self._folder = folder
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{folder / "jetstream"}", max_mem: 64M, max_file: {max_file_bytes} }}\n'
        )

    def start(self) -> None:
        """Until it takes connections."""
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(self._config)], stdout=log, stderr=log)
        deadline = time.monotonic() + STARTS_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (self._folder / "nats.log").read_text()[-2000:]
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """For good."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
