"""`python -m tests.soak.rewire_run`: EDITS edits by SEED of a live graph on two hosts, by two operators, with swaps between them, while processes, agents and
the link are killed and cut (TROUBLES=0: they are not); rewire-soak.json says what came of it. Exit status 1 when a frame was lost, doubled, out of
order or wrong, when an edit did not come into force, or when something was done that should have been refused.

A real controller, real agents in namespaces, the command line as people use it. Owns the order of things and the report; counts no frame: that is
`rewire_check`'s, which is told who was to read whom from which number on, as the operators were told it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from examples.demo import evidence
from examples.demo.world import CONTROLLER, LEADER, ROOT, Command, DemoFailed
from tests.soak import rewire_wiring as wirings
from tests.soak import swap_run
from tests.soak.rewire_breaker import RewireBreaker
from tests.soak.rewire_check import Asked
from tests.soak.rewire_edits import GRAPH, LASTING, PRODUCTS, WIRING, Act, Edits
from tests.soak.rewire_report import Report, manifest
from tests.soak.rewire_wiring import Box, Input, Wiring
from tests.soak.swap_run import FOLDER, Soak
from tests.soak.two_hosts import isolated

RATE = int(os.environ.get("RATE") or 250)  # frames a second: some twenty processes of Python see each
PATIENCE_S = 120.0  # for one act, with all that is killed in it
ENDED = ("succeeded", "failed", "aborted")


class Rewire(Soak):
    """One run, inside its own world."""

    program = Path(__file__).with_name("rewire_stream.py")

    def __init__(self, edits: int, seed: int, cgroup: str) -> None:
        super().__init__(0, 0, seed, cgroup)
        self.found = Report(seed, rate=RATE)
        self._edits, self._count = Edits(seed), edits
        self._breaker = RewireBreaker(self.world, seed, RATE, self._standing)
        self.wiring: Wiring = WIRING
        self.declared: Wiring = WIRING
        self._history = {name: [(0, box.inputs)] for name, box in WIRING.items()}
        self._known = dict(WIRING)  # every vertex that ever was
        self._releases = {"sums": 0, **dict.fromkeys(PRODUCTS, 0)}
        self._ada = self.world.folder / "ada"

    # ---- the whole --------------------------------------------------------------------------------------------------

    def play(self) -> Report:  # type: ignore[override]
        """All of it."""
        began = time.monotonic()
        try:
            self._set_up()
            self._breaking = True
            for number in range(self._count):
                self._act(number)
            self._breaking = False
            self._settle()
            self._drain()
        except DemoFailed as error:
            self.found.missing = str(error)
        found = self.found
        found.killed, found.cuts = self._breaker.killed, self._breaker.cuts
        found.kills, found.seconds = sum(found.killed.values()), round(time.monotonic() - began, 1)
        if not found.missing:
            self._judge_all()
        return found

    def _judge_all(self) -> None:
        """By a program of its own, which is given files only."""
        asked, verdict = FOLDER / "asked.json", FOLDER / "verdict.json"
        sinks = {name: str(self._rows(name)) for name in self._sinks()}
        asked.write_text(json.dumps({**asdict(self._asked()), "sinks": sinks}))
        argv = [sys.executable, "-m", "tests.soak.rewire_check", str(asked), str(verdict)]
        subprocess.run(argv, cwd=ROOT, env=self.world.environment(), timeout=600, check=False)
        for name, value in json.loads(verdict.read_text()).items():
            setattr(self.found, name, self.found.examples + value if name == "examples" else value)

    def graph(self) -> str:
        """The manifest."""
        return manifest(WIRING, RATE)

    def _set_up(self) -> None:
        self._open()
        self._publish("numbers", "1.0.0", "Numbers", {})
        self._publish("rows", "1.0.0", "Rows", {})
        for product in self._releases:
            self._release_of(product)
        words = ("galaxy", "operator", str(self.world.galaxy / "controller"), "--name", "ada", "--to", str(self._ada))
        self._run(CONTROLLER, self.world.operator(*words))
        self._enrol()
        self.until("the first output", lambda: all(self._at(name) > 0 for name in LASTING), 60.0)
        self.until("the first releases at work", lambda: all(self._runs(name) for name in WIRING), 60.0)

    def _release_of(self, product: str) -> str:
        number = self._releases[product]
        self._releases[product] = number + 1
        kind, state = ("Sums", "sums/1") if product == "sums" else ("Step", "")
        params = {"release": number, "snapshot_every": 512}
        self._publish(product, f"1.0.{number}", kind, params, state)
        return f"1.0.{number}"

    # ---- one act ----------------------------------------------------------------------------------------------------

    def _act(self, number: int) -> None:
        act = self._edits.next(self.wiring)
        began = time.monotonic()
        {
            "refused": lambda: self._must_be_refused(act),
            "race": self._race,
            "swap": lambda: self._upgrade("sums"),
            "swap and edit": self._swap_and_edit,
            "upgrade": lambda: self._upgrade(self._most_used()),
            "drift": self._drift,
            "revert": self._revert,
            "adopt": self._adopt,
        }.get(act.kind, lambda: self._edit(act))()
        self.found.by_kind[act.kind] = self.found.by_kind.get(act.kind, 0) + 1
        took = time.monotonic() - began
        words = " ".join(act.argv) or act.kind
        print(f"rewire-soak: {number + 1}: {words}: {took:.1f} s, {self._head()} frames", file=sys.stderr, flush=True)

    def _edit(self, act: Act) -> None:
        began = time.monotonic()
        status, text = self._said(self._asks(act))
        if status:
            raise DemoFailed(f"{' '.join(act.argv)}: {text}")
        self._counts(act, text, began)

    def _must_be_refused(self, act: Act) -> None:
        status, text = self._said(self._asks(act))
        if status != 1 or act.refused not in text:
            raise DemoFailed(f"{' '.join(act.argv)} should have been refused, since {act.refused}: {status} {text}")
        self.found.refused += 1

    def _race(self) -> None:
        """Two operators who have seen the same: one is told."""
        acts = [self._edits.edit(self.wiring), self._edits.edit(self.wiring)]
        began, revision = time.monotonic(), str(self._revision())
        folders = (self.world.galaxy / "operator", self._ada)
        asked = [self._asks(act, folder, "--revision", revision) for act, folder in zip(acts, folders, strict=True)]
        said = [self._said(command) for command in asked]
        if sorted(status for status, _ in said) != [0, 1]:
            raise DemoFailed(f"two people at revision {revision}: {[act.argv for act in acts]}: {said}")
        (told,) = (text for status, text in said if status)
        if "Since then:" not in told:
            raise DemoFailed(f"the second of two people was not told what had happened: {told}")
        self.found.refused += 1
        winner = next(number for number, (status, _) in enumerate(said) if not status)
        self._counts(acts[winner], said[winner][1], began)

    def _most_used(self) -> str:
        """The product of steps that most of them run."""
        running = [box.product for box in self.wiring.values()]
        return max(PRODUCTS, key=running.count)

    def _upgrade(self, product: str) -> None:
        version = self._release_of(product)
        self._ended(product, version)

    def _swap_and_edit(self) -> None:
        """The edit is accepted while the swap goes on, and waits for its end."""
        version = self._release_of("sums")
        self.until("the swap to begin", lambda: f"twin {version}" in self._phases())
        self._edit(self._edits.edit(self.wiring))
        self._ended("sums", version)

    def _ended(self, product: str, version: str) -> None:
        mine = [f"{name} {version}" for name, box in self.wiring.items() if box.product == product]
        self.until(
            f"the rollouts of {product} {version}",
            lambda: all(self._phases().get(each) in ENDED for each in mine),
            PATIENCE_S,
        )
        failed = [each for each in mine if self._phases()[each] != "succeeded"]
        self.found.undone += len(failed)
        self.found.examples += [f"{each} {self._phases()[each]}" for each in failed]
        self.found.swaps += sum(len(self.wiring[each.split()[0]].hosts) > 1 for each in mine) - len(failed)

    def _drift(self) -> None:
        status, text = self._said(self._stream("drift", GRAPH))
        if status != (2 if self._drifted() else 0):
            raise DemoFailed(
                f"stream drift said {status}, and the graph has {'' if self._drifted() else 'not '}drifted: {text}"
            )

    def _revert(self) -> None:
        began = time.monotonic()
        status, text = self._said(self._stream("revert", GRAPH, "-o", "json"))
        if not self._drifted() or status:
            due = "there is nothing to revert" if not self._drifted() else "form a cycle"
            if status != 1 or due not in text:
                raise DemoFailed(f"stream revert said {status}, due was {due}: {text}")
            self.found.refused += 1
            return
        self._counts(Act("revert", (), self.declared), text, began)

    def _adopt(self) -> None:
        """The manifest that comes of it is what is declared: to apply it changes nothing."""
        status, manifest = self._said(self._stream("adopt", GRAPH))
        if status:
            if self._drifted() or "there is nothing to adopt" not in manifest:
                raise DemoFailed(f"stream adopt said {status}: {manifest}")
            self.found.refused += 1
            return
        self.declared = self.wiring
        path = FOLDER / "adopted.yaml"
        path.write_text(manifest)
        text = self._run(CONTROLLER, self.world.operator("apply", "-f", str(path)))
        if "unchanged" not in text:
            raise DemoFailed(f"the manifest of what was adopted is not what is declared: {text}")

    # ---- asking, and what is told -----------------------------------------------------------------------------------

    def _stream(self, *words: str, folder: Path | None = None) -> Command:
        argv = self.world.operator("stream", *words)
        if folder is not None:
            argv[argv.index("--config") + 1] = str(folder)
        return self.world.command(CONTROLLER, argv)

    def _asks(self, act: Act, folder: Path | None = None, *more: str) -> Command:
        return self._stream(*act.argv, *more, "-o", "json", folder=folder)

    def _said(self, command: Command) -> tuple[int, str]:
        try:
            self.until("a command to end", command.done, PATIENCE_S)
        except DemoFailed as error:
            graph = self.world.command(CONTROLLER, self.world.operator("stream", "graph", GRAPH))
            self.until("the graph", graph.done, 20.0)
            raise DemoFailed(f"{error}: {' '.join(command.argv[3:])}\n{graph.ended()[1]}") from None
        return command.ended()

    def _revision(self) -> int:
        _, text = self._said(self._stream("drift", GRAPH, "-o", "json"))
        return int(_tree(text)["graph"]["revision"])

    def _counts(self, act: Act, text: str, began: float) -> None:
        """What the operator was told of the numbers from which on it counts."""
        assert act.after is not None
        self.found.edits += 1
        self.found.edit_s.setdefault(act.kind, []).append(round(time.monotonic() - began, 2))
        told = {each["vertex"]: each for each in _tree(text)["inputs"]}
        changed = wirings.changed(self.wiring, act.after)
        firsts = [0]
        for name in changed:
            if name not in told or told[name]["waits"] or told[name]["first"] < 0:
                raise DemoFailed(
                    f"{act.argv}: nobody has told from which number on {name} reads its new inputs: {text}"
                )
            firsts.append(told[name]["first"])
            self._history[name].append((told[name]["first"], act.after[name].inputs))
        for name, box in act.after.items():
            if name not in self.wiring:
                begins = min(firsts[1:], default=0) if name in self._history else 0
                self._history.setdefault(name, []).append((begins, box.inputs))
                self._known[name] = box
        new = [name for name in act.after if name not in self.wiring and act.after[name].kind == "sink"]
        self.wiring = act.after
        self.until(
            f"{' and '.join(new)} to have something", lambda: all(self._at(name) > 0 for name in new), PATIENCE_S
        )

    # ---- looking ----------------------------------------------------------------------------------------------------

    def _standing(self) -> tuple[Sequence[tuple[str, str]], Sequence[str]]:
        pairs = [name for name, box in self.wiring.items() if len(box.hosts) > 1]
        return [(self.wiring[name].hosts[0], name) for name in LASTING], pairs

    def _phases(self) -> dict[str, str]:
        found: dict[str, str] = self._heard.get("vertices", {})
        return found

    def _drifted(self) -> bool:
        return _plain(self.wiring) != _plain(self.declared)

    def _at(self, sink: str) -> int:
        host = self._known[sink].hosts[0]
        return int(self.world.evidence[host].status(f"{GRAPH}.{sink}").get("seq_in", 0))

    def _runs(self, name: str) -> bool:
        return any(key.startswith(f"{name} ") and phase == "succeeded" for key, phase in self._phases().items())

    def _sinks(self) -> list[str]:
        return [name for name, box in self._known.items() if box.kind == "sink"]

    def _rows(self, sink: str) -> Path:
        found = list(FOLDER.glob(f"{self._known[sink].hosts[0]}/**/{GRAPH}.{sink}/rows.bin"))
        return found[0] if found else FOLDER / "nothing"

    def _head(self, ring: str = f"{GRAPH}/numbers") -> int:
        return super()._head(ring)

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """What has left is gone, and what is there runs."""
        self._breaker.mend()

        def settled() -> bool:
            running = {name for host in self.world.evidence.values() for name in host.running()}
            vertices = {name.split(".")[1] for name in running if name.startswith(f"{GRAPH}.")}
            return vertices == set(self.wiring)

        self.until(f"exactly {', '.join(self.wiring)} to run", settled, 60.0)

    def _drain(self) -> None:
        """The source is stopped, not killed, which would only start it again; then the sinks get what there is."""
        evidence.kill(self.world.evidence[LEADER].running()[f"{GRAPH}.numbers"], signal.SIGSTOP)
        lasting = [name for name in self._sinks() if name in self.wiring]
        self.until("the sinks", lambda: all(self._at(name) >= self._head() for name in lasting), 30.0)
        time.sleep(0.5)  # whatever comes too much has to come now

    def _asked(self) -> Asked:
        tables = {}
        for name in self._standing()[1]:
            if (ring := self.world.evidence[self.wiring[name].hosts[0]].ring(f"{GRAPH}/{name}")) is not None:
                rows = [(cut.applied_at, int(cut.label.rpartition(".")[2])) for cut in ring.cuts()]
                tables[name] = [(at, release) for at, release in rows if at is not None]
        marks = {name: box.mark for name, box in self._known.items()}
        lasting = list(LASTING)
        return Asked(self._history, marks, "twin", "near", lasting, self._head(), tables)


def _tree(text: str) -> dict[str, Any]:
    """The JSON of a verb; what it has said before on its standard error is not part of it."""
    found: dict[str, Any] = json.loads(text[0 if text.startswith("{") else text.index("\n{") + 1 :])
    return found


def _plain(wiring: Wiring) -> dict[str, tuple[Box, list[Input]]]:
    """Without an order of inputs, which means nothing in a union."""
    return {
        name: (Box(box.kind, box.product, box.hosts, box.mark), sorted(box.inputs, key=str))
        for name, box in wiring.items()
    }


def played(edits: int, seed: int, cgroup: str, out: Path) -> int:
    """The part inside the private world."""
    try:
        report = Rewire(edits, seed, cgroup).play()
    except DemoFailed as error:
        print(f"rewire-soak: {error}", file=sys.stderr)
        swap_run.show_logs()
        return 1
    out.write_text(json.dumps(asdict(report), indent=2) + "\n")
    print(f"rewire-soak: {report.text()}", flush=True)
    for example in [report.missing, *report.examples]:
        if example:
            print(f"rewire-soak: {example}", file=sys.stderr)
    if report.wrong:
        swap_run.show_logs()
    return int(report.wrong)


def main() -> int:
    """As the environment says."""
    edits, seed = int(os.environ.get("EDITS") or 40), int(os.environ.get("SEED") or 1)
    return isolated("rewire-soak", lambda cgroup, out: played(edits, seed, cgroup, out))


if __name__ == "__main__":
    sys.exit(main())
