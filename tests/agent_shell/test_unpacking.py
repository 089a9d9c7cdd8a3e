"""Unpacking: whatever an archive says, nothing but its own folder changes, and what is found there is what was in it."""

import asyncio
import errno
import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halftrack_agent import unpacking
from halftrack_agent.artifacts import ArtifactStore
from halftrack_agent.drivers import unpack
from halftrack_agent.unpacking import Unpacked
from halftrack_model import archives
from halftrack_model.errors import HostFault, InvalidInput
from halftrack_model.ids import digest_of
from tests.agent_shell.waiting import opened_by_a_reader

NAMES = st.one_of(
    st.sampled_from(["a", "b", "a/b", "a/b/c", "../x", "/etc/x", "a/../../x", ".", "./a", "a//b", "", "a/", "..", "a\0b", "x" * 300, "d/" * 40 + "f"]),
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)  # fmt: skip
TYPES = st.sampled_from([tarfile.REGTYPE, tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])  # fmt: skip
MEMBERS = st.lists(st.tuples(NAMES, TYPES, st.binary(max_size=40), NAMES), max_size=6)


def tar(members: list[tuple[str, bytes, bytes, str]], mode: str = "w") -> bytes:
    """A tar of (name, type, content, link)."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind, content, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, link, 0o755
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def plain(**contents: bytes) -> bytes:
    return tar([(name, tarfile.REGTYPE, content, "") for name, content in contents.items()])


def zipped(name: str, content: bytes, mode: int = stat.S_IFREG | 0o644) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        archives.check(io.BytesIO(data), len(data))
    return caught.value.message


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "upwards": (lambda: plain(**{"../x": b""}), "does not lead downwards"),
    "absolute": (lambda: plain(**{"/etc/x": b""}), "does not lead downwards"),
    "in between": (lambda: plain(**{"a/../../x": b""}), "does not lead downwards"),
    "symbolic link": (lambda: tar([("a", tarfile.SYMTYPE, b"", "/etc")]), "a symbolic link"),
    "hard link": (lambda: tar([("a", tarfile.LNKTYPE, b"", "/etc/passwd")]), "a hard link"),
    "device": (lambda: tar([("a", tarfile.CHRTYPE, b"", "")]), "a device"),
    "pipe": (lambda: tar([("a", tarfile.FIFOTYPE, b"", "")]), "a pipe"),
    "twice": (lambda: tar([("a", tarfile.REGTYPE, b"1", ""), ("./a", tarfile.REGTYPE, b"2", "")]), "in it twice"),
    "below a file": (lambda: plain(**{"a": b"", "a/b": b""}), "would lie in a file"),
    "long": (lambda: plain(**{"x" * 256: b""}), "too long or too deep"),
    "deep": (lambda: plain(**{"d/" * 32 + "f": b""}), "too long or too deep"),
    "a zip's link": (lambda: zipped("a", b"/etc", stat.S_IFLNK | 0o777), "a symbolic link"),
    "a zip's way up": (lambda: zipped("../a", b""), "does not lead downwards"),
    "a zip's device": (lambda: zipped("a", b"", stat.S_IFCHR | 0o600), "a device"),
    "a bomb": (lambda: gzip.compress(plain(a=bytes(64 << 20))), "far more than its size lets expect"),
    "a zip bomb": (lambda: zipped("a", bytes(64 << 20)), "far more than its size lets expect"),
    "cut off": (lambda: gzip.compress(plain(a=os.urandom(9000)))[:-4000], "to its end"),
    "something else": (lambda: b"#!/bin/sh\n" * 100, "no tar and no zip"),
    "nothing": (lambda: b"", "no tar and no zip"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_honest_release_has_is_refused(name: str) -> None:
    made, told = REFUSED[name]
    assert told in refusal(made())


@pytest.mark.parametrize(
    ("data", "hides"),
    [
        (plain(a=b"x" * 9000), False),
        (gzip.compress(b"x" * 9000), True),
        (zipped("a", os.urandom(9000)), True),
        (b"#!/bin/sh\n", False),
        (b"", False),
    ],
)
def test_what_is_packed_hides_what_has_stayed(data: bytes, hides: bool) -> None:
    assert archives.hides(io.BytesIO(data)) is hides


@pytest.mark.parametrize("packed", [False, True])
def test_a_zip_that_is_the_last_file_of_a_tar_is_a_file_of_it(packed: bool) -> None:
    """A zip is found by its end, within the last 64 KiB of whatever it lies in."""
    contents = {"run": b"#!/bin/sh\n", "lib.whl": zipped("inner", b"x")}
    data = plain(**contents)
    data = gzip.compress(data, 0) if packed else data
    found = {member.name: b"".join(blocks) for member, blocks in archives.members(io.BytesIO(data), len(data))}
    assert found == contents
    assert archives.hides(io.BytesIO(data)) is packed


# invariant: D1
def test_what_was_in_it_is_found_and_held_to_that(tmp_path: Path) -> None:
    store = Unpacked(tmp_path / "unpacked")
    for kind in ("w", "w:gz", "w:xz", "w:bz2"):
        data = tar([("bin", tarfile.DIRTYPE, b"", ""), ("bin/run", tarfile.REGTYPE, kind.encode(), ""), ("empty/", tarfile.DIRTYPE, b"", "")], kind)  # fmt: skip
        archive, digest = tmp_path / kind, digest_of(data)
        archive.write_bytes(data)
        with pytest.raises(HostFault):
            store.path(digest)
        asyncio.run(store.unpack(digest, archive))
        asyncio.run(store.unpack(digest, archive))
        run = store.path(digest) / "bin" / "run"
        assert (run.read_bytes(), stat.S_IMODE(run.stat().st_mode)) == (kind.encode(), 0o500)
        assert (store.path(digest) / "empty").is_dir()
        assert {stat.S_IMODE(path.stat().st_mode) for path in store.path(digest).rglob("*") if path.is_dir()} == {0o500}
        again = Unpacked(tmp_path / "unpacked")
        assert digest in again.digests
        assert not again.findings

        run.chmod(0o700)
        run.write_bytes(b"rot")
        found = Unpacked(tmp_path / "unpacked")
        assert digest not in found.digests
        assert "is damaged" in found.findings[0]
    data = zipped("lib/x.py", b"x = 1\n")
    (tmp_path / "wheel").write_bytes(data)
    asyncio.run(store.unpack(digest_of(data), tmp_path / "wheel"))
    path = store.path(digest_of(data)) / "lib/x.py"
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"x = 1\n", 0o400)
    store.retain([digest_of(data)])
    assert path.exists()
    store.retain([])
    assert os.listdir(tmp_path / "unpacked") == [] or not path.exists()


def changed(run: Path) -> None:
    run.chmod(0o700)
    run.write_bytes(b"rot")


def turned(run: Path) -> None:
    """As long as it was, with the same rights, and of the same time."""
    before = run.stat()
    changed(run)
    run.chmod(stat.S_IMODE(before.st_mode))
    os.utime(run, ns=(before.st_atime_ns, before.st_mtime_ns))


def gone(run: Path) -> None:
    run.parent.chmod(0o700)
    run.unlink()


def joined(run: Path) -> None:
    run.parent.chmod(0o700)
    (run.parent / "more").write_bytes(b"")


# invariant: D1
@pytest.mark.parametrize("change", [changed, turned, gone, joined])
def test_what_is_changed_while_an_agent_runs_is_found_before_it_is_executed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    store = Unpacked(tmp_path / "unpacked")
    data = plain(**{"bin/run": b"run", "other": b"other"})
    digest, archive = digest_of(data), tmp_path / "archive"
    archive.write_bytes(data)
    asyncio.run(store.unpack(digest, archive))
    for known in (store, Unpacked(tmp_path / "unpacked")):
        run = known.path(digest) / "bin/run"
        known.look(digest)
        os.utime(run)
        known.look(digest)
        change(run)
        with pytest.raises(HostFault, match="it is unpacked again"):
            known.look(digest)
        assert digest not in known.digests
        assert not run.exists()
        asyncio.run(known.unpack(digest, archive))
        known.look(digest)


# invariant: P1
def test_the_child_itself_can_write_nowhere_else(tmp_path: Path) -> None:
    """Whatever a reader of archives were made to do."""
    (tmp_path / "own").mkdir()
    (tmp_path / "archive").touch()
    (tmp_path / "kept").touch()
    program = f"""
import os, sys
from halftrack_agent.drivers import unpack
archive, own, kept, outside = sys.argv[1:]
def refused(act):
    try: act()
    except PermissionError: return True
def members(file, size):
    open(own + "/inside", "w").close()
    assert refused(lambda: open(outside, "w"))
    assert refused(lambda: os.unlink(kept))
    assert refused(lambda: os.symlink("/etc", own + "/link"))
    assert refused(lambda: os.mkfifo(own + "/pipe"))
    assert refused(lambda: os.execv("/bin/true", ["true"]))
    yield from ()
unpack.archives.members = members
sys.exit(unpack.main(archive, own, "{os.getpid()}", "1000000"))
"""
    argv = [
        sys.executable,
        "-I",
        "-c",
        program,
        *(str(tmp_path / name) for name in ("archive", "own", "kept", "outside")),
    ]
    ran = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "[]", "")


# invariant: R1
@pytest.mark.parametrize("disk_takes_no_change", [False, True])
def test_what_a_removal_has_left_goes_with_the_next_plan_and_stands_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk_takes_no_change: bool
) -> None:
    """On a disk that is full, or read-only for a while, nothing can be renamed or removed."""
    folder, made = tmp_path / "unpacked", {}
    store = Unpacked(folder)
    for content in (b"one", b"other"):
        data = plain(**{"bin/run": content})
        digest, archive = digest_of(data), tmp_path / content.decode()
        archive.write_bytes(data)
        asyncio.run(store.unpack(digest, archive))
        made[digest] = archive
    one, other = made
    with monkeypatch.context() as refusing:
        refusing.setattr(unpacking, "_remove", lambda _path: None)
        if disk_takes_no_change:
            refusing.setattr(Path, "rename", refused)
        store.retain([other])
    assert store.digests == {other}
    assert len(os.listdir(folder)) == 2, "what goes later"
    if disk_takes_no_change:
        (folder / f".{one.removeprefix('sha256:')}.gone" / "tree").mkdir(parents=True)
        asyncio.run(store.unpack(one, made[one]))
        store.look(one)
    for name in (".left.new", ".left.gone", ".left"):
        (folder / name / "tree").mkdir(parents=True)
    store.retain([other])
    assert os.listdir(folder) == [other.removeprefix("sha256:")]
    store.look(other)


def refused(_path: Path, _to: Path) -> None:
    raise OSError(errno.ENOSPC, "no room")


# invariant: R1
def test_a_new_plan_leaves_alone_what_is_being_unpacked(tmp_path: Path) -> None:
    archive, folder = tmp_path / "archive", tmp_path / "unpacked"
    os.mkfifo(archive)

    async def work() -> None:
        store = Unpacked(folder)
        unpacks = asyncio.create_task(store.unpack(digest_of(b""), archive))
        writer = await opened_by_a_reader(archive)
        before = everything(folder)
        store.retain([])
        assert everything(folder) == before != {}
        os.close(writer)
        with pytest.raises(InvalidInput):
            await unpacks
        assert everything(folder) == {}

    asyncio.run(work())


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }


# invariant: D1
def test_what_has_no_room_leaves_the_disk_as_it_was_and_old_artifacts_give_way_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room that is kept free is for what must be written when there is none: an archive that is larger took that as well, and again at each attempt."""
    folder, large = tmp_path / "artifacts", os.urandom(3 * unpack.MEMBER_BYTES)
    blobs = [plain(run=large), plain(old=b"old"), plain(way_back=b"")]
    digests = [digest_of(data) for data in blobs]
    store = ArtifactStore(folder)

    async def source(digest: str, offset: int) -> AsyncIterator[tuple[int, bytes]]:
        data = blobs[digests.index(digest)]
        yield len(data), data[offset:]

    async def work() -> None:
        for digest, data in zip(digests, blobs, strict=True):
            await store.fetch(digest, len(data), source)
        store.retain({"a": {digests[2]}}, None)
        store.retain({"a": {digests[0]}}, None, frozenset(digests))
        await store.unpack(digests[1])
        before = everything(tmp_path / "unpacked")
        monkeypatch.setattr(unpacking, "free_bytes", lambda _folder: unpacking.RESERVE_BYTES + len(large))
        with pytest.raises(HostFault, match="no room to unpack"):
            await store.unpack(digests[0])
        assert digests[1] not in store.digests, "what nobody names has gone for it"
        assert store.digests == {digests[0], digests[2]}, "and nothing else has"
        assert before
        assert everything(tmp_path / "unpacked") == {}
        monkeypatch.setattr(unpacking, "free_bytes", lambda _folder: unpacking.RESERVE_BYTES + 5 * unpack.MEMBER_BYTES)
        await store.unpack(digests[0])
        assert (store.program(digests[0], unpacked=True) / "run").read_bytes() == large

    asyncio.run(work())


# invariant: P1
@given(MEMBERS)
@settings(max_examples=15, deadline=None)
def test_an_archive_changes_nothing_but_its_own_folder(members: list[tuple[str, bytes, bytes, str]]) -> None:
    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        (top / "outside").write_bytes(b"as it was")
        try:
            data = tar(members)
        except (ValueError, UnicodeError):
            return
        archive, digest = top / "archive", digest_of(data)
        archive.write_bytes(data)
        store = Unpacked(top / "state" / "unpacked")
        before = everything(top)
        try:
            asyncio.run(store.unpack(digest, archive))
        except InvalidInput:
            assert everything(top) == before
            return
        own = store.path(digest).parent
        assert {path: seen for path, seen in everything(top).items() if not path.startswith(str(own))} == before
        files = {path: content for path, (mode, content) in everything(own / "tree").items() if stat.S_ISREG(mode)}
        wanted = [content for _, kind, content, _ in members if kind == tarfile.REGTYPE]
        assert sorted(files.values()) == sorted(wanted)
