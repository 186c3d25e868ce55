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
    amazon = facts("digital_behavior.online.shopping_platforms | add | avoid | Amazon | not be from Amazon")
    replies = [amazon if "not be from Amazon" in said else NO_FACTS for said in turns]
    requests = [NO_FACTS, "online.shopping_platforms", NO_FACTS, "screen.genres"]
    script("policy", *replies, *requests)
    script("responder", "An art shop near you.", "A film.")
    result = cli("demo")
    assert result.code == 0, result.err
    for shown in (
        "“not be from Amazon”",
        "An art shop near you.",
        "used: online.shopping_platforms: Amazon (avoid)",
        "decision: answer\n",
        "decision: answer and ask",
        "question: " + question_for(schema.slot("screen.genres")),
        "The profile",
    ):
        assert shown in result.out
    script("policy", *replies, *requests)
    script("responder", "An art shop near you.", "A film.")
    objects = cli("demo", "--json").lines
    assert len(objects) == len(turns) + 3
    assert [each["decision"] for each in objects if "decision" in each] == ["answer", "answer_and_ask"]
    assert cli("verify", "--json").json["users"] == 0, "the demo keeps nothing"
