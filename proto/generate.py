"""Makes the generated code beside the protos, or with `--check` says whether it is current. Owns no proto, edits none.

python proto/generate.py           # after a change in proto/halftrack_proto/v1/*.proto
python proto/generate.py --check   # in CI: exit 1, naming the files that differ
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent
FOLDER = "halftrack_proto/v1"
PLUGINS = ("python", "grpc_python", "mypy", "mypy_grpc")
HERE = Path(sys.executable).parent  # the mypy plugins are scripts beside the interpreter


def generate(target: Path) -> None:
    """The code for every proto below `target`. protoc runs as a child: it is C++, and ends the process when it fails."""
    protos = sorted(f"{FOLDER}/{path.name}" for path in (ROOT / FOLDER).glob("*.proto"))
    plugins = [f"--plugin=protoc-gen-{name}={HERE / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    outputs = [f"--{plugin}_out={target}" for plugin in PLUGINS]
    well_known = Path(protoc.__file__).parent / "_proto"
    arguments = [f"-I{ROOT}", f"-I{well_known}", *plugins, *outputs, *protos]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], cwd=ROOT, check=True)


def differences() -> list[str]:
    """Names of generated files that are missing, stale, or belong to no proto any more."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = {path.name: path.read_bytes() for path in (Path(scratch) / FOLDER).iterdir()}
    held = {path.name: path.read_bytes() for path in (ROOT / FOLDER).iterdir() if "_pb2" in path.name}
    return sorted(name for name in fresh.keys() | held.keys() if fresh.get(name) != held.get(name))


def main() -> int:
    """Generate, or check; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the code is not current")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    stale = differences()
    if stale:
        print(f"not current: {', '.join(stale)}; run `python proto/generate.py` and commit", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
