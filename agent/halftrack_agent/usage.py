"""What the members of a seat use while green keeps up: from counters that only rise to figures of one window. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from halftrack_agent.events import HostView, UsageSeen
from halftrack_model.swap import Seat, SeatUsage


@dataclass(frozen=True, slots=True)
class Window:
    """What blue and green had used when the window began."""

    blue: UsageSeen
    green: UsageSeen


def noted(windows: Mapping[str, Window], seat: Seat, view: HostView, keeps_up: bool) -> Mapping[str, Window]:
    """The windows, by green's workload, after this look. While green catches up, or is a new process, there is none, or a new one."""
    blue, green = view.usages.get(seat.blue_workload), view.usages.get(seat.green_workload)
    others = {name: window for name, window in windows.items() if name != seat.green_workload}
    if blue is None or green is None or not keeps_up:
        return others
    held = windows.get(seat.green_workload)
    if held is None or blue.cpu_ms < held.blue.cpu_ms or green.cpu_ms < held.green.cpu_ms:
        held = Window(blue, green)
    return {**others, seat.green_workload: held}


def of_seat(windows: Mapping[str, Window], seat: Seat, view: HostView) -> SeatUsage | None:
    """What is known of the seat; None while green has not kept up yet, or nobody measures."""
    blue, green = view.usages.get(seat.blue_workload), view.usages.get(seat.green_workload)
    held = windows.get(seat.green_workload)
    if blue is None or green is None or held is None:
        return None
    return SeatUsage(
        window_ms=min(blue.at_ms - held.blue.at_ms, green.at_ms - held.green.at_ms),
        blue_cpu_ms=blue.cpu_ms - held.blue.cpu_ms,
        green_cpu_ms=green.cpu_ms - held.green.cpu_ms,
        blue_bytes=blue.memory_bytes,
        green_bytes=green.memory_bytes,
    )
