"""How a command gets its settings, its agent and its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import typer

from personalagent.agent import PersonalAgent
from personalagent.config import CONSENT_WORDS, Settings
from personalagent.errors import UsageError
from personalagent.llm.scripted import ScriptedLLM
from personalagent.registry import did_you_mean
from personalagent.schema import ProfileSchema, load_schema
from personalagent.store import Store

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
UserId = Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]


def settings_of(context: typer.Context, **flags: object) -> Settings:
    """Return the settings, with the command's own flags over ``--set`` over environment and file.

    Raises:
        ConfigError: a setting is unknown or has an impossible value.
        UsageError: a category of ``consent`` is not one of the schema.
    """
    given = {**(context.find_root().obj or {}), **{name: value for name, value in flags.items() if value is not None}}
    settings = Settings.load(**given)
    _check_consent(settings)
    return settings


def _check_consent(settings: Settings) -> None:
    names = [name for name in settings.consent if name not in CONSENT_WORDS]
    known = [category.id for category in schema_of(settings).categories] if names else []
    for name in names:
        if name not in known:
            raise UsageError(
                f"expected consent to be ask, all, none or categories ({', '.join(known)}), got {name!r}.{did_you_mean(name, known)}"
            )


def parse_settings(pairs: Sequence[str]) -> dict[str, str]:
    """Parse ``NAME=VALUE`` pairs.

    Raises:
        UsageError: a pair has no ``=``.
    """
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"expected --set NAME=VALUE, got {pair!r}; write e.g. --set policy=embedded")
    return {name.strip(): value for name, _, value in (pair.partition("=") for pair in pairs)}


def schema_of(settings: Settings) -> ProfileSchema:
    """Return the profile schema that the settings describe."""
    return load_schema(settings.schema_file, categories=settings.categories)


@contextmanager
def open_agent(settings: Settings, *, store: Store | None = None) -> Iterator[tuple[PersonalAgent, Run[Any]]]:
    """Open an agent with an event loop for the length of a command; both are closed whatever happens."""
    with _running(PersonalAgent(settings, store=store)) as opened:
        yield opened


@contextmanager
def open_profiles(settings: Settings) -> Iterator[tuple[PersonalAgent, Run[Any]]]:
    """Open an agent for commands that look at profiles or change them: no model is needed."""
    absent = ScriptedLLM([], name="no model")
    with _running(PersonalAgent(settings, policy=absent, responder=absent)) as opened:
        yield opened


@contextmanager
def _running(agent: PersonalAgent) -> Iterator[tuple[PersonalAgent, Run[Any]]]:
    with asyncio.Runner() as runner:
        try:
            yield agent, runner.run
        finally:
            runner.run(agent.aclose())


def refuse_unknown_user(store: Store, user_id: str) -> None:
    """Raise UsageError where nothing is known about a user, so that a slip of the pen is no empty profile."""
    users = store.users()
    if user_id not in users:
        raise UsageError(
            f"expected a user of this database, got {user_id!r}, of whom nothing is known.{did_you_mean(user_id, users)} "
            f"It has {len(users)} user(s); talk to one with: personalagent chat --user {user_id}"
        )
