"""The store: what users said, what was inferred from it, and what they allowed; on SQLite or Postgres.

An LLM is never called inside a transaction. A turn is ``append_turn`` (the utterance is on disk, its inference pending), then
the policy, then ``commit_delta`` (operations, profile and "done" at once), then ``set_response``. Whatever is cut off in between is
found again by ``pending_turns``, and repeating a step changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from uuid import uuid4

from sqlalchemy import and_, delete, insert, select, update

from personalagent.errors import ProfileError, StoreError, UsageError
from personalagent.profile import OpKind, Profile, ProfileDelta, SlotOp, Source
from personalagent.store.accounts import Accounts, mask_data
from personalagent.store.engine import open_database
from personalagent.store.erasure import ERASED, Mask, without
from personalagent.store.jobs import Jobs
from personalagent.store.jobs import enqueue as put_job
from personalagent.store.keys import Keys
from personalagent.store.log import Logged, read_log, read_snapshot, read_version, replace_log, snapshot_of, write_snapshot
from personalagent.store.permissions import Permissions, put_ask
from personalagent.store.records import AskState, Commit, Forgotten, InferenceState, StoredTurn
from personalagent.store.rows import (
    append_operations,
    check_id,
    check_text,
    checked,
    ensure_user,
    exists,
    insert_once,
    is_outdated,
    lock_turn,
    lock_user,
    next_said,
    redact,
    refuse_other_version,
    session_state,
    stored_turn,
    undoing,
)
from personalagent.store.scope import split, utc_now
from personalagent.store.tables import api_keys, idempotency_keys, sessions, turns, users
from personalagent.store.verify import VerifyReport, verify_user


class Store(Accounts, Permissions, Jobs, Keys):
    """One open database, for one tenant. Methods may be called from any thread; each is one transaction, on disk when it returns."""

    @classmethod
    def open(cls, url: str, *, clock: Callable[[], datetime] = utc_now) -> Store:
        """Open the database of an SQLAlchemy URL; create and migrate it as needed.

        Raises:
            ConfigError: the URL is not one of SQLite or Postgres.
            StoreError: it cannot be reached, read, written or migrated.
        """
        return cls(open_database(url), clock)

    def close(self) -> None:
        """Close the database; the store cannot be used any more."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def users(self) -> tuple[str, ...]:
        """Return the ids of all users of this tenant, in order."""
        return tuple(user_id for tenant, user_id in map(split, self._kept_users()) if tenant == self.tenant)

    def has_user(self, user_id: str) -> bool:
        """Tell whether anything is kept about a user."""
        with self._reading() as connection:
            return exists(connection, users, {"user_id": self._of(user_id)})

    def ensure_user(self, user_id: str) -> None:
        """Make sure that the user exists."""
        check_id("user_id", user_id)
        user_id = self._of(user_id)
        with self._writing() as connection:
            ensure_user(connection, user_id, self._clock())

    def delete_user(self, user_id: str) -> bool:
        """Erase a user and everything about them, to the byte; tell whether there was one."""
        user_id = self._of(user_id)
        with self._writing() as connection:
            found = connection.execute(delete(users).where(users.c.user_id == user_id)).rowcount
            connection.execute(delete(idempotency_keys).where(idempotency_keys.c.user_id == user_id))
            connection.execute(delete(api_keys).where(api_keys.c.tenant == self.tenant, api_keys.c.user_id == split(user_id)[1]))
        if not self._database.scrub():
            raise StoreError(
                "expected to write over the erased bytes, got a process that still reads the database; the user is deleted, "
                "but end that process and delete once more, so that the bytes go too"
            )
        return bool(found)

    def start_session(self, user_id: str, session_id: str | None = None) -> str:
        """Start a session, or go on with one that exists; the user is created where they are new. Return its id."""
        check_id("user_id", user_id)
        user_id = self._of(user_id)
        session_id = uuid4().hex if session_id is None else session_id
        check_id("session_id", session_id)
        key = {"user_id": user_id, "session_id": session_id}
        with self._reading() as connection:
            if exists(connection, sessions, key):
                return session_id
        with self._writing() as connection:
            ensure_user(connection, user_id, self._clock())
            insert_once(connection, sessions, key, created_at=self._clock())
        return session_id

    def session_ids(self, user_id: str) -> tuple[str, ...]:
        """Return a user's sessions, oldest first."""
        user_id = self._of(user_id)
        query = select(sessions.c.session_id).where(sessions.c.user_id == user_id)
        with self._reading() as connection:
            return tuple(connection.execute(query.order_by(sessions.c.created_at, sessions.c.session_id)).scalars())

    def append_turn(
        self,
        user_id: str,
        session_id: str,
        utterance: str,
        *,
        at: datetime | None = None,
        starts_session: bool = False,
        enqueue: bool = False,
        message_key: str | None = None,
    ) -> int:
        """Keep what the user said, its inference pending; return the turn's index. It is on disk when this returns.

        Args:
            starts_session: start the session in the same transaction, where there is none of this id.
            enqueue: let the background worker infer it: the job is on disk with the turn.
            message_key: what a message that is sent again has in common with the first; nothing is kept twice in a session.

        Raises:
            UsageError: the session was not started, or cannot be.
            DataError: the text holds NUL or half a surrogate pair, which no database keeps.
        """
        if starts_session:
            check_id("user_id", user_id)
            check_id("session_id", session_id)
        user_id = self._of(user_id)
        check_text("utterance", utterance)
        with self._writing() as connection:
            now = self._clock()
            # The user's row comes first: the session's foreign key shares it, and two sharers who both want it wait for ever.
            said = next_said(connection, user_id, created_at=now if starts_session else None)
            state = session_state(connection, user_id, session_id, message_key)
            if state.earlier is not None:
                return state.earlier
            key = {"user_id": user_id, "session_id": session_id}
            if not state.is_started and not starts_session:
                raise UsageError(f"expected a session of {user_id!r}, got {session_id!r}; start it with start_session")
            if not state.is_started:
                insert_once(connection, sessions, key, created_at=now)
            row = {
                **key,
                "turn_index": state.turns,
                "said": said,
                "at": at or now,
                "utterance": utterance,
                "inference": InferenceState.PENDING.value,
                "attempts": 0,
                "redacted": False,
                "withheld": False,
                "message_key": message_key,
            }
            connection.execute(insert(turns).values(row))
            if enqueue:
                put_job(connection, user_id, now)
        return state.turns

    def set_response(self, user_id: str, session_id: str, turn_index: int, response: str) -> None:
        """Keep what the agent answered, unless the turn was redacted meanwhile: the answer may repeat what was forgotten.

        NUL and halves of surrogate pairs, which no database keeps, become U+FFFD.
        """
        user_id = self._of(user_id)
        kept = response.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        with self._writing() as connection:
            this = and_(turns.c.user_id == user_id, turns.c.session_id == session_id, turns.c.turn_index == turn_index)
            change = update(turns).where(this, turns.c.redacted.is_(False)).values(response=kept)
            if connection.execute(change).rowcount == 0:
                lock_turn(connection, user_id, session_id, turn_index)  # it was redacted, or there is none

    def turns(self, user_id: str, session_id: str | None = None) -> tuple[StoredTurn, ...]:
        """Return a user's turns in the order in which they were said: all of them, or one session's."""
        user_id = self._of(user_id)
        query = select(turns).where(turns.c.user_id == user_id)
        return self._turns(query if session_id is None else query.where(turns.c.session_id == session_id))

    def pending_turns(self, user_id: str) -> tuple[StoredTurn, ...]:
        """Return the turns that still have to be inferred, oldest first: cut off, or given up by the policy."""
        user_id = self._of(user_id)
        return self._turns(select(turns).where(turns.c.user_id == user_id, turns.c.inference == InferenceState.PENDING.value))

    def defer_inference(self, user_id: str, session_id: str, turn_index: int, reason: str) -> None:
        """Note that the policy could not be reached or read; the turn stays pending."""
        user_id = self._of(user_id)
        with self._writing() as connection:
            turn = lock_turn(connection, user_id, session_id, turn_index)
            change = update(turns).where(turns.c.user_id == user_id, turns.c.said == turn["said"])
            connection.execute(change.values(attempts=turn["attempts"] + 1, reason=reason[:64]))

    def commit_delta(
        self,
        user_id: str,
        session_id: str,
        turn_index: int,
        delta: ProfileDelta,
        *,
        asks: Mapping[str, AskState] | None = None,
        withheld: bool = False,
    ) -> Commit:
        """Append what a turn revealed, renew the profile, mark the turn as inferred and keep what became of questions (``asks``, by
        path): all of it, once, or nothing.

        Operations take the turn's place in the log, so that a turn inferred late does not undo what was said after it.

        Args:
            withheld: whether something sensitive was left out for want of consent; that it was is kept, not what.

        Raises:
            UsageError: there is no such turn (any more).
        """
        user_id = self._of(user_id)
        operations = tuple(map(checked, delta.operations))
        with self._writing() as connection:
            turn = lock_turn(connection, user_id, session_id, turn_index)
            said = turn["said"]
            if turn["inference"] == InferenceState.DONE:
                before = tuple(entry.operation for entry in read_log(connection, user_id, said=said))
                return Commit(read_snapshot(connection, user_id).profile, before, is_repeat=True)
            outdated = tuple(op for op in operations if is_outdated(connection, user_id, turn, op))
            kept = tuple(op for op in operations if op not in outdated)
            profile = append_operations(connection, user_id, said, kept)
            done = update(turns).where(turns.c.user_id == user_id, turns.c.said == said)
            connection.execute(done.values(inference=InferenceState.DONE.value, withheld=withheld))
            for path, state in (asks or {}).items():
                put_ask(connection, user_id, session_id, path, state, self._clock())
        return Commit(profile, kept, outdated)

    def edit(self, user_id: str, delta: ProfileDelta, *, expected_version: int | None = None) -> Commit:
        """Append operations that come from no turn: the user's own edit, or an import. The user must exist.

        Raises:
            Conflict: the profile is no longer of the expected version.
        """
        user_id = self._of(user_id)
        operations = tuple(map(checked, delta.operations))
        for op in operations:
            if op.source not in (Source.EDITED, Source.IMPORTED):
                raise ProfileError(f"expected an edit to have the source edited or imported, got {op.source.value!r}; set it")
        with self._writing() as connection:
            said = next_said(connection, user_id)
            refuse_other_version(connection, user_id, expected_version)
            return Commit(append_operations(connection, user_id, said, operations), operations)

    def undo(self, user_id: str) -> Commit:
        """Take back the last change of the profile, by operations that are appended; what was erased does not come back.

        Undoing again takes back the undoing.

        Raises:
            UsageError: there is nothing to take back.
        """
        user_id = self._of(user_id)
        with self._writing() as connection:
            said = next_said(connection, user_id)
            operations = undoing(read_log(connection, user_id), self._clock())
            return Commit(append_operations(connection, user_id, said, operations), operations)

    def profile_version(self, user_id: str) -> int:
        """Return how often the profile changed; 0 for one that never did."""
        with self._reading() as connection:
            return read_version(connection, self._of(user_id))

    def load_profile(self, user_id: str) -> Profile:
        """Return what is known about a user; an empty profile for one who is new."""
        user_id = self._of(user_id)
        with self._reading() as connection:
            return read_snapshot(connection, user_id).profile

    def operations(self, user_id: str, path: str | None = None) -> tuple[SlotOp, ...]:
        """Return a user's log, or that of one slot, in the order in which it was said."""
        user_id = self._of(user_id)
        with self._reading() as connection:
            return tuple(entry.operation for entry in read_log(connection, user_id, path=path))

    def forget(
        self, user_id: str, path: str, value: str = "", *, at: datetime | None = None, expected_version: int | None = None
    ) -> Forgotten:
        """Erase a value of a slot (every value, when it is empty) as if it had never been said, to the byte.

        What goes and what stays is described in ``personalagent.store.erasure``. The log keeps that something was forgotten,
        not what.

        Raises:
            Conflict: the profile is no longer of the expected version.
        """
        user_id = self._of(user_id)
        with self._writing() as connection:
            said = next_said(connection, user_id)
            refuse_other_version(connection, user_id, expected_version)
            connection.execute(delete(idempotency_keys).where(idempotency_keys.c.user_id == user_id))
            log = read_log(connection, user_id)
            erasure = without(log, path, value)
            mask = Mask(value, erasure.erased)
            marker = SlotOp(OpKind.FORGET, path, value and ERASED, (at or self._clock()).astimezone(UTC), source=Source.EDITED)
            rest = (*mask.hide_quotes(erasure.kept), Logged(said, 0, marker))
            replace_log(connection, user_id, rest)
            write_snapshot(connection, user_id, snapshot_of(rest))
            redacted = redact(connection, user_id, erasure.places, mask)
            mask_data(connection, user_id, mask)
        also_in = sorted({entry.operation.path for entry in rest if mask.finds(entry.operation.value)})
        return Forgotten(len(erasure.erased), redacted, tuple(also_in), self._database.scrub())

    def log(self, user_id: str) -> tuple[Logged, ...]:
        """Return a user's operations with their places in what the user said."""
        user_id = self._of(user_id)
        with self._reading() as connection:
            return read_log(connection, user_id)

    def verify(self, user_id: str | None = None) -> VerifyReport:
        """Recompute every profile of every tenant from its log, or one user's, and compare; report whatever does not fit."""
        problems = list(self._database.damage())
        turn_count = operation_count = 0
        user_ids = self._kept_users() if user_id is None else (self._of(user_id),)
        for each in user_ids:
            with self._database.writing() as connection:
                if not exists(connection, users, {"user_id": each}):
                    continue
                lock_user(connection, each)
                report = verify_user(connection, each)
            problems.extend(report.problems)
            turn_count += report.turns
            operation_count += report.operations
        return VerifyReport(len(user_ids), turn_count, operation_count, tuple(problems))

    def rebuild(self, user_id: str) -> Profile:
        """Store the profile anew from its log: the repair where ``verify`` finds that only the stored profile is wrong."""
        user_id = self._of(user_id)
        with self._writing() as connection:
            lock_user(connection, user_id)
            snapshot = snapshot_of(read_log(connection, user_id))
            write_snapshot(connection, user_id, snapshot)
        return snapshot.profile

    def _kept_users(self) -> tuple[str, ...]:
        with self._database.reading() as connection:
            return tuple(connection.execute(select(users.c.user_id).order_by(users.c.user_id)).scalars())

    def _turns(self, query: Any) -> tuple[StoredTurn, ...]:
        with self._reading() as connection:
            return tuple(map(stored_turn, connection.execute(query.order_by(turns.c.said)).mappings()))
