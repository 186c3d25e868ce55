"""Brings a database to this version's tables; Alembic is loaded only where there is something to do."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from sqlalchemy import Connection, column, inspect, select, table, text

from personalagent.errors import StoreError

HEAD = "v0005"
"""The newest revision in ``migrations/versions``; their names are in the order of their age."""
VERSION_TABLE = "personalagent_version"
MIGRATIONS = Path(__file__).parent / "migrations"

_alembic = Lock()
"""Alembic keeps the running migration in a global."""


def current_revision(connection: Connection) -> str | None:
    """Return the revision of the database; None where there is none yet.

    Raises:
        StoreError: the database has tables, but they are not ours.
    """
    names = inspect(connection).get_table_names()
    if VERSION_TABLE in names:
        return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()
    if names:
        raise StoreError(
            f"expected an empty database or one of personalagent, got one with the tables {', '.join(sorted(names)[:5])}; "
            "choose another database"
        )
    return None


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up or down to ``revision`` inside the caller's transaction: all of them, or none.

    Args:
        revision: "base" leaves no table; what an older revision has no place for is lost.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    current = current_revision(connection) or ""
    with _alembic:
        if revision == "base" or (revision != "head" and revision < current):
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
    if revision == "base":
        connection.execute(text(f"DROP TABLE {VERSION_TABLE}"))


def is_known(revision: str) -> bool:
    """Tell whether this version of the library has the revision; a newer one wrote the database where it has not."""
    return (MIGRATIONS / "versions" / f"{revision}.py").is_file()
