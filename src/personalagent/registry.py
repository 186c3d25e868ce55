"""Names that stand for code: `name → "module:attr"`, imported only when asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from personalagent.errors import UsageError

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known name, or `""` when none is near."""
    folded = {candidate.lower(): candidate for candidate in sorted(known)}
    near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return f" Did you mean {folded[near[0]]!r}?" if near else ""


@dataclass(frozen=True)
class Registry(Generic[T]):
    """One kind of thing that can be chosen by name. T is what every target is."""

    kind: str
    """What the names stand for, as error messages call it: `"data set"`, `"system"`."""

    targets: Mapping[str, str]
    """Name → `"module:attr"`."""

    def names(self) -> tuple[str, ...]:
        """Return the known names in alphabetical order."""
        return tuple(sorted(self.targets))

    def load(self, name: str) -> T:
        """Import what `name` stands for; a `"module:attr"` of the caller's own is a name too.

        Raises UsageError for a name that is not known and for a target that cannot be imported.
        """
        target = self.targets.get(name, name if ":" in name else None)
        if target is None:
            raise UsageError(
                f'expected the name of a {self.kind} ({", ".join(self.names())}) or a "module:attr", got {name!r}.'
                f"{did_you_mean(name, self.targets)}"
            )
        module_name, _, attribute = target.partition(":")
        try:
            return cast(T, getattr(importlib.import_module(module_name), attribute))
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise UsageError(
                f"expected {self.kind} {name!r} to be importable from {target!r}, got {type(error).__name__}: {error}; "
                "install the package that holds it, or correct the module or attribute name"
            ) from error
