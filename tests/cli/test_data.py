"""``data``: the corpus checked, and turned into training examples."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Cli
from tests.conftest import ROOT

CORPUS = ROOT / "data" / "corpus"


def test_the_released_corpus_is_valid(cli: Cli) -> None:
    result = cli("data", "validate", *map(str, sorted(CORPUS.glob("*/*.jsonl"))), "--json")
    assert result.code == 0, result.out
    report = result.json
    assert report["problems"] == []
    assert report["slots"] == 274
    assert report["turns"] > report["empty_turns"] > 0


def test_each_problem_has_its_file_and_line_and_the_exit_code_is_1(cli: Cli, tmp_path: Path) -> None:
    good = json.loads((CORPUS / "turns" / "a.jsonl").read_text("utf-8").splitlines()[0])
    fact = {**good["inferred"][0], "quote": "never said", "polarity": "adore"}
    bad = {**good, "inferred": [fact, {**fact, "slot": "basic_demographics.identity.nick"}]}
    path = tmp_path / "turns.jsonl"
    path.write_text("\n".join(map(json.dumps, (good, bad, {"x": 1}, {"sessions": []}))), "utf-8")
    result = cli("data", "validate", str(path))
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[0].startswith("turns.jsonl:2: the quote of basic_demographics.identity.preferred_name is not verbatim")
    assert lines[1] == "turns.jsonl:2: unknown polarity 'adore'"
    assert lines[2] == "turns.jsonl:2: unknown slot basic_demographics.identity.nick"
    assert lines[3].startswith("turns.jsonl:3: is no dialogue (sessions), turn (user, inferred), request or phrase-bank record")
    assert lines[4] == "turns.jsonl:4: the field 'id' is missing"
    assert lines[5].startswith("4 records, 2 turns")


def test_the_same_seed_gives_the_same_examples(cli: Cli, tmp_path: Path) -> None:
    texts = []
    for seed in ("1", "1", "2"):
        out = tmp_path / f"{len(texts)}.jsonl"
        assert cli("data", "synth", "--data", str(CORPUS), "--stage", "gold", "--seed", seed, "--out", str(out)).code == 0
        texts.append(out.read_text("utf-8"))
    assert texts[0] == texts[1] != texts[2]
    assert set(json.loads(texts[0].splitlines()[0])) == {"task", "origin", "prompt", "completion"}
