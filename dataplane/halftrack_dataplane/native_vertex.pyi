from collections.abc import Callable, Mapping

from typing_extensions import Buffer

from halftrack_dataplane.frames import Frame
from halftrack_dataplane.sdk import Param

ELF: bytes

class VertexError(Exception): ...

class NativeVertex:
    def process(self, frame: Frame) -> bytes | list[bytes] | None: ...
    def snapshot(self) -> bytes | list[bytes]: ...
    def restore(self, state: Buffer, *, same_release: bool) -> int: ...

def library(path: str, name: str) -> Callable[[Mapping[str, Param]], NativeVertex]: ...
