"""Builds the Cython data plane and collects the five components into one distribution.

Each component is a folder whose import package is nested inside it (`model/halftrack_model`), so that editable installs,
relative `cimport` and mypy all see the same layout; docs/adr/0002 has the measurements behind that.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

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
    "beginning",
    "branch",
    "bridge_inlet",
    "bridge_lane",
    "bridge_outlet",
    "mapping",
    "merge_flow",
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


HEADERS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / NATIVE).glob("*.h"))]
CORE = [str(path.relative_to(ROOT)) for path in sorted((ROOT / NATIVE).glob("*.c"))]
FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wno-unused-function"]


def extensions() -> list[Extension]:
    """One extension for each `.pyx`; those of the data plane that touch rings carry the C core."""
    return [
        Extension(
            f"{source.parent.name}.{source.stem}",
            [str(source.relative_to(ROOT))],
            depends=[*HEADERS, *(CORE if source.stem in USE_THE_CORE else [])],
            include_dirs=[NATIVE],
            extra_compile_args=FLAGS,
        )
        for component in ("dataplane", "proto")
        for source in sorted((ROOT / component / f"halftrack_{component}").glob("*.pyx"))
    ]


class BuildExtensions(build_ext):
    """Compiles the core once instead of once for each extension, and extensions on all processors."""

    def finalize_options(self) -> None:
        """As many at a time as there are processors, unless somebody has said."""
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self) -> None:
        """The core first, if anything is older than it."""
        using = [each for each in self.extensions if each.name.rpartition(".")[2] in USE_THE_CORE]
        if any(self._stale(each) for each in using):
            compiled = self.compiler.compile(
                CORE, output_dir=self.build_temp, include_dirs=[NATIVE], extra_postargs=FLAGS, depends=HEADERS
            )
            for each in using:
                each.extra_objects += compiled
        super().build_extensions()

    def _stale(self, extension: Extension) -> bool:
        path = Path(self.get_ext_fullpath(extension.name))
        newest = max(Path(name).stat().st_mtime for name in [*extension.sources, *extension.depends])
        return bool(self.force) or not path.exists() or path.stat().st_mtime <= newest


NAMES, FOLDERS = packages()
setup(
    packages=NAMES,
    package_dir=FOLDERS,
    package_data={
        "halftrack_dataplane": ["native/*.h", "native/*.c", "native/Makefile", "*.pxd", "*.pyx", "*.pyi", "py.typed"],
        **{
            f"halftrack_{name}": ["*.pyi", "*.pyx", "py.typed", "*.service"]
            for name in ("model", "proto", "controller", "agent")
        },
    },
    data_files=[("share/doc/halftrack", ["README.md", "CHANGELOG.md"])],  # what the units' Documentation= names
    cmdclass={"build_ext": BuildExtensions},
    ext_modules=cythonize(extensions(), language_level=3, annotate=False, nthreads=os.cpu_count() or 1)
    if extensions()
    else [],
)
