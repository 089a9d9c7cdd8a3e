"""Builds the Cython data plane and collects the five components into one distribution.

Each component is a folder whose import package is nested inside it (`model/halftrack_model`), so that editable installs,
relative `cimport` and mypy all see the same layout; docs/adr/0002 has the measurements behind that.
"""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

COMPONENTS = ("model", "proto", "controller", "agent", "dataplane")
ROOT = Path(__file__).parent


def packages() -> tuple[list[str], dict[str, str]]:
    """The import packages of all components and the folder that each top-level one lives in."""
    names: list[str] = []
    folders: dict[str, str] = {}
    for component in COMPONENTS:
        found = find_packages(component)
        names += found
        folders |= {name: f"{component}/{name}" for name in found if "." not in name}
    return names, folders


NATIVE = "dataplane/halftrack_dataplane/native"
USE_THE_CORE = (
    "branch",
    "bridge_inlet",
    "bridge_lane",
    "bridge_outlet",
    "mapping",
    "merge_runs",
    "packet_capture",
    "ring",
    "ring_pin",
    "ring_reader",
    "ring_sampler",
    "ring_stats",
    "ring_waker",
    "ring_writer",
    "seam",
    "spool_packing",
    "spool_record",
    "state_copy",
)


def extensions() -> list[Extension]:
    """One extension for each `.pyx` of the data plane; those that touch rings carry the C core."""
    headers = [str(path.relative_to(ROOT)) for path in sorted((ROOT / NATIVE).glob("*.h"))]
    core = [str(path.relative_to(ROOT)) for path in sorted((ROOT / NATIVE).glob("*.c"))]
    return [
        Extension(
            f"halftrack_dataplane.{source.stem}",
            [str(source.relative_to(ROOT)), *(core if source.stem in USE_THE_CORE else [])],
            depends=headers,
            include_dirs=[NATIVE],
            extra_compile_args=["-O2", "-std=gnu11", "-Wall", "-Wno-unused-function"],
        )
        for source in sorted((ROOT / "dataplane/halftrack_dataplane").glob("*.pyx"))
    ]


NAMES, FOLDERS = packages()
setup(
    packages=NAMES,
    package_dir=FOLDERS,
    package_data={
        "halftrack_dataplane": ["native/*.h", "native/*.c", "native/Makefile", "*.pxd", "*.pyx", "*.pyi", "py.typed"],
        **{
            f"halftrack_{name}": ["*.pyi", "py.typed", "*.service"]
            for name in ("model", "proto", "controller", "agent")
        },
    },
    data_files=[("share/doc/halftrack", ["README.md", "CHANGELOG.md"])],  # what the units' Documentation= names
    ext_modules=cythonize(extensions(), language_level=3, annotate=False) if extensions() else [],
)
