"""Holds a built wheel and source distribution against what users of each need. `check_dist.py FOLDER`; exit 1 names the gaps."""

import re
import sys
import tarfile
import zipfile
from pathlib import Path

IN_WHEEL = (
    "halftrack_model/plan.py",
    "halftrack_model/py.typed",
    "halftrack_proto/codec.py",
    "halftrack_proto/v1/session_pb2.py",
    "halftrack_proto/v1/session_pb2.pyi",
    "halftrack_controller/halftrack-controller.service",
    "halftrack_agent/halftrack-agent.service",
    "halftrack_agent/drivers/shim.py",
    "halftrack_dataplane/native/halftrack_ring.h",  # instruments in C and C++ compile against the installed header
    "halftrack_dataplane/native/parts.h",
    "halftrack_dataplane/engines/jetstream.py",
    "halftrack_dataplane/engines/kafka_source.py",
    "halftrack_dataplane/testkit/__init__.py",  # for the tests of users
    "halftrack_dataplane/ring.pyi",
)
IN_SDIST = (
    "LICENSE",
    "Makefile",
    ".ci/run",
    "tools/bootstrap",
    "dataplane/halftrack_dataplane/ring.pyx",
    "dataplane/halftrack_dataplane/native/halftrack_ring.c",
    "proto/generate.py",
    "docs/architecture.md",
    "tests/conftest.py",
    "examples/demo/run.py",
)
PREFIX = "/opt/halftrack/"  # where the README installs the wheel
NEVER = (".so", ".pyc", ".json", ".key", ".pem")  # of the source distribution: built or private
KEPT = "tests/planner/fixtures/"  # what earlier versions have written, and later ones must read


def main(folder: Path) -> int:
    """Print what is missing or too much; 1 when there is anything."""
    wheel, sdist = next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        units = {name: archive.read(name).decode() for name in names if name.endswith(".service")}
    with tarfile.open(sdist) as archive:
        sources = [name.partition("/")[2] for name in archive.getnames()]
    wrong = [f"{wheel.name} lacks {name}" for name in IN_WHEEL if name not in names]
    if not any(name.startswith("halftrack_dataplane/ring.") and name.endswith(".so") for name in names):
        wrong.append(f"{wheel.name} lacks the compiled ring")
    wrong += [
        f"{unit} names {PREFIX}{page}, which {wheel.name} does not install"
        for unit, text in units.items()
        for page in re.findall(rf"^Documentation=file://{PREFIX}(\S+)$", text, re.MULTILINE)
        if not any(name.endswith(f".data/data/{page}") for name in names)
    ]
    tops = {name.partition("/")[0] for name in names}
    wrong += [f"{wheel.name} would install {top} beside other people's packages" for top in tops if not _ours(top)]
    wrong += [f"{sdist.name} lacks {name}" for name in IN_SDIST if name not in sources]
    made = [name for name in sources if name.endswith(NEVER) and not name.startswith(KEPT)]
    wrong += [f"{sdist.name} carries {name}" for name in (*made, *(n for n in sources if _generated(n, sources)))]
    print("\n".join(wrong) or f"{wheel.name} ({wheel.stat().st_size >> 10} KiB), {sdist.name}: complete")
    return bool(wrong)


def _generated(name: str, sources: list[str]) -> bool:
    """C that Cython made of what stands beside it; all other C is written."""
    return name.endswith(".c") and f"{name[:-2]}.pyx" in sources


def _ours(top: str) -> bool:
    return top.startswith(("halftrack_", "halftrack-"))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
