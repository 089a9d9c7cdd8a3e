"""What is in flight to an engine, against a model of engine and network: whatever is lost on the way, all arrives, once and in order."""

from hypothesis import given
from hypothesis import strategies as st

from halftrack_dataplane.engines.in_flight import InFlight, end_of
from halftrack_dataplane.engines.retry import CAP_S, Retry
from halftrack_dataplane.frames import Frame


class Engine:
    """Takes what follows on what it has, and nothing else; `stored` are the frames and gaps that it has."""

    def __init__(self) -> None:
        self.stored: list[Frame] = []

    @property
    def next(self) -> int:
        return end_of(self.stored[-1]) if self.stored else 0

    def offer(self, frame: Frame) -> bool:
        fits = frame.seq == self.next
        if fits:
            self.stored.append(frame)
        return fits


STEPS = st.lists(st.sampled_from(["take", "gap", "send", "lost", "ack", "resume", "restart", "burn"]), max_size=120)


@given(STEPS, st.integers(1, 6), st.randoms(use_true_random=False))
def test_whatever_is_lost_on_the_way_all_arrives_once_and_in_order(steps: list[str], most: int, random: object) -> None:
    # invariant: S1
    engine, window, given_next, acks, burnt = Engine(), InFlight(most), 0, [], 0
    for step in steps:
        if step in ("take", "gap") and not window.full:
            gap = 3 if step == "gap" else 0
            frame = Frame(given_next, 0, 0, b"" if gap else b"%d" % given_next, gap)
            window.take(frame)
            given_next = end_of(frame)
        elif step in ("send", "lost"):
            for frame in window.to_send(2):
                if step == "send" and engine.offer(frame):
                    acks.append(frame.seq)
        elif step == "ack" and acks:
            window.acknowledged(acks.pop(random.randrange(len(acks))))  # type: ignore[attr-defined]
        elif step == "burn" and engine.stored:  # the engine's disk loses the newest
            engine.stored.pop()
            burnt += 1
            acks.clear()
            window.resumed(engine.next)
        elif step == "resume":
            acks.clear()
            window.resumed(engine.next)
        elif step == "restart":  # of the sink: the ring has what the engine lacks
            acks.clear()
            window = InFlight(most)
            window.begin(engine.next)
            given_next = engine.next
        assert len(window) <= most + 1  # one for a gap that stands for what the engine lost
        assert window.first <= window.next
    window.resumed(engine.next)
    for frame in window.to_send(1000):
        assert engine.offer(frame)
    assert engine.next == max(given_next, window.next)
    seq = 0
    for frame in engine.stored:
        assert frame.seq == seq
        assert frame.gap or frame.payload == b"%d" % frame.seq
        seq = end_of(frame)
    assert burnt or not window.lost_frames


def test_what_an_engine_loses_after_it_acknowledged_is_declared_and_counted() -> None:
    # invariant: S2
    window = InFlight()
    for seq in range(5):
        window.take(Frame(seq, 0, 0, b"x"))
    for frame in window.to_send(5):
        window.acknowledged(frame.seq)
    assert (window.first, len(window)) == (5, 0)
    window.resumed(2)
    assert list(window) == [Frame(2, 0, 0, b"", 3)]
    assert (window.first, window.next, window.lost_frames) == (2, 5, 3)


def test_frames_that_another_life_has_brought_are_not_taken() -> None:
    window = InFlight()
    window.begin(0)
    window.resumed(7)
    assert not window.take(Frame(6, 0, 0, b"x"))
    assert window.take(Frame(5, 0, 0, b"", 4))
    assert list(window) == [Frame(7, 0, 0, b"", 2)]


@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=300))
def test_a_backoff_that_has_run_for_a_month_is_capped_and_jittered(chances: list[float]) -> None:
    retry, now = Retry(), 0.0
    for chance in chances:
        retry = retry.failed(now, chance)
        assert now <= retry.due_s <= now + CAP_S
    assert Retry(failures=10**6).failed(0.0, 0.5).due_s == CAP_S / 2
