"""The packaged demo: a held-out dialogue, one request the profile can answer and one it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files

from personalagent.datasets.corpus import Corpus
from personalagent.schema import ProfileSchema
from personalagent.sufficiency import question_for
from tests.cli.conftest import NO_FACTS, Cli, facts
from tests.conftest import ROOT

PACKAGED = json.loads((files("personalagent") / "demo" / "dialogue.json").read_text("utf-8"))


DIALOGUE = PACKAGED["dialogue"]


def test_the_dialogue_was_never_trained_on_and_is_as_in_the_corpus(corpus: Corpus) -> None:
    assert DIALOGUE["id"] in {dialogue.dialogue_id for dialogue in corpus.dialogues_of("dev")}
    records = [
        json.loads(line) for path in (ROOT / "data/corpus/dialogues").glob("*.jsonl") for line in path.open(encoding="utf-8")
    ]
    (original,) = [record for record in records if record["id"] == DIALOGUE["id"]]
    assert {**original, "requests": None} == {**DIALOGUE, "requests": None}


def test_it_shows_what_each_turn_taught_then_two_replies_then_the_profile(
    cli: Cli, script: Callable[..., None], schema: ProfileSchema
) -> None:
    turns = [turn["user"] for session in DIALOGUE["sessions"] for turn in session["turns"]]
    evening = facts("education_learning.learning.pace_schedule | add | neutral | eight to nine | from eight in the evening")
    replies = [evening if "from eight in the evening" in said else NO_FACTS for said in turns]
    requests = [NO_FACTS, "learning.pace_schedule", NO_FACTS, "work.benefits_required"]
    script("policy", *replies, *requests)
    script("responder", "One chapter an evening.", "Ask about the pension.")
    result = cli("demo")
    assert result.code == 0, result.err
    for shown in (
        "“from eight in the evening”",
        "One chapter an evening.",
        "used: learning.pace_schedule: eight to nine",
        "decision: answer\n",
        "decision: answer and ask",
        "question: " + question_for(schema.slot("work.benefits_required")),
        "The profile",
    ):
        assert shown in result.out
    script("policy", *replies, *requests)
    script("responder", "One chapter an evening.", "Ask about the pension.")
    objects = cli("demo", "--json").lines
    assert len(objects) == len(turns) + 3
    assert [each["decision"] for each in objects if "decision" in each] == ["answer", "answer_and_ask"]
    assert cli("verify", "--json").json["users"] == 0, "the demo keeps nothing"
