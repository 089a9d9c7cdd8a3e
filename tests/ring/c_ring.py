"""The C API behind the rings' common face, for the conformance suite: one ctypes call for each C call, and Python's errors.

Owns nothing that a C program would not have to do as well. What C has no word for (sampling readers, choosing a row of the owner
table) skips the test that asks for it, by name. Writers are in c_ring_peers.py, readers in c_ring_reader.py.
"""

import ctypes
import functools
import os
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest

from halftrack_dataplane import frames
from halftrack_dataplane.frames import Frame, ReaderStats, RingStats
from tests.ring.native_build import NATIVE, compiled

OK, NOTHING, BEHIND, DAMAGED, FULL, CORRUPT, EVICTION, AGAIN, TAKEN, NO_SLOT = range(10)
(
    NO_RING,
    OTHER_VERSION,
    BAD_CHECKSUM,
    CONTRADICTION,
    TRUNCATED,
    IMPOSSIBLE,
    SYSTEM,
    TOO_LARGE,
    WRONG_LENGTH,
    READONLY,
) = range(10, 20)
POLICIES = {"block": 0, "drop": 1, "overwrite": 2}
STARTS = {"now": 2**64 - 1, "oldest": 2**64 - 2}
STATES = {2: "lossless", 3: "lossy"}
CHECKED, SHARED = 1, 2


class Options(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint64) for n in ("capacity_bytes", "slots", "base_seq", "generation", "frame_bytes")] + [
        ("flags", ctypes.c_uint32), ("mode", ctypes.c_uint32), ("label", ctypes.c_char_p), ("schema", ctypes.c_char_p), ("retain_ns", ctypes.c_int64)
    ]  # fmt: skip


class Held(ctypes.Structure):
    """ht_ring; unmapped with its last user, as a C program would take care of."""

    _fields_ = [
        ("header", ctypes.c_void_p), ("bytes", ctypes.c_uint64), ("readonly", ctypes.c_int), ("registered", ctypes.c_int),
        ("found_version", ctypes.c_uint32)
    ]  # fmt: skip

    users = 0  # counted, since what ends together has no order in Python

    def drop(self) -> None:
        """One user less."""
        self.users -= 1
        if not self.users:
            core().ht_detach(ctypes.byref(self))


@functools.cache
def core() -> Any:
    """The C core as a shared library; its file is gone once it is loaded."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "core.so"
        compiled(made, "-shared", "-fPIC", *sorted(NATIVE.glob("*.c")), Path(__file__).with_name("c_ring_shim.c"))
        library = ctypes.CDLL(str(made), use_errno=True)
    for name in ("c_size", "c_published", "c_run", "c_publish", "ht_seq_at", "ht_pid_of"):
        if hasattr(library, name):
            getattr(library, name).restype = ctypes.c_uint64
    library.c_at.restype = ctypes.c_void_p
    for name in ("c_text", "c_slot", "c_writer_name", "ht_explain"):
        getattr(library, name).restype = ctypes.c_char_p
    return library


def u64(value: int) -> ctypes.c_uint64:
    """A sequence or size; OverflowError instead of C's silent wrap."""
    if not 0 <= value < 1 << 64:
        raise OverflowError(f"not an unsigned word: {value}")
    return ctypes.c_uint64(value)


def opaque(what: int) -> Any:
    """Room for one of the C API's structures."""
    return ctypes.create_string_buffer(core().c_size(what))


def words(count: int, kind: Any = ctypes.c_uint64) -> Any:
    return (kind * count)()


def told(into: Any) -> tuple[int, ...]:
    """What the shim tells of a record: all unsigned but the time."""
    return tuple(word if at == 3 else word % 2**64 for at, word in enumerate(into))


def no_such_thing(what: str) -> NoReturn:
    pytest.skip(f"the C API has no {what}")


def refused(code: int, path: object, version: int = 0) -> Exception:
    """The error for what a call has returned."""
    said = f"{path}: {core().ht_explain(code).decode('utf-8', 'replace')}"
    reason = ctypes.get_errno()
    if code == SYSTEM:
        return (
            frames.RingMissing(f"there is no ring at {path}")
            if reason == 2
            else OSError(reason, os.strerror(reason), path)
        )
    kinds: dict[int, type[Exception]] = {
        IMPOSSIBLE: ValueError, OTHER_VERSION: frames.RingVersion, TAKEN: frames.WriterBusy, NO_SLOT: frames.ReadersFull,
        READONLY: frames.RingError, TOO_LARGE: frames.FrameTooLarge, WRONG_LENGTH: frames.WrongLength,
    }  # fmt: skip
    if code == READONLY:
        said = f"{path} was opened read-only"
    return kinds.get(code, frames.RingDamaged)(said)


class Ring:
    """ht_ring."""

    def __init__(self, path: str, held: Held) -> None:
        self.path: str = path
        self._held: Held | None = held
        held.users += 1
        _, _, self.capacity_bytes, self.slots, *_, self.generation, self.frame_bytes, checked = self._words()[:11]
        self.checked = bool(checked)
        *_, shared, retain_ns = self._words()
        self.shared, self.retain_s = bool(shared), retain_ns / 1e9 if retain_ns else None
        self.base_seq = self._words()[11]
        self.label, self.schema = (
            core().c_text(ctypes.byref(held), what).decode("utf-8", "replace") for what in (0, 1)
        )

    @staticmethod
    def create(
        path: Any, *, capacity_bytes: int = 64 << 20, slots: int = 4096, base_seq: int = 0, label: str = "",
        generation: int = 0, mode: int = 0o600, frame_bytes: int = 0, schema: str = "", checked: bool = False,
        shared: bool = False, retain_s: float | None = None
    ) -> "Ring":  # fmt: skip
        held, path, numbers = Held(), os.fspath(path), (capacity_bytes, slots, base_seq, generation, frame_bytes)
        if min(numbers) < 0:
            raise ValueError(f"slots, base_seq, ... are not negative: {numbers}")
        if retain_s is not None and not 0 < retain_s < 1e9:
            raise ValueError(f"retain_s: {retain_s}")
        flags = (CHECKED if checked else 0) | (SHARED if shared else 0)
        options = Options(*numbers, flags, mode, label.encode(), schema.encode(), int((retain_s or 0) * 1e9))
        code = core().ht_create(path.encode(), ctypes.byref(options), ctypes.byref(held))
        if code == IMPOSSIBLE:
            raise ValueError(
                f"slots, base_seq, label, frame_bytes: {core().ht_explain(code).decode('utf-8', 'replace')}"
            )
        if code != OK:
            raise refused(code, path)
        return Ring(path, held)

    @staticmethod
    def open(path: Any, *, readonly: bool = False) -> "Ring":
        held = Held()
        if isinstance(path, int):
            code, path = core().ht_attach(path, readonly, ctypes.byref(held)), f"descriptor {path}"
        else:
            path = os.fspath(path)
            code = core().ht_open(path.encode(), readonly, ctypes.byref(held))
        if code != OK:
            raise refused(code, path, held.found_version)
        return Ring(path, held)

    def _ring(self) -> Any:
        if self._held is None:
            raise frames.RingError(f"{self.path}: this Ring is closed")
        return ctypes.byref(self._held)

    def _writable(self) -> Any:
        ring = self._ring()
        if self._held.readonly:
            raise refused(READONLY, self.path)
        return ring

    def _words(self) -> list[int]:
        into = words(22)
        core().c_header(self._ring(), into)
        return list(into)

    @property
    def head(self) -> int:
        return self._words()[0]

    @property
    def tail(self) -> int:
        return self._words()[1]

    @property
    def credit_bytes(self) -> int:
        return self._words()[15]

    def writer(self, *, full: str = "block", name: str = "", spare: int | None = None) -> Any:
        from tests.ring.c_ring_peers import Writer

        if full not in POLICIES:
            raise ValueError(f"full must be one of block, drop, overwrite, not {full!r}")
        if spare is not None and (full != "overwrite" or not 0 <= spare <= 255):
            raise ValueError(f"spare: {spare!r}")
        out, holder = opaque(0), ctypes.c_uint64()
        code = core().ht_begin(self._ring(), POLICIES[full], name.encode(), out, ctypes.byref(holder))
        if code == TAKEN:
            raise frames.WriterBusy(
                f"{self.path} is being written by {core().c_writer_name(self._ring()).decode('utf-8', 'replace')!r}"
            )
        if code != OK:
            raise refused(code, self.path)
        if spare is not None:
            core().c_spare(out, spare)
        return Writer(self._held, out, name, full, self.frame_bytes)

    def reader(
        self, *, policy: str = "lossless", name: str = "", start: Any = "now", every: int = 1, per_s: float | None = None,
        latest: bool = False, evict_after_s: float | None = None, verify: bool = False, priority: int = 0
    ) -> Any:  # fmt: skip
        from tests.ring.c_ring_reader import Reader

        if policy == "sample":
            no_such_thing("sampling readers")
        if policy not in STATES.values() or (every, per_s, latest) != (1, None, False):
            raise ValueError(f"policy must be lossless or lossy, without every, per_s and latest: {policy!r}")
        if start not in STARTS and (isinstance(start, (str, bool)) or not 0 <= start < 1 << 62):
            raise ValueError(f"start must be 'now', 'oldest' or a sequence, not {start!r}")
        if evict_after_s is not None and not evict_after_s > 0:
            raise ValueError(f"evict_after_s must be positive: {evict_after_s}")
        if not 0 <= priority <= 255:
            raise ValueError(f"priority: {priority}")
        self._writable()
        reader, patience = opaque(1), ctypes.c_int64(int((evict_after_s or 0) * 1e9))
        at = u64(STARTS.get(start, start) if isinstance(start, str) else start)
        code = core().ht_join(self._ring(), policy == "lossless", at, patience, priority, name.encode(), reader)
        if code == NO_SLOT:
            raise frames.ReadersFull("the ring has 64 living readers, and no room for more")
        if code != OK:
            raise refused(code, self.path)
        if verify:
            core().c_verify(reader)
        return Reader(self._held, reader, name, policy)

    def seq_at(self, timestamp_ns: int) -> int:
        self._ring()
        seq: int = core().ht_seq_at(ctypes.c_void_p(self._held.header), ctypes.c_int64(timestamp_ns))
        return seq

    def peek(self, seq: int) -> Frame | None:
        into = words(6, ctypes.c_int64)
        code = core().c_peek(self._ring(), u64(seq), into)
        if code == DAMAGED:
            raise refused(code, self.path)
        if code != OK:
            return None
        end, length, epoch, stamp, gap, at = told(into)
        frame = Frame(seq, epoch, stamp, b"" if gap else ctypes.string_at(at, length), end - seq if gap else 0)
        return frame if core().c_peek_intact(self._ring(), u64(seq)) else None

    def stats(self) -> RingStats:
        head, tail, capacity, slots, dropped, gaps, evicted, pid, *_ = self._words()
        limit, data_head, oldest, credit, most_lag, blocked, blocked_ns, died = self._words()[12:20]
        used = data_head - oldest if head > tail else 0
        readers = []
        for number in range(limit):
            into = words(6)
            name = core().c_slot(self._ring(), number, into).decode("utf-8", "replace")
            owner, cursor, overruns, *rest = into
            if owner & 7 in STATES:
                lag = max(0, head - cursor)
                readers.append(
                    ReaderStats(number, name, owner >> 3 & 0x3FFFFF, STATES[owner & 7], cursor, lag, overruns, *rest)
                )
        return RingStats(head, tail, capacity, used, slots, dropped, gaps, evicted, pid, tuple(readers),
                         credit, most_lag, blocked, blocked_ns / 1e9, died)  # fmt: skip

    def reap(self) -> tuple[ReaderStats, ...]:
        ring = self._writable()
        before = {reader.slot: reader for reader in self.stats().readers}
        core().ht_reap(ring, None)
        left = {reader.slot for reader in self.stats().readers}
        return tuple(reader for slot, reader in before.items() if slot not in left)

    def evict(self, slot: int) -> None:
        code = core().ht_evict(self._writable(), slot)
        if code == IMPOSSIBLE:
            raise ValueError(f"reader slots are 0 to 63, not {slot}")

    def propose_cut(self, *_: object) -> None:
        self._writable()
        no_such_thing("choice of a row in the owner table")

    apply_cut = withdraw_cut = propose_cut

    def cuts(self) -> tuple[()]:
        return ()

    def prefault(self) -> bool:
        return bool(core().ht_prefault(self._ring()) == OK)

    def close(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            held.drop()

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> "Ring":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
