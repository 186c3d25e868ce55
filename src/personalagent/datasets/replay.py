"""Dialogues to replay, from whatever holds them: our records, ALOE, PrefEval, or plain lists of messages.

| a record with | is | and gives |
|---|---|---|
| ``sessions`` | ours (``data/``) | its sessions |
| ``conversations`` | ALOE | one session; the reply that carried the dialogue on |
| ``preference`` and ``question`` | PrefEval, any form | the turns that reveal the preference, then the question |
| ``messages`` or ``conversation`` | Chat Completions logs, LMSYS | one session |

A file is a JSON array or object, or JSON Lines, of such records; of lists of messages; or of the messages of one dialogue.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from personalagent.datasets.aloe import continued
from personalagent.datasets.prefeval import revealing_turns
from personalagent.dialogue import Message, Role, Session, Turn, turns_of
from personalagent.errors import DataError

STDIN = "-"
MAX_ID = 150
"""Characters of a dialogue's id; the store keeps session ids of 200."""


@dataclass(frozen=True, slots=True)
class ReplayDialogue:
    """The sessions of one user, as they were said."""

    dialogue_id: str
    sessions: tuple[Session, ...]

    @property
    def turn_count(self) -> int:
        """The number of turns in all sessions."""
        return sum(len(session.turns) for session in self.sessions)


def load_dialogues(source: str) -> tuple[ReplayDialogue, ...]:
    """Load every dialogue of a file, or of standard input where the source is ``-``.

    Raises:
        DataError: it cannot be read, is not UTF-8 or JSON, or a record is none of the known kinds.
    """
    name = "standard input" if source == STDIN else Path(source).name
    return parse_dialogues(_text(source), name)


def parse_dialogues(text: str, name: str) -> tuple[ReplayDialogue, ...]:
    """Parse the text of a file; ``name`` stands for it in ids and messages. Raises as ``load_dialogues``."""
    entries: list[tuple[str, Any]] = []
    for where, entry in _entries(text, name):
        if isinstance(entry, str):
            raise DataError(
                f"{where}: expected a dialogue, got a plain text: an ALOE persona file (profile.jsonl, personality.jsonl) holds none; "
                "give its conversations.jsonl"
            )
        entries.append((where, entry))
    if not entries:
        raise DataError(f"{name}: expected at least one dialogue, got an empty file; give a file that holds one")
    stem = Path(name).stem.replace(" ", "-")
    if _is_message(entries[0][1]):
        return (_dialogue(stem, name, [_messages([entry for _, entry in entries], name)]),)
    return tuple(_record(entry, where, f"{stem}-{number}") for number, (where, entry) in enumerate(entries, 1))


def _text(source: str) -> str:
    name = "standard input" if source == STDIN else source
    try:
        data = sys.stdin.buffer.read() if source == STDIN else Path(source).expanduser().read_bytes()
    except OSError as error:
        raise DataError(f"expected a readable file, got {error.strerror}: {name}; check the path") from error
    return decode(data, name)


def decode(data: bytes, name: str) -> str:
    """Decode UTF-8, with or without a byte order mark.

    Raises:
        DataError: it is another encoding; the message names the first wrong byte.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}:{line}: expected UTF-8, got byte {data[error.start]:#x} at position {error.start}; "
            "save the text as UTF-8, e.g. with iconv -t UTF-8"
        ) from error


def _entries(text: str, name: str) -> Iterator[tuple[str, Any]]:
    """Yield ``(where, entry)`` of a JSON array or object, or of JSON Lines."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    try:
        document = json.loads(text) if lines else []
    except (ValueError, RecursionError) as error:
        if not _is_json(lines[0][1]):
            at = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
            raise _not_json(f"{name}{at}", error) from error
    else:
        entries = document if isinstance(document, list) else [document]
        yield from ((f"{name}[{index}]" if len(entries) > 1 else name, entry) for index, entry in enumerate(entries))
        return
    for number, line in lines:
        try:
            yield f"{name}:{number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _not_json(f"{name}:{number}", error) from error


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _not_json(where: str, error: Exception) -> DataError:
    what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
    return DataError(f"{where}: expected a JSON array, object or JSON Lines, got text that does not parse ({what}); mend it")


def _is_message(entry: object) -> bool:
    return isinstance(entry, Mapping) and "role" in entry


def _record(entry: object, where: str, fallback_id: str) -> ReplayDialogue:
    if isinstance(entry, list):
        return _dialogue(fallback_id, where, [_messages(entry, where)])
    fields: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
    dialogue_id = str(fields.get("id") or fields.get("conversation_id") or fallback_id)[:MAX_ID]
    try:
        if "sessions" in fields:
            return _dialogue(dialogue_id, where, [_ours(session["turns"]) for session in fields["sessions"]])
        if "conversations" in fields:
            return _dialogue(dialogue_id, where, [continued(fields["conversations"])])
        if "preference" in fields and "question" in fields:
            return _dialogue(dialogue_id, where, [(*revealing_turns(fields), Turn(fields["question"]))])
        for name in ("messages", "conversation"):
            if isinstance(fields.get(name), list):
                return _dialogue(dialogue_id, where, [_messages(fields[name], where)])
    except KeyError as error:
        raise DataError(f"{where}: expected the field {error.args[0]!r}, got none; add it") from error
    except (TypeError, AttributeError) as error:
        raise DataError(f"{where}: expected a dialogue record, got one whose fields have other types; see docs/cli.md") from error
    got = f"the fields {', '.join(sorted(map(str, fields))[:8])}" if fields else f"a JSON {type(entry).__name__}"
    raise DataError(
        f"{where}: expected a dialogue (sessions: ours; conversations: ALOE; preference and question: PrefEval; messages, or a list "
        f"of {{role, content}}), got {got}; see docs/cli.md"
    )


def _dialogue(dialogue_id: str, where: str, sessions: Sequence[Sequence[Turn]]) -> ReplayDialogue:
    turns = [turn for session in sessions for turn in session]
    if not turns:
        raise DataError(f"{where}: expected at least one user message, got none; only what a user said can be replayed")
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn.utterance, str) or not turn.utterance.strip():
            raise DataError(f"{where}: expected what the user said in turn {number}, got no text; remove the turn or fill it in")
    return ReplayDialogue(
        dialogue_id, tuple(Session(f"{dialogue_id}/{number}", tuple(session)) for number, session in enumerate(sessions, 1))
    )


def _messages(entries: Sequence[Any], where: str) -> tuple[Turn, ...]:
    messages = []
    for number, entry in enumerate(entries, 1):
        role, content = (entry.get("role"), entry.get("content")) if isinstance(entry, Mapping) else (None, None)
        if role not in get_args(Role):
            got = f"the role {role!r}" if role is not None else "an entry without a role"
            raise DataError(
                f"{where}: expected {{role, content}} in message {number}, got {got}; roles: {', '.join(get_args(Role))}"
            )
        if role == "user" and not isinstance(content, str):
            raise DataError(
                f"{where}: expected the content of message {number} to be text, got {type(content).__name__}; leave out the rest"
            )
        if isinstance(content, str):
            messages.append(Message(cast(Role, role), content))
    return turns_of(messages)


def _ours(turns: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    return tuple(Turn(turn["user"], (turn.get("assistant") or {}).get("preferred")) for turn in turns)
