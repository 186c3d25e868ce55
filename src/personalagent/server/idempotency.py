"""``Idempotency-Key``: a request that is sent again has its effect once.

The same key with the same request gets the stored answer again (with ``Idempotency-Replayed: true``) for 24 hours; with another
request 422; while the first is still at work 409. Only successful answers are stored: one that failed is done anew. A key belongs to
one user; the answers go when anything of the user's is erased, since they may repeat it. (The IETF draft expired in April 2026; this is
ours.)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from personalagent.server.problem import RestError
from personalagent.server.rest_access import Access, etag
from personalagent.store import KeyState

MAX_KEY = 200
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY,
        description="Any string that is new for every change, e.g. a UUID; a request that is sent again with it has its effect once.",
        examples=["0b6f4b0e-6f0e-4a55-9d0a-6d6c7f1f5f0a"],
    ),
]
Work = Callable[[], Awaitable[BaseModel]]


class OnceOnly:
    """Does the work of one request, unless a request with the same key did it."""

    def __init__(self, request: Request, key: Key = None) -> None:
        self._request = request
        self._key = key

    async def __call__(self, access: Access, work: Work) -> Response:
        """Return the answer of the work, or the stored one.

        Raises:
            RestError: the key belongs to another request, or to one that is still at work.
        """
        if self._key is None:
            return _answer((await work()).model_dump_json())
        store, user_id, key = access.store, access.user_id, self._key
        claim = await asyncio.to_thread(store.claim_key, user_id, key, await self._digest())
        if claim.state is KeyState.OTHER_REQUEST:
            raise RestError(
                422,
                "expected a new Idempotency-Key for a new request, got one that was sent with another; make a new key",
                name="key-reused",
            )
        if claim.state is KeyState.IN_FLIGHT:
            raise RestError(
                409, "expected the first request with this Idempotency-Key to have ended, got it at work; send it again later"
            )
        if claim.answer is not None:
            return _answer(claim.answer, is_replay=True)
        try:
            text = (await work()).model_dump_json()
        except BaseException:
            await asyncio.shield(asyncio.to_thread(store.release_key, user_id, key))
            raise
        await asyncio.shield(asyncio.to_thread(store.keep_answer, user_id, key, text))
        return _answer(text)

    async def _digest(self) -> str:
        request = self._request
        about = (request.method, request.url.path, request.url.query, request.headers.get("if-match", ""))
        return sha256("\n".join(about).encode() + b"\n" + await request.body()).hexdigest()


def _answer(text: str, *, is_replay: bool = False) -> Response:
    headers = {"ETag": etag(json.loads(text)["profile_version"])}
    if is_replay:
        headers["Idempotency-Replayed"] = "true"
    return Response(text, headers=headers, media_type="application/json")


Once = Annotated[OnceOnly, Depends()]
