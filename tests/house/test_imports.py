"""Who may import whom, and why. A rule that cannot say its reason is not a rule."""

import ast
import re
import sys
from dataclasses import dataclass

import pytest

from tests.house.source import COMPONENTS, ROOT, imports, package, shown, sources, tree


@dataclass(frozen=True)
class May:
    """What a component may import of ours, and the reason why nothing else."""

    allowed: frozenset[str]
    reason: str


RULES = {
    "model": May(frozenset(), "both sides rely on the model, so it can rely on neither"),
    "proto": May(
        frozenset({"model"}), "the codec turns messages into the model's types and knows nobody who uses them"
    ),
    "controller": May(
        frozenset({"model", "proto"}),
        "an agent must go on without the controller, and the controller without any one agent: they share words, no code",
    ),
    "agent": May(
        frozenset({"model", "proto", "dataplane"}),
        "an agent must finish or undo a plan with no controller in reach, so none of its code may need one",
    ),
    "dataplane": May(frozenset(), "instruments use the data plane with no Halftrack around it"),
}

EFFECTS = ("time", "random", "secrets", "os", "subprocess", "asyncio", "threading", "socket", "grpc", "sqlite3",
           "sqlite_utils", "zmq")  # fmt: skip
PURE = {
    "agent": ("core", "swap", "reconcile", "lifecycle", "inbox", "fitting", "inlet_orders", "reach_orders", "events"),
    "controller": (
        "planner",
        "rollout",
        "deciding",
        "snapshot",
        "standing",
        "expansion",
        "evidence",
        "placement",
        "explain",
        "quantities",
    ),
    "dataplane": ("merge", "runspec", "frames", "frame", "spool_record"),
    "proto": ("messages", "graph_messages", "gauges"),
}
PURE_REASON = (
    "deciding code takes time, randomness and ids as arguments, so that the whole fleet can run inside one seeded "
    "simulation (DESIGN.md section 3): move the effect to the loop that calls it, or pass its result in"
)


def _component(module: str) -> str | None:
    top = module.partition(".")[0]
    return next((name for name in COMPONENTS if top == f"halftrack_{name}"), None)


@pytest.mark.parametrize("component", COMPONENTS)
def test_components_import_only_what_they_may(component: str) -> None:
    rule = RULES[component]
    broken = [
        f"{shown(path)}:{entry.line} imports {entry.module}"
        for path in sources(component)
        for entry in imports(path)
        if (other := _component(entry.module)) and other != component and other not in rule.allowed
    ]
    assert not broken, f"{'; '.join(broken)}: {rule.reason}"


def test_the_model_needs_only_the_standard_library() -> None:
    broken = [
        f"{shown(path)}:{entry.line} imports {entry.module}"
        for path in sources("model")
        for entry in imports(path)
        if entry.module.partition(".")[0] not in {*sys.stdlib_module_names, "halftrack_model"}
    ]
    assert not broken, f"{'; '.join(broken)}: the model is vendored into the smallest hosts and must build nowhere"


def _pure_modules() -> list[str]:
    """The whole model, what must be pure, and whatever says in its docstring that it is: who says so is held to it."""
    named = {f"halftrack_{component}.{name}" for component, names in PURE.items() for name in names}
    for path in sources(*COMPONENTS):
        if path.suffix == ".py" and path.name != "__init__.py":
            said = re.search(r"\bPure\b", ast.get_docstring(tree(path)) or "")
            if said or path.parent == package("model"):
                named.add(
                    ".".join(path.relative_to(package(path.relative_to(ROOT).parts[0]).parent).with_suffix("").parts)
                )
    return sorted(named)


@pytest.mark.parametrize("module", _pure_modules())
def test_deciding_code_is_pure(module: str) -> None:
    top, *parts = module.split(".")
    path = package(top.removeprefix("halftrack_")).joinpath(*parts).with_suffix(".py")
    path = path if path.exists() else path.with_suffix(".pyx")
    known = _all_pure()
    broken = []
    for entry in imports(path):
        ours = _component(entry.module) is not None
        parent, _, name = entry.module.rpartition(".")
        named = (
            entry.module in known or parent in known or name.isupper()
        )  # a constant has no effects, wherever it stands
        if (not ours and entry.module.partition(".")[0] in EFFECTS) or (ours and not named):
            broken.append(f"{shown(path)}:{entry.line} imports {entry.module}")
    assert not broken, f"{'; '.join(broken)}: {PURE_REASON}"


def _all_pure() -> frozenset[str]:
    return frozenset(_pure_modules()) | {f"halftrack_{name}" for name in COMPONENTS}


def test_only_the_codec_knows_both_messages_and_domain_types() -> None:
    broken = []
    for path in sources(*COMPONENTS):
        messages = any(name.endswith("_pb2") for entry in imports(path) for name in entry.module.split("."))
        domain = any(_component(entry.module) == "model" for entry in imports(path))
        codec = path.parent == package("proto") and path.name.endswith("codec.py")
        if messages and domain and not codec:
            broken.append(shown(path))
    assert not broken, (
        f"{', '.join(broken)} imports generated messages beside domain types: only the codec translates, "
        "so that a change of the wire is a change in one place"
    )


def test_only_the_inbox_makes_a_trusted_plan() -> None:
    # invariant: P1
    makers = {
        shown(path)
        for path in sources(*COMPONENTS)
        if path.suffix == ".py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "TrustedPlan"
    }
    assert makers <= {"agent/halftrack_agent/inbox.py"}, (
        f"{sorted(makers)}: what executes was verified, and the type is the proof: only inbox.py verifies"
    )


def test_no_command_goes_through_a_shell() -> None:
    broken = []
    for path in [*sources(*COMPONENTS), *sorted((ROOT / "examples").rglob("*.py"))]:
        if path.suffix != ".py":
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and _uses_shell(node):
                broken.append(f"{shown(path)}:{node.lineno}")
    assert not broken, f"{', '.join(broken)}: names come from manifests; pass a list of arguments, which nothing parses"


def _uses_shell(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    shell = any(
        word.arg == "shell" and not (isinstance(word.value, ast.Constant) and word.value.value is False)
        for word in call.keywords
    )
    return shell or name in ("os.system", "os.popen") or name.endswith("create_subprocess_shell")
