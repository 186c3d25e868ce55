"""What this repository releases, as examples: the corpus's requests after their real dialogues, and the cold-start set.

A case of the cold-start set stands for itself: it holds what is known, not the dialogue that taught it. Its history is therefore one session
with a turn for each known value, written by a template ("About my diet, foods: oat milk. I like that."), the same for every system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from personalagent.datasets.base import PersonaSlot, Split
from personalagent.datasets.corpus import load_corpus
from personalagent.datasets.example import Example, known_variant
from personalagent.datasets.unseen import UnseenCase, line_of, read_cases
from personalagent.dialogue import Turn
from personalagent.errors import DataError

SPLITS: tuple[Split, ...] = ("test", "dev", "train")
NO_TOPIC = "none"
"""The topic of a request that needs no slot."""
_ATTITUDES: Mapping[str, str] = {
    "like": " I like that.",
    "dislike": " I don't like that.",
    "require": " That is a must.",
    "avoid": " I avoid that.",
}


def load_corpus_examples(path: Path, variant: str = "", *, seed: int = 0) -> tuple[Example, ...]:
    """Load the requests of a split's dialogues (``test``, ``dev``, ``train``) from a corpus folder; nothing is drawn from the seed.

    Raises:
        UsageError: the split is not known.
        DataError: the folder is no corpus.
    """
    split = known_variant(variant, SPLITS, "corpus")
    return tuple(
        Example(
            example_id=f"{dialogue.dialogue_id}/{number}",
            dataset="corpus",
            unit=dialogue.dialogue_id,
            topic=_topic(request.needs),
            sessions=tuple(tuple(Turn(turn.utterance, turn.response) for turn in session) for session in dialogue.sessions),
            request=request.request,
            preference=_lines(slot for slot in dialogue.persona if slot.path in request.needs),
            explanation=request.explanation,
            persona=_lines(dialogue.persona),
            missing=request.missing,
        )
        for dialogue in load_corpus(path).dialogues_of(split)
        for number, request in enumerate(dialogue.requests, 1)
    )


def load_unseen_examples(path: Path, variant: str = "", *, seed: int = 0) -> tuple[Example, ...]:
    """Load the cases of a split from ``data/unseen``, or from a file that ``data unseen`` wrote; nothing is drawn from the seed.

    Raises:
        UsageError: the split is not known.
        DataError: there is no such file, it holds no case of the split, or a record does not fit.
    """
    split = known_variant(variant, SPLITS, "unseen")
    file = path / f"{split}.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"expected cases of the cold-start set, got no file at {file}; give the path of the repository's data/unseen (Apache-2.0), "
            "or build it with `personalagent data unseen`"
        )
    examples = tuple(_unseen(case) for case in read_cases(file) if case.split == split)
    if not examples:
        raise DataError(f"{file.name}: expected cases of the split {split}, got none; name another split")
    return examples


def _unseen(case: UnseenCase) -> Example:
    known = [PersonaSlot(entry["slot"], entry["value"], entry["polarity"]) for entry in case.profile]
    told = f"{', '.join(path.partition('.')[2] for path in case.missing)}: {'; '.join(case.answer)}" if case.answer else None
    return Example(
        example_id=case.id,
        dataset="unseen",
        unit=case.persona,
        topic=_topic(case.needs),
        sessions=(tuple(map(_stated, known)),) if known else (),
        request=case.request,
        preference=_joined(_lines(slot for slot in known if slot.path in case.needs), told),
        explanation=case.explanation,
        persona=_joined(_lines(known), told),
        missing=case.missing,
    )


def _stated(slot: PersonaSlot) -> Turn:
    """Let the user state one value; the reply adds nothing, so that turns stay in pairs."""
    _, group, name = slot.path.replace("_", " ").split(".")
    return Turn(f"About my {group}, {name}: {slot.value}.{_ATTITUDES.get(slot.polarity, '')}", "Noted.")


def _topic(needs: Iterable[str]) -> str:
    return next((path.partition(".")[0] for path in needs), NO_TOPIC)


def _lines(slots: Iterable[PersonaSlot]) -> str | None:
    return "\n".join(map(line_of, slots)) or None


def _joined(*texts: str | None) -> str | None:
    return "\n".join(text for text in texts if text) or None
