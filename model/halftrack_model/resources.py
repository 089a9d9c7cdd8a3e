"""What an instance may use of its host at most, and which limits make no sense. Pure; how they are enforced is a driver's."""

from collections.abc import Iterator
from dataclasses import dataclass

MIN_CPU_MILLI, MAX_CPU_MILLI = 10, 4_096_000  # a hundredth of a processor: the kernel's quota is a millisecond at least
MIN_MEMORY_BYTES = 32 << 20  # an interpreter with the data plane takes about 25 MiB before a program's first line
MIN_PIDS, MAX_PIDS = 16, 4096  # processes and threads; the SDK's own take a handful


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits of each instance; 0 where nothing is said. `cpu_milli` are thousandths of a processor."""

    cpu_milli: int = 0
    memory_bytes: int = 0
    pids: int = 0

    def over(self, other: "Resources | None") -> "Resources":
        """These, and the other's where these say nothing."""
        if other is None:
            return self
        return Resources(
            self.cpu_milli or other.cpu_milli, self.memory_bytes or other.memory_bytes, self.pids or other.pids
        )


def faults(resources: Resources | None) -> Iterator[str]:
    """What is wrong with them, each in a sentence that says what to write."""
    if resources is None:
        return
    cpu, memory, pids = resources.cpu_milli, resources.memory_bytes, resources.pids
    if not (cpu or memory or pids):
        yield "its resources say nothing: write resources: {cpu: 0.5, memory: 256MiB, pids: 64}, or some of these"
    if cpu and not MIN_CPU_MILLI <= cpu <= MAX_CPU_MILLI:
        yield f"its cpu must be {MIN_CPU_MILLI / 1000:g} to {MAX_CPU_MILLI // 1000} processors, not {cpu / 1000:g}"
    if memory and memory < MIN_MEMORY_BYTES:
        yield f"its memory must be {MIN_MEMORY_BYTES >> 20}MiB at least, which an interpreter takes by itself; {memory} bytes are less"
    if pids and not MIN_PIDS <= pids <= MAX_PIDS:
        yield f"its pids must be {MIN_PIDS} to {MAX_PIDS} processes and threads, not {pids}"


def effective(vertex: Resources | None, release: Resources | None) -> Resources | None:
    """What holds for an instance: the vertex's word, and the release's where the vertex says nothing."""
    return release if vertex is None else vertex.over(release)
