"""Rollouts as transcripts that read as prose: `transcripts/*.txt`, one scene a file.

A scene is a list of steps, each: what people and hosts do (one sentence a line), `----`, then everything the controller does about
it, up to an empty line. Lines that begin with `#` are for the reader. `REWRITE_TRANSCRIPTS=1 pytest tests/planner` writes what is.
"""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from halftrack_controller import explain, rollout
from halftrack_controller.snapshot import Environment
from halftrack_model.errors import Refused
from halftrack_model.observed import Health
from halftrack_model.release import Migration, StateSchemas
from halftrack_model.swap import Phase
from tests.planner import graphs
from tests.planner.world import World, deployed, host, release, spectra, tank

SCENES = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
VERBS = {"pauses": "paused", "resumes": "resumed", "promotes": "promoted", "aborts": "aborted"}


@pytest.mark.parametrize("scene", SCENES, ids=lambda path: path.stem)
def test_scene(scene: Path) -> None:
    text = scene.read_text()
    played = play(text)
    if "REWRITE_TRANSCRIPTS" in os.environ:
        scene.write_text(played)
    assert played == text


def play(text: str) -> str:
    """The scene with what really happens."""
    world, steps = World(), []
    for step in re.split(r"\n\n+", text.strip()):
        told = step.split("\n----", 1)[0].splitlines()
        said: list[str] = []
        for sentence in told:
            if not sentence.startswith("#"):
                world, more = sentence_told(world, sentence)
                said += more
        only_comments = all(line.startswith("#") for line in told)
        steps.append("\n".join([*told, *([] if only_comments else ["----", *(said or ["nothing changes"])])]))
    return "\n\n".join(steps) + "\n"


def sentence_told(world: World, sentence: str) -> tuple[World, list[str]]:
    for pattern, act in SENTENCES:
        if match := re.fullmatch(pattern, sentence):
            try:
                outcome = act(world, *match.groups())
            except Refused as error:
                return world, [f"refused: {error.message}"]
            if isinstance(outcome, World):
                return outcome, outcome.settle()
            return world, [*(outcome or []), *world.settle()]
    raise AssertionError(f"no sentence like this: {sentence!r}")


def _publish(world: World, product: str, version: str, how: str | None) -> None:
    words = how or ""
    writes = match[1] if (match := re.search(r"writing (\S+)", words)) else "s/1"
    reads = tuple(match[1].split("+")) if (match := re.search(r"reading (\S+)", words)) else (writes,)
    steps = re.findall(r"(\S+)→(\S+)", words)
    replays = int(match[1]) if (match := re.search(r"replaying (\d+) frames", words)) else 0
    state = StateSchemas(
        "" if replays else writes,
        () if replays else reads,
        migrations=tuple(Migration(*step, "main:migrated") for step in steps),
        one_way="one-way" in words,
        replay_frames=replays,
    )
    manual = "with manual approval" in words
    world.publish(replace(release(product, version, manual=manual), state=state))


def _tell_swap(world: World, number: str, leg: str, phase: str, reason: str | None) -> None:
    world.tell_swap(f"tank.spectra.spectrometer.{number}", Phase(phase), int(leg) - 1, reason or "")


def _tell_of(world: World, rollout_id: str, leg: str, phase: str) -> None:
    world.tell_swap(rollout_id, Phase(phase), int(leg) - 1)


def _steer(world: World, verb: str, rollout_id: str) -> None:
    world.record(getattr(rollout, VERBS[verb])(world.snapshot(), rollout_id))


def _environment(world: World, name: str, first: str, second: str) -> None:
    world.environments[name] = Environment(name, {}, "stable")
    for each in (first, second):
        world.hosts[each] = host(each, name)
    world.graphs.append(spectra(name, first, second))


def _drop_graph(world: World, name: str) -> None:
    world.graphs = [graph for graph in world.graphs if graph.name != name]


def _explain(world: World, subject: str) -> list[str]:
    return [f"{r.subject}: {r.text}" for r in explain.explained(world.snapshot(), subject, 0)]


def _enrol(world: World, name: str) -> None:
    world.hosts[name] = host(name)


def _dies(world: World, name: str, workload: str, restarts: str, detail: str) -> None:
    world.accept(name)
    world.shows(name, workload, "resting", Health.UNHEALTHY, int(restarts), detail)


SENTENCES: tuple[tuple[str, Callable[..., World | list[str] | None]], ...] = (
    (r"the tank, with nothing published", lambda _: tank()),
    (r"the tank, where only (\S+) has enrolled", lambda _, name: tank((name,))),
    (r"the tank, running spectrometer (\S+)", lambda _, version: deployed(version)),
    (r"a host each for (\S+), with nothing published", lambda _, name: graphs.world(graphs.DRAWN[name])),
    (r"(\S+), running 1.0.0", lambda _, name: graphs.running(graphs.DRAWN[name])),
    (r"environment (\S+) on (\S+) and (\S+)", _environment),
    (r"(\S+) enrols", _enrol),
    (r"publish (\S+) (\S+)(.*)?", _publish),
    (r"(\S+) accepts its plan, and all runs", lambda world, name: world.accept(name)),
    (r"(\S+) refuses its plan: (\S+): (.*)", lambda world, name, reason, text: world.refuse(name, reason, text)),
    (r"(\S+) is silent for (\d+) min", lambda world, name, age: world.silent(name, int(age) * 60_000)),
    (r"(\S+) is back", lambda world, name: world.back(name)),
    (r"(\S+) accepts its plan, but (\S+) has died (\d+) times: (.*)", _dies),
    (r"the leader of swap (\d) tells: seat (\d) is ([a-z-]+)(?:: (.*))?", _tell_swap),
    (r"the leader of (\S+\.\d+) tells: seat (\d) is ([a-z-]+)", _tell_of),
    (r"the operator (pauses|resumes|promotes|aborts) (\S+)", _steer),
    (r"graph (\S+) disappears from the store", _drop_graph),
    (r"explain (\S+)", _explain),
    (r"why", lambda world: [f"{r.subject}: {r.text}" for r in world.planning.reasons]),
)
