"""The prompts, a Markdown file each: version on line 1, then the text with ``$placeholders``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt template and what identifies it in the rows it produced."""

    name: str
    version: str
    template: str
    sha256: str

    def fill(self, **values: str) -> str:
        """Return the text with every placeholder replaced.

        Raises:
            KeyError: a placeholder has no value.
        """
        return Template(self.template).substitute(values)


@cache
def load_prompt(name: str) -> Prompt:
    """Load ``prompts/<name>.md``."""
    text = (files(__package__) / f"{name}.md").read_text("utf-8")
    first, _, body = text.partition("\n")
    return Prompt(name, first.removeprefix("version:").strip(), body.strip() + "\n", hashlib.sha256(text.encode()).hexdigest())
