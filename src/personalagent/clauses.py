"""An utterance cut into numbered clauses: the trained policy names a clause instead of writing its words again.

A number is one or two tokens where a quotation is ten, and the evidence it stands for is the user's own words by construction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_CLAUSES = 60
"""Clauses of one utterance; what follows stands in the last one."""
LONG_WORDS = 14
"""A clause of more words is cut at its conjunctions."""
SHORT_WORDS = 3
"""A clause of fewer words goes to the one before it."""

_BREAK = re.compile(r"(?<=[.!?;:,…)])\s+|\s+(?=\()|\s+(?=[-–—]+\s)|(?<=—)")
_DASH = re.compile(r"[-–—]+\s+")
"""What a clause that begins behind a dash does not begin with; where it is joined to the one before it, the dash stays."""
_CONJUNCTIONS = "and|but|so|because|since|which|who|though|while|when|if|or|that|then|as|where|until|before|after"
_CONJUNCTION = re.compile(rf"\s+(?=(?:{_CONJUNCTIONS})\b)", re.IGNORECASE)


def clauses_of(text: str) -> tuple[str, ...]:
    """Cut a text at its line ends and punctuation, and long clauses at conjunctions; white space is made single."""
    found: list[str] = []
    for line in text.splitlines():
        parts = [part for piece in _BREAK.split(line) if piece.strip() for part in _cut(" ".join(piece.split()))]
        found += [_bare(clause) if number else clause for number, clause in enumerate(_joined(parts))]
    if len(found) > MAX_CLAUSES:
        found[MAX_CLAUSES - 1 :] = [" ".join(found[MAX_CLAUSES - 1 :])]
    return tuple(found)


def _bare(clause: str) -> str:
    dash = _DASH.match(clause)
    return clause[dash.end() :] if dash else clause


def _cut(clause: str) -> list[str]:
    """Cut a long clause before its conjunctions where both sides stay long enough."""
    if len(_bare(clause).split()) <= LONG_WORDS:
        return [clause]
    return _joined(_CONJUNCTION.split(clause), longest=None)


def _joined(parts: Sequence[str], *, longest: int | None = LONG_WORDS) -> list[str]:
    """Join what is too short to the clause before it, unless that grows too long."""
    joined: list[str] = []
    for part in parts:
        words = len(_bare(part).split())
        size = len(joined[-1].split()) if joined else 0
        too_short = words < SHORT_WORDS or (longest is None and size < SHORT_WORDS)
        if joined and too_short and (longest is None or size + words <= longest):
            joined[-1] += f" {part}"
        else:
            joined.append(part)
    return joined


def clause_of(quote: str, clauses: Sequence[str]) -> int | None:
    """Return the number (from 1) of the clause that holds a quotation, or most of its words; None where none shares any."""
    plain = " ".join(quote.split()).casefold()
    for number, clause in enumerate(clauses, 1):
        if plain and plain in clause.casefold():
            return number
    wanted = set(_words(plain))
    shared = [len(wanted & set(_words(clause.casefold()))) for clause in clauses]
    return shared.index(max(shared)) + 1 if any(shared) else None


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)
