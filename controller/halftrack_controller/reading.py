"""The controller reads manifests for its operators (ADR 46): what is right is applied at once, and of all else it says only that it is not.

What is wrong is told where the files are, by the operator's own program: a release's artifact lies there, and its words
name every error of all files. So nothing here has to be kept the same in two places but what is right.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from halftrack_controller import documents
from halftrack_controller.documents import Declared
from halftrack_model.errors import InvalidInput, Refused
from halftrack_model.rewiring import asked
from halftrack_proto import manifests_codec

T = TypeVar("T")
Texts = Sequence[tuple[str, str]]  # files' names and what is in them


async def applied(texts: Texts, apply: Callable[[Sequence[Declared]], Awaitable[T]]) -> T:
    """What `apply` makes of the documents in `texts`; Refused `not-read` unless they can be read and are for it.

    What is wrong with documents as things stand is InvalidInput, each sentence led by the file and line that it is about.
    """
    declared, where = await asyncio.to_thread(_read, texts)
    try:
        return await apply(declared)
    except InvalidInput as error:
        raise InvalidInput(error.reason, documents.placed(error.message, where)) from None


def _read(texts: Texts) -> tuple[tuple[Declared, ...], dict[str, str]]:
    if not manifests_codec.short(texts):
        raise Refused(manifests_codec.NOT_READ, "the texts are too long to be read here")
    from halftrack_controller import manifests  # slow to import, and a controller may never be asked

    try:
        found = manifests.parsed(texts)
    except InvalidInput:
        raise Refused(manifests_codec.NOT_READ, "something in them is not as it must be") from None
    graphs = (asked(graph) for graph in found.graphs)
    declared: tuple[Declared, ...] = (*found.environments, *found.hosts, *graphs)
    if found.releases or not declared:
        raise Refused(manifests_codec.NOT_READ, "there is something that is not applied, or nothing at all")
    return declared, dict(found.where)
