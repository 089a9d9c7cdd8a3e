"""A program that is run for its answer: with a bound on its time and on what it says, and gone afterwards in any case."""

import asyncio
import contextlib
from collections.abc import Sequence


async def asked(argv: Sequence[str], patience_s: float, most_bytes: int) -> tuple[int, bytes, bytes]:
    """Run it; returns its exit status and what it printed on either stream. TimeoutError, and it is killed, when it takes longer."""
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None  # noqa: S101 - pipes were asked for
    assert child.stderr is not None  # noqa: S101
    try:
        async with asyncio.timeout(patience_s):
            said, told = await asyncio.gather(_bounded(child.stdout, most_bytes), _bounded(child.stderr, most_bytes))
            return await child.wait(), said, told
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await asyncio.shield(child.wait())


async def _bounded(reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    """All of it, or its end: whoever says too much says nothing that is read from its beginning."""
    said = b""
    while data := await reader.read(1 << 16):
        said = (said + data)[-most_bytes:]
    return said
