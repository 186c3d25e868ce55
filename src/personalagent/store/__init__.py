"""What is kept about users, and how it is erased: see ``personalagent.store.sql.Store``."""

from __future__ import annotations

from personalagent.store.codec import dump_operations, dump_profile, parse_operations, parse_profile
from personalagent.store.log import Logged
from personalagent.store.records import (
    EVERY_SLOT,
    Account,
    ApiKey,
    AskState,
    Claim,
    Commit,
    Forgotten,
    InferenceState,
    Job,
    JobState,
    KeyState,
    SlotAsk,
    StoredTurn,
)
from personalagent.store.scope import DEFAULT_TENANT
from personalagent.store.sql import Store
from personalagent.store.verify import VerifyReport

__all__ = [
    "DEFAULT_TENANT",
    "EVERY_SLOT",
    "Account",
    "ApiKey",
    "AskState",
    "Claim",
    "Commit",
    "Forgotten",
    "InferenceState",
    "Job",
    "JobState",
    "KeyState",
    "Logged",
    "SlotAsk",
    "Store",
    "StoredTurn",
    "VerifyReport",
    "dump_operations",
    "dump_profile",
    "parse_operations",
    "parse_profile",
]
