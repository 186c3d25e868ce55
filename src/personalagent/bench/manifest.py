"""What a result was made with: enough to make it again, or to see why it cannot be the same."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from personalagent.llm.base import LLM
from personalagent.prompts import load_prompt

PACKAGES = ("personalagent", "openai", "xllamacpp")


def manifest_of(task: str, *, policy: LLM, weights: Path | None, data: Path, seed: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of a run: code, prompts, weights, data, seed, machine, and the run's own facts."""
    adapter: Path | None = getattr(policy, "adapter", None)
    return {
        "task": task,
        "commit": commit(),
        "prompts": prompt_hashes(),
        "policy": policy.name,
        "weights_sha256": file_sha256(weights) if weights else None,
        "adapter": adapter.name if adapter else None,
        "adapter_sha256": file_sha256(adapter) if adapter else None,
        "data_sha256": files_sha256(sorted(path for path in data.rglob("*") if path.suffix in (".jsonl", ".json"))),
        "seed": seed,
        **facts,
        **machine_facts(),
    }


def machine_facts() -> dict[str, Any]:
    """Return what a result was made on: versions of the packages and of Python, and the machine."""
    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {platform.system()}",
    }


def prompt_hashes() -> dict[str, str]:
    """Return the sha256 of every packaged prompt."""
    names = sorted(entry.name for entry in (files("personalagent") / "prompts").iterdir() if entry.name.endswith(".md"))
    return {name.removesuffix(".md"): load_prompt(name.removesuffix(".md")).sha256 for name in names}


def files_sha256(paths: Iterable[Path]) -> str:
    """Return one hash over the names and the bytes of files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\n{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit() -> str:
    """Return the commit of the working tree, with ``+`` where it has changes; ``unknown`` outside a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],  # noqa: S607 - git from PATH
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parent,
        )
    except OSError:
        return "unknown"
    return described.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
