"""Training examples of the responder: exactly what serving would send, of the train split only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from personalagent.agent import PersonalAgent
from personalagent.config import Settings
from personalagent.datasets.aloe import split_by_profile
from personalagent.datasets.base import LabelledDialogue
from personalagent.datasets.corpus import Corpus
from personalagent.dialogue import Message
from personalagent.errors import DataError
from personalagent.llm.scripted import ScriptedLLM
from personalagent.parsing import Fact
from personalagent.schema import ProfileSchema
from personalagent.store import Store
from personalagent.train.replies import PreferenceExample, aloe_reply_examples, before_question, pairs, reply_examples
from personalagent.train.samples import START


def written(facts: Sequence[Fact]) -> str:
    """Return facts as a policy in the general notation writes them."""
    lines = [f"{fact.path} | {fact.op} | {fact.polarity} | {fact.value} | {fact.quote}" for fact in facts]
    return "<classification>\n" + ("\n".join(lines) or "none") + "\n</classification>"


async def sent_by_serving(dialogue: LabelledDialogue, schema: ProfileSchema, store: Store) -> list[tuple[Message, ...]]:
    """Play a dialogue and its requests, each in a session of its own, with a policy that writes the labels; return what the responder got."""
    turns = {turn.utterance: turn for session in dialogue.sessions for turn in session}
    needs = {request.request: request.needs for request in dialogue.requests}

    def policy(messages: Sequence[Message]) -> str:
        text = messages[-1].content
        said = max((each for each in (*turns, *needs) if each in text), key=len)
        if "<needs>" in text:
            return "<needs>\n" + ("\n".join(needs.get(said, ())) or "none") + "\n</needs>"
        return written([fact for fact in turns[said].facts if fact.path in schema.slots] if said in turns else [])

    def responder(messages: Sequence[Message]) -> str:
        said = messages[-1].content
        return (turns[said].response or "") if said in turns else "An answer."

    minutes = count()
    speaker = ScriptedLLM(responder)
    agent = PersonalAgent(
        Settings(consent=("all",)),
        policy=ScriptedLLM(policy),
        responder=speaker,
        store=store,
        schema=schema,
        clock=lambda: START + timedelta(seconds=next(minutes)),
    )
    for number, session in enumerate(dialogue.sessions):
        for turn in session:
            await agent.chat("u", turn.utterance, session_id=f"s{number}")
    for number, request in enumerate(dialogue.requests):
        await agent.chat("u", request.request, session_id=f"r{number}")
    return [call.messages for call in speaker.calls]


@pytest.mark.parametrize("index", range(3))
async def test_an_example_is_what_serving_sends_with_the_gold_profile(
    index: int, corpus: Corpus, schema: ProfileSchema, tmp_path: Path
) -> None:
    """On dialogues of the dev split, whose own requests the shortlist does not hold."""
    dialogue = corpus.dialogues_of("dev")[index]
    alone = Corpus((dialogue,), (), (), {dialogue.dialogue_id: "dev"})
    examples = reply_examples(alone, schema, "dev")
    with Store.open(f"sqlite:///{tmp_path / 'a.db'}") as store:
        sent = await sent_by_serving(dialogue, schema, store)
    turns = [each.messages for each in examples if each.origin == "turn"]
    assert turns == sent[: len(turns)]
    assert len(turns) == sum(map(len, dialogue.sessions))
    asked = {each.messages for each in examples if each.origin == "request"}
    assert asked <= set(sent[len(turns) :]) and len(asked) >= 3


def test_only_the_train_split_is_trained_on(corpus: Corpus, schema: ProfileSchema) -> None:
    """No utterance or request of a persona that is held out stands in any example."""
    held_out = {
        text
        for split in ("dev", "test")
        for dialogue in corpus.dialogues_of(split)
        for text in (
            *(turn.utterance for session in dialogue.sessions for turn in session),
            *(r.request for r in dialogue.requests),
        )
    }
    examples = reply_examples(corpus, schema)
    said = {message.content for each in examples for message in each.messages if message.role == "user"}
    trained = {turn.utterance for d in corpus.dialogues_of("train") for session in d.sessions for turn in session}
    assert trained <= said
    assert {text for text in said & held_out if len(text.split()) > 8} == set()


def test_chosen_and_rejected_are_the_corpus_own(corpus: Corpus, schema: ProfileSchema) -> None:
    dialogue = corpus.dialogues_of("train")[0]
    alone = Corpus((dialogue,), (), (), {})
    examples = reply_examples(alone, schema)
    turns = [turn for session in dialogue.sessions for turn in session]
    of_turns = [each for each in examples if each.origin == "turn"]
    assert [(each.completion, each.rejected) for each in of_turns] == [(turn.response, turn.rejected) for turn in turns]
    assert Counter(each.origin for each in pairs(examples))["turn"] == sum(turn.rejected is not None for turn in turns)
    sufficient = [(r.reference, r.violating) for r in dialogue.requests if not r.missing]
    assert set(sufficient) <= {(each.completion, each.rejected) for each in examples if each.origin == "request"}


def test_where_a_question_is_added_the_chosen_reply_asks_nothing(corpus: Corpus, schema: ProfileSchema) -> None:
    asking = [each for each in reply_examples(corpus, schema) if "Do not ask anything" in each.messages[0].content]
    assert len(asking) > 200
    assert [each.completion for each in asking if "?" in each.completion or not each.completion] == []


@pytest.mark.parametrize(
    ("reply", "kept"),
    [
        ("Rice with beans. Any allergies? If so, skip it.", "Rice with beans."),
        ("Rice. Or beans.", "Rice. Or beans."),
        ("Any allergies? Then rice.", ""),
    ],
)
def test_a_reply_is_cut_before_its_question(reply: str, kept: str) -> None:
    assert before_question(reply) == kept


def test_a_pair_needs_two_replies_that_differ() -> None:
    alike = PreferenceExample("turn", (), "Tea.", " Tea.\n")
    lone = PreferenceExample("turn", (), "Tea.")
    both = PreferenceExample("turn", (), "Tea.", "Coffee.")
    assert pairs([alike, lone, both]) == [both]


def aloe_file(folder: Path) -> Path:
    """Write ALOE's form: a dialogue of a training profile and one of a held-out profile."""
    train, held_out = (
        next(name for name in (f"He is person {n}." for n in count()) if (split_of(name) == "train") is wanted)
        for wanted in (True, False)
    )

    def record(profile: str) -> dict[str, object]:
        turns = [
            {
                "user": "I grow leeks.",
                "assistant": {"preferred": "Fine soil.", "rejected": "Buy them."},
                "inferred_profile": "He grows leeks. He is shy.",
                "inferred_personality": "None",
            },
            {
                "user": "What for lunch?",
                "assistant": {"preferred": "Leek soup.", "rejected": ["Pizza.", "Ask a cook."]},
                "chosen": "rejected",
                "inferred_profile": "He grows leeks. He is shy. He eats lunch alone.",
                "inferred_personality": "He is calm.",
            },
        ]
        return {"profile": f'"{profile}"', "personality": '"He is calm."', "conversations": turns}

    file = folder / "conversations.jsonl"
    file.write_text("".join(json.dumps(record(profile)) + "\n" for profile in (held_out, train)), "utf-8")
    return folder


def split_of(profile: str) -> str:
    """Return the split of a profile as ALOE's loader does."""
    import hashlib

    return split_by_profile(hashlib.sha256(profile.encode()).hexdigest()[:12])


def test_aloe_gives_a_pair_for_each_rejected_reply_of_its_training_profiles(tmp_path: Path) -> None:
    examples = aloe_reply_examples(aloe_file(tmp_path))
    assert [(each.completion, each.rejected) for each in examples] == [
        ("Fine soil.", "Buy them."),
        ("Leek soup.", "Pizza."),
        ("Leek soup.", "Ask a cook."),
    ]
    system, *rest = examples[1].messages
    assert rest == [Message("user", "I grow leeks."), Message("assistant", "Fine soil."), Message("user", "What for lunch?")]
    shown = system.content.split("<preferences>\n")[1].split("\n</preferences>")[0]
    assert shown.splitlines() == [
        "about the user: He eats lunch alone.",
        "about the user: He is calm.",
        "about the user: He is shy.",
        "about the user: He grows leeks.",
    ]


def test_a_path_without_aloe_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected ALOE's conversations\.jsonl"):
        aloe_reply_examples(tmp_path)
