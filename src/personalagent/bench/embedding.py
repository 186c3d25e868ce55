"""Texts as vectors, for the systems that retrieve by meaning: each text once, ranked by cosine, counted on the meter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul
from typing import Protocol

from personalagent.bench.metering import Meter, Phase
from personalagent.inference import clip
from personalagent.llm.base import Embedding

MAX_TEXT_TOKENS = 1_200
"""Longer texts are embedded by their first and last part, as ``inference.clip`` takes them."""


class Embedder(Protocol):
    """What turns a text into a vector."""

    @property
    def name(self) -> str:
        """The spec by which it would be opened again; goes into manifests."""

    async def embed(self, text: str) -> Embedding:
        """Return the vector of one text. Raises LLMError."""

    async def aclose(self) -> None:
        """Give back connections; may be called twice."""


class Remembered:
    """An embedder that computes the vector of a text once; the benchmark inserts the same noise into many examples."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Embedding] = {}

    @property
    def name(self) -> str:
        """The name of what computes the vectors."""
        return self._embedder.name

    async def embed(self, text: str) -> Embedding:
        """Return the vector as it was when it was computed, its tokens and seconds included."""
        if text not in self._known:
            self._known[text] = await self._embedder.embed(text)
        return self._known[text]

    async def aclose(self) -> None:
        """Close what computes the vectors."""
        await self._embedder.aclose()


async def vectors_of(texts: Sequence[str], embedder: Embedder, meter: Meter, phase: Phase) -> list[tuple[float, ...]]:
    """Embed the texts, one after the other, and count them."""
    vectors = []
    for text in texts:
        embedding = await embedder.embed(clip(text, MAX_TEXT_TOKENS)[0])
        meter.add_embedding(embedding, phase)
        vectors.append(embedding.vector)
    return vectors


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the cosine of two vectors; 0 where one of them is null.

    (3, 4) and (4, 3): 24 / (5 · 5) = 0.96.
    """
    lengths = math.hypot(*one) * math.hypot(*other)
    return math.fsum(map(mul, one, other)) / lengths if lengths else 0.0


def nearest(query: Sequence[float], vectors: Sequence[Sequence[float]], top: int) -> list[int]:
    """Return the places of the vectors nearest to the query, nearest first; of equal ones the earlier first."""
    similarity = [cosine(query, vector) for vector in vectors]
    return sorted(range(len(vectors)), key=lambda place: (-similarity[place], place))[:top]
