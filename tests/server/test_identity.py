"""Whose words a request carries."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers

from personalagent.server.auth import Principal, Scope
from personalagent.server.identity import user_of

SERVICE = Principal("key", "default", frozenset(Scope), None)
BOUND = Principal("key", "default", frozenset(Scope), "carol")
HEADERS = {"X-PersonalAgent-User": "by-header", "X-OpenWebUI-User-Id": "by-ui"}
BODY: dict[str, Any] = {"safety_identifier": "by-safety", "user": "by-user", "metadata": {"user_id": "by-metadata"}}


@pytest.mark.parametrize(
    ("taken_away", "expected"),
    [
        ([], "by-header"),
        (["X-PersonalAgent-User"], "by-ui"),
        (list(HEADERS), "by-safety"),
        ([*HEADERS, "safety_identifier"], "by-user"),
        ([*HEADERS, "safety_identifier", "user"], "by-metadata"),
        ([*HEADERS, *BODY], None),
    ],
)
def test_a_service_key_speaks_for_the_first_who_is_named(taken_away: list[str], expected: str | None) -> None:
    headers = Headers({name: value for name, value in HEADERS.items() if name not in taken_away})
    body = {name: value for name, value in BODY.items() if name not in taken_away}
    assert user_of(SERVICE, headers, body, "X-OpenWebUI-User-Id") == expected


def test_a_key_of_a_user_speaks_for_no_other() -> None:
    assert user_of(BOUND, Headers(HEADERS), BODY, "X-OpenWebUI-User-Id") == "carol"
    assert user_of(BOUND, Headers(), {}) == "carol"


def test_a_chat_uis_header_counts_only_where_it_is_trusted() -> None:
    assert user_of(SERVICE, Headers({"X-OpenWebUI-User-Id": "by-ui"}), {}) is None


@pytest.mark.parametrize("name", ["", "  ", 7, None, ["alice"]])
def test_what_names_nobody_is_nobody(name: object) -> None:
    assert user_of(SERVICE, Headers(), {"user": name, "metadata": name}) is None
