"""``personalagent verify`` and ``personalagent doctor``: is everything as it should be?"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal

import typer
from rich.text import Text

from personalagent.bench.manifest import file_sha256
from personalagent.cli.doors import AsJson, refuse_unknown_user, schema_of, settings_of
from personalagent.cli.terminal import emit, note, printable, say
from personalagent.config import Settings, config_path
from personalagent.dialogue import Message
from personalagent.errors import EnvironmentProblem, PersonalAgentError
from personalagent.llm.base import LLM_KINDS, LLMRole, open_llm
from personalagent.llm.models import find_model
from personalagent.store import Store

PACKAGES = ("personalagent", "openai", "xllamacpp", "sqlalchemy", "alembic", "pydantic")
TRAIN_PACKAGES = ("torch", "transformers", "peft", "trl")
REACH_S = 15.0
"""How long an endpoint may take to answer with one token."""


def verify(
    context: typer.Context,
    user_id: Annotated[str | None, typer.Argument(metavar="USER", help="Only this user.")] = None,
    as_json: AsJson = False,
) -> None:
    """Recompute every profile from its log and compare; exit code 1 where something is wrong."""
    with Store.open(settings_of(context).database_url) as store:
        if user_id is not None:
            refuse_unknown_user(store, user_id)
        report = store.verify(user_id)
    if as_json:
        emit(asdict(report))
    else:
        for problem in report.problems:
            say(problem, style="red")
        say(f"{report.users} users, {report.turns} turns, {report.operations} operations; {len(report.problems)} problems")
    if report.problems:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that doctor looked at."""

    name: str
    status: Literal["ok", "note", "problem"]
    detail: str


def doctor(context: typer.Context, as_json: AsJson = False) -> None:
    """Look at Python, packages, database, model, adapter and endpoints; exit code 3 where something is missing."""
    settings = settings_of(context)
    checks = list(_checks(settings))
    if as_json:
        emit([asdict(check) for check in checks])
    else:
        styles = {"ok": "green", "note": "yellow", "problem": "red"}
        for check in checks:
            say(
                Text(f"{check.status:<8}", style=styles[check.status]).append(
                    f"{check.name:<15}{printable(check.detail)}", style="default"
                )
            )
    problems = sum(check.status == "problem" for check in checks)
    if problems:
        if not as_json:
            note(f"{problems} problem(s): each says what to do")
        raise typer.Exit(EnvironmentProblem.exit_code)


def _checks(settings: Settings) -> Iterator[Check]:
    is_supported = sys.version_info >= (3, 11)
    yield Check(
        "python",
        "ok" if is_supported else "problem",
        f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors",
    )
    for package in PACKAGES:
        found = _version(package)
        yield Check(package, "ok" if found else "problem", found or f"missing; pip install {package}")
    absent = [package for package in TRAIN_PACKAGES if not _version(package)]
    yield Check("training", "note" if absent else "ok", _training(absent))
    path = config_path()
    yield Check("config", "ok", f"{path}{'' if path.is_file() else ' (absent: environment and defaults hold)'}")
    yield _guarded("schema", lambda: f"{len(schema_of(settings))} slots")
    yield _guarded("database", lambda: _database(settings))
    yield _guarded("policy", lambda: _model(settings.policy, "policy", settings))
    yield _guarded("responder", lambda: _model(settings.responder, "responder", settings))


def _guarded(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, "ok", look())
    except PersonalAgentError as error:
        return Check(name, "problem", str(error))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _training(absent: list[str]) -> str:
    if absent:
        return f"no {', '.join(absent)}; only `train` needs them: pip install 'personalagent[train]'"
    return ", ".join(f"{package} {_version(package)}" for package in TRAIN_PACKAGES)


def _database(settings: Settings) -> str:
    with Store.open(settings.database_url) as store:
        return f"{len(store.users())} users in {settings.database_url.rpartition('@')[2]}"


def _model(spec: str, role: LLMRole, settings: Settings) -> str:
    """Describe what a role would use; raises where it is not there."""
    from personalagent.llm.embedded import find_adapter  # brings the openai package: most of a second

    kind, _, rest = spec.partition(":")
    if kind == "embedded":
        weights = find_model(rest or settings.embedded_model, settings.models_dir)
        adapter = find_adapter(settings, role, weights)
        return f"{weights}{f', adapter {adapter.name} (sha256 {file_sha256(adapter)[:12]}…)' if adapter else ', no adapter'}"
    if kind in LLM_KINDS.targets and kind != "openai":
        return spec
    return asyncio.run(_reach(spec, role, settings.model_copy(update={"timeout_s": REACH_S, "max_retries": 0})))


async def _reach(spec: str, role: LLMRole, settings: Settings) -> str:
    """Ask an endpoint for one token: that shows address, key and model name at once."""
    llm = open_llm(spec, role, settings)
    try:
        await llm.complete([Message("user", "hi")], max_tokens=1)
    finally:
        await llm.aclose()
    return f"{llm.name} answers"
