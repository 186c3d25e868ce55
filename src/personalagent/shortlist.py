"""Which slots a request may need, by what requests like it needed: nearest neighbours among labelled requests.

The labelled requests (``schema/requests.jsonl``, made from the corpus's train split by ``personalagent data shortlist``) and the
descriptions of the schema's slots, the user's own included, are compared with a request by the cosine of their TF-IDF weighted
words. The nearest vote for the slots that they needed. The policy is shown the first few names; it may name others.
"""

from __future__ import annotations

import heapq
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

from personalagent.schema import ProfileSchema, Slot

NEIGHBOURS = 30
"""Requests that vote, each with the square of its cosine."""
SHORTLIST = 8
"""Slots that the policy is shown."""
LATER_COUNTS_LESS = 0.3
"""A request's slots vote with weight 1 / (1 + this · place)."""
_WORD = re.compile(r"[^\W_]{2,}")


@dataclass(frozen=True, slots=True)
class LabelledNeed:
    """A request, the paths of the slots that decide a good answer, most important first, and how much it counts."""

    request: str
    needs: tuple[str, ...]
    weight: float = 1.0
    unit: str = ""
    """Whom or what it came from; training leaves a request's own unit out, so that no request finds itself."""

    def as_json(self) -> str:
        """Return one line of ``requests.jsonl``."""
        return json.dumps(
            {"request": self.request, "needs": self.needs, "weight": self.weight, "unit": self.unit}, ensure_ascii=False
        )


class Shortlist:
    """An index over labelled requests."""

    def __init__(self, labelled: Sequence[LabelledNeed]) -> None:
        self._labelled = labelled
        counts = [Counter(_words(each.request)) for each in labelled]
        self._idf = {
            word: math.log((1 + len(counts)) / (1 + number)) + 1 for word, number in Counter(w for c in counts for w in c).items()
        }
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for index, count in enumerate(counts):
            for word, weight in self._vector(count).items():
                self._postings[word].append((index, weight))

    def votes(self, request: str, *, without: str = "") -> dict[str, float]:
        """Return the share of the neighbours' votes for each path, most first; neighbours that needed nothing vote for no path."""
        cosines: dict[int, float] = defaultdict(float)
        for word, weight in self._vector(Counter(_words(request))).items():
            for index, other in self._postings.get(word, ()):
                cosines[index] += weight * other
        near = ((cosine, -index) for index, cosine in cosines.items() if not without or self._labelled[index].unit != without)
        votes: dict[str, float] = defaultdict(float)
        total = 0.0
        for cosine, index in heapq.nlargest(NEIGHBOURS, near):
            each = self._labelled[-index]
            strength = each.weight * cosine**2
            for place, path in enumerate(each.needs):
                votes[path] += strength / (1 + LATER_COUNTS_LESS * place)
                total += strength / (1 + LATER_COUNTS_LESS * place)
            total += 0 if each.needs else strength
        return {path: vote / total for path, vote in sorted(votes.items(), key=lambda item: (-item[1], item[0]))}

    def _vector(self, count: Mapping[str, int]) -> dict[str, float]:
        raw = {word: (1 + math.log(number)) * self._idf[word] for word, number in count.items() if word in self._idf}
        norm = math.sqrt(sum(weight**2 for weight in raw.values()))
        return {word: weight / norm for word, weight in raw.items()}


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


@cache
def packaged_needs() -> tuple[LabelledNeed, ...]:
    """Return the labelled requests that come with the package."""
    text = (files("personalagent") / "schema" / "requests.jsonl").read_text("utf-8")
    return tuple(
        LabelledNeed(record["request"], tuple(record["needs"]), record["weight"], record["unit"])
        for record in map(json.loads, text.splitlines())
    )


@lru_cache(maxsize=4)
def shortlist_of(schema: ProfileSchema) -> Shortlist:
    """Return the index for a schema: the packaged requests, and what its slots say about themselves."""
    described = (LabelledNeed(slot.description, (slot.path,), 0.5) for slot in schema)
    return Shortlist([*packaged_needs(), *described])


@lru_cache(maxsize=64)  # a request is looked up before its answer and again when it is assessed
def likely_slots(request: str, schema: ProfileSchema, *, without: str = "") -> tuple[Slot, ...]:
    """Return the slots that requests like this one needed, most likely first, at most ``SHORTLIST``.

    ``without`` leaves the labelled requests of one unit out.
    """
    votes = shortlist_of(schema).votes(request, without=without)
    return tuple(schema.slots[path] for path in votes if path in schema.slots)[:SHORTLIST]


def lines_of(labelled: Iterable[LabelledNeed]) -> str:
    """Return the text of ``requests.jsonl``, sorted, each request once."""
    unique = {each.request.casefold(): each for each in labelled}
    return "".join(each.as_json() + "\n" for _, each in sorted(unique.items()))
