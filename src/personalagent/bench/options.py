"""Multiple choice: the options as every system shows them, and the letter as every answer is read."""

from __future__ import annotations

import re
from string import ascii_uppercase

from personalagent.prompts import load_prompt

_TAGGED = re.compile(r"<choice>\s*\(?([A-Za-z])\)?[.)]?\s*(?:</choice>|$)", re.IGNORECASE)
_OPENED = re.compile(r"<choice>", re.IGNORECASE)
_BARE = re.compile(r"\**\(?([A-Z])(?:\)?\**[.):]*\s*$|[.):]\**\s)")
"""A letter that stands alone, or that leads an option as it was shown: ``B``, ``(B)``, ``B. The lake``; not ``A lake``."""


def render_options(options: tuple[str, ...]) -> str:
    """Return what stands after the request: the options with their letters, and how to answer."""
    lines = "\n".join(f"{letter}. {' '.join(option.split())}" for letter, option in zip(ascii_uppercase, options, strict=False))
    return load_prompt("bench_options").fill(options=lines).strip()


def parse_letter(text: str, count: int) -> int | None:
    """Return the index of the option that an answer chooses; None where it cannot be read, which is unscored and not wrong.

    Read are ``<choice>B</choice>``, an answer that is nothing but a letter, and one that begins with a letter as the options
    were shown (``B. …``). Two different choices, a letter that stands for no option and a letter in a sentence are not.
    """
    letters = {found.upper() for found in _TAGGED.findall(text)}
    if not _OPENED.search(text):
        bare = _BARE.match(text.strip())
        letters = {bare[1]} if bare else set()
    places = {ascii_uppercase.index(letter) for letter in letters}
    place = places.pop() if len(places) == 1 else count
    return place if place < count else None
