"""How often a key may ask: a rate against bursts and a quota as an allowance, each counted for every key on its own.

The rate counts in a window that slides, so that no second burst fits behind the end of the first; the quota in one that begins with
its first request, so that it can be told when it is there again.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from fastapi import HTTPException
from limits import RateLimitItem, parse
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, SlidingWindowCounterSupport, Storage, storage_from_string
from limits.strategies import FixedWindowRateLimiter, RateLimiter, SlidingWindowCounterRateLimiter

from personalagent.config import NO_LIMIT, Settings, shown
from personalagent.errors import ConfigError

ANYONE = "anyone"
"""Who asks where there are no keys: all callers together."""
CODES = {"rate": "rate_limit_exceeded", "quota": "insufficient_quota"}
"""What OpenAI's clients know these by."""
STORAGE_TIMEOUT_S = 1.0
_log = logging.getLogger(__name__)


class LimitReached(HTTPException):
    """A request more than a key has."""

    def __init__(self, name: str, item: RateLimitItem, wait_s: int) -> None:
        super().__init__(
            429,
            f"expected at most {item.amount} requests a {item.GRANULARITY.name} with this key, got more; try again in {wait_s} s",
            {"Retry-After": str(wait_s)},
        )
        self.code = CODES[name]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a key has left after a request."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """``RateLimit`` and ``RateLimit-Policy`` of the IETF draft; empty where nothing is limited."""
    refusal: LimitReached | None = None


class RateLimits:
    """The limits of one server."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for a storage that cannot be used; one that is only not there now is used when it is."""
        self._settings = settings
        storage = _storage(settings.rate_limit_storage)
        self._is_here = isinstance(storage, MemoryStorage)
        self._rate: RateLimiter = SlidingWindowCounterRateLimiter(storage)
        self._quota: RateLimiter = FixedWindowRateLimiter(storage)

    async def count(self, key_id: str | None, *, rate: str | None, quota: str | None) -> Allowance:
        """Do ``spend``; where others count too, in a thread."""
        spend = partial(self.spend, key_id, rate=rate, quota=quota)
        return spend() if self._is_here else await asyncio.to_thread(spend)

    def spend(self, key_id: str | None, *, rate: str | None, quota: str | None) -> Allowance:
        """Count a request of a key, whose own limits go before those of the settings; what cannot be counted is let through."""
        limits = (
            ("rate", self._rate, rate or self._settings.rate_limit or NO_LIMIT),
            ("quota", self._quota, quota or self._settings.quota or NO_LIMIT),
        )
        try:
            return _spent(key_id or ANYONE, [(name, how, parse(text)) for name, how, text in limits if text != NO_LIMIT])
        except StorageError as error:
            _log.warning("a request could not be counted: %s", type(error.storage_error).__name__)
            return Allowance()


def _spent(caller: str, limits: list[tuple[str, RateLimiter, RateLimitItem]]) -> Allowance:
    """Count a request until a limit refuses it; what is refused by the rate takes nothing from the quota."""
    refusal: LimitReached | None = None
    policies, left = [], []
    for name, how, item in limits:
        is_refused = refusal is None and not how.hit(item, name, caller)
        stats = how.get_window_stats(item, name, caller)
        wait_s = max(1, math.ceil(stats.reset_time - time.time()))
        if is_refused:
            refusal = LimitReached(name, item, wait_s)
        policies.append(f'"{name}";q={item.amount};w={item.get_expiry()}')
        left.append(f'"{name}";r={0 if is_refused else stats.remaining};t={wait_s}')
    return Allowance({"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)} if limits else {}, refusal)


def _storage(url: str) -> Storage:
    is_redis = url.startswith(("redis", "valkey"))
    timeouts = {"socket_timeout": STORAGE_TIMEOUT_S, "socket_connect_timeout": STORAGE_TIMEOUT_S} if is_redis else {}
    try:
        storage = storage_from_string(url, wrap_exceptions=True, **timeouts)
        if isinstance(storage, Storage) and isinstance(storage, SlidingWindowCounterSupport):
            return storage
    except (ConfigurationError, ValueError):  # its words repeat the URL
        pass
    raise ConfigError(
        "expected rate_limit_storage to be memory:// or another storage of the package limits that has sliding windows, its driver "
        f"installed (redis://HOST:6379 needs pip install redis), got {shown('rate_limit_storage', url)!r}; correct or unset it"
    )
