"""The ring's protocol in small steps, for the explorer: the same words and the same order as native/*.h, one frame a record.

Each function makes one side's program; `without` leaves one named ordering out, to see that it is needed. A ring here keeps as many
frames as there are words `data0`, `data1`, ...; a frame's content is its sequence plus one.
"""

from tests.ring.model.explorer import (
    Program,
    Step,
    barrier,
    change,
    fence,
    go,
    let,
    load,
    mark,
    membarrier,
    must,
    sleep,
    store,
    swap_if,
    until,
    wake,
    when,
)  # fmt: skip

FREE, CLAIMING, LOSSLESS = 0, 1, 2
NO_ONE = 99


def light(registered: bool, without: str) -> list[Step]:
    """ht_light_fence: nothing at all where the sleeper fences for both."""
    return [] if registered or "light" in without else [fence()]


def heavy(registered: bool, without: str) -> list[Step]:
    """ht_heavy_fence. Only a registered process is reached by membarrier."""
    if "heavy" in without:
        return []
    return [membarrier()] if registered else [fence()]


def wake_readers(registered: bool, without: str = "") -> list[Step]:
    """ht_wake_readers. SYNC: frame wake-up."""
    return [
        *light(registered, without),
        load("bits", "waiters"), when(lambda r: not r["bits"], "nobody"),
        change("waiters", lambda _, __: 0, "bits"), when(lambda r: not r["bits"], "nobody"),
        wake("data_event"), mark("nobody"),
    ]  # fmt: skip


def gate(readers: int, into: str, tag: str) -> list[Step]:
    """ht_gate: the least cursor of all lossless readers."""
    steps: list[Step] = [let(into, lambda _: NO_ONE)]
    for slot in range(readers):
        skip = f"{tag} not {slot}"
        steps += [
            load("owner", f"owner{slot}"), when(lambda r: r["owner"] != LOSSLESS, skip),
            load("cursor", f"cursor{slot}"),  # SYNC: frame released
            let(into, lambda r: min(r[into], r["cursor"])), mark(skip),
        ]  # fmt: skip
    return steps


def wake_writer(registered: bool, at: str, without: str = "", readers: int = 1) -> list[Step]:
    """ht_wake_writer: a reader whose cursor is in register `at` wakes if it is the last to get where the writer wants all. SYNC: space
    wake-up."""
    return [
        *light(registered, without),
        load("waits", "space_waiting"), when(lambda r: not r["waits"], at),
        load("wanted", "space_wanted"), when(lambda r: r["at"] < r["wanted"], at),
        *([] if "among readers" in without else [fence()]),
        *gate(readers, "least", f"{at} all"), when(lambda r: r["least"] < r["wanted"], at),
        change("space_waiting", lambda _, __: 0, "waits"), when(lambda r: not r["waits"], at),
        wake("space_event"), mark(at),
    ]  # fmt: skip


def publisher(frames: int, *, registered: bool, without: str = "") -> Program:
    """A writer with room for all: ht_publish, ht_show."""
    return Program("writer", (
        let("seq", lambda _: 0),
        mark("next"),
        store(lambda r: f"data{r['seq']}", lambda r: r["seq"] + 1),
        let("seq", lambda r: r["seq"] + 1),
        store("head", lambda r: r["seq"], release="release" not in without),  # SYNC: frame visible
        *wake_readers(registered, without),
        when(lambda r: r["seq"] < frames, "next"),
    ))  # fmt: skip


def sleeper(frames: int, *, registered: bool, without: str = "") -> Program:
    """A reader that takes frame after frame: ht_wait, ht_arm_reader, ht_look, ht_unwait.

    Its bit is set by an atomic "or" that need not be a fence; alone, it is a store that may come late.
    """
    event = [load("event", "data_event")]
    return Program("reader", (
        let("cursor", lambda _: 0), let("armed", lambda _: 0),
        mark("look"),
        load("head", "head"), when(lambda r: r["head"] > r["cursor"], "take"),
        *([] if "event first" in without else event),
        when(lambda r: r["armed"] == 0, "arm"),
        load("bits", "waiters"), when(lambda r: r["bits"] == 1, "armed"),  # not taken back by who has woken us
        mark("arm"),
        store("waiters", 1), let("armed", lambda _: 1), *heavy(registered, without),
        mark("armed"),
        *(event if "event after arming" in without else []),
        load("head", "head"), when(lambda r: r["head"] > r["cursor"], "take"),
        *(event if "event after looking" in without else []),
        sleep("data_event", "event"),
        go("look"),
        mark("take"),
        when(lambda r: r["armed"] == 0, "awake"), change("waiters", lambda old, _: old & ~1), let("armed", lambda _: 0),
        mark("awake"),
        load("seen", lambda r: f"data{r['cursor']}"),
        must(lambda r: r["seen"] == r["cursor"] + 1, "a frame was visible before it was whole"),
        let("cursor", lambda r: r["cursor"] + 1),
        when(lambda r: r["cursor"] < frames, "look"),
    ))  # fmt: skip


def reserve(tag: str, readers: int, slots: int, without: str) -> list[Step]:
    """ht_reserve and ht_reclaim for one frame: goes to `full TAG` if a reader is in the way, else past it."""
    need = [let("needed", lambda r: r["seq"] + 1 - slots)]
    return [
        *need, when(lambda r: r["needed"] <= r["tail"], f"room {tag}"),
        *gate(readers, "gate", f"first {tag}"), when(lambda r: r["gate"] < r["needed"], f"full {tag}"),
        store("reclaim", lambda r: r["needed"]),
        *([] if "writer's fence" in without else [fence()]),  # SYNC: reader pinned
        *gate(readers, "gate", f"second {tag}"), when(lambda r: r["gate"] >= r["needed"], f"free {tag}"),
        store("reclaim", lambda r: r["tail"]), go(f"full {tag}"),  # give way
        mark(f"free {tag}"),
        let("tail", lambda r: r["needed"]), store("tail", lambda r: r["tail"]),
        *([] if "reclaimed" in without else [barrier()]),  # SYNC: bytes reclaimed
        mark(f"room {tag}"),
    ]  # fmt: skip


def writer(
    frames: int, *, slots: int, readers: int, registered: bool = True, without: str = "", more: int = 0
) -> Program:
    """A writer that waits for room: ht_room, ht_reclaim, ht_publish. It begins where `slots` frames are retained.

    Before it sleeps it asks for `more` frames than it needs, as long as there are so many; the time-out after which it asks for less is not
    here, and must not be needed by readers that go on.
    """
    announce = [store("space_wanted", lambda r: r["wanted"]), store("space_waiting", 1), *heavy(registered, without)]
    if "wanted in time" in without:
        announce = [*announce[1:], announce[0]]
    return Program("writer", (
        let("seq", lambda _: slots), let("tail", lambda _: 0), let("armed", lambda _: 0),
        mark("next"),
        *reserve("at once", readers, slots, without), go("write"),
        mark("full at once"),
        let("wanted", lambda r: min(r["needed"] + more, r["seq"])),
        *([] if "event first" in without else [load("event", "space_event")]),
        when(lambda r: r["armed"] == 0, "arm"),
        load("bits", "space_waiting"), when(lambda r: r["bits"] == 1, "armed"),  # not taken back by who has woken us
        mark("arm"),
        let("armed", lambda _: 1), *announce,
        mark("armed"),
        *([load("event", "space_event")] if "event first" in without else []),
        *gate(readers, "gate", "announced"), when(lambda r: r["gate"] >= r["wanted"], "next"),
        sleep("space_event", "event"),
        go("next"),
        mark("write"),
        when(lambda r: r["armed"] == 0, "awake"), store("space_waiting", 0), let("armed", lambda _: 0),
        mark("awake"),
        store(lambda r: f"data{r['seq'] % slots}", lambda r: r["seq"] + 1),
        let("seq", lambda r: r["seq"] + 1),
        store("head", lambda r: r["seq"], release=True),  # SYNC: frame visible
        when(lambda r: r["seq"] < slots + frames, "next"),
    ))  # fmt: skip


def pin(slot: int, without: str) -> list[Step]:
    """ht_pin: until what the cursor points at is not being reclaimed. SYNC: reader pinned."""
    return [
        mark("pin"),
        store(f"cursor{slot}", lambda r: r["at"], release=True),
        *([] if "reader's fence" in without else [fence()]),
        load("reclaim", "reclaim"), when(lambda r: r["reclaim"] <= r["at"], "pinned"),
        let("at", lambda r: r["reclaim"]), go("pin"),
        mark("pinned"),
    ]  # fmt: skip


def freed(slot: int, state: int, early: bool) -> list[Step]:
    """free_slot: whoever frees it tells the writer before, so that dying there leaves a slot to reap."""
    told = [wake("space_event")]
    if early:
        return [swap_if(f"owner{slot}", state, FREE), *told]
    return [swap_if(f"owner{slot}", state, CLAIMING), *told, swap_if(f"owner{slot}", CLAIMING, FREE)]


def joiner(
    slot: int, *, slots: int, registered: bool = True, without: str = "", mortal: str = "", readers: int = 1
) -> Program:
    """Joins at the oldest, views what is there twice, releases it, and leaves: ht_join, ht_look, ht_done, ht_leave."""
    whole = must(lambda r: r["seen"] == r["at"] + 1, "what a reader had pinned was overwritten")
    look = [load("seen", lambda r: f"data{r['at'] % slots}"), whole]
    return Program(f"reader {slot}", (
        swap_if(f"owner{slot}", FREE, CLAIMING),
        load("at", "tail"), let("wanted", lambda r: r["at"]),
        store(f"cursor{slot}", lambda r: r["at"], release=True),
        swap_if(f"owner{slot}", CLAIMING, LOSSLESS),
        *pin(slot, without),
        *([] if "wake" in without else [
            when(lambda r: r["at"] == r["wanted"], "as wanted"), *wake_writer(registered, "told", "", readers), mark("as wanted")
        ]),
        load("head", "head"), when(lambda r: r["head"] <= r["at"], "leave"),
        *look, *look,
        store(f"cursor{slot}", lambda r: r["at"] + 1, release=True),  # SYNC: frame released
        let("at", lambda r: r["at"] + 1), *wake_writer(registered, "released", without, readers),
        mark("leave"),
        *freed(slot, LOSSLESS, "early" in without),
        store("left", 1),
    ), mortal)  # fmt: skip


def stayer(
    frames: int, *, slots: int, registered: bool = True, without: str = "", slot: int = 0, readers: int = 1
) -> Program:
    """Joins at the oldest and takes all there is and will be, looking again and again: only the writer sleeps."""
    joined = joiner(slot, slots=slots, registered=registered, without=without, readers=readers).steps
    leave = next(at for at, step in enumerate(joined) if step.word == "head")
    return Program(f"reader {slot}", (
        *joined[:leave],
        mark("more"),
        until(lambda memory, r: memory["head"] > r["at"]),
        load("seen", lambda r: f"data{r['at'] % slots}"),
        must(lambda r: r["seen"] == r["at"] + 1, "what a reader had pinned was overwritten"),
        let("at", lambda r: r["at"] + 1),
        store(f"cursor{slot}", lambda r: r["at"], release=True),  # SYNC: frame released
        *wake_writer(registered, "released", without, readers),
        when(lambda r: r["at"] < slots + frames, "more"),
    ))  # fmt: skip


def goer(frames: int, *, slots: int, slot: int, without: str = "") -> Program:
    """One of two readers that have joined at the oldest: the second half of `stayer`."""
    steps = stayer(frames, slots=slots, slot=slot, readers=2, without=without).steps
    more = next(at for at, step in enumerate(steps) if step.word == "more")
    return Program(f"reader {slot}", (let("at", lambda _: 0), *steps[more:]))


def seeker(*, slots: int, without: str = "") -> Program:
    """A reader in slot 0 that has read all there is goes back to the oldest and views it twice: ht_seek."""
    whole = must(lambda r: r["seen"] == r["at"] + 1, "what a reader had pinned was overwritten")
    look = [load("seen", lambda r: f"data{r['at'] % slots}"), whole]
    return Program("reader 0", (
        load("at", "tail"), *pin(0, without),
        *wake_writer(True, "told"),
        load("head", "head"), when(lambda r: r["head"] <= r["at"], "leave"), *look, *look, mark("leave"),
        *freed(0, LOSSLESS, early=False),
    ))  # fmt: skip


def reaper(slot: int) -> Program:
    """Frees the slot of a reader that was killed: ht_reap, free_slot."""
    return Program("reaper", (
        until(lambda memory, _: memory["dead"] == 1 or memory["left"] == 1),
        load("owner", f"owner{slot}"), when(lambda r: r["owner"] == FREE, "nothing"),
        change(f"owner{slot}", lambda old, r: CLAIMING if old == r["owner"] else old),
        change("waiters", lambda old, _: old & ~1),
        wake("space_event"),
        swap_if(f"owner{slot}", CLAIMING, FREE),
        mark("nothing"),
    ))  # fmt: skip


def lossy(slots: int, without: str = "", *, newest: bool = False) -> Program:
    """Copies the oldest or the newest frame, of two words, and asks afterwards whether it was whole: ht_locate, ht_intact."""
    return Program("lossy reader", (
        load("head", "head"), load("at", "tail"), let("at", lambda r: r["head"] - 1 if newest else r["at"]), when(lambda r: r["head"] <= r["at"], "nothing"),
        load("one", lambda r: f"data{r['at'] % slots}"), load("two", lambda r: f"more{r['at'] % slots}"),
        load("tail", "tail"),
        when(lambda r: "tail" not in without and r["tail"] > r["at"], "nothing"),  # SYNC: bytes reclaimed
        must(lambda r: r["one"] == r["two"] == r["at"] + 1, "a torn frame was taken for a whole one"),
        mark("nothing"),
    ))  # fmt: skip


def overwriter(frames: int, *, slots: int, without: str = "") -> Program:
    """A writer that nobody holds up, of frames of two words."""
    return Program("writer", (
        let("seq", lambda _: slots), let("tail", lambda _: 0),
        mark("next"),
        *reserve("at once", 0, slots, without),
        mark("full at once"),
        store(lambda r: f"data{r['seq'] % slots}", lambda r: r["seq"] + 1),
        store(lambda r: f"more{r['seq'] % slots}", lambda r: r["seq"] + 1),
        let("seq", lambda r: r["seq"] + 1),
        store("head", lambda r: r["seq"], release="release" not in without),
        when(lambda r: r["seq"] < slots + frames, "next"),
    ))  # fmt: skip


DEAD = 7  # the owner word of one that died while it waited in slot 0


def reaping(order: str) -> Program:
    """Another reaper, which has seen a dead owner. `order` says what comes when; the code's is claim, clear, free."""
    steps = {
        "claim": [change("owner0", lambda old, _: CLAIMING + 10 if old == DEAD else old),
                  when(lambda r: r["was"] != DEAD, "gone")],
        "clear": [change("waiters", lambda old, _: old & ~1)],
        "free": [change("owner0", lambda old, _: FREE if old in (DEAD, CLAIMING + 10) else old)],
    }  # fmt: skip
    made = [step for word in order.split() for step in steps[word]]
    return Program("reaper", (load("owner", "owner0"), when(lambda r: r["owner"] != DEAD, "gone"), *made, mark("gone")))


def newcomer(frames: int) -> Program:
    """Joins in slot 0 as soon as it is free, then sleeps for frames."""
    steps = sleeper(frames, registered=True).steps
    return Program("newcomer", (
        until(lambda memory, _: memory["owner0"] == FREE), swap_if("owner0", FREE, LOSSLESS), *steps,
    ))  # fmt: skip
