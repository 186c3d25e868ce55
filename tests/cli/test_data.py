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


TEXTS = {"explanation": "e", "question": "q?", "reference": "r", "violating": "v"}
TWINS = json.dumps({"first": {"request": "Dinner for two?", **TEXTS}, "second": {"request": "And lunch?", **TEXTS}})


def unseen(cli: Cli, tmp_path: Path, *replies: str, options: tuple[str, ...] = ()) -> tuple[int, str, list[dict[str, object]]]:
    """Let a scripted model write the first twins of the corpus; return exit code, messages, and the cases on disk."""
    script, out = tmp_path / "replies.json", tmp_path / "unseen"
    script.write_text(json.dumps(replies), "utf-8")
    result = cli("data", "unseen", str(CORPUS), "--llm", f"scripted:{script}", "--out", str(out), "--parallel", "1", *options)
    cases = [json.loads(line) for file in sorted(out.glob("t*.jsonl")) for line in file.read_text("utf-8").splitlines()]
    return result.code, result.out + result.err, cases


def test_a_model_writes_twins_and_a_second_run_goes_on_where_the_first_one_failed(cli: Cli, tmp_path: Path) -> None:
    code, said, cases = unseen(cli, tmp_path, TWINS, "Sure!", '{"skip": "odd"}', options=("--limit", "3"))
    assert code == 1
    assert "expected one JSON object, got none" in said
    assert "2 cases written, 0 kept, 1 skipped by the model, 1 failed" in said
    assert [case["sufficient"] for case in cases] == [False, True]
    code, said, again = unseen(cli, tmp_path, TWINS, options=("--limit", "1"))
    assert (code, len(again)) == (0, 4)
    assert "2 cases written, 3 kept" in said
    assert len({str(case["id"]) for case in again}) == 4


def test_a_dry_run_says_what_it_would_take_and_calls_nothing(cli: Cli, tmp_path: Path) -> None:
    code, said, cases = unseen(cli, tmp_path, options=("--limit", "2", "--dry-run", "--price", "1000", "0"))
    assert (code, cases) == (0, [])
    assert "2 twins to write: about " in said
    assert " 900 completion tokens" in said


def test_without_a_model_the_set_is_what_the_corpus_holds_and_is_written_once(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "unseen"
    assert cli("data", "unseen", str(CORPUS), "--out", str(out)).code == 0
    for split in ("train", "dev", "test"):
        assert (out / f"{split}.jsonl").read_text("utf-8") == (ROOT / "data" / "unseen" / f"{split}.jsonl").read_text("utf-8")
    assert "0 cases written" in cli("data", "unseen", str(CORPUS), "--out", str(out)).err
