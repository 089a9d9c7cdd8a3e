from halftrack_dataplane.merge_runs import Runs
from halftrack_dataplane.ring import Reader

__all__ = ["Flow"]

class Flow:
    def __init__(self, runs: Runs) -> None: ...
    def run(
        self,
        readers: list[Reader],
        owned: int,
        since: int,
        until: int,
        epoch: int,
        stamp: int,
        likely: int,
        seconds: float,
    ) -> tuple[list[tuple[int, bool, int, int, int, int, list[tuple[int, int, int]]]], bool]: ...
