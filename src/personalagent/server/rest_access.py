"""What every REST route needs: whose profile it is about, the agent of the tenant, versions and cursors.

Annotations are evaluated at once here: the dependency that ``access`` makes refers to its argument.
"""

import asyncio
import base64
import binascii
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request

from personalagent.agent import PersonalAgent
from personalagent.server.auth import Principal, Scope, require, visible_user
from personalagent.server.problem import NO_SUCH_USER, PROBLEMS, ProblemRoute, RestError
from personalagent.store import Store
from personalagent.store.rows import MAX_ID

MAX_PAGE = 500
PRINTABLE = r"^[^\x00-\x1f\x7f]+$"
_ETAG = re.compile(r'\s*(?:W/)?"(\d+)"\s*')

UserId = Annotated[
    str,
    Path(description="The user's id, as the application names them.", examples=["alice"], max_length=MAX_ID, pattern=PRINTABLE),
]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many rows at most.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before; the first page when left out.")]
IfMatch = Annotated[
    str | None, Header(description="The ETag of the profile that the change was made for; 412 where it moved on.")
]


@dataclass(frozen=True, slots=True)
class Access:
    """One user, as this request may see them."""

    agent: PersonalAgent
    """The agent of the key's tenant."""
    user_id: str
    principal: Principal

    @property
    def store(self) -> Store:
        """Return the store of the key's tenant."""
        return self.agent.store

    async def version(self) -> int:
        """Return the version of the user's profile."""
        return await asyncio.to_thread(self.store.profile_version, self.user_id)

    async def has_user(self) -> bool:
        """Tell whether anything is kept about the user."""
        return await asyncio.to_thread(self.store.has_user, self.user_id)


def rest_router(tag: str) -> APIRouter:
    """Return a router of the routes about one user."""
    return APIRouter(prefix="/v1/users/{user_id}", tags=[tag], route_class=ProblemRoute, responses=PROBLEMS)


def access(scope: Scope, *, may_be_new: bool = False) -> Callable[..., Awaitable[Access]]:
    """Return the dependency that lets a key with the scope at its user, who must exist unless they may be new."""

    async def find(request: Request, user_id: UserId, principal: Annotated[Principal, Depends(require(scope))]) -> Access:
        try:
            seen = visible_user(principal, user_id)
        except HTTPException:
            raise RestError(404, NO_SUCH_USER) from None
        found = Access(request.app.state.agent.for_tenant(principal.tenant), seen, principal)
        if not may_be_new and not await found.has_user():
            raise RestError(404, NO_SUCH_USER)
        return found

    return find


Reader = Annotated[Access, Depends(access(Scope.PROFILE_READ))]
Writer = Annotated[Access, Depends(access(Scope.PROFILE_WRITE))]
NewWriter = Annotated[Access, Depends(access(Scope.PROFILE_WRITE, may_be_new=True))]


def etag(version: int) -> str:
    """Write a profile's version as an ETag."""
    return f'"{version}"'


def expected_version(if_match: str | None) -> int | None:
    """Read If-Match; None where any version will do.

    Raises:
        RestError: it is none that this server ever gave out, so it cannot match.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    found = _ETAG.fullmatch(if_match)
    if found is None:
        raise RestError(412, f"expected If-Match to be the ETag of GET profile, got {if_match!r}; read the profile again")
    return int(found[1])


def write_cursor(*place: int | str) -> str:
    """Return a cursor that names the last row of a page."""
    return base64.urlsafe_b64encode("\0".join(map(str, place)).encode()).decode().rstrip("=")


def read_cursor(cursor: str, *, parts: int) -> tuple[str, ...]:
    """Read what ``write_cursor`` wrote.

    Raises:
        RestError: it is something else.
    """
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        place = ""
    found = tuple(place.split("\0")) if place else ()
    if len(found) != parts:
        raise RestError(422, f"expected next_cursor of the page before, got {cursor!r}; leave it out to start at the first page")
    return found
