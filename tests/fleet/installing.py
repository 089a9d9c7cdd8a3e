"""What a machine of the fleet has of Halftrack: /opt/halftrack as the README says to make it, without a minute of pip.

A virtual environment of the machine's own Python whose packages are links to those of this checkout's `.venv`, and whose components are the checkout's. So the
unit files are used as they are, to the byte. Owns those folders; starts nothing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"  # a machine's: one below /root would be hidden from units with ProtectHome=
PREFIX, PACKAGES, SOURCE = "/opt/halftrack", "/opt/packages", "/opt/source"
COMPONENTS = ("model", "proto", "controller", "agent", "dataplane")
PROGRAMS = {
    "halftrack": "halftrack_controller.cli",
    "halftrack-controller": "halftrack_controller.daemon",
    "halftrack-agent": "halftrack_agent.daemon",
}
UNITS = {
    "halftrack-agent.service": ROOT / "agent/halftrack_agent/halftrack-agent.service",
    "halftrack-controller.service": ROOT / "controller/halftrack_controller/halftrack-controller.service",
}


def missing() -> str:
    """Why no machine can be made here, and what to do; empty when one can."""
    if shutil.which("systemd-nspawn") is None:
        return "The fleet is made of machines of systemd-nspawn: apt-get install systemd-container"
    asked = [PYTHON, "-c", "import sys; print(*sys.version_info[:2])"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    wanted = [str(part) for part in sys.version_info[:2]]
    return "" if found == wanted else f"{PYTHON} is not the Python {'.'.join(wanted)} of .venv, whose packages it needs"


def installed(folder: Path) -> Path:
    """/opt/halftrack, in `folder`."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages, programs = folder / f"lib/{version}/site-packages", folder / "bin"
    packages.mkdir(parents=True)
    programs.mkdir()
    (folder / "pyvenv.cfg").write_text(f"home = {Path(PYTHON).parent}\ninclude-system-site-packages = false\n")
    for name in ("python", "python3", version):
        (programs / name).symlink_to(PYTHON)
    for entry in _site_packages().iterdir():
        if not entry.name.startswith(("__editable__", "__pycache__")) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(f"{PACKAGES}/{entry.name}")
    for component in COMPONENTS:
        name = f"halftrack_{component}"
        (packages / name).symlink_to(f"{SOURCE}/{component}/{name}")
    for name, module in PROGRAMS.items():
        program = programs / name
        program.write_text(f"#!{PREFIX}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        program.chmod(0o755)
    return folder


def binds(prefix: Path) -> dict[str, str]:
    """What a machine gets to read, and where."""
    return {PREFIX: str(prefix), PACKAGES: str(_site_packages()), SOURCE: str(ROOT)}


def clock(built: Path) -> Path:
    """The library that makes a wall clock wrong."""
    source = Path(__file__).with_name("clock.c")
    flags = ("-std=gnu11", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror")
    subprocess.run([os.environ.get("CC", "gcc"), *flags, "-o", str(built), str(source)], check=True)
    return built


def _site_packages() -> Path:
    import grpc

    return Path(grpc.__file__).parents[1]
