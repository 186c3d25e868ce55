"""What databases of the released revisions hold, row by row, and databases that are made of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Connection, DateTime, MetaData

from personalagent.store.migrate import VERSION_TABLE

FOLDER = Path(__file__).parent / "fixtures"
REVISIONS = sorted(path.stem for path in FOLDER.glob("v*.json"))

Tables: TypeAlias = dict[str, list[dict[str, Any]]]
"""The rows of every table, in the order of the primary key, as JSON has them: times are ISO 8601 in UTC."""


def fixture(revision: str) -> Tables:
    """Read what a database of a revision holds."""
    tables: Tables = json.loads((FOLDER / f"{revision}.json").read_text("utf-8"))
    return tables


def dump(tables: Tables) -> str:
    """Write tables as JSON, a row a line."""
    texts = []
    for name, rows in sorted(tables.items()):
        lines = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in rows)
        texts.append(f'  "{name}": [\n{lines}\n  ]')
    return "{\n" + ",\n".join(texts) + "\n}\n"


def read(connection: Connection) -> Tables:
    """Read every row of every table that the database has; nothing is taken from the code."""
    tables: Tables = {}
    for table in _reflected(connection).sorted_tables:
        rows = [{name: _as_json(value) for name, value in row.items()} for row in connection.execute(table.select()).mappings()]
        key = [column.name for column in table.primary_key]
        tables[table.name] = sorted(rows, key=lambda row, key=key: [row[name] for name in key])  # type: ignore[misc]
    return tables


def fill(connection: Connection, tables: Tables) -> None:
    """Insert rows into the tables that the database has."""
    for table in _reflected(connection).sorted_tables:
        times = {column.name for column in table.c if isinstance(column.type, DateTime)}
        rows = [
            {name: datetime.fromisoformat(value) if value and name in times else value for name, value in row.items()}
            for row in tables[table.name]
        ]
        connection.execute(table.insert(), rows)


def known(tables: Tables, like: Tables) -> Tables:
    """Return what an older revision knew: the tables and columns that it has."""
    return {name: [{column: row[column] for column in rows[0]} for row in tables[name]] for name, rows in like.items()}


def _reflected(connection: Connection) -> MetaData:
    metadata = MetaData()
    metadata.reflect(connection, only=lambda name, _: name != VERSION_TABLE)
    return metadata


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)).isoformat()
    return value
