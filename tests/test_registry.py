"""Names that stand for code."""

from __future__ import annotations

import json

import pytest

from personalagent.errors import UsageError
from personalagent.registry import Registry, did_you_mean

PARSERS: Registry[type[json.JSONDecoder]] = Registry(
    "parser", {"json": "json:JSONDecoder", "gone": "no_such_package.parser:Parser"}
)


def test_a_known_name_loads_its_target() -> None:
    assert PARSERS.load("json") is json.JSONDecoder


def test_a_module_and_attribute_of_ones_own_is_a_name() -> None:
    assert PARSERS.load("json.decoder:JSONDecoder") is json.JSONDecoder


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all() -> None:
    with pytest.raises(UsageError) as caught:
        PARSERS.load("jsno")
    assert "expected the name of a parser (gone, json)" in str(caught.value)
    assert "got 'jsno'. Did you mean 'json'?" in str(caught.value)


@pytest.mark.parametrize("name", ["gone", "json:", "json:NoSuchName", ":x", "json.no_such:x"])
def test_a_target_that_cannot_be_imported_says_so(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected parser .* to be importable"):
        PARSERS.load(name)


def test_nothing_is_suggested_when_nothing_is_near() -> None:
    assert did_you_mean("zebra", ["json", "toml"]) == ""


def test_a_suggestion_ignores_case() -> None:
    assert did_you_mean("JSON", ["json"]) == " Did you mean 'json'?"
