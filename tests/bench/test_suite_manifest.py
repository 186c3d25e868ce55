"""Which runs may go on and which may stand in one table: those that were made alike, and otherwise the fields are named."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from personalagent.bench.rows import MANIFEST, ROWS
from personalagent.bench.suite_manifest import load_manifest, model_facts, settle, unlike_fields
from personalagent.bench.suite_numbers import load_suite, suite_numbers
from personalagent.errors import DataError, UsageError
from personalagent.llm.scripted import ScriptedLLM
from tests.bench.suite import examples_of, manifest_of, open_systems, run_suite

MCQ = "prefeval:explicit-mcq"


def manifest(dataset: str = MCQ, *, names: tuple[str, ...] = ("base",), **changes: Any) -> dict[str, Any]:
    return {**manifest_of(dataset, examples_of(dataset), open_systems(names)), **changes}


def test_a_manifest_says_what_it_was_made_with() -> None:
    made = manifest(names=("base", "personal-agent"))
    assert made["examples"] == 5 and made["units"] == 5 and made["rows"] == 20 and made["rubrics"] == {}
    assert {"bench_system", "infer_general", "needs_general", "answer"} <= set(made["prompts"])
    assert made["responder"] == {"spec": "responder", "weights_sha256": None, "adapter": None, "adapter_sha256": None}
    assert {"commit", "data_sha256", "seed", "machine", "python", "versions", "decoding", "judge_prompts_sha256"} <= set(made)
    assert set(manifest("prefeval:explicit")["rubrics"]) > {"prefeval_helpful"}


def test_the_hash_of_an_adapter_is_in_it(tmp_path: Path) -> None:
    file = tmp_path / "lora.gguf"
    file.write_bytes(b"x")
    llm = ScriptedLLM([], name="m")
    llm.adapter = file  # type: ignore[attr-defined]
    facts = model_facts(llm, file) or {}
    assert facts["adapter"] == "lora.gguf" and facts["adapter_sha256"] == facts["weights_sha256"] != None  # noqa: E711


def test_a_folder_of_another_run_is_refused_and_the_fields_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert settle(folder, manifest()) is False
    assert settle(folder, manifest(how={"parallel": 9})) is True
    with pytest.raises(UsageError, match=r"another decoding \(.*\), seed \(0 and 3\); name another"):
        settle(folder, manifest(seed=3, decoding={"max_tokens": 1}))
    with pytest.raises(UsageError, match="systems"):
        settle(folder, manifest(names=("base", "cot")))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    with pytest.raises(UsageError, match="new or empty folder"):
        settle(tmp_path / "other", manifest())


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bench run"):
        load_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text('{"task": "bench infer"}')
    with pytest.raises(DataError, match="something else"):
        load_manifest(tmp_path)


def test_runs_differ_in_what_both_used() -> None:
    one = manifest()
    assert unlike_fields(one, manifest(names=("cot", "personal-agent"))) == []
    assert unlike_fields(one, one | {"judge": None, "policy": None, "noise_tokens": [0]}) == []
    assert unlike_fields(one, one | {"seed": 1, "responder": {"spec": "x"}}) == ["responder", "seed"]
    assert unlike_fields(one, one | {"prompts": {"bench_system": "other"}}) == ["prompts"]


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two systems, in a run each."""
    for name in ("base", "cot"):
        asyncio.run(run_suite(MCQ, tmp_path / name, names=(name,), noise=(0,)))
    return tmp_path / "base", tmp_path / "cot"


def change(folder: Path, **fields: Any) -> None:
    (folder / MANIFEST).write_text(json.dumps(load_manifest(folder) | fields))


def test_systems_of_several_runs_stand_in_one_table(runs: tuple[Path, Path]) -> None:
    numbers = suite_numbers(load_suite(runs))
    (block,) = numbers["blocks"]
    assert list(block["scores"]) == ["base", "cot"] and block["scores"]["cot"]["minus_base"]["difference"] == 0


def test_runs_that_were_made_differently_are_refused_unless_it_is_accepted(runs: tuple[Path, Path]) -> None:
    change(runs[1], seed=1, commit="other")
    with pytest.raises(
        UsageError, match=r"another commit \(.*\), seed \(0 and 1\); report them apart, or .*--accept commit --accept seed"
    ):
        load_suite(runs)
    with pytest.raises(UsageError, match="another seed"):
        load_suite(runs, accepted=["commit"])
    assert load_suite(runs, accepted=["commit", "seed"]).accepted == ("commit", "seed")


def test_a_row_is_counted_once(runs: tuple[Path, Path]) -> None:
    with pytest.raises(UsageError, match="each row in one run"):
        load_suite([runs[0], runs[0].parent / "base" / ".." / "base"])


def test_runs_of_unlike_data_may_differ_in_their_data_only(runs: tuple[Path, Path], tmp_path: Path) -> None:
    asyncio.run(run_suite("unseen:test", tmp_path / "unseen", names=("base",), noise=(0,)))
    assert len(load_suite([runs[0], tmp_path / "unseen"]).blocks) == 2
    change(tmp_path / "unseen", responder={"spec": "another"})
    with pytest.raises(UsageError, match="another responder"):
        load_suite([runs[0], tmp_path / "unseen"])


def test_a_run_that_is_not_finished_says_so(runs: tuple[Path, Path]) -> None:
    lines = (runs[0] / ROWS).read_bytes().splitlines(keepends=True)
    (runs[0] / ROWS).write_bytes(b"".join(lines[:3]))
    suite = load_suite([runs[0]])
    assert (suite.present, suite.expected) == (3, 5)
