"""How fast bytes may come, and how slowly they may: a bucket of tokens, and the patience with who sends. Pure; `now` is an argument.

Whoever takes bytes in takes a piece, is in debt for it, and takes the next one when the debt is paid. So the limit holds over any time that is
longer than a piece takes, whatever the sizes of pieces are.
"""

from dataclasses import dataclass

PIECE_BYTES = (
    16 << 10
)  # what is asked for at once: a cut loses less than that, and a modem carries it within PATIENCE_MS
LEAST_PIECE_BYTES = 1 << 10
WINDOW_BYTES = 64 << 10  # of HTTP/2's flow control, without probes of bandwidth
BURST_MS = 250  # so much of the limit may come at once after a rest
PATIENCE_MS = (
    60_000  # ... in which at least LEAST_BYTES have to come: who is slower keeps a place that another way could use
)
LEAST_BYTES = 1 << 10


@dataclass(frozen=True, slots=True)
class Bucket:
    """Bytes that may come now; below 0 they have come already. In thousandths, so that nothing is lost by rounding."""

    milli_bytes: int
    at_ms: int


def filled(bucket: Bucket, bytes_per_s: int, now_ms: int) -> Bucket:
    """The bucket as it stands at `now_ms`. A clock that stands still or goes back fills nothing."""
    gone_ms = max(0, now_ms - bucket.at_ms)
    full = bytes_per_s * BURST_MS
    return Bucket(min(max(full, bucket.milli_bytes), bucket.milli_bytes + gone_ms * bytes_per_s), now_ms)


def taken(bucket: Bucket, count: int) -> Bucket:
    """After `count` bytes have come."""
    return Bucket(bucket.milli_bytes - count * 1000, bucket.at_ms)


def wait_ms(bucket: Bucket, bytes_per_s: int) -> int:
    """How long until the next piece may come; 0 when it may now. Nothing ever may at 0 bytes in a second: ask again when that changes."""
    return max(0, -(bucket.milli_bytes // bytes_per_s)) if bytes_per_s else BURST_MS


def piece_bytes(bytes_per_s: int | None) -> int:
    """How much to ask for at once under this limit."""
    if bytes_per_s is None:
        return PIECE_BYTES
    return min(PIECE_BYTES, max(LEAST_PIECE_BYTES, bytes_per_s * BURST_MS // 1000))


def at_once_bytes(bytes_per_s: int | None) -> int:
    """How much may be under way at once under this limit; 0: as much as comes. gRPC takes in WINDOW_BYTES of a stream before anybody reads them, which is
    many seconds of a narrow limit, and lost with the link; so under one no more is asked for than a second has."""
    if bytes_per_s is None or bytes_per_s >= WINDOW_BYTES:
        return 0
    return max(LEAST_PIECE_BYTES, bytes_per_s)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long somebody was waited for, and what came meanwhile. Our own pauses are not held against the sender."""

    waited_ms: int = 0
    came: int = 0

    @property
    def left_ms(self) -> int:
        """How much longer to wait."""
        return max(0, PATIENCE_MS - self.waited_ms)

    def fed(self, count: int, waited_ms: int) -> "Patience":
        """After waiting, and `count` bytes."""
        if self.came + count >= LEAST_BYTES:
            return Patience()
        return Patience(self.waited_ms + max(0, waited_ms), self.came + count)
