"""API keys, of which only hashes are kept, and the keys by which a request that is sent again has its effect once."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from uuid import uuid4

from sqlalchemy import RowMapping, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from personalagent.config import NO_LIMIT, check_limit
from personalagent.errors import UsageError
from personalagent.store.records import ApiKey, Claim, KeyState
from personalagent.store.rows import check_id
from personalagent.store.scope import Scope, check_tenant, scoped
from personalagent.store.tables import api_keys, idempotency_keys

KEY_START = "pa_live_"
SECRET_BYTES = 32
PREFIX_CHARS = len(KEY_START) + 8
USED_EVERY = timedelta(minutes=1)
"""How exact the time of the last use is: a write for every request would be dearer than the request."""
ANSWERS_LIVE = timedelta(hours=24)
CLAIM_LIVES = timedelta(minutes=2)
"""A claim without an answer after so long was left by a process that is gone."""


class Keys(Scope):
    """Keys of the server: which exist, whose they are."""

    def create_key(
        self,
        tenant: str,
        scopes: Sequence[str],
        *,
        user_id: str | None = None,
        name: str = "",
        expires_at: datetime | None = None,
        rate_limit: str | None = None,
        quota: str | None = None,
    ) -> tuple[str, ApiKey]:
        """Make a key; return its secret, which is shown this once and kept nowhere, and what is kept.

        Raises:
            UsageError: no scope, or a tenant, user or limit that cannot be.
        """
        check_tenant(tenant)
        _check_limits(rate_limit=rate_limit, quota=quota)
        if not scopes:
            raise UsageError("expected at least one scope, got none; name what the key may do")
        if user_id is not None:
            check_id("user_id", user_id)
            scoped(tenant, user_id)
        if name:
            check_id("name", name)
        secret = KEY_START + secrets.token_urlsafe(SECRET_BYTES)
        key = ApiKey(
            key_id=uuid4().hex,
            tenant=tenant,
            scopes=tuple(dict.fromkeys(map(str, scopes))),
            user_id=user_id,
            name=name,
            prefix=secret[:PREFIX_CHARS],
            created_at=self._clock(),
            expires_at=expires_at,
            last_used_at=None,
            revoked_at=None,
            rate_limit=rate_limit,
            quota=quota,
        )
        row = {**asdict(key), "scopes": " ".join(key.scopes), "secret_sha256": _hash(secret)}
        with self._database.writing() as connection:
            connection.execute(insert(api_keys).values(row))
        return secret, key

    def find_key(self, secret: str) -> ApiKey | None:
        """Return the key of a secret; None for one that never was, was revoked or is past its time."""
        if not secret.isascii():
            return None
        now, wanted = self._clock(), _hash(secret)
        with self._database.reading() as connection:
            rows = connection.execute(select(api_keys).where(api_keys.c.prefix == secret[:PREFIX_CHARS])).mappings().all()
        row = next((row for row in rows if compare_digest(row["secret_sha256"], wanted)), None)
        if row is None or row["revoked_at"] is not None or (row["expires_at"] is not None and row["expires_at"] <= now):
            return None
        return _api_key(row)

    def is_use_due(self, key: ApiKey) -> bool:
        """Tell whether the key's use should be noted: at most once a minute."""
        return key.last_used_at is None or self._clock() - key.last_used_at >= USED_EVERY

    def note_use(self, key: ApiKey) -> None:
        """Keep that the key was used now."""
        with self._database.writing() as connection:
            connection.execute(update(api_keys).where(api_keys.c.key_id == key.key_id).values(last_used_at=self._clock()))

    def list_keys(self) -> tuple[ApiKey, ...]:
        """Return all keys, revoked ones included, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.key_id)).mappings().all()
        return tuple(map(_api_key, rows))

    def has_keys(self) -> bool:
        """Tell whether any key was ever made: from then on no request goes without one."""
        with self._database.reading() as connection:
            return connection.execute(select(api_keys.c.key_id).limit(1)).first() is not None

    def revoke_key(self, key_id: str) -> ApiKey:
        """End a key, named by its id or by the start of its secret.

        Raises:
            UsageError: there is no such key, or several begin like that.
        """
        found = [key for key in self.list_keys() if key_id and (key.key_id == key_id or key.prefix.startswith(key_id))]
        if len(found) != 1:
            raise UsageError(
                f"expected the id or prefix of one key, got {key_id!r}, which {len(found)} keys have; see `personalagent keys list`"
            )
        with self._database.writing() as connection:
            live = and_(api_keys.c.key_id == found[0].key_id, api_keys.c.revoked_at.is_(None))
            connection.execute(update(api_keys).where(live).values(revoked_at=self._clock()))
        return found[0]

    def claim_key(self, user_id: str, key: str, request_sha256: str) -> Claim:
        """Claim an idempotency key for a request about a user; only who gets NEW does the work."""
        kept, now = self._of(user_id), self._clock()
        mine = and_(idempotency_keys.c.user_id == kept, idempotency_keys.c.key == key)
        row = {"user_id": kept, "key": key, "request_sha256": request_sha256, "at": now}
        with self._writing() as connection:
            connection.execute(delete(idempotency_keys).where(idempotency_keys.c.at < now - ANSWERS_LIVE))
            held = connection.execute(select(idempotency_keys).where(mine).with_for_update()).mappings().first()
            if held is not None and held["answer"] is None and held["at"] < now - CLAIM_LIVES:
                connection.execute(delete(idempotency_keys).where(mine))
                held = None
            if held is None:
                try:
                    with connection.begin_nested():
                        connection.execute(insert(idempotency_keys).values(row))
                    return Claim(KeyState.NEW)
                except IntegrityError:  # another process was a moment faster
                    held = connection.execute(select(idempotency_keys).where(mine)).mappings().one()
        if held["request_sha256"] != request_sha256:
            return Claim(KeyState.OTHER_REQUEST)
        return Claim(KeyState.IN_FLIGHT) if held["answer"] is None else Claim(KeyState.ANSWERED, held["answer"])

    def release_key(self, user_id: str, key: str) -> None:
        """Give an idempotency key back: its request failed, and may be sent again."""
        mine = and_(idempotency_keys.c.user_id == self._of(user_id), idempotency_keys.c.key == key)
        with self._writing() as connection:
            connection.execute(delete(idempotency_keys).where(mine, idempotency_keys.c.answer.is_(None)))

    def keep_answer(self, user_id: str, key: str, answer: str) -> None:
        """Keep the answer of the request that claimed an idempotency key."""
        mine = and_(idempotency_keys.c.user_id == self._of(user_id), idempotency_keys.c.key == key)
        with self._writing() as connection:
            connection.execute(update(idempotency_keys).where(mine).values(answer=answer))


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _check_limits(**limits: str | None) -> None:
    for name, text in limits.items():
        try:
            check_limit(NO_LIMIT if text is None else text)
        except ValueError as error:
            raise UsageError(f"expected a {name.replace('_', ' ')} that can be kept, got {text!r}: it {error}") from None


def _api_key(row: RowMapping) -> ApiKey:
    values = {each.name: row[each.name] for each in fields(ApiKey)}
    return ApiKey(**{**values, "scopes": tuple(row["scopes"].split())})
