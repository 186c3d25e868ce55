"""The packaged demo: a held-out dialogue, one request the profile can answer and one it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files

from personalagent.datasets.corpus import Corpus
from tests.cli.conftest import LACTOSE, NO_FACTS, Cli
from tests.conftest import ROOT

PACKAGED = json.loads((files("personalagent") / "demo" / "dialogue.json").read_text("utf-8"))


def test_the_dialogue_was_never_trained_on_and_is_as_in_the_corpus(corpus: Corpus) -> None:
    assert PACKAGED["id"] in {dialogue.dialogue_id for dialogue in corpus.dialogues_of("test")}
    records = [
        json.loads(line) for path in (ROOT / "data/corpus/dialogues").glob("*.jsonl") for line in path.open(encoding="utf-8")
    ]
    (original,) = [record for record in records if record["id"] == PACKAGED["id"]]
    assert all(request in original["requests"] for request in PACKAGED["requests"])
    assert {**original, "requests": PACKAGED["requests"]} == PACKAGED


def test_one_request_can_be_answered_and_one_cannot() -> None:
    assert [request["sufficient"] for request in PACKAGED["requests"]] == [True, False]


def test_it_shows_what_each_turn_taught_then_two_replies_then_the_profile(cli: Cli, script: Callable[..., None]) -> None:
    turns = [turn["user"] for session in PACKAGED["sessions"] for turn in session["turns"]]
    replies = [LACTOSE if "lactose intolerant" in said else NO_FACTS for said in turns]
    requests = [NO_FACTS, "health.allergies_intolerances", NO_FACTS, "purchase.budget_timeline"]
    script("policy", *replies, *requests)
    script("responder", "A sorbet.", "A grey one.")
    result = cli("demo")
    assert result.code == 0, result.err
    for shown in ("“I'm lactose intolerant”", "A sorbet.", "decision: answer", "used: health.allergies_intolerances: lactose",
                  "decision: answer and ask", "question: What's your budget", "The profile"):  # fmt: skip
        assert shown in result.out
    script("policy", *replies, *requests)
    script("responder", "A sorbet.", "A grey one.")
    objects = cli("demo", "--json").lines
    assert len(objects) == len(turns) + 3
    assert cli("verify", "--json").json["users"] == 0, "the demo keeps nothing"
