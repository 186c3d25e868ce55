"""What users allowed and refused: consents, training, reviewed sessions, questions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select, update

from personalagent.errors import UsageError
from personalagent.store.records import AskState, SlotAsk
from personalagent.store.rows import ensure_user, lock_user, put
from personalagent.store.scope import Scope
from personalagent.store.tables import consents, sessions, slot_asks, users


class Permissions(Scope):
    """Consents and questions of the users of one tenant."""

    def set_consent(self, user_id: str, category: str, *, is_granted: bool) -> None:
        """Keep whether sensitive facts of a category may be kept."""
        user_id = self._of(user_id)
        with self._writing() as connection:
            ensure_user(connection, user_id, self._clock())
            put(connection, consents, {"user_id": user_id, "category": category}, is_granted=is_granted, at=self._clock())

    def consents(self, user_id: str) -> dict[str, bool]:
        """Return the categories that the user was asked about, with the answer; a category that is absent was not asked."""
        user_id = self._of(user_id)
        query = select(consents.c.category, consents.c.is_granted).where(consents.c.user_id == user_id)
        with self._reading() as connection:
            return {row.category: row.is_granted for row in connection.execute(query.order_by(consents.c.category))}

    def set_training_consent(self, user_id: str, *, is_granted: bool) -> None:
        """Keep that what the user said may be trained on, or that it may not (any more); nobody consents by default."""
        user_id = self._of(user_id)
        at = self._clock() if is_granted else None
        with self._writing() as connection:
            lock_user(connection, user_id)
            connection.execute(update(users).where(users.c.user_id == user_id).values(training_consent_at=at))

    def training_consent(self, user_id: str) -> datetime | None:
        """Return when the user consented to training; None where they have not, or withdrew it."""
        user_id = self._of(user_id)
        with self._reading() as connection:
            return connection.execute(select(users.c.training_consent_at).where(users.c.user_id == user_id)).scalar()

    def mark_reviewed(self, user_id: str, session_id: str) -> None:
        """Keep that what was learned in a session up to now is right, as far as it was neither edited nor forgotten.

        Raises:
            UsageError: there is no such session.
        """
        user_id = self._of(user_id)
        change = update(sessions).where(sessions.c.user_id == user_id, sessions.c.session_id == session_id)
        with self._writing() as connection:
            lock_user(connection, user_id)
            if connection.execute(change.values(reviewed_at=self._clock())).rowcount == 0:
                raise UsageError(f"expected a session of {user_id!r}, got {session_id!r}; `profile review` lists them")

    def reviewed_sessions(self, user_id: str) -> dict[str, datetime]:
        """Return the sessions that were reviewed, with the time until which they were."""
        user_id = self._of(user_id)
        query = select(sessions.c.session_id, sessions.c.reviewed_at).where(sessions.c.user_id == user_id)
        with self._reading() as connection:
            rows = connection.execute(query.where(sessions.c.reviewed_at.is_not(None)).order_by(sessions.c.session_id)).all()
        return {row.session_id: row.reviewed_at for row in rows}

    def record_ask(self, user_id: str, session_id: str, path: str, state: AskState, *, at: datetime | None = None) -> None:
        """Keep that a slot was asked for in a session, and what became of it."""
        user_id = self._of(user_id)
        with self._writing() as connection:
            lock_user(connection, user_id)
            put_ask(connection, user_id, session_id, path, state, at or self._clock())

    def asks(self, user_id: str) -> tuple[SlotAsk, ...]:
        """Return every slot that was asked for, oldest first; one that was declined must not be asked again."""
        user_id = self._of(user_id)
        query = select(slot_asks).where(slot_asks.c.user_id == user_id)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(slot_asks.c.at, slot_asks.c.path)).mappings().all()
        return tuple(SlotAsk(row["session_id"], row["path"], AskState(row["state"]), row["at"]) for row in rows)


def put_ask(connection: Connection, user_id: str, session_id: str, path: str, state: AskState, at: datetime) -> None:
    """Keep what became of a question; the user's row is locked."""
    key = {"user_id": user_id, "session_id": session_id, "path": path}
    put(connection, slot_asks, key, state=state.value, at=at)
