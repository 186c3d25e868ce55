"""ALOE-Unseen with twins: requests whose deciding preference the dialogue never revealed, and the same kind where it is known.

The paper's recipe (appendix B) takes preferences of the persona that are not in the inferred profile and writes a request that depends on
one, with an explanation. Its set holds only such cases, so always asking would score full marks; here each has a *sufficient twin*, a
request in the same domain with the deciding preference in the profile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from personalagent.datasets.aloe import load_dialogues, sentences, split_by_profile
from personalagent.datasets.base import LabelledDialogue, PersonaSlot, Split, read_jsonl
from personalagent.datasets.corpus import Corpus
from personalagent.dialogue import Message
from personalagent.errors import DataError
from personalagent.inference import catalogue, nearest_slot
from personalagent.llm.base import LLM
from personalagent.profile import Profile, ProfileDelta, SlotOp
from personalagent.prompts import load_prompt
from personalagent.schema import AskPolicy, ProfileSchema

START = datetime(2026, 1, 1, tzinfo=UTC)
MAX_TOKENS = 700
TOKENS_A_CASE = 450
"""What a case's answer takes, for the estimate of a dry run."""
MAX_KNOWN = 20
"""Lines of what is known that the prompt shows, the newest."""


@dataclass(frozen=True, slots=True)
class UnseenCase:
    """A request with what is known at that point; one of a pair of twins, or alone."""

    id: str
    pair: str
    """What twins share."""
    persona: str
    split: Split
    profile: tuple[Mapping[str, str], ...]
    """``slot``, ``value``, ``polarity`` of what is known."""
    request: str
    needs: tuple[str, ...]
    missing: tuple[str, ...]
    sufficient: bool
    question: str | None
    answer: tuple[str, ...]
    """What the persona would say when asked: its values of the missing slots, where the persona has some."""
    explanation: str
    reference: str
    violating: str
    provenance: Mapping[str, str]

    def as_json(self) -> str:
        """Return the case as one line."""
        return json.dumps(asdict(self), ensure_ascii=False)


def read_cases(path: Path) -> list[UnseenCase]:
    """Read the cases of a file, in file order.

    Raises:
        DataError: the file cannot be read, or a record lacks a field or has one too many.
    """
    cases = []
    for where, record in read_jsonl(path):
        lists = {name: tuple(record.get(name) or ()) for name in ("profile", "needs", "missing", "answer")}
        try:
            cases.append(UnseenCase(**{**record, **lists}))
        except TypeError as error:
            raise DataError(f"{where}: expected a case as `data unseen` writes it, got one that does not fit: {error}") from error
    return cases


@dataclass(frozen=True, slots=True)
class Candidate:
    """A preference that a dialogue never revealed: what a case is written about."""

    case_id: str
    persona: str
    split: Split
    known: tuple[PersonaSlot, ...]
    known_lines: tuple[str, ...]
    unknown: str
    slot: str | None
    """None where the data set has no slots (ALOE): the model names one."""


def release(corpus: Corpus, schema: ProfileSchema) -> list[UnseenCase]:
    """Return every case that the corpus holds: the dialogues' requests, and the request twins.

    A dialogue's sufficient and insufficient requests make a pair in their order. Repeated requests are left out, and those that need a value
    which the dialogue took back.
    """
    cases = [case for dialogue in corpus.dialogues for case in _of_dialogue(dialogue, corpus, schema)]
    for each in corpus.requests:
        cases.append(
            UnseenCase(
                id=each.request_id,
                pair=each.pair,
                persona=each.pair,
                split=corpus.held_out.get(each.pair, "train"),
                profile=tuple(map(_entry, each.profile)),
                request=each.request,
                needs=each.needs,
                missing=each.missing,
                sufficient=not each.missing,
                question=each.question,
                answer=(),
                explanation=each.explanation,
                reference="",
                violating="",
                provenance={"source": "data/corpus/requests", "made_by": "a language model, one by one"},
            )
        )
    return unlike([case for case in cases if _is_whole(case)])


def _is_whole(case: UnseenCase) -> bool:
    """Tell whether every need is either missing or in the profile; a value that was taken back at the end is neither."""
    return {*case.needs} - {*case.missing} <= {entry["slot"] for entry in case.profile}


def _of_dialogue(dialogue: LabelledDialogue, corpus: Corpus, schema: ProfileSchema) -> Iterator[UnseenCase]:
    known = revealed(dialogue, schema)
    places = {True: 0, False: 0}
    for number, request in enumerate(dialogue.requests, 1):
        sufficient = not request.missing
        places[sufficient] += 1
        yield UnseenCase(
            id=f"{dialogue.dialogue_id}/{number}",
            pair=f"{dialogue.dialogue_id}/pair-{places[sufficient]}",
            persona=dialogue.dialogue_id,
            split=corpus.held_out.get(dialogue.dialogue_id, "train"),
            profile=tuple(map(_entry, known)),
            request=request.request,
            needs=request.needs,
            missing=request.missing,
            sufficient=sufficient,
            question=request.question,
            answer=tuple(slot.value for slot in dialogue.persona if slot.path in request.missing),
            explanation=request.explanation,
            reference=request.reference,
            violating=request.violating,
            provenance={"source": "data/corpus/dialogues", "made_by": "a language model, one by one"},
        )


def _entry(slot: PersonaSlot) -> Mapping[str, str]:
    return {"slot": slot.path, "value": slot.value, "polarity": slot.polarity}


def revealed(dialogue: LabelledDialogue, schema: ProfileSchema) -> tuple[PersonaSlot, ...]:
    """Return what the dialogue's gold reveals by its end (P_infer)."""
    profile = Profile()
    for index, turn in enumerate(turn for session in dialogue.sessions for turn in session):
        at = START + timedelta(minutes=index)
        facts = [(fact, schema.slots[fact.path]) for fact in turn.facts if fact.path in schema.slots]
        operations = tuple(
            SlotOp(fact.op, slot.path, fact.value, at, fact.polarity, cardinality=slot.cardinality) for fact, slot in facts
        )
        profile = profile.apply(ProfileDelta(operations))
    return tuple(PersonaSlot(value.path, value.value, value.polarity) for value in profile)


def candidates(corpus: Corpus, schema: ProfileSchema, *, per_persona: int) -> list[Candidate]:
    """List what our personas have and their dialogues never revealed (P_gt without P_infer), the most askable slots first."""
    found: list[Candidate] = []
    for dialogue in corpus.dialogues:
        known = revealed(dialogue, schema)
        taken = {slot.path for slot in known} | {path for request in dialogue.requests for path in request.missing}
        open_slots = [slot for slot in dialogue.persona if slot.path in schema.slots and slot.path not in taken]
        asked = [slot for slot in open_slots if schema.slots[slot.path].ask is not AskPolicy.NEVER]
        asked.sort(key=lambda slot: schema.slots[slot.path].ask is not AskPolicy.OK)
        found += [
            Candidate(
                case_id=f"{dialogue.dialogue_id}:{slot.path}",
                persona=dialogue.dialogue_id,
                split=corpus.held_out.get(dialogue.dialogue_id, "train"),
                known=known,
                known_lines=tuple(line_of(each) for each in known),
                unknown=line_of(slot),
                slot=slot.path,
            )
            for slot in asked[:per_persona]
        ]
    return found


def line_of(slot: PersonaSlot) -> str:
    """Write a slot value on one line: group, slot, attitude, value."""
    attitude = "" if slot.polarity == "neutral" else f" ({slot.polarity})"
    return f"{slot.path.partition('.')[2]}{attitude}: {slot.value}"


def aloe_candidates(path: Path, *, per_persona: int) -> list[Candidate]:
    """List the persona sentences of ALOE's ``conversations.jsonl``; which are unknown, the model judges from the inferred profile.

    Split by profile: the same profile is used in about ten dialogues.

    Raises:
        DataError: the file cannot be read or a record lacks a field.
    """
    found: list[Candidate] = []
    for dialogue in load_dialogues(path):
        known = dialogue.turns[-1].profile.known if dialogue.turns else ()
        split = split_by_profile(dialogue.profile_id)
        found += [
            Candidate(f"{dialogue.dialogue_id}:{number}", dialogue.profile_id, split, (), known, sentence, None)
            for number, sentence in enumerate(sentences(dialogue.profile)[:per_persona], 1)
        ]
    return found


def twin_messages(candidate: Candidate, schema: ProfileSchema) -> list[Message]:
    """Build the prompt that asks for the two requests about a candidate."""
    text = load_prompt("unseen_twins").fill(
        known="\n".join(candidate.known_lines[-MAX_KNOWN:]) or "nothing",
        unknown=candidate.unknown,
        slots=json.dumps(candidate.slot) if candidate.slot else '"category.group.slot of the unknown preference"',
        catalogue="" if candidate.slot else f"\nThe slots:\n{catalogue(schema)}",
    )
    return [Message("user", text.strip())]


async def write_twins(candidate: Candidate, *, llm: LLM, schema: ProfileSchema, seed: int) -> tuple[UnseenCase, ...]:
    """Let a model write the pair of a candidate; empty where it says that no request depends on it.

    Raises:
        DataError: what it wrote is no pair of requests.
        LLMError: it could not be reached.
    """
    completion = await llm.complete(twin_messages(candidate, schema), max_tokens=MAX_TOKENS, temperature=0.7, seed=seed)
    record = _json_of(completion.text)
    if record.get("skip"):
        return ()
    slot = candidate.slot or _named_slot(record, schema)
    texts = [_texts(record, name) for name in ("first", "second")]
    if _key(texts[0]["request"]) == _key(texts[1]["request"]):
        raise DataError("expected two different requests, got the same one twice; run again")
    entry = PersonaSlot(slot, candidate.unknown.partition(": ")[2] or candidate.unknown, "neutral")
    provenance = {
        "source": candidate.case_id,
        "made_by": llm.name,
        "prompt_sha256": load_prompt("unseen_twins").sha256,
        "seed": str(seed),
    }
    return tuple(
        UnseenCase(
            id=f"{candidate.case_id}/{'sufficient' if known else 'insufficient'}",
            pair=candidate.case_id,
            persona=candidate.persona,
            split=candidate.split,
            profile=tuple(map(_entry, (*candidate.known, entry) if known else candidate.known)),
            request=text["request"],
            needs=(slot,),
            missing=() if known else (slot,),
            sufficient=known,
            question=None if known else text["question"],
            answer=() if known else (entry.value,),
            explanation=text["explanation"],
            reference=text["reference"],
            violating=text["violating"],
            provenance=provenance,
        )
        for known, text in zip((False, True), texts, strict=True)
    )


def _json_of(text: str) -> Mapping[str, Any]:
    start, end = text.find("{"), text.rfind("}")
    try:
        record = json.loads(text[start : end + 1]) if start >= 0 else None
    except ValueError as error:
        raise DataError(f"expected one JSON object, got text that does not parse ({error}); run again") from error
    if not isinstance(record, dict):
        raise DataError("expected one JSON object, got none; run again, or with a larger model")
    return record


def _named_slot(record: Mapping[str, Any], schema: ProfileSchema) -> str:
    names = record.get("slots") or [""]
    name = str(names[0] if isinstance(names, list) else names)
    slot = schema.find(name) or nearest_slot(name, schema)
    if slot is None:
        raise DataError(f"expected a slot of the schema, got {name!r}; run again")
    return slot.path


def _texts(record: Mapping[str, Any], name: str) -> dict[str, str]:
    fields = record.get(name)
    texts = {
        key: " ".join(str(fields.get(key) or "").split()) if isinstance(fields, dict) else ""
        for key in ("request", "explanation", "question", "reference", "violating")
    }
    if empty := [key for key, text in texts.items() if not text]:
        raise DataError(f"expected {', '.join(empty)} in {name!r}, got nothing; run again, or with a larger model")
    return texts


def unlike(cases: Sequence[UnseenCase]) -> list[UnseenCase]:
    """Leave out a case whose request and missing slots were there before, whatever its case and punctuation."""
    return list({(_key(case.request), case.missing, case.split): case for case in reversed(cases)}.values())[::-1]


def _key(request: str) -> str:
    return " ".join(re.findall(r"\w+", request.casefold()))
