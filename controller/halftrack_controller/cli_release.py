"""The verbs on releases: `release publish` and `release list`. Publishing seals on this machine: the release key never travels."""

import zipfile
from typing import TYPE_CHECKING

import click

from halftrack_controller import render
from halftrack_controller.cli_frame import DONE, Program, Terminal, verb
from halftrack_controller.quantities import size_text
from halftrack_model import archives, canonical, seals
from halftrack_model.errors import InvalidInput
from halftrack_model.release import AGENT, Artifact
from halftrack_proto import messages as said

if TYPE_CHECKING:  # what these import is heavy, and only `publish` needs it
    from pathlib import Path

    from halftrack_controller.keys import SealingKey
    from halftrack_controller.manifests import ReleaseDraft
    from halftrack_controller.operator_client import OperatorClient


def declare(program: Program) -> None:
    """Add the verbs to the program."""

    @program.group("release")
    def group() -> None:
        """Publish releases and list them."""

    @verb(
        group,
        "publish",
        "halftrack release publish spectrometer-1.1.0.yaml",
        "halftrack release publish releases/*.yaml -o json",
    )
    @click.argument("files", nargs=-1, required=True, metavar="FILE...")
    def publish(terminal: Terminal, files: tuple[str, ...]) -> int:
        """Seal releases with your release key, upload their artifacts, publish them, and say which rollouts began.

        A version is published once and never changes. The same release again changes nothing.
        """
        from halftrack_controller import manifests

        declared = manifests.read(files)
        if declared.environments or declared.hosts or declared.graphs:
            raise InvalidInput("not-a-release", "only releases are published; bring the rest with `halftrack apply -f`")
        if not declared.releases:
            raise InvalidInput("not-a-release", "there is no release in these files; nothing was published")
        replies: list[said.PublishReply] = []
        try:
            with terminal.client() as client:
                key = client.load_release_key()
                for draft in declared.releases:
                    replies.append(_publish(terminal, client, key, draft))
        finally:  # each release is published by itself: those before one that is refused are out
            if replies:
                terminal.result(replies, *(line for reply in replies for line in _reply_lines(reply)))
        return DONE

    @verb(group, "list", "halftrack release list", "halftrack release list spectrometer -o json")
    @click.argument("product", required=False, default="")
    def list_(terminal: Terminal, product: str) -> int:
        """List published releases, of one PRODUCT or of all."""
        with terminal.client() as client:
            entries = client.releases(product)
        none = f"no release of {product} is published" if product else "no release is published"
        terminal.result(entries, render.release_table(entries) if entries else none)
        return DONE


def _publish(
    terminal: Terminal, client: "OperatorClient", key: "SealingKey", draft: "ReleaseDraft"
) -> said.PublishReply:
    size_bytes = draft.artifact.stat().st_size
    size = size_text(size_bytes)
    if draft.unpack:
        with terminal.working(f"{draft.product} {draft.version}: reading {draft.artifact.name} ({size})"):
            _check_archive(draft.artifact, size_bytes)
    with terminal.working(f"{draft.product} {draft.version}: sending {draft.artifact.name} ({size})"):
        held = client.put_artifact(draft.artifact)
    if _hides(draft.artifact):
        terminal.note(
            f"{draft.artifact.name} is packed, so hosts will fetch nearly all of the next version. One that is stored "
            "(`python -m zipapp`, a plain tar) lets them fetch what has changed"
        )
    release = draft.release(Artifact(held.digest, held.size_bytes))
    sealed = key.sealed(seals.RELEASE, canonical.encode(release))
    return client.publish_release(sealed)


def _hides(path: "Path") -> bool:
    try:
        with path.open("rb") as file:
            return archives.hides(file)
    except (OSError, ValueError, zipfile.BadZipFile):
        return False  # whatever else it is, it is no archive


def _check_archive(path: "Path", size_bytes: int) -> None:
    """Here, since every host would refuse it, each after having fetched it."""
    try:
        with path.open("rb") as file:
            archives.check(file, size_bytes)
    except InvalidInput as error:
        raise InvalidInput(error.reason, f"{path} is to be unpacked, and no host would: {error.message}") from None


def _reply_lines(reply: said.PublishReply) -> list[str]:
    name = f"{reply.product} {reply.version}"
    if reply.already_published:
        return [f"{name} was published before; nothing changes"]
    if not reply.rollout_ids:
        if reply.product == AGENT:
            return [
                f"{name} is published; the agents of an environment become it once it says `agent: {reply.version}`"
            ]
        return [f"{name} is published; no graph runs {reply.product} at an older version, so no rollout begins"]
    return [f"{name} is published", *(f"  rollout {rollout_id} begins" for rollout_id in reply.rollout_ids)]
