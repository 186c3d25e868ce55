"""What a store is opened on: a database, a clock, and one tenant whose users it sees.

A user of another tenant than the default one is kept under ``TENANT␟USER`` (the unit separator, which no id may hold), so that every key,
foreign key and predicate on a user is one on the tenant too. ``Scope.of`` is the only place that writes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Self, TypeVar

from sqlalchemy import Connection

from personalagent.errors import UsageError
from personalagent.store.engine import EVERY_TENANT, Database
from personalagent.store.rows import MAX_ID, check_id

T = TypeVar("T")
DEFAULT_TENANT = "default"
MAX_TENANT = 40
_SEPARATOR = "\x1f"


def utc_now() -> datetime:
    """Return the time, aware."""
    return datetime.now(UTC)


class Scope:
    """The part of a store that every noun shares."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now, tenant: str = DEFAULT_TENANT) -> None:
        self._database = database
        self._clock = clock
        self.tenant = tenant

    def for_tenant(self, tenant: str) -> Self:
        """Return the store of another tenant on the same open database.

        Raises:
            UsageError: the name is empty, too long or not printable.
        """
        check_tenant(tenant)
        return type(self)(self._database, self._clock, tenant)

    async def read(self, query: Callable[..., T], *of: object) -> T:
        """Do a short read from code that awaits: at once from a file, whose rows are in memory, and in a thread from a server."""
        return query(*of) if self._database.is_local else await asyncio.to_thread(query, *of)

    def _reading(self) -> AbstractContextManager[Connection]:
        """Open a transaction that sees this tenant's users."""
        return self._database.reading(self.tenant)

    def _writing(self) -> AbstractContextManager[Connection]:
        """Open a transaction on this tenant's users."""
        return self._database.writing(self.tenant)

    def _of(self, user_id: str) -> str:
        """Return under which id a user of this tenant is kept."""
        return scoped(self.tenant, user_id)


def check_tenant(tenant: str) -> None:
    """Refuse a tenant's name that cannot stand before a user's id."""
    check_id("tenant", tenant)
    if tenant == EVERY_TENANT:
        raise UsageError(f"expected the name of one tenant, got {tenant!r}, which stands for all; choose another")
    if len(tenant) > MAX_TENANT:
        raise UsageError(f"expected a tenant of at most {MAX_TENANT} characters, got {len(tenant)}; choose a shorter one")


def scoped(tenant: str, user_id: str) -> str:
    """Return under which id a user is kept."""
    if _SEPARATOR in user_id:
        check_id("user_id", user_id)
    if tenant == DEFAULT_TENANT:
        return user_id
    kept = f"{tenant}{_SEPARATOR}{user_id}"
    if len(kept) > MAX_ID:
        raise UsageError(
            f"expected a user_id of at most {MAX_ID - len(tenant) - 1} characters, got {len(user_id)}; choose another"
        )
    return kept


def split(kept: str) -> tuple[str, str]:
    """Return tenant and user of a kept id."""
    tenant, separator, user_id = kept.partition(_SEPARATOR)
    return (tenant, user_id) if separator else (DEFAULT_TENANT, kept)
