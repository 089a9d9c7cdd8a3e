"""What is known of a host's presence between its words: when it last spoke, and the counters that it told. Never stored; ages are monotonic."""

from dataclasses import dataclass

from halftrack_proto.gauges import FlowGauge, RingGauge, RingRow, TransferGauge


@dataclass
class Sight:
    """What we know of a host's presence, by our monotonic clock; outlives its sessions."""

    last_seen_s: float
    digest: str = ""  # of the observed state that is stored
    confirmed_s: float | None = None
    gauges: tuple[RingGauge, ...] = ()
    gauges_s: float = 0.0
    before: tuple[RingGauge, ...] = ()
    before_s: float = 0.0
    flows: tuple[FlowGauge, ...] = ()
    transfers: tuple[TransferGauge, ...] = ()
    boot_ms: int = 0  # its boot-time clock at its last heartbeat; 0: not told


def age_ms(now_s: float, then_s: float) -> int:
    """How long ago that was."""
    return max(0, int((now_s - then_s) * 1000))


def row(host: str, gauge: RingGauge, rate: int, age_ms: int) -> RingRow:
    """A ring as operators are shown it."""
    return RingRow(
        host=host,
        ring=gauge.name,
        head=gauge.head,
        tail=gauge.tail,
        slots=gauge.slots,
        lags=gauge.lags,
        frames_per_1000_s=rate,
        age_ms=age_ms,
        lost=gauge.lost,
        dropped=gauge.dropped,
        missed=gauge.missed,
    )


def rate(sight: Sight, gauge: RingGauge) -> int:
    """Frames per 1000 s between the last two heartbeats; -1 while there are not two."""
    earlier = next((g for g in sight.before if g.name == gauge.name), None)
    elapsed_s = sight.gauges_s - sight.before_s
    if earlier is None or elapsed_s <= 0 or gauge.head < earlier.head:
        return -1
    return int((gauge.head - earlier.head) * 1000 / elapsed_s)
