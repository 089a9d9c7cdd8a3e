"""`make bundle`: the agent as an artifact that other agents update themselves to, and the manifest that publishes it.

A virtual environment with an interpreter of its own in it, as a plain tar of files and folders: no links (agents unpack none), no scripts with paths in them, no
times, so that equal contents are equal bytes and an upgrade moves what has changed. The standard library is the host's: the bundle is for hosts with the
same Python at the same place.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

MANIFEST = """\
apiVersion: halftrack/v1
kind: Release
spec:
  product: halftrack-agent
  version: {version}
  artifact: {{file: {file}}}
  unpack: true
  command: ["{{artifact}}/bin/python", "-I", "-B", "-m", "halftrack_agent.daemon"]
"""
LEFT_OUT = ("include", "lib64")


def main() -> int:
    """Make the bundle of a wheel; prints what was made."""
    parser = argparse.ArgumentParser(description="Make a bundle of the agent, and its manifest.")
    parser.add_argument("wheel", type=Path, help="of halftrack, as `make dist` builds it")
    parser.add_argument(
        "--python", default="/usr/bin/python3", help="the interpreter that hosts have (default: /usr/bin/python3)"
    )
    parser.add_argument("--into", type=Path, default=Path("dist"), metavar="DIR", help="where both go (default: dist)")
    options = parser.parse_args()
    version = options.wheel.name.split("-")[1]
    path = options.into / f"halftrack-agent-{version}.tar"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "venv"
        subprocess.run([options.python, "-m", "venv", "--copies", made], check=True)
        pip = [made / "bin/python", "-m", "pip", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", options.wheel], check=True)
        subprocess.run([*pip, "uninstall", "-y", "setuptools", "pip"], check=True, stderr=subprocess.DEVNULL)
        # Compiled here, and never looked at again: on a host nothing may be written beside it.
        subprocess.run(
            [made / "bin/python", "-m", "compileall", "-q", "-j2", "--invalidation-mode", "unchecked-hash", made],
            check=True,
        )
        _write(made, path)
    manifest = path.with_suffix(".yaml")
    manifest.write_text(MANIFEST.format(version=version, file=path.name))
    print(f"{path}: {path.stat().st_size >> 20} MiB; publish it with `halftrack release publish {manifest}`")
    return 0


def _write(made: Path, path: Path) -> None:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for file in sorted(made.rglob("*")):
            name = file.relative_to(made)
            scripts = name.parts[0] == "bin" and name.name != "python"
            if scripts or file.is_symlink() or not file.is_file() or set(name.parts) & set(LEFT_OUT):
                continue
            info = tarfile.TarInfo(str(name))
            info.size, info.mode = file.stat().st_size, 0o755 if name.parts[0] == "bin" else 0o644
            with file.open("rb") as data:
                archive.addfile(info, data)


if __name__ == "__main__":
    sys.exit(main())
