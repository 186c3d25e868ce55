"""``personalagent keys`` and ``jobs``: who may use the server, and what waits to be learned. No model is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from personalagent.cli.doors import AsJson, UserId, settings_of
from personalagent.cli.terminal import emit, note, out, say
from personalagent.cli.views import plain_table
from personalagent.errors import UsageError
from personalagent.registry import did_you_mean
from personalagent.store import DEFAULT_TENANT, Store

SCOPES = ("chat", "profile:read", "profile:write", "admin")
keys = typer.Typer(no_args_is_help=True, help="Keys of the server.")
jobs = typer.Typer(no_args_is_help=True, help="What waits to be learned.")
Tenant = Annotated[str, typer.Option(help="Whose users: each tenant has its own.")]


@contextmanager
def _store(context: typer.Context) -> Iterator[Store]:
    with Store.open(settings_of(context).database_url) as store:
        yield store


@keys.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(SCOPES)}; may be given more than once. All but admin when left out.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="The only user that the key speaks for; a service key when left out.")] = None,
    tenant: Tenant = DEFAULT_TENANT,
    days: Annotated[int | None, typer.Option(min=1, help="For how long it is valid; without end when left out.")] = None,
    rate_limit: Annotated[
        str | None, typer.Option(metavar="LIMIT", help="Requests that it may make, e.g. 60/minute, or none; else the setting.")
    ] = None,
    quota: Annotated[
        str | None,
        typer.Option(metavar="LIMIT", help="Requests that it has for longer, e.g. 5000/day, or none; else the setting."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret, this once; from the first key on no request goes without one."""
    scopes = scope or list(SCOPES[:3])
    for each in scopes:
        if each not in SCOPES:
            raise UsageError(f"expected a scope ({', '.join(SCOPES)}), got {each!r}.{did_you_mean(each, SCOPES)}")
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    with _store(context) as store:
        secret, key = store.create_key(
            tenant, scopes, user_id=user, name=name, expires_at=expires_at, rate_limit=rate_limit, quota=quota
        )
    if as_json:
        emit({"secret": secret, **_shown(asdict(key))})
        return
    say(secret)
    note("this is the only time that it is shown: only its hash is kept")


@keys.command("list")
def list_keys(context: typer.Context, as_json: AsJson = False) -> None:
    """List the keys; their secrets are kept nowhere."""
    with _store(context) as store:
        rows = [_shown(asdict(key)) for key in store.list_keys()]
    if as_json:
        emit(rows)
        return
    columns = ("prefix", "name", "tenant", "user_id", "scopes", "rate_limit", "quota", "expires_at", "last_used_at", "revoked_at")
    table = plain_table(*columns)
    for row in rows:
        table.add_row(*(" ".join(row[column]) if column == "scopes" else str(row[column] or "") for column in columns))
    out().print(table)


@keys.command()
def revoke(
    context: typer.Context, key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, or the start of its secret.")]
) -> None:
    """End a key; the next request with it is refused."""
    with _store(context) as store:
        ended = store.revoke_key(key)
    say(f"{ended.prefix}… revoked")


@jobs.command("list")
def list_jobs(context: typer.Context, as_json: AsJson = False) -> None:
    """List the users whose turns wait to be inferred, and those that failed too often (dead)."""
    with _store(context) as store:
        rows = [_shown(asdict(job)) for job in store.jobs()]
    if as_json:
        emit(rows)
        return
    columns = ("tenant", "user_id", "state", "pending", "attempts", "enqueued_at", "run_after", "reason")
    table = plain_table(*columns)
    for row in rows:
        table.add_row(*(str("" if row[column] is None else row[column]) for column in columns))
    out().print(table)


@jobs.command()
def retry(context: typer.Context, user_id: UserId, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Put a dead job back into the queue; a running server takes it."""
    with _store(context) as store:
        store.for_tenant(tenant).retry_job(user_id)
    say(f"{user_id}: queued")


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat(timespec="seconds")
        if isinstance(value, datetime)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in record.items()
    }
