"""Pseudonyms for one user's texts: names, e-mail and street addresses, phone and other long numbers, URLs and handles.

Rules and word lists, no model: what it finds is replaced everywhere, always by the same words for the same user. It does **not** find names
that no list holds and no cue announces, nor names in lower case that stand nowhere else in capitals, nor what identifies somebody without
a name (a rare job in a small town). Its output is pseudonymised, not anonymous: treat it as personal data.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib import import_module

from personalagent.errors import EnvironmentProblem

LOCALES = ("de_DE", "en_GB", "en_IN", "en_US", "es_ES", "fr_FR", "it_IT", "nl_NL", "pl_PL", "pt_BR", "sv_SE", "tr_TR")
"""Whose first names are known."""
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Close|Court|Ct|Crescent|Terrace|Square|Sq|Boulevard|Blvd|Way|Place|Pl)"
)
_NUMBER = r"\d{1,5}[a-zA-Z]?"
_ADDRESS = (
    rf"\b{_NUMBER},? (?:[A-Z][\w'’-]+ ){{1,3}}{_STREET}\b|\b[A-ZÄÖÜ]\w*(?:straße|strasse|str\.|weg|gasse|platz|allee) {_NUMBER}\b"
    rf"|\b{_NUMBER},? (?:rue|avenue|boulevard|place|chemin) (?:de |du |des |la |l['’])*[A-Z][\w'’-]+"
    rf"|\b(?:[Cc]alle|[Vv]ia|[Rr]ua|[Uu]l\.|[Aa]venida) (?:[A-Z][\w'’-]+ ?){{1,3}},? ?{_NUMBER}\b"
    r"|\b[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}\b"
)
_ENDINGS = "com|org|net|io|app|dev|info|eu|de|fr|es|it|nl|pl|pt|se|ie|co\\.uk|uk"
_PATTERNS = {
    "email": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "url": rf"(?:https?://|www\.)[^\s<>\"]+[\w/]|\b[\w-]+(?:\.[\w-]+)*\.(?:{_ENDINGS})\b(?:/[^\s<>\"]*\w)?",
    "address": _ADDRESS,
    "handle": r"(?<!\w)@\w{2,}",
    "number": rf"(?<![\w.])\+?\(?\d(?:(?!\s?(?:{_ADDRESS}))[\s().\-/]{{0,2}}\d){{6,}}(?!\w)",
}
"""What is found by its form; a number is one of seven digits or more, dates and card numbers included."""
_CAPITALISED = re.compile(r"(?<![\w'’])[^\W\d_a-z][\w'’-]*")
_CUE = re.compile(
    r"(?i:\b(?:my name is|my name['’]s|call me|called|named|mr|mrs|ms|miss|dr|prof|aunt|auntie|uncle|sister|brother|wife|husband|partner|girlfriend|"
    r"boyfriend|fianc[eé]e?|mum|mom|dad|mother|father|son|daughter|granny|grandma|grandad|grandpa|friend|mate|boss|manager|colleague|neighbou?r|cousin|"
    r"teacher|flatmate|roommate|niece|nephew|dog|cat|horse)\.?,? )((?:[^\W\d_a-z][\w'’-]* ?){1,3})"
)
_WORDS = frozenset(
    re.findall(
        r"\w+",
        "april may june july august will mark rose hope grace faith joy art bill sue pat rob jack ray dale drew frank gene grant guy iris ivy jade "
        "jean jewel lance melody miles norm penny pearl ruby rusty sandy summer autumn dawn eve holly lily daisy violet olive ginger heather "
        "angel christian chase destiny hunter mason chance earl duke dean forest gale glen jay bob sky star rain river brook harmony trinity "
        "liberty london paris milan berlin vienna austin dallas houston phoenix savannah sydney chelsea brooklyn madison sierra jordan israel "
        "georgia virginia carolina florence charlotte victoria asia india china america dakota montana alexandria",
    )
)
"""First names that are words or places too: names only after a cue."""
_NO_NAMES = frozenset(
    re.findall(
        r"[\w'’]+",
        "i i'm i’m i'd i've i'll the a an and but or my he she it we you they monday tuesday wednesday thursday friday saturday sunday",
    )
)


@cache
def first_names() -> tuple[str, ...]:
    """Return the first names of all locales, in order.

    Raises:
        EnvironmentProblem: the package that lists them is not installed.
    """
    names: set[str] = set()
    for locale in LOCALES:
        try:
            provider = import_module(f"faker.providers.person.{locale}").Provider
        except ModuleNotFoundError as error:
            raise EnvironmentProblem(
                "expected the package with lists of names, got no 'faker'; pip install 'personalagent[pseudonyms]'"
            ) from error
        names |= {str(name) for name in provider.first_names}
    return tuple(sorted(name for name in names if len(name) > 2 and name.isalpha()))


@cache
def _known_names() -> frozenset[str]:
    return frozenset(name.casefold() for name in first_names())


def is_first_name(word: str) -> bool:
    """Tell whether a word is a first name and nothing else. Raises as ``first_names``."""
    return word.casefold() in _known_names() and word.casefold() not in _WORDS


class Pseudonyms:
    """One user's pseudonyms.

    Args:
        texts: everything of the user that will be replaced in; names found in one are replaced in all.
        names: further names, e.g. the user's own from the profile.
        places: words that are no names, e.g. the user's city.
        rng: draws the pseudonyms; keep its seed to yourself, or the names can be drawn again.
    """

    def __init__(
        self, texts: Iterable[str], *, names: Iterable[str] = (), places: Iterable[str] = (), rng: random.Random
    ) -> None:
        texts = list(texts)
        kept = {word.casefold() for place in places for word in re.findall(r"\w+", place)}
        found = {word for text in texts for word in _names_in(text, kept)}
        found |= {word for name in names for word in re.findall(r"[^\W\d_][\w'’-]+", name)}
        self._names = {name.casefold() for name in found}
        said = {word for text in texts for word in re.findall(r"\w+", text.casefold())}
        self._free = [name for name in first_names() if name.casefold() not in said | _WORDS and name.isascii()]
        rng.shuffle(self._free)
        self._given: dict[tuple[str, str], str] = {}
        self._pattern = re.compile("|".join([*(f"(?P<{kind}>{form})" for kind, form in _PATTERNS.items()), *self._name_forms()]))

    def _name_forms(self) -> Iterator[str]:
        """Yield the form of the names: in any case, those that are words too only with a capital."""
        plain = sorted((name for name in self._names if name not in _WORDS), key=lambda name: (-len(name), name))
        words = sorted(name.capitalize() for name in self._names if name in _WORDS)
        forms = [f"(?i:{'|'.join(map(re.escape, plain))})"] if plain else []
        forms += [f"(?:{'|'.join(map(re.escape, words))})"] if words else []
        if forms:
            yield rf"(?P<name>(?<!\w)(?:{'|'.join(forms)})(?!\w))"

    def replace(self, text: str) -> str:
        """Return the text with everything that was found replaced."""
        return self._pattern.sub(self._pseudonym, text)

    def is_clean(self, text: str) -> bool:
        """Tell whether nothing is left in a replaced text that would be replaced, but the pseudonyms themselves."""
        for pseudonym in sorted(self._given.values(), key=len, reverse=True):
            text = re.sub(rf"(?<!\w){re.escape(pseudonym)}(?!\w)", "\0", text, flags=re.IGNORECASE)
        return self._pattern.search(text) is None

    def _pseudonym(self, match: re.Match[str]) -> str:
        kind, original = str(match.lastgroup), match[0]
        key = (kind, "".join(filter(str.isdigit, original)) if kind == "number" else original.casefold())
        given = self._given.setdefault(key, self._new(kind))
        return given.lower() if kind == "name" and original.islower() else given

    def _new(self, kind: str) -> str:
        number = 1 + sum(other == kind for other, _ in self._given)
        return {
            "email": f"person{number}@example.org",
            "url": f"https://example.org/{number}",
            "address": f"{number} Example Street",
            "handle": f"@person{number}",
            "number": f"555-{number:04d}",
            "name": self._free[number % len(self._free)],
        }[kind]


def _names_in(text: str, places: Collection[str]) -> Iterator[str]:
    """Yield the names of a text: after a cue, from the lists, and a word with a capital right after one of those."""
    for cue in _CUE.finditer(text):
        yield from (_plain(word) for word in cue[1].split() if _plain(word).casefold() not in _NO_NAMES)
    end = -1
    for word in _CAPITALISED.finditer(text):
        name = _plain(word[0])
        is_surname = word.start() == end + 1 and text[end] == " "
        if name.casefold() in _NO_NAMES or name.casefold() in places or not (is_first_name(name) or is_surname) or len(name) < 2:
            continue
        yield name
        end = word.start() + len(name)


def _plain(word: str) -> str:
    """Return a word without its possessive."""
    return re.sub(r"['’]s?$", "", word)
