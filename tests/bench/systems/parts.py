"""What the tests of the systems share: examples with invented text, parts, and an embedder whose vectors can be read off."""

from __future__ import annotations

from personalagent.bench.conversation import Decoding
from personalagent.bench.systems.base import SystemParts
from personalagent.config import Settings
from personalagent.datasets.example import Example
from personalagent.dialogue import Turn
from personalagent.llm.base import Embedding

WORDS = ("boat", "train", "soup", "tent", "piano")


class WordEmbedder:
    """A vector counts how often each of WORDS stands in the text; a text has as many tokens as words."""

    name = "words"

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def embed(self, text: str) -> Embedding:
        """Return the counts."""
        self.texts.append(text)
        return Embedding(tuple(float(text.lower().count(word)) for word in WORDS), tokens=len(text.split()), elapsed_s=0.5)

    async def aclose(self) -> None:
        """Do nothing."""


def example(
    *sessions: tuple[Turn, ...], request: str = "How do I get to the island?", options: tuple[str, ...] = (), name: str = "e1"
) -> Example:
    """An example with these sessions; with options, the first is right."""
    return Example(name, "unseen", "u1", "travel", sessions, request, options, right=0 if options else None)


SEASICK = (Turn("I get seasick on any boat.", "I will keep that in mind."), Turn("My cat is called Pim.", "A fine name."))
LENGTH = " (Please answer in at most 150 words.)"


def parts(**changes: object) -> SystemParts:
    """The parts of a run, with some of them changed."""
    values: dict[str, object] = {"settings": Settings(), "decoding": Decoding(), "embedder": WordEmbedder()}
    return SystemParts(**(values | changes))  # type: ignore[arg-type]
