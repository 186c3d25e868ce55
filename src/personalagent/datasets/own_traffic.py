"""An installation's own traffic as training data: consented, reviewed sessions of the store in the corpus's own turn format, pseudonymised.

- A fact of a reviewed turn that still stands is gold.
- Where its slot was edited afterwards, the edited value is gold and what was inferred is ``wrong``: a pair for ``train dpo --task policy``. A turn
  that shares no word with the new value is left out: the user's life changed, or nobody could have known.
- An edit that says, word for word, what stands in a turn from which nothing of the kind was inferred is gold of the first such turn.
- What was forgotten is nowhere: the store has erased it, and the text of the turn that taught it.

Only facts of reviewed turns and edits stand in a row's profile. What is left out is counted by reason.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from personalagent.datasets.base import Split
from personalagent.datasets.pseudonyms import Pseudonyms, is_first_name
from personalagent.profile import (
    Cardinality,
    Evidence,
    OpKind,
    Polarity,
    Profile,
    SlotOp,
    Source,
    fold,
    is_same_value,
    value_tokens,
)
from personalagent.schema import ProfileSchema
from personalagent.store import InferenceState, Logged, Store, StoredTurn
from personalagent.store.erasure import ERASED

HELD_OUT = 10
"""One user of so many goes to dev, by a hash of the id, so that who is held out once is never trained on."""
NAMES = ("basic_demographics.identity.preferred_name", "basic_demographics.identity.full_name")
"""Slots whose every word is a name."""
PEOPLE = ("social_networks.people.", "scenario_specific.emergency.contacts")
"""Slots in whose values a word that the user only ever writes with a capital is a name."""
PLACES = "geography_environment."
ADDRESS = "geography_environment.location.address"
TELLING = 4
"""Letters of the longest word of an edit that is looked for in turns: a "2" stands in many."""
_ADDS = (OpKind.ADD, OpKind.UPDATE)
_REVEALS = (*_ADDS, OpKind.RETRACT)
"""What the corpus labels; what only confirms reveals nothing new."""


@dataclass(frozen=True, slots=True)
class OwnData:
    """What a store gives: records of the corpus's turn files, the split of each, and what was left out."""

    records: tuple[Mapping[str, Any], ...]
    splits: Mapping[str, Split]
    """By record id."""
    users: int
    left_out: Mapping[str, int]
    """Users and turns by reason."""


@dataclass(slots=True)
class _User:
    """One user's reviewed turns, and the operations that may be shown."""

    turns: list[StoredTurn]
    log: list[Logged]
    texts: list[str]
    """All that the user ever said and that is known of them, reviewed or not: names are looked for in it."""
    wrong: dict[tuple[int, int], Logged] = field(default_factory=dict)
    """What was inferred, by the place of the operation that was put right."""
    unusable: dict[int, str] = field(default_factory=dict)
    """Why a turn is left out, by its place."""


def own_data(store: Store, schema: ProfileSchema, *, users: Sequence[str] | None = None, rng: random.Random) -> OwnData:
    """Return the rows of all users, or of some, who consented.

    Args:
        rng: draws the pseudonyms.

    Raises:
        EnvironmentProblem: the package with lists of names is not installed.
    """
    records: list[Mapping[str, Any]] = []
    splits: dict[str, Split] = {}
    left_out: Counter[str] = Counter()
    counted = 0
    for user_id in store.users() if users is None else users:
        if store.training_consent(user_id) is None:
            left_out["users without consent"] += 1
            continue
        counted += 1
        found = _records(store, user_id, f"own-{rng.getrandbits(40):010x}", schema, rng, left_out)
        is_held_out = int(hashlib.sha256(f"own:{user_id}".encode()).hexdigest(), 16) % HELD_OUT == 0
        splits |= {str(record["id"]): "dev" if is_held_out else "train" for record in found}
        records += found
    return OwnData(tuple(records), splits, counted, dict(sorted(left_out.items())))


def _records(
    store: Store, user_id: str, name: str, schema: ProfileSchema, rng: random.Random, left_out: Counter[str]
) -> list[Mapping[str, Any]]:
    user = _reviewed(store, user_id, schema, left_out)
    _put_right(user)
    pseudonyms = _pseudonyms(user, user_id, rng)
    records: list[Mapping[str, Any]] = []
    for turn in user.turns:
        if turn.said in user.unusable:
            left_out[f"turns {user.unusable[turn.said]}"] += 1
            continue
        record = _record(turn, user, f"{name}-{len(records) + 1}", pseudonyms)
        facts = [*record["inferred"], *record["wrong"]]
        texts = [record["user"], *(each["value"] for each in (*record["profile"], *facts)), *(each["quote"] for each in facts)]
        known = {each["slot"] for each in record["profile"]}
        if any(each["op"] == OpKind.RETRACT and each["slot"] not in known for each in facts):
            left_out["turns that take back what was not reviewed"] += 1
        elif not all(each["quote"] in record["user"] for each in facts):
            left_out["turns whose quote ends inside something that was replaced"] += 1
        elif not all(map(pseudonyms.is_clean, texts)):
            left_out["turns that could not be pseudonymised"] += 1
        else:
            records.append(record)
    return records


def _reviewed(store: Store, user_id: str, schema: ProfileSchema, left_out: Counter[str]) -> _User:
    """Take what was reviewed: turns with their operations, and the user's own edits."""
    until = store.reviewed_sessions(user_id)
    log = store.log(user_id)
    said = store.turns(user_id)
    user = _User([], [], [*(turn.utterance for turn in said), *(entry.operation.value for entry in log)])
    places = set()
    for turn in said:
        if turn.session_id not in until or turn.at > until[turn.session_id]:
            left_out["turns not reviewed"] += 1
            continue
        places.add((turn.session_id, turn.turn_index))
        user.turns.append(turn)
        operations = [entry.operation for entry in log if _is_from(entry.operation.evidence, turn) or entry.said == turn.said]
        if why := _why_not(turn, operations, schema):
            user.unusable[turn.said] = why
    for entry in log:
        op = entry.operation
        is_ours = op.source is Source.EDITED if op.evidence is None else _place(op.evidence) in places
        if is_ours and op.op is not OpKind.FORGET and op.path in schema.slots:
            user.log.append(entry)
    return user


def _why_not(turn: StoredTurn, operations: Sequence[SlotOp], schema: ProfileSchema) -> str | None:
    if turn.inference is not InferenceState.DONE:
        return "not inferred yet"
    if turn.is_redacted or not turn.utterance.strip() or ERASED in turn.utterance:
        return "of which something was forgotten"
    if turn.has_withheld:
        return "of which something sensitive was withheld"
    if any(op.source is Source.ELICITED for op in operations):
        return "that answer a question: the format has no place for it"
    if any(op.evidence is None or op.evidence.quote not in turn.utterance for op in operations):
        return "with a fact that quotes nothing of them"
    if any(op.path not in schema.slots for op in operations):
        return "with a fact outside the schema"
    if any(not op.value.strip() for op in operations):
        return "that take back a whole slot"
    return None


def _place(evidence: Evidence) -> tuple[str, int]:
    return (evidence.session_id, evidence.turn_index)


def _is_from(evidence: Evidence | None, turn: StoredTurn) -> bool:
    return evidence is not None and _place(evidence) == (turn.session_id, turn.turn_index)


def _put_right(user: _User) -> None:
    """Let each edit by hand correct what was inferred before it, or name what was missed."""
    for edit in [entry for entry in user.log if entry.operation.source is Source.EDITED and entry.operation.evidence is None]:
        before = [entry for entry in user.log if entry.said < edit.said and entry.operation.path == edit.operation.path]
        last = next((entry for entry in reversed(before) if entry.operation.evidence is not None), None)
        if last is not None and last.operation.op in _ADDS and _replaces(edit, last):
            _correct(user, last, edit.operation)
        elif not any(is_same_value(entry.operation.value, edit.operation.value) for entry in before):
            _add_missed(user, edit)


def _replaces(edit: Logged, last: Logged) -> bool:
    """Tell whether an edit corrects a value: in a slot of one value always, among many only its wording or polarity."""
    return edit.operation.cardinality is Cardinality.ONE or is_same_value(edit.operation.value, last.operation.value)


def _correct(user: _User, entry: Logged, edit: SlotOp) -> None:
    op = entry.operation
    turn = next(turn for turn in user.turns if _is_from(op.evidence, turn))
    polarity = op.polarity if edit.polarity is Polarity.NEUTRAL else edit.polarity
    right = replace(op, value=edit.value, polarity=polarity)
    if right == op:
        return
    if not value_tokens(edit.value) & value_tokens(turn.utterance):
        user.unusable.setdefault(turn.said, "edited to something that they do not say")
        return
    user.wrong.setdefault((entry.said, entry.position), entry)
    user.log[user.log.index(entry)] = replace(entry, operation=right)


def _add_missed(user: _User, edit: Logged) -> None:
    wanted = value_tokens(edit.operation.value)
    if max(map(len, wanted), default=0) < TELLING:
        return
    for turn in user.turns:
        if turn.said < edit.said and turn.said not in user.unusable and wanted <= value_tokens(turn.utterance):
            quote = _clause(turn.utterance, wanted)
            position = 1 + max((entry.position for entry in user.log if entry.said == turn.said), default=-1)
            proof = Evidence(quote, turn.session_id, turn.turn_index)
            op = replace(edit.operation, source=Source.STATED, evidence=proof, at=turn.at)
            user.log.append(Logged(turn.said, position, op))
            user.log.sort(key=lambda entry: (entry.said, entry.position))
            return


def _clause(text: str, wanted: frozenset[str]) -> str:
    """Return the clause that shares most words with a value."""
    clauses = [match[0].strip() for match in re.finditer(r"[^.!?;,\n]+", text) if match[0].strip()]
    return max(clauses, key=lambda clause: len(wanted & value_tokens(clause)))


def _pseudonyms(user: _User, user_id: str, rng: random.Random) -> Pseudonyms:
    values = [(entry.operation.path, entry.operation.value) for entry in (*user.log, *user.wrong.values())]
    in_lower_case = {word for text in user.texts for word in re.findall(r"\w+", text) if word.islower()}
    of_people = {word for path, value in values if path.startswith(PEOPLE) for word in re.findall(r"\b[^\W\d_a-z]\w+", value)}
    return Pseudonyms(
        user.texts,
        names=[
            *(value for path, value in values if path in NAMES),
            *(word for word in of_people if word.lower() not in in_lower_case),
            *(word for word in re.findall(r"[^\W\d_]+", user_id) if is_first_name(word)),
        ],
        places=[value for path, value in values if path.startswith(PLACES) and path != ADDRESS],
        rng=rng,
    )


def _record(turn: StoredTurn, user: _User, record_id: str, pseudonyms: Pseudonyms) -> dict[str, Any]:
    here = [entry for entry in user.log if _is_from(entry.operation.evidence, turn) and entry.operation.op in _REVEALS]
    before: Profile = fold(entry.operation for entry in user.log if entry.said < turn.said)
    was = [user.wrong.get((entry.said, entry.position)) for entry in here]
    wrong = [old or entry for old, entry in zip(was, here, strict=True)] if any(was) else []
    return {
        "id": record_id,
        "profile": [
            {"slot": value.path, "value": pseudonyms.replace(value.value), "polarity": str(value.polarity)} for value in before
        ],
        "user": pseudonyms.replace(turn.utterance),
        "inferred": [_fact(entry.operation, pseudonyms) for entry in here],
        "wrong": [_fact(entry.operation, pseudonyms) for entry in wrong],
        "tag": "reveal" if here else "empty",
    }


def _fact(op: SlotOp, pseudonyms: Pseudonyms) -> dict[str, str]:
    quote = op.evidence.quote if op.evidence else ""
    kind = "implied" if op.source is Source.IMPLIED else "stated"
    return {
        "slot": op.path,
        "value": pseudonyms.replace(op.value),
        "polarity": str(op.polarity),
        "op": str(op.op),
        "quote": pseudonyms.replace(quote),
        "kind": kind,
    }


def split_file(data: OwnData) -> dict[str, dict[str, list[str]]]:
    """Return ``split.json`` for a folder of these records alone."""
    held_out = sorted(name for name, split in data.splits.items() if split == "dev")
    return {"turns": {"dev": held_out, "test": []}, "dialogues": {"dev": [], "test": []}, "requests": {"dev": [], "test": []}}
