"""What `pip install` brings: a wheel with everything that the package reads."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import ROOT


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    listed = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    with zipfile.ZipFile(wheel) as built:
        names = [name for name in built.namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(name.removeprefix("src/") for name in listed if (ROOT / name).exists())
    assert {Path(name).suffix for name in names} >= {".py", ".gguf", ".yaml", ".md", ".json"}
