from typing import ClassVar

__all__ = ["Pacing"]

class Pacing:
    COALESCED_BYTES: ClassVar[int]
    UNCOPIED_BYTES: ClassVar[int]
    FLIGHT_MESSAGES: ClassVar[int]
    FLIGHT_BYTES: ClassVar[int]
    @staticmethod
    def flight_bytes(capacity: int) -> int: ...
    @staticmethod
    def may_send(credit: int, messages: int, size: int, most: int) -> bool: ...
    @staticmethod
    def fitting(frames: int, length: int, room: int, room_frames: int) -> int: ...
    @staticmethod
    def goes_uncopied(size: int, behind: int, capacity: int) -> bool: ...
    @staticmethod
    def is_ripe(pending: int, waited_ns: int, linger_ns: int) -> bool: ...
    @staticmethod
    def whole_batch(batches: list[tuple[int, int]], seq: int) -> tuple[int | None, int | None]: ...
