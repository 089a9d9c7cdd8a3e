"""An artifact from a parcel: zstd with an artifact that is here as its dictionary. A child process, so that its memory ends with it.

`python -m halftrack_agent.rebuilding BASE PARCEL OUT SIZE AGENT`: BASE may be empty. Writes not a byte more than SIZE, and ends with the process AGENT: the next one
writes the same file. Vouches for nothing: the digest of what it wrote is for the caller to look at. Exit status 1 when the parcel is nothing that can be unpacked.
"""

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

from halftrack_agent.drivers import confine
from halftrack_model.errors import HostFault, Untrusted

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

WINDOW_LOG_MAX = 27  # 128 MiB; a parcel that asks for more is refused by the decoder before it takes any
MEMORY_BYTES = 1 << 30  # a dictionary of 64 MiB, a window of 128 MiB, an interpreter; of address space, so with room
PATIENCE_S = 300.0
_BLOCK = 1 << 20
_BAD, _FULL = 1, 3


async def rebuild(base: Path | None, parcel: Path, out: Path, size_bytes: int) -> None:
    """Make `out` from the parcel, at most `size_bytes` long. Untrusted when that cannot be done; HostFault when the host is at fault."""
    words = ["" if base is None else str(base), str(parcel), str(out), str(size_bytes), str(os.getpid())]
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "halftrack_agent.rebuilding", *words, stdin=asyncio.subprocess.DEVNULL, cwd="/"
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            status = await child.wait()
    except TimeoutError:
        raise HostFault("rebuild-slow", f"rebuilding from a parcel took more than {PATIENCE_S:.0f} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if status == _FULL:
        raise HostFault("disk-full", f"no room to rebuild {size_bytes} bytes from a parcel beside {out}")
    if status:
        raise Untrusted("parcel-damaged", f"the parcel cannot be unpacked (status {status}); the whole is fetched")


def unpack(base: bytes | None, parcel: Path, out: int, size_bytes: int) -> bool:
    """Write what the parcel holds to the descriptor; False when it is damaged, or is more or less than `size_bytes`."""
    dictionary = None if base is None else zstd.ZstdDict(base, is_raw=True).as_prefix
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: WINDOW_LOG_MAX}
    unpacker = zstd.ZstdDecompressor(zstd_dict=dictionary, options=options)
    missing = size_bytes
    with parcel.open("rb") as file:
        while not unpacker.eof:
            try:
                block = file.read(_BLOCK) if unpacker.needs_input else b""
                if unpacker.needs_input and not block:
                    return False
                data = unpacker.decompress(block, max_length=_BLOCK)
            except zstd.ZstdError:
                return False
            missing -= len(data)
            if missing < 0:
                return False
            while data:
                data = data[os.write(out, data) :]
        return missing == 0 and not unpacker.unused_data and not file.read(1)


def main() -> int:
    """The child."""
    base, parcel, out, size, agent = sys.argv[1:]
    confine.end_with(int(agent))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.nice(10)  # workloads first
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        good = unpack(Path(base).read_bytes() if base else None, Path(parcel), descriptor, int(size))
    except (OSError, MemoryError):
        return _FULL
    finally:
        os.close(descriptor)
    return 0 if good else _BAD


if __name__ == "__main__":
    sys.exit(main())
