"""Users as an application adds them: since when there is one, and data of the application's own, which nothing is inferred from."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, select, update

from personalagent.store.erasure import Mask
from personalagent.store.records import Account
from personalagent.store.rows import check_id, check_text, ensure_user, exists, lock_user
from personalagent.store.scope import Scope
from personalagent.store.tables import users


class Accounts(Scope):
    """The users of one tenant, without what is known about them."""

    def create_user(self, user_id: str, data: dict[str, Any] | None = None) -> bool:
        """Add a user with data of the application's own; False, and nothing happens, where there is one of this id."""
        check_id("user_id", user_id)
        user_id = self._of(user_id)
        with self._writing() as connection:
            if exists(connection, users, {"user_id": user_id}):
                return False
            ensure_user(connection, user_id, self._clock())
            if data:
                _put_data(connection, user_id, data)
        return True

    def account(self, user_id: str) -> Account | None:
        """Return a user's account; None where there is no such user."""
        query = select(users.c.created_at, users.c.data).where(users.c.user_id == self._of(user_id))
        with self._reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else Account(row.created_at, json.loads(row.data) if row.data else None)

    def set_user_data(self, user_id: str, data: dict[str, Any] | None) -> None:
        """Keep data of the application's own in place of what was kept before. The user must exist."""
        user_id = self._of(user_id)
        with self._writing() as connection:
            lock_user(connection, user_id)
            _put_data(connection, user_id, data)


def mask_data(connection: Connection, user_id: str, mask: Mask) -> None:
    """Mask forgotten words in a user's data; the user's row is locked."""
    text = connection.execute(select(users.c.data).where(users.c.user_id == user_id)).scalar()
    if text:
        _put_data(connection, user_id, _masked(json.loads(text), mask))


def _masked(data: Any, mask: Mask) -> Any:
    if isinstance(data, dict):
        return {mask.hide(name): _masked(value, mask) for name, value in data.items()}
    if isinstance(data, list):
        return [_masked(value, mask) for value in data]
    return mask.hide(data) if isinstance(data, str) else data


def _put_data(connection: Connection, user_id: str, data: dict[str, Any] | None) -> None:
    text = json.dumps(data, ensure_ascii=False) if data else None
    check_text("user's data", text or "")
    connection.execute(update(users).where(users.c.user_id == user_id).values(data=text))
