"""The manifest of a run of the suite, kept beside its rows; what it says decides whether a run may go on, and which runs belong together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from personalagent.bench.conversation import Decoding
from personalagent.bench.manifest import commit, file_sha256, machine_facts
from personalagent.bench.rows import MANIFEST, write_whole
from personalagent.bench.systems.base import System
from personalagent.config import Settings
from personalagent.datasets.example import Example
from personalagent.errors import DataError, UsageError
from personalagent.judge import prompts_sha256
from personalagent.llm.base import LLM
from personalagent.prompts import load_prompt
from personalagent.rubrics import load_rubric

TASK = "bench run"
HOW = "how"
"""The one field that no comparison looks at: how many at once, and at what prices."""
OWN = ("systems", "noise_tokens", "rows", HOW)
"""Fields in which runs of one data set may differ and still stand in one table."""
OF_DATA = ("dataset", "data_sha256", "examples", "units", "limit")
"""Fields in which runs of different data sets differ."""
SETTINGS = ("categories", "language", "questions_per_session")


def suite_manifest(
    *,
    dataset: str,
    examples: Sequence[Example],
    limit: int | None,
    systems: Iterable[System],
    noise: Mapping[str, Any],
    models: Mapping[str, Any],
    rubrics: Iterable[str],
    decoding: Decoding,
    settings: Settings,
    seed: int,
    how: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the manifest of a run. ``models`` holds, by role, what ``model_facts`` gives; ``noise`` has tokens, protocol and sha256."""
    systems, rubrics = tuple(systems), tuple(rubrics)
    prompts = sorted({name for system in systems for name in system.prompts})
    return {
        "task": TASK,
        "commit": commit(),
        "dataset": dataset,
        "data_sha256": examples_sha256(examples),
        "limit": limit,
        "examples": len(examples),
        "units": len({example.unit for example in examples}),
        **{f"noise_{name}": value for name, value in noise.items()},
        "systems": [system.name for system in systems],
        "rows": len(examples) * len(systems) * len(noise["tokens"]),
        "prompts": {name: load_prompt(name).sha256 for name in prompts},
        **models,
        "rubrics": {name: load_rubric(name).sha256 for name in rubrics},
        "judge_prompts_sha256": prompts_sha256() if models.get("judge") else None,
        "decoding": asdict(decoding),
        "settings": {name: getattr(settings, name) for name in SETTINGS},
        "schema_sha256": file_sha256(settings.schema_file) if settings.schema_file else None,
        "seed": seed,
        **machine_facts(),
        HOW: dict(how),
    }


def model_facts(llm: LLM | None, weights: Path | None) -> dict[str, Any] | None:
    """Return what tells one model from another: its spec, and the hashes of the files it is made of where they are here."""
    if llm is None:
        return None
    adapter = getattr(llm, "adapter", None)
    return {
        "spec": llm.name,
        "weights_sha256": file_sha256(weights) if weights else None,
        "adapter": adapter.name if isinstance(adapter, Path) else None,
        "adapter_sha256": file_sha256(adapter) if isinstance(adapter, Path) else None,
    }


def examples_sha256(examples: Iterable[Example]) -> str:
    """Return one hash over everything that the examples hold, in their order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(asdict(example), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def settle(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Write the manifest into a new folder, or make sure that the one there is the same; tell whether the run goes on.

    Raises:
        UsageError: the folder holds a run of something else; the message names the fields.
        DataError: its manifest cannot be read.
    """
    path = folder / MANIFEST
    written = json.loads(json.dumps(manifest))
    if path.exists():
        held = load_manifest(folder)
        unlike = [name for name in {**held, **written} if name != HOW and held.get(name) != written.get(name)]
        if unlike:
            raise UsageError(
                f"expected a folder of the same run, got {str(folder)!r}, made with another {_named(unlike, held, written)}; "
                "name another folder"
            )
        return True
    if folder.is_dir() and any(not each.name.startswith(".") for each in folder.iterdir()):
        raise UsageError(f"expected a new or empty folder, or one of a run, got {str(folder)!r} with other files; name another")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(written, ensure_ascii=False, indent=1) + "\n").encode())
    return False


def load_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a run's folder.

    Raises:
        DataError: there is none, or it is not one of `bench run`.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"expected a folder of `bench run`, got {str(folder)!r} without a readable {MANIFEST}: {error}"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("task") != TASK:
        raise DataError(f"expected the manifest of `bench run` in {str(folder)!r}, got that of something else; name its folder")
    return manifest


def unlike_fields(one: Mapping[str, Any], other: Mapping[str, Any], *, but: Iterable[str] = OWN) -> list[str]:
    """Name the fields in which two runs differ.

    What only one of them used (a policy, a judge, noise, a prompt) is no difference, for it has not been compared with anything.
    """
    unlike = []
    for name in sorted({*one, *other} - set(but)):
        left, right = one.get(name), other.get(name)
        if name in ("prompts", "rubrics"):
            left, right = ({key: each[key] for key in one[name].keys() & other[name].keys()} for each in (one[name], other[name]))
        if left is not None and right is not None and left != right:
            unlike.append(name)
    return unlike


def refuse_unlike(manifests: Mapping[str, Mapping[str, Any]], *, accepted: Iterable[str] = ()) -> list[str]:
    """Make sure that runs may stand in one table, and name the accepted fields in which they differ.

    Raises:
        UsageError: two of them differ in a field that was not accepted; the message names runs and fields.
    """
    accepted, seen = set(accepted), set[str]()
    runs = list(manifests.items())
    for place, (name, manifest) in enumerate(runs):
        for earlier, other in runs[:place]:
            is_same_data = manifest["dataset"] == other["dataset"]
            unlike = unlike_fields(manifest, other, but=OWN if is_same_data else (*OWN, *OF_DATA))
            refused = [each for each in unlike if each not in accepted]
            if refused:
                raise UsageError(
                    f"expected runs that were made alike, got {earlier!r} and {name!r} with another {_named(refused, other, manifest)}; "
                    f"report them apart, or name what may differ: {' '.join(f'--accept {each}' for each in refused)}"
                )
            seen.update(unlike)
    return sorted(seen)


def _named(names: Iterable[str], one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({_short(one.get(name))} and {_short(other.get(name))})" for name in names)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
