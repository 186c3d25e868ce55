"""ALOE (Wu et al. 2024) by path: dialogues of ten turns with preferred and rejected replies and what was inferred after each.

The release has three files: ``conversations.jsonl``, and the personas in ``profile.jsonl`` and ``personality.jsonl``. Traps, all handled here:

- ``inferred_profile`` and ``inferred_personality`` are cumulative and may be the string "None": what a turn adds is the difference of
  sentences to the turn before; "None" after something was inferred changes nothing.
- ``rejected`` is a text or a list of texts.
- A line of a persona file may hold two JSON strings (line 6 of ``profile.jsonl``), and a dialogue quotes its line raw.
- Each profile is used in about ten dialogues, so a random split puts every test profile into training: split by profile.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from personalagent.datasets.base import Split, read_jsonl
from personalagent.datasets.example import Example, known_variant
from personalagent.dialogue import Turn
from personalagent.errors import DataError

FILE = "conversations.jsonl"
WHERE_TO_GET = (
    "clone https://github.com/ShujinWu-0814/ALOE and give its datasets folder (the dialogues are datasets/conversations.jsonl); "
    "it states no licence, so all rights are reserved: use it where you may, and pass none of it on"
)
VARIANTS = ("by-profile", "random-split", "all")
"""The test dialogues of our split, those of the paper's, and every dialogue."""
TEST_SHARE = 0.1
_NOTHING = frozenset({"", "none", "none."})


@dataclass(frozen=True, slots=True)
class Inferred:
    """A cumulative text after a turn, sentence by sentence, and what the turn changed of it."""

    known: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    """Sentences of the turn before that are gone or were reworded: the text is not always cumulative."""


@dataclass(frozen=True, slots=True)
class AloeTurn:
    """One utterance, the replies to it, and what was inferred from the dialogue so far."""

    utterance: str
    response: str | None
    """The reply that carried the dialogue on."""
    preferred: str | None
    rejected: tuple[str, ...]
    profile: Inferred
    personality: Inferred


@dataclass(frozen=True, slots=True)
class AloeDialogue:
    """One dialogue with its persona."""

    dialogue_id: str
    profile_id: str
    """The same for all dialogues of one profile."""
    profile: str
    personality: str
    turns: tuple[AloeTurn, ...]


def load_examples(path: Path, variant: str = "", *, seed: int = 0) -> tuple[Example, ...]:
    """Load every turn of the test dialogues as an example, with the turns before it as they went on.

    Raises:
        UsageError: the variant is not known.
        DataError: as ``load_dialogues``.
    """
    variant = known_variant(variant, VARIANTS, "aloe")
    dialogues = load_dialogues(path)
    if variant == "random-split":
        splits = paper_random_split(dialogues, seed=seed)
        dialogues = tuple(each for each in dialogues if splits[each.dialogue_id] == "test")
    elif variant == "by-profile":
        dialogues = tuple(each for each in dialogues if split_by_profile(each.profile_id) == "test")
    return tuple(example for dialogue in dialogues for example in examples_of(dialogue))


def load_dialogues(path: Path) -> tuple[AloeDialogue, ...]:
    """Load a file of dialogues, or the ``conversations.jsonl`` of a folder.

    Raises:
        DataError: there is no such file, or a record is not ALOE's.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"expected ALOE's {FILE}, got no file at {file}; {WHERE_TO_GET}")
    return tuple(_dialogue(record, where, f"aloe-{number}") for number, (where, record) in enumerate(read_jsonl(file), 1))


def read_personas(file: Path) -> tuple[str, ...]:
    """Read ``profile.jsonl`` or ``personality.jsonl``: JSON strings, one or more a line.

    Raises:
        DataError: there is no such file, or a line holds something else.
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"expected a persona file of ALOE in UTF-8, got none at {file}; {WHERE_TO_GET}") from error
    return tuple(
        persona for number, line in enumerate(text.split("\n"), 1) for persona in _strings(line, f"{file.name}:{number}")
    )


def examples_of(dialogue: AloeDialogue) -> Iterator[Example]:
    """Yield one example a turn: AL(k) scores the reply to the k-th utterance."""
    turns = tuple(Turn(turn.utterance, turn.response) for turn in dialogue.turns)
    for k, turn in enumerate(turns, 1):
        yield Example(
            example_id=f"{dialogue.dialogue_id}/{k}",
            dataset="aloe",
            unit=dialogue.profile_id,
            topic="aloe",
            sessions=(turns[: k - 1],) if k > 1 else (),
            request=turn.utterance,
            persona=f"{dialogue.profile}\n{dialogue.personality}".strip(),
            k=k,
        )


def split_by_profile(profile_id: str) -> Split:
    """Return the split of all dialogues of a profile: a tenth test, a tenth dev, by hash, so that no other dialogue moves it."""
    place = int(hashlib.sha256(f"unseen:{profile_id}".encode()).hexdigest(), 16) % 10
    return "test" if place == 0 else "dev" if place == 1 else "train"


def paper_random_split(dialogues: Sequence[AloeDialogue], *, seed: int) -> Mapping[str, Split]:
    """Return the paper's random 9:1 split of dialogues, by id; it leaks nearly every test profile into training, so report it apart."""
    ids = [dialogue.dialogue_id for dialogue in dialogues]
    random.Random(f"aloe:{seed}").shuffle(ids)  # noqa: S311 - a split, not secrets
    test = set(ids[: max(round(TEST_SHARE * len(ids)), 1)])
    return {dialogue.dialogue_id: "test" if dialogue.dialogue_id in test else "train" for dialogue in dialogues}


def continued(turns: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """Pair each utterance with the reply that carried the dialogue on, for records whose fields may be incomplete."""
    return tuple(Turn(turn["user"], _continuing(turn)) for turn in turns)


def sentences(text: str) -> tuple[str, ...]:
    """Split a text into its sentences and lines."""
    return tuple(part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip())


def _continuing(turn: Mapping[str, Any]) -> str | None:
    replies = turn.get("assistant") or {}
    chosen = replies.get(turn.get("chosen", "preferred"))
    return chosen[0] if isinstance(chosen, list) and chosen else chosen or None


def _dialogue(record: Mapping[str, Any], where: str, dialogue_id: str) -> AloeDialogue:
    if "profile" not in record or "conversations" not in record:
        raise DataError(
            f"{where}: expected ALOE's fields profile and conversations, got {', '.join(sorted(record))}; give its {FILE}"
        )
    profiles = _strings(record["profile"], where)
    try:
        return AloeDialogue(
            dialogue_id=dialogue_id,
            profile_id=hashlib.sha256(profiles[0].encode()).hexdigest()[:12],
            profile=" ".join(profiles),
            personality=" ".join(_strings(record.get("personality") or "", where)),
            turns=_turns(record["conversations"]),
        )
    except KeyError as error:
        raise DataError(f"{where}: expected the field {error.args[0]!r} in every turn, got none; add it") from error
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise DataError(f"{where}: expected an ALOE record, got one whose fields have other types; give its {FILE}") from error


def _turns(records: Sequence[Mapping[str, Any]]) -> tuple[AloeTurn, ...]:
    turns: list[AloeTurn] = []
    profile = personality = Inferred()
    for record in records:
        profile = _changed(profile.known, record.get("inferred_profile"))
        personality = _changed(personality.known, record.get("inferred_personality"))
        replies = record.get("assistant") or {}
        rejected = replies.get("rejected") or ()
        rejected = (rejected,) if isinstance(rejected, str) else tuple(rejected)
        texts = (record["user"], replies.get("preferred") or "", *rejected)
        if not all(isinstance(text, str) for text in texts) or not record["user"].strip():
            raise ValueError
        turns.append(
            AloeTurn(
                record["user"], _continuing(record), replies.get("preferred"), rejected, profile=profile, personality=personality
            )
        )
    return tuple(turns)


def _changed(before: tuple[str, ...], text: str | None) -> Inferred:
    """Compare a cumulative text with the sentences of the turn before, whatever their case and punctuation."""
    if (text or "").strip().casefold() in _NOTHING:
        return Inferred(before)
    now = tuple({_key(sentence): sentence for sentence in sentences(str(text))}.values())
    old, new = {_key(sentence) for sentence in before}, {_key(sentence) for sentence in now}
    return Inferred(
        known=now,
        added=tuple(sentence for sentence in now if _key(sentence) not in old),
        dropped=tuple(sentence for sentence in before if _key(sentence) not in new),
    )


def _key(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.casefold()))


def _strings(line: str, where: str) -> tuple[str, ...]:
    """Return every JSON string of a line; a line that is not quoted is the text itself."""
    rest = line.strip() if isinstance(line, str) else ""
    if not rest.startswith('"'):
        return (rest,) if rest else ()
    found: list[str] = []
    while rest:
        try:
            value, end = json.JSONDecoder().raw_decode(rest)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}: expected JSON strings, got text that does not parse ({error.msg}); mend the line"
            ) from error
        found.append(str(value).strip())
        rest = rest[end:].lstrip(" ,\t\r\n")
    return tuple(found)
