"""Who asks, and what they may do. Every route that is about somebody depends on ``require``; there is no other way to a user.

Until a first key is made the server listens on loopback alone and lets every program of this machine do everything, but no page of a
foreign origin. From then on no request goes without a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from fastapi import HTTPException, Request

from personalagent.server.rate_limits import RateLimits
from personalagent.store import DEFAULT_TENANT, ApiKey, Store

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Scope(StrEnum):
    """What a key may do."""

    CHAT = "chat"
    PROFILE_READ = "profile:read"
    PROFILE_WRITE = "profile:write"
    ADMIN = "admin"
    """Reserved for routes about keys and jobs; these are on the command line so far."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    key_id: str | None
    """None where no key exists yet."""
    tenant: str
    scopes: frozenset[Scope]
    user_id: str | None
    """The only user that the key speaks for; None for a service key, which names users itself."""
    rate_limit: str | None = None
    """The key's own, before the setting of that name."""
    quota: str | None = None


ROUTES: dict[tuple[str, str], Scope | None] = {
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
    ("GET", "/metrics"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/docs"): None,
    ("GET", "/docs/oauth2-redirect"): None,
    ("GET", "/redoc"): None,
    ("GET", "/v1/models"): Scope.CHAT,
    ("POST", "/v1/chat/completions"): Scope.CHAT,
    ("GET", "/v1/users/{user_id}/profile"): Scope.PROFILE_READ,
    ("PATCH", "/v1/users/{user_id}/profile"): Scope.PROFILE_WRITE,
    ("DELETE", "/v1/users/{user_id}/profile/{slot}"): Scope.PROFILE_WRITE,
    ("GET", "/v1/users/{user_id}/history"): Scope.PROFILE_READ,
    ("POST", "/v1/users/{user_id}/undo"): Scope.PROFILE_WRITE,
    ("GET", "/v1/users/{user_id}/review"): Scope.PROFILE_READ,
    ("POST", "/v1/users/{user_id}/review"): Scope.PROFILE_WRITE,
    ("GET", "/v1/users/{user_id}/sessions"): Scope.PROFILE_READ,
    ("GET", "/v1/users/{user_id}/sessions/{session_id:path}"): Scope.PROFILE_READ,
    ("GET", "/v1/users/{user_id}/consents"): Scope.PROFILE_READ,
    ("PUT", "/v1/users/{user_id}/consents/{category}"): Scope.PROFILE_WRITE,
    ("GET", "/v1/users/{user_id}/export"): Scope.PROFILE_READ,
    ("POST", "/v1/users/{user_id}/import"): Scope.PROFILE_WRITE,
    ("DELETE", "/v1/users/{user_id}"): Scope.PROFILE_WRITE,
    ("POST", "/v1/users/{user_id}/assess"): Scope.PROFILE_READ,
    ("GET", "/v1/users/{user_id}/events"): Scope.PROFILE_READ,
    ("GET", "/api/v1/healthcheck"): None,
    ("POST", "/api/v1/users"): Scope.PROFILE_WRITE,
    ("GET", "/api/v1/users/{user_id}"): Scope.PROFILE_READ,
    ("PUT", "/api/v1/users/{user_id}"): Scope.PROFILE_WRITE,
    ("DELETE", "/api/v1/users/{user_id}"): Scope.PROFILE_WRITE,
    ("POST", "/api/v1/blobs/insert/{user_id}"): Scope.CHAT,
    ("GET", "/api/v1/blobs/{user_id}/{blob_id}"): Scope.PROFILE_READ,
    ("DELETE", "/api/v1/blobs/{user_id}/{blob_id}"): Scope.PROFILE_WRITE,
    ("GET", "/api/v1/users/blobs/{user_id}/{blob_type}"): Scope.PROFILE_READ,
    ("POST", "/api/v1/users/buffer/{user_id}/{blob_type}"): Scope.CHAT,
    ("GET", "/api/v1/users/buffer/capacity/{user_id}/{blob_type}"): Scope.PROFILE_READ,
    ("GET", "/api/v1/users/profile/{user_id}"): Scope.PROFILE_READ,
    ("POST", "/api/v1/users/profile/{user_id}"): Scope.PROFILE_WRITE,
    ("PUT", "/api/v1/users/profile/{user_id}/{profile_id}"): Scope.PROFILE_WRITE,
    ("DELETE", "/api/v1/users/profile/{user_id}/{profile_id}"): Scope.PROFILE_WRITE,
    ("GET", "/api/v1/users/context/{user_id}"): Scope.PROFILE_READ,
    ("GET", "/api/v1/users/event/{user_id}"): Scope.PROFILE_READ,
    ("PUT", "/api/v1/users/event/{user_id}/{event_id}"): Scope.PROFILE_WRITE,
    ("DELETE", "/api/v1/users/event/{user_id}/{event_id}"): Scope.PROFILE_WRITE,
    ("GET", "/api/v1/users/event/search/{user_id}"): Scope.PROFILE_READ,
    ("GET", "/api/v1/users/event_gist/search/{user_id}"): Scope.PROFILE_READ,
    ("GET", "/api/v1/users/event_tags/search/{user_id}"): Scope.PROFILE_READ,
    ("GET", "/api/v1/project/profile_config"): Scope.PROFILE_READ,
    ("POST", "/api/v1/project/profile_config"): Scope.ADMIN,
    ("GET", "/api/v1/project/billing"): Scope.PROFILE_READ,
    ("GET", "/api/v1/project/usage"): Scope.PROFILE_READ,
    ("GET", "/api/v1/project/users"): Scope.PROFILE_READ,
}
"""Every route with the scope it takes; None for what tells nothing about anybody. A test fails for a route that is not here."""


class Requirement:
    """The dependency of a route that takes a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> Principal:
        """Return who asks.

        Raises:
            HTTPException: 401 without a key that is valid, 403 where it has not the scope, 429 where it asks too often.
        """
        store: Store = request.app.state.agent.store
        principal, key = await store.read(_principal, request, store)
        if key is not None and store.is_use_due(key):
            await asyncio.to_thread(store.note_use, key)
        request.state.principal = principal
        limits: RateLimits = request.app.state.rate_limits
        allowance = await limits.count(principal.key_id, rate=principal.rate_limit, quota=principal.quota)
        request.state.rate_limit_headers = allowance.headers
        if allowance.refusal is not None:
            raise allowance.refusal
        if self.scope not in principal.scopes:
            raise HTTPException(403, f"expected a key with the scope {self.scope}, got one without it; use another key")
        return principal


def require(scope: Scope) -> Callable[[Request], Awaitable[Principal]]:
    """Return the dependency that lets only keys with a scope pass."""
    return Requirement(scope)


def visible_user(principal: Principal, user_id: str) -> str:
    """Return the user of a path, if the key may see them.

    Raises:
        HTTPException: 404, as for a user who does not exist.
    """
    if principal.user_id is not None and principal.user_id != user_id:
        raise HTTPException(404)
    return user_id


def _principal(request: Request, store: Store) -> tuple[Principal, ApiKey | None]:
    given = request.headers.getlist("authorization")
    if not given and not store.has_keys():
        _refuse_foreign_page(request)
        return Principal(None, DEFAULT_TENANT, frozenset(Scope), None), None
    kind, _, secret = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    key = store.find_key(secret.strip()) if kind.casefold() == "bearer" else None
    if key is None:
        if not store.has_keys():  # clients must send something; where there are no keys it says nothing
            _refuse_foreign_page(request)
            return Principal(None, DEFAULT_TENANT, frozenset(Scope), None), None
        raise HTTPException(
            401, "expected a valid key as 'Authorization: Bearer pa_live_…', got none; ask the operator for one", _CHALLENGE
        )
    known = {scope.value: scope for scope in Scope}
    scopes = frozenset(known[name] for name in key.scopes if name in known)
    return Principal(key.key_id, key.tenant, scopes, key.user_id, key.rate_limit, key.quota), key


def _refuse_foreign_page(request: Request) -> None:
    """Without keys, a name that is not this machine's, or a page from elsewhere, is a browser being used against its owner."""
    origin = request.headers.get("origin")
    names = [request.url.hostname, *([urlsplit(origin).hostname] if origin else [])]
    if any(name not in LOOPBACK for name in names):
        raise HTTPException(403, "expected a request from this machine, got one of another host or page; make a key and send it")
