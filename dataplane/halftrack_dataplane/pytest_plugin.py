"""The fixture that pytest finds wherever Halftrack is installed (entry point `pytest11`): real streams that are gone afterwards.

Imports the kit only in a test that asks for it, so that other people's tests pay nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

try:
    import pytest
except ImportError as error:
    raise ImportError("only pytest loads this module: pip install 'halftrack[testkit]'") from error

if TYPE_CHECKING:
    from halftrack_dataplane.testkit.real import RealStream

Begin = Callable[..., "RealStream"]


@pytest.fixture
def halftrack_stream() -> Iterator[Begin]:
    """Begin real streams, as `testkit.RealStream` does; whatever happens, their processes and folders are gone after the test."""
    from halftrack_dataplane.testkit.real import RealStream

    with ExitStack() as stack:

        def begin(*arguments: Any, **options: Any) -> RealStream:
            return stack.enter_context(RealStream(*arguments, **options))

        yield begin
