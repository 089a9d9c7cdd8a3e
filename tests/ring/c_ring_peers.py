"""Writers and readers through the C API, with the face of the other rings'. See c_ring.py."""

import ctypes
import functools
import threading
import time
from typing import Any

from halftrack_dataplane import frames
from halftrack_dataplane.frames import RingError, RingFull
from tests.ring.c_ring import AGAIN, FULL, OK, Held, core, refused, u64, words

GAP, BEFORE = 1, 4
_memory = ctypes.pythonapi.PyMemoryView_FromMemory
_memory.restype, _memory.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
READ, WRITE = 0x100, 0x200


def deadline(timeout_s: float | None) -> ctypes.c_int64:
    return ctypes.c_int64(-1 if timeout_s is None else time.monotonic_ns() + int(max(timeout_s, 0) * 1e9))


def operation(method: Any) -> Any:
    """While one runs, a `close` in another thread only asks: the C API's structures belong to one thread at a time."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **marks: Any) -> Any:
        with self._guard:
            self._busy = True
        try:
            return method(self, *args, **marks)
        finally:
            with self._guard:
                self._busy = False
                self._let_go_of_turn()
                if self._closing:
                    self._let_go()

    return run


class Peer:
    """What both sides share: they end once, and so do their views."""

    def __init__(self, held: Held, thing: Any, name: str) -> None:
        self._held, self._thing, self.name = held, thing, name
        held.users += 1
        self._view: memoryview | None = None
        self._guard, self._closing, self._busy = threading.RLock(), False, False

    def _export(self, at: int, length: int, access: int) -> memoryview:
        self._view = _memory(at, length, access)
        return self._view

    def _end_view(self) -> bool:
        view, self._view = self._view, None
        if view is not None:
            view.release()
        return view is not None

    def _until(self, call: Any) -> int:
        """Slice by slice, until it is done."""
        while (code := call()) == AGAIN:
            if self._closing:
                raise RingError(f"this {type(self).__name__} was closed while it waited")
        assert isinstance(code, int)
        return code

    def _let_go(self) -> None:
        raise NotImplementedError

    def _let_go_of_turn(self) -> None:
        """Between two operations no reader and no writer of several holds anything up, unless it has claimed."""

    def close(self) -> None:
        with self._guard:
            self._closing = True
            if not self._busy:
                self._let_go()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Writer(Peer):
    """ht_output."""

    def __init__(self, held: Held, out: Any, name: str, full: str, frame_bytes: int) -> None:
        super().__init__(held, out, name)
        self.full, self._frame_bytes, self._claimed = full, frame_bytes, 0

    def _enter(self, *, claimed: bool = False) -> None:
        if self._thing is None or self._closing:
            raise RingError("this Writer is closed")
        if (self._view is not None) != claimed:
            raise RingError("nothing is claimed" if claimed else "a frame is claimed: commit or abort it first")

    def _dropped(self, count: int) -> None:
        core().ht_dropped(self._thing, u64(count))

    def _done(self, code: int, nbytes: int) -> bool:
        if code not in (OK, FULL):
            raise refused(code, f"{nbytes} bytes")
        if code == FULL and self.full != "drop":
            raise RingFull(f"no room for {nbytes} bytes: a lossless reader lags")
        return code == OK

    def _send(self, data: bytes, count: int, length: int, epoch: int, stamp: int, until: ctypes.c_int64) -> bool:
        call = (self._thing, data, u64(count), u64(length), u64(epoch), ctypes.c_int64(stamp), until)
        return self._done(self._until(lambda: core().ht_send(*call)), len(data))

    def _turn(self, until: ctypes.c_int64) -> bool:
        return self._done(self._until(lambda: core().ht_take_turn(self._thing, until)), 0)

    def _let_go_of_turn(self) -> None:
        if self._thing is not None and self._view is None:
            core().ht_pass_turn(self._thing)

    def _room(self, nbytes: int, until: ctypes.c_int64) -> bool:
        return self._done(self._until(lambda: core().ht_room(self._thing, u64(nbytes), until)), nbytes)

    @property
    def _head(self) -> int:
        head: int = core().c_published(self._thing)
        return head

    @operation
    def write(self, data: Any, *, epoch: int = 0, timestamp_ns: int = 0, timeout_s: float | None = None) -> int:
        payload = memoryview(data).tobytes()
        self._enter()
        if self._turn(deadline(timeout_s)) and self._send(
            payload, 1, len(payload), epoch, timestamp_ns, deadline(timeout_s)
        ):
            return self._head - 1
        self._dropped(1)
        return -1

    @operation
    def write_many(self, items: Any, *, epoch: int = 0, timestamp_ns: int = 0, timeout_s: float | None = None) -> range:
        items = [memoryview(item).tobytes() for item in items]
        self._enter()
        self._check(items)
        if not self._turn(deadline(timeout_s)):
            self._dropped(len(items))
            return range(0)
        first, done = self._head, 0
        while done < len(items):
            length = len(items[done])
            run = items[done : done + core().c_run(self._thing, u64(length))]
            run = run[: next((at for at, item in enumerate(run) if len(item) != length), len(run))]
            try:
                if not self._send(b"".join(run), len(run), length, epoch, timestamp_ns, deadline(timeout_s)):
                    self._dropped(len(items) - done)
                    break
            except RingFull as error:
                error.written = done
                raise
            done += len(run)
        return range(first, first + done)

    def _check(self, items: list[bytes]) -> None:
        """All of a batch or none: the C API checks each run."""
        for item in items:
            if self._frame_bytes and len(item) != self._frame_bytes:
                raise frames.WrongLength("every frame of this ring has one length")
            if len(item) > self._capacity() // 2:
                raise frames.FrameTooLarge(f"a frame of {len(item)} bytes")

    def _capacity(self) -> int:
        into = words(22)
        core().c_header(ctypes.byref(self._held), into)
        return int(into[2])

    def write_array(self, array: Any, **marks: Any) -> range:
        rows = memoryview(array)
        if not rows.ndim:
            raise ValueError("an array without rows holds no frames; give it a first axis")
        count = rows.shape[0] if rows.shape else 0
        data, length = rows.tobytes(), rows.nbytes // count if count else 0
        return self.write_many([data[at * length : (at + 1) * length] for at in range(count)], **marks)

    @operation
    def claim(self, nbytes: int, timeout_s: float | None = None) -> memoryview:
        u64(nbytes)
        self._enter()
        if self._frame_bytes and (not nbytes or nbytes % self._frame_bytes):
            raise frames.WrongLength("a claim is of whole frames")
        if not self._room(nbytes, deadline(timeout_s)):
            self._dropped(1)
            raise RingFull(f"no room for {nbytes} bytes, and the writer's policy is to drop")
        self._claimed = nbytes
        return self._export(core().c_at(self._thing), nbytes, WRITE)

    def _publish(self, count: int, length: int, flags: int, epoch: int, stamp: int) -> int:
        marks = (flags, u64(epoch), ctypes.c_int64(stamp))
        seq: int = core().c_publish(self._thing, u64(count), u64(length), *marks)
        return seq

    @operation
    def commit(self, *, epoch: int = 0, timestamp_ns: int = 0) -> int:
        self._enter(claimed=True)
        self._end_view()
        length = self._frame_bytes or self._claimed
        return self._publish(self._claimed // length if length else 1, length, 0, epoch, timestamp_ns)

    @operation
    def abort(self) -> None:
        self._end_view()
        self._enter()

    @operation
    def gap(self, count: int, *, epoch: int = 0, timestamp_ns: int = 0, timeout_s: float | None = None) -> int:
        if not 1 <= count < 1 << 62:
            raise ValueError(f"a gap covers at least one sequence, not {count}")
        self._enter()
        if self._room(0, deadline(timeout_s)):
            return self._publish(count, 0, GAP, epoch, timestamp_ns)
        self._dropped(count)
        return -1

    @operation
    def start_at(self, seq: int) -> None:
        if not 0 <= seq < 1 << 62:
            raise ValueError(f"a sequence must be in [0, 2**62), not {seq}")
        self._enter()
        if not self._turn(deadline(0)):
            raise RingFull("another writer of this ring has the turn")
        into = words(22)
        core().c_header(ctypes.byref(self._held), into)
        if self._head != into[11] or seq < self._head:
            raise RingError(f"this ring goes on at {self._head}, so it cannot start at {seq}; declare a gap instead")
        if seq > self._head:
            self._room(0, deadline(0))
            self._publish(seq - self._head, 0, GAP | BEFORE, 0, 0)

    def _let_go(self) -> None:
        self._end_view()
        if self._thing is not None:
            core().ht_finish(self._thing)
            self._thing = None
            self._held.drop()
