"""The turns of a shared ring in small steps, for the explorer: ht_take_turn, a write of one word, ht_pass_turn, as in native/ring_turns.c.

`without` leaves one named ordering out, to see that it is needed. A writer is a number from 1 on; frames are words `data0`, `data1`, ...
"""

from tests.ring.model.explorer import (
    Program,
    Step,
    change,
    go,
    let,
    load,
    mark,
    must,
    sleep,
    store,
    swap_if,
    until,
    wake,
    when,
)  # fmt: skip
from tests.ring.model.protocol import heavy, light

WORDS = {
    "turn": 0,
    "turn_event": 0,
    "turn_waiting": 0,
    "head": 0,
    "dead": 0,
    "left": 0,
    "naps": 0,
    **{f"data{at}": 0 for at in range(6)},
}


def take(number: int, registered: bool, without: str, heir_of: int) -> list[Step]:
    """ht_take_turn, without waiting awake; `heir_of`: also from that writer, once it is known to be dead."""
    inherit: list[Step] = []
    if heir_of:
        inherit = [
            load("dead", "dead"), when(lambda r: not r["dead"], "nobody died"),
            swap_if("turn", heir_of, number), when(lambda r: r["was"] == heir_of, "have"), mark("nobody died"),
        ]  # fmt: skip
    event = [load("event", "turn_event")]
    return [
        mark("take"),
        swap_if("turn", 0, number), when(lambda r: r["was"] == 0, "have"),
        *inherit,
        *([] if "event first" in without else event),
        store("turn_waiting", 1), *heavy(registered, without),
        *([] if "again" in without else [swap_if("turn", 0, number), when(lambda r: r["was"] == 0, "have")]),
        *(event if "event first" in without else []),
        *([change("naps", lambda _, __: 1)] if heir_of else []),  # for slice_of_time to see
        sleep("turn_event", "event"), *([change("naps", lambda _, __: 0)] if heir_of else []), go("take"),
        mark("have"),
    ]  # fmt: skip


def write(without: str, heir_of: int) -> list[Step]:
    """ht_catch_up and ht_publish: what another turn has left must all be there; an heir may find what the dead one did not publish."""
    return [
        load("head", "head"),
        when(lambda r: r["head"] == 0, "first"),
        load("seen", lambda r: f"data{r['head'] - 1}"),
        must(lambda r: r["seen"] != 0, "a turn began before all of the last one was there"),
        mark("first"),
        load("seen", lambda r: f"data{r['head']}"),
        must(lambda r: r["seen"] == 0 or heir_of > 0, "two writers wrote the same frame"),
        store(lambda r: f"data{r['head']}", 1),
        store("head", lambda r: r["head"] + 1, release="publish" not in without),
    ]  # fmt: skip


def give(registered: bool, without: str) -> list[Step]:
    """ht_pass_turn. SYNC: turn taken, turn wake-up."""
    return [
        store("turn", 0, release="release" not in without),
        *light(registered, without),
        load("waits", "turn_waiting"), when(lambda r: not r["waits"], "done"),
        change("turn_waiting", lambda _, __: 0, "waits"), when(lambda r: not r["waits"], "done"),
        wake("turn_event"), mark("done"),
    ]  # fmt: skip


def writer(
    number: int, times: int, *, registered: bool = True, without: str = "", mortal: str = "", heir_of: int = 0
) -> Program:
    """Writes as many frames, each in a turn of its own."""
    return Program(f"writer {number}", (
        let("left", lambda _: times),
        mark("next"),
        *take(number, registered, without, heir_of), *write(without, heir_of), *give(registered, without),
        let("left", lambda r: r["left"] - 1), when(lambda r: r["left"] > 0, "next"),
        *([store("left", 1)] if mortal or heir_of else []),
    ), mortal)  # fmt: skip


def slice_of_time() -> Program:
    """A sleep ends by itself after a slice; here the one after the death that nobody tells of."""
    over = until(lambda memory, _: memory["left"] == 1 or (memory["dead"] == 1 and memory["naps"] == 1))
    return Program("time", (over, wake("turn_event")))
