"""docs/vertices.md: its files are written down as they stand there, its tests are run, its manifest is read."""

import os
import re
import subprocess
import sys
from pathlib import Path

from halftrack_controller import manifests
from tests.house.source import ROOT

PAGE = (ROOT / "docs/vertices.md").read_text()
_FILE = re.compile(r"^```python file=(\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def written(folder: Path) -> list[str]:
    found = _FILE.findall(PAGE)
    for name, text in found:
        (folder / name).write_text(text)
    return [name for name, _ in found]


def test_its_tests_pass(tmp_path: Path) -> None:
    assert written(tmp_path) == ["peaks.py", "means.py", "means_2.py", "test_means.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_means.py"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    seen = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert seen.returncode == 0, seen.stdout
    assert "6 passed" in seen.stdout


def test_its_manifest_is_one(tmp_path: Path) -> None:
    written(tmp_path)
    (text,) = _YAML.findall(PAGE)
    path = tmp_path / "means-1.0.0.yaml"
    path.write_text(text)
    (draft,) = manifests.read([str(path)]).releases
    assert (draft.product, draft.version, draft.entry) == ("means", "1.0.0", "means:Means")
    assert draft.state.reads == ("means/1",)
