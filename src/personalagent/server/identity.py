"""Whose words a request carries. There is no default user: who is not named is not personalised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from personalagent.server.auth import Principal

USER_HEADER = "x-personalagent-user"


def user_of(
    principal: Principal, headers: Mapping[str, str], body: Mapping[str, Any], trusted_header: str | None = None
) -> str | None:
    """Return the user of a request: the key's own; of a service key, the first named by header, body or metadata; None for nobody.

    A key that is bound to a user speaks for no other, whatever the request says.
    """
    if principal.user_id is not None:
        return principal.user_id
    metadata = body.get("metadata")
    named = (
        headers.get(USER_HEADER),
        headers.get(trusted_header.lower()) if trusted_header else None,
        body.get("safety_identifier"),
        body.get("user"),
        metadata.get("user_id") if isinstance(metadata, Mapping) else None,
    )
    return next((name for name in named if isinstance(name, str) and name.strip()), None)
