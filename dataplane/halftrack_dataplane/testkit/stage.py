"""A pair on real rings, in this process: members, merge and sink that take a step when they are told to, and die when they should.

Owns rings, lives and deaths. What a member begins from, how it numbers and what it drops is `restoring.py`'s and `member.py`'s; what
passes is `merge.py`'s. A death here unwinds the stack where SIGKILL stops the process: what rings do about half-done writes is not
seen here, but with real processes (`real.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from halftrack_dataplane import restoring
from halftrack_dataplane.frames import Frame
from halftrack_dataplane.member import Member, Outlet
from halftrack_dataplane.merge import Apply, Drop, Lose, Offer, Pass, decide
from halftrack_dataplane.ring import Reader, Ring, Writer
from halftrack_dataplane.runspec import RunSpec
from halftrack_dataplane.runtime import Stop, Unable
from halftrack_dataplane.sdk import Param, Vertex
from halftrack_dataplane.snapshot_form import joined
from halftrack_dataplane.snapshots import SnapshotFolder
from halftrack_dataplane.testkit.checker import Record, difference
from halftrack_dataplane.testkit.release import Release
from halftrack_dataplane.testkit.script import During, Kill

SLOTS = 1024
ROOM_FRAMES = 512  # a member goes on only while its ring has at least these free


class Death(BaseException):  # stands for SIGKILL: no `except Exception` of a user's stops it
    """Nothing after it runs."""


class Fate:
    """Who of a seat still has to die where, and where its member is."""

    def __init__(self, kills: list[Kill]) -> None:
        self.kills = kills
        self.at = 0
        self.met = 0

    def meet(self, during: During) -> None:
        """Die here, if it is time to."""
        for kill in self.kills:
            if kill.during == during and kill.frame <= self.at:
                self.kills.remove(kill)
                self.met += 1
                raise Death


class Mortal:
    """The user's vertex, which may die in any of its calls."""

    def __init__(self, vertex: Vertex, fate: Fate) -> None:
        self._vertex = vertex
        self._fate = fate

    def process(self, frame: Frame) -> bytes | Sequence[bytes] | None:
        """As the vertex's."""
        self._fate.at = frame.seq
        self._fate.meet("process")
        output = self._vertex.process(frame)
        self._fate.meet("computed")
        return output

    def snapshot(self) -> bytes:
        """As the vertex's."""
        state = self._vertex.snapshot()
        self._fate.meet("snapshot")
        return joined(state)

    def restore(self, state: bytes, *, same_release: bool) -> int:
        """As the vertex's."""
        suppress = self._vertex.restore(state, same_release=same_release)
        self._fate.meet("restore")
        return suppress


class Book:
    """Every output that any life of any member has computed, by release and number: one number is one output, whoever computes it."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, int], tuple[bytes, str]] = {}
        self.findings: list[str] = []
        self.parted = 0

    def note(self, version: str, number: int, output: bytes, who: str) -> None:
        """Hold `output` against what another, or a former life, has computed as `number`."""
        known, by = self._first.setdefault((version, number), (output, who))
        if known != output:
            self.parted += 1
            if len(self.findings) < 4:
                self.findings.append(f"output {number} of {who} is not what {by} computed: {difference(output, known)}")


class BookedOutlet(Outlet):
    """An outlet that writes down what goes through it, and after which its member may die."""

    book: Book
    fate: Fate
    post: "Post"

    def put(self, number: int, output: bytes, timestamp_ns: int) -> bool:
        """As the real one's."""
        self.book.note(self.post.release.version, number, bytes(output), self.post.name)
        done = super().put(number, output, timestamp_ns)
        self.post.first = number if self.post.first is None else self.post.first
        self.fate.meet("published")
        return done


@dataclass(slots=True)
class Life:
    """One life of a member, and what it began from."""

    member: Member
    reader: Reader
    writer: Writer
    begin: restoring.Begin


@dataclass(slots=True)
class Post:
    """A member's place: its release, its output ring, its life if it has one, and how many turns it is dead for."""

    seat: str
    release: Release
    target: Ring
    spec: RunSpec
    life: Life | None = None
    dead_for: int = 0
    at: int = 0  # the input that its last life has come to
    lives: int = 0
    first: int | None = None  # its first output
    reason: str = "it was never its turn"

    @property
    def name(self) -> str:
        """member@release."""
        return f"{self.seat}@{self.release.version}"


@dataclass(slots=True)
class Watched:
    """A member's ring, as the merge reads it."""

    ring: Ring
    reader: Reader
    held: Frame | None = None

    def offer(self, name: str) -> Offer:
        """Its members always come back, so a ring can always bring what is not there."""
        self.held = self.held or self.reader.read(0)
        if self.held is None:
            return Offer(name, self.ring.generation, 0, 0, False, True)
        end = self.held.seq + max(self.held.gap, 1)
        return Offer(name, self.ring.generation, self.held.seq, end, self.held.gap > 0, True)


@dataclass(slots=True)
class Stage:
    """The stream: its rings, who stands on them, and what has come out."""

    folder: Path
    frames: list[Frame]
    fates: dict[str, Fate]
    ring_bytes: int
    snapshot_every: int
    book: Book = field(default_factory=Book)
    lives: int = 0
    posts: dict[str, Post] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    source: Ring = field(init=False)
    merged: Ring = field(init=False)
    _in: Writer = field(init=False)
    _merge: Writer | None = field(init=False, default=None)
    _sink: Reader = field(init=False)
    _watched: dict[str, Watched] = field(init=False, default_factory=dict)
    _rings: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.source, self.merged = self._ring("source", 0), self._ring("merged", 0)
        self._in = self.source.writer()
        self._sink = self.merged.reader(start=0)

    def _ring(self, name: str, generation: int) -> Ring:
        self._rings += 1
        path = self.folder / f"{self._rings}" / f"{name}.ring"
        path.parent.mkdir()
        return Ring.create(path, capacity_bytes=self.ring_bytes, slots=SLOTS, generation=generation)

    # ---- the source -------------------------------------------------------------------------------------------------

    def feed(self) -> bool:
        """Write the next frame, if there is one."""
        if self.source.head >= len(self.frames):
            return False
        frame = self.frames[self.source.head]
        self._in.write(frame.payload, timestamp_ns=frame.timestamp_ns)
        return True

    # ---- members ----------------------------------------------------------------------------------------------------

    def man(self, seat: str, release: Release, generation: int) -> Post:
        """A new post on `seat`."""
        target = self._ring(f"v.{seat}@{release.version}", generation)
        params: dict[str, Param] = {"snapshot_every": self.snapshot_every, **release.params}
        spec = RunSpec(
            "member",
            f"v.{seat}@{release.version}",
            params=params,
            input_ring=self.source.path,
            output_ring=target.path,
            release=release.version,
            generation=generation,
            state_writes=release.writes,
            state_reads=release.reads,
            snapshot_dir=str(self.folder / f"snapshots-{seat}"),
        )
        post = self.posts[f"{seat}@{release.version}"] = Post(seat, release, target, spec)
        return post

    def step(self, post: Post) -> bool:
        """One step of the post's member, or its next life's beginning; whether anything has changed."""
        if post.dead_for:
            post.dead_for -= 1
            return True
        try:
            if post.life is None:
                return self._live(post)
            return self._take(post, post.life)
        except Death:
            self.tell(f"{post.name} is killed at input {self.fates[post.seat].at}")
            self._end(post)
            return True
        except Unable as error:
            post.reason = str(error)
            self._end(post)
            return False
        except Exception as error:
            error.add_note(f"raised by {post.name} at input {self.fates[post.seat].at} of a rehearsal")
            raise

    def _live(self, post: Post) -> bool:
        fate, stop = self.fates[post.seat], Stop()
        writer = post.target.writer()
        try:
            folder = SnapshotFolder(post.spec.snapshot_dir)
            reader, begin = restoring.begin(post.spec, self._mortal(post), self.source, post.target, folder, stop)
        except BaseException:
            writer.close()
            raise
        stop.ask()  # an output that finds no room is told, not waited for: nobody else would run meanwhile
        outlet = BookedOutlet(post.target, writer, stop)
        outlet.book, outlet.fate, outlet.post = self.book, fate, post
        member = Member(post.spec, begin, self.source, reader, outlet, folder)
        post.life = Life(member, reader, writer, begin)
        post.at, post.lives, self.lives = begin.next_in, post.lives + 1, self.lives + 1
        self.tell(f"{post.name} begins {begin.message}")
        member.arrive()
        return True

    def _mortal(self, post: Post) -> Callable[[Mapping[str, Param]], Vertex]:
        return lambda params: Mortal(post.release.make(params), self.fates[post.seat])

    def _take(self, post: Post, life: Life) -> bool:
        watched = self._watched.get(post.name)
        behind = self.merged.head if watched is None else watched.reader.cursor
        if life.reader.cursor >= self.source.head or post.target.head - behind > SLOTS - ROOM_FRAMES:
            return False
        if not life.member.step(0):
            raise BufferError(
                f"{post.name} has an output for input {self.fates[post.seat].at} that finds no room in a ring of "
                f"{self.ring_bytes} bytes and {SLOTS} slots: rehearse with more `ring_bytes`, or with fewer outputs a frame"
            )
        post.at = life.reader.cursor
        return True

    def _end(self, post: Post) -> None:
        life, post.life = post.life, None
        if life is not None:
            post.at = min(post.at, life.reader.cursor)
            life.member.close()
            life.reader.close()
            life.writer.close()

    def dismiss(self, post: Post) -> None:
        """The member is asked to stop, and its ring goes."""
        if post.life is not None:
            try:
                post.life.member.depart()
            except Death:
                self.tell(f"{post.name} is killed while it stops")
            self._end(post)
        self.posts.pop(post.name)
        self._unwatch(post.name)
        post.target.close()
        Path(post.target.path).unlink()

    # ---- merge and sink ---------------------------------------------------------------------------------------------

    def merge(self) -> bool:
        """One decision of the merge, carried out; whether it was anything but to wait."""
        writer = self._merge = self._merge or self.merged.writer()
        for name, post in self.posts.items():
            if name not in self._watched:
                reader = post.target.reader(start=self.merged.head)
                self._watched[name] = Watched(post.target, reader)
        offers = [watched.offer(name) for name, watched in self._watched.items()]
        match decide(self.merged.head, self.merged.cuts(), offers):
            case Pass(name, epoch):
                watched = self._watched[name]
                frame, watched.held = watched.held, None
                assert frame is not None  # noqa: S101 - decide passes only what was offered
                writer.write(frame.payload, epoch=epoch, timestamp_ns=frame.timestamp_ns)
                self._drain()
            case Drop(name):
                self._watched[name].held = None
            case Lose(count, epoch):
                writer.gap(count, epoch=epoch)
                self._drain()
            case Apply(epoch, at_seq):
                self.merged.apply_cut(epoch, at_seq)
                self.tell(f"the cut of epoch {epoch} is applied at output {at_seq}")
            case _:
                return False
        return True

    def _drain(self) -> None:
        while (frame := self._sink.read(0)) is not None:
            self.records.append(Record(frame.seq, frame.gap, frame.epoch, bytes(frame.payload)))

    def kill_merge(self) -> None:
        """It forgets all that its rings do not say."""
        for name in list(self._watched):
            self._unwatch(name)
        if self._merge is not None:
            self._merge.close()
            self._merge = None
        self.tell(f"the merge is killed at output {self.merged.head}")

    def _unwatch(self, name: str) -> None:
        if watched := self._watched.pop(name, None):
            watched.reader.close()

    def tell(self, what: str) -> None:
        """Remember what happened, for whoever has to understand a failure."""
        self.story.append(what)
        del self.story[:-200]

    def close(self) -> None:
        """Leave all rings; the folder is its maker's to remove."""
        self.kill_merge()
        for post in list(self.posts.values()):
            self._end(post)
            post.target.close()
        self._in.close()
        self._sink.close()
        self.source.close()
        self.merged.close()
