"""Training examples of the responder: what serving would send it with the gold profile of that moment, a preferred reply and a rejected one.

| from | prompt | chosen | rejected |
|---|---|---|---|
| a turn of a dialogue | the session so far, the utterance, the gold profile with what the utterance just revealed | preferred | rejected |
| a request of a dialogue | a new session, the final gold profile, the labelled needs | reference | violating |
| a turn of ALOE | the dialogue as it went on, the sentences inferred so far | preferred | each rejected one |

The policy has pairs too, in an installation's own data: what a user put right (``policy_pairs``).

Nobody labelled what a turn needs, so a turn's preferences are those that serving finds without the policy: of likely slots, of shared words,
of style. Where serving would ask a question first, no model writes the reply and there is no example; where it would add one, the
chosen reply ends before its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from personalagent.datasets.aloe import AloeDialogue, AloeTurn, load_dialogues, sentences, split_by_profile
from personalagent.datasets.base import LabelledDialogue, Split
from personalagent.datasets.corpus import Corpus
from personalagent.dialogue import Message
from personalagent.elicitation import needs_nothing
from personalagent.inference import MAX_UTTERANCE_TOKENS, clip, words_of
from personalagent.parsing import ParseOutcome
from personalagent.profile import Polarity, Profile, SlotValue, Source
from personalagent.response import build_messages
from personalagent.schema import ProfileSchema
from personalagent.shortlist import likely_slots
from personalagent.sufficiency import AskRules, Assessment, Decision, decide, relevant_values
from personalagent.train.samples import START, final_profile, gold_delta, infer_example, profile_of

ALOE_PATH = "aloe.inferred.about_the_user"
"""Stands for the slot of a sentence that ALOE inferred; the responder sees its last part only."""
ALOE_SENTENCES = 8
"""As many as serving shows values."""


@dataclass(frozen=True, slots=True)
class PreferenceExample:
    """What a role reads, what it should write, and what it should not."""

    origin: str
    """turn, request or aloe."""
    messages: tuple[Message, ...]
    completion: str
    """What is chosen."""
    rejected: str | None = None
    task: str = "reply"
    """reply, or infer: what the policy wrote before the user put it right."""


def reply_examples(corpus: Corpus, schema: ProfileSchema, split: Split = "train") -> list[PreferenceExample]:
    """Return the examples of a split's dialogues in file order, those without a rejected reply too."""
    found = []
    for dialogue in corpus.dialogues_of(split):
        found += [*_turn_examples(dialogue, schema), *_request_examples(dialogue, schema)]
    return found


def aloe_reply_examples(path: Path, split: Split = "train") -> list[PreferenceExample]:
    """Return the examples of ALOE's dialogues, split by profile; one for each rejected reply.

    Raises:
        DataError: there is no such file, or a record is not ALOE's.
    """
    dialogues = [each for each in load_dialogues(path) if split_by_profile(each.profile_id) == split]
    return [example for dialogue in dialogues for example in _aloe_examples(dialogue)]


def policy_pairs(corpus: Corpus, schema: ProfileSchema, split: Split = "train") -> list[PreferenceExample]:
    """Return a pair for each single turn that a user put right: the gold facts against those that were inferred."""
    found = []
    for single in corpus.turns_of(split):
        if single.turn.wrong:
            profile = profile_of(single.profile, schema)
            gold = infer_example(single.turn, profile, schema, "turn")
            was = infer_example(replace(single.turn, facts=single.turn.wrong), profile, schema, "turn")
            found.append(PreferenceExample("turn", gold.messages, gold.completion, was.completion, "infer"))
    return found


def pairs(examples: Sequence[PreferenceExample]) -> list[PreferenceExample]:
    """Return the examples that a preference can be learned from: those with a rejected reply that differs from the chosen one."""
    return [each for each in examples if each.rejected and each.rejected.strip() != each.completion.strip()]


def _turn_examples(dialogue: LabelledDialogue, schema: ProfileSchema) -> Iterator[PreferenceExample]:
    profile, at = Profile(), START
    for session in dialogue.sessions:
        history: list[Message] = []
        for turn in session:
            profile = profile.apply(gold_delta(turn, profile, schema, at))
            if turn.response:
                assessment = _assess(turn.utterance, (), profile, schema, dialogue.dialogue_id, at)
                messages = _messages(assessment, profile, history, schema)
                yield PreferenceExample("turn", messages, turn.response, turn.rejected)
                history += [Message("user", turn.utterance), Message("assistant", turn.response)]
            at += timedelta(minutes=1)


def _request_examples(dialogue: LabelledDialogue, schema: ProfileSchema) -> Iterator[PreferenceExample]:
    profile = final_profile(dialogue, schema)
    at = START + timedelta(minutes=sum(map(len, dialogue.sessions)))
    for request in dialogue.requests:
        assessment = _assess(request.request, request.needs, profile, schema, dialogue.dialogue_id, at)
        asks = assessment.decision is Decision.ANSWER_AND_ASK
        chosen = before_question(request.reference) if asks else request.reference
        if assessment.decision is not Decision.ASK and chosen:
            yield PreferenceExample("request", _messages(assessment, profile, (), schema), chosen, request.violating)


def _assess(request: str, needs: Sequence[str], profile: Profile, schema: ProfileSchema, unit: str, at: datetime) -> Assessment:
    """Decide as ``sufficiency.assess`` does, with labelled needs in place of the policy's; the unit's own labels make no slot likely."""
    if needs_nothing(request):
        return decide(request, (), profile, AskRules(), outcome=ParseOutcome.EMPTY)
    slots = [schema.slots[path] for path in needs if path in schema.slots]
    likely = likely_slots(clip(request, MAX_UTTERANCE_TOKENS["compact"])[0], schema, without=unit)
    return replace(decide(request, slots, profile, AskRules(), now=at), likely=tuple(slot.path for slot in likely))


def _messages(assessment: Assessment, profile: Profile, history: Sequence[Message], schema: ProfileSchema) -> tuple[Message, ...]:
    used = relevant_values(assessment, profile, schema)
    asks = assessment.decision is Decision.ANSWER_AND_ASK
    return tuple(build_messages(assessment.request, used, history, asks=asks))


def before_question(reply: str) -> str:
    """Return the sentences of a reply before its first question; serving adds the question itself. Empty where it begins with one."""
    kept = []
    for sentence in sentences(reply):
        if "?" in sentence:
            break
        kept.append(sentence)
    return " ".join(kept)


def _aloe_examples(dialogue: AloeDialogue) -> Iterator[PreferenceExample]:
    history: list[Message] = []
    for index, turn in enumerate(dialogue.turns):
        if turn.preferred:
            at = START + timedelta(minutes=index)
            messages = tuple(build_messages(turn.utterance, _aloe_values(turn, at), history))
            yield from (PreferenceExample("aloe", messages, turn.preferred, each) for each in turn.rejected or (None,))
        if turn.response:
            history += [Message("user", turn.utterance), Message("assistant", turn.response)]


def _aloe_values(turn: AloeTurn, at: datetime) -> list[SlotValue]:
    """Return the sentences inferred so far that share most words with the utterance, of equals the newest first."""
    newest = [*turn.profile.known, *turn.personality.known][::-1]
    wanted = words_of(turn.utterance)
    ranked = sorted(newest, key=lambda sentence: len(wanted & words_of(sentence)), reverse=True)
    return [SlotValue(ALOE_PATH, each, Polarity.NEUTRAL, Source.STATED, at) for each in ranked[:ALOE_SENTENCES]]
