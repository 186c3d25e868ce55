"""The server's log on standard error: what goes wrong and, as JSON, a line for every request. Nobody's words, no user, no path."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

from personalagent.server.auth import Principal

LogFormat = Literal["text", "json"]
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_FIELDS = "request_fields"
_log = logging.getLogger("personalagent.requests")


class TextFormatter(logging.Formatter):
    """Writes a line; of an exception where it happened and its kind, since its words may be a user's."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def formatException(self, ei: ExceptionInfo) -> str:
        """Write an exception without its words."""
        kind, _, trace = ei
        return "".join([*traceback.format_tb(trace), kind.__name__ if kind else ""])


class JsonFormatter(TextFormatter):
    """Writes a JSON object on a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record: ``time``, ``level``, ``logger``, ``message``, and what is told of a request."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, _FIELDS, {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(log_format: LogFormat) -> None:
    """Let this process log to standard error: warnings and errors; as JSON also requests. For programs, not for libraries."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("personalagent").setLevel(logging.INFO if log_format == "json" else logging.WARNING)


def log_request(principal: Principal | None, *, request_id: str, method: str, route: str, status: int, duration_s: float) -> None:
    """Log one request; ``principal`` is None where none was found out."""
    if not _log.isEnabledFor(logging.INFO):
        return
    fields: dict[str, object] = {
        "request_id": request_id,
        "method": method,
        "route": route,
        "status": status,
        "duration_ms": round(1000 * duration_s, 1),
    }
    if principal is not None:
        fields["tenant"] = principal.tenant
        if principal.key_id is not None:
            fields["key_id"] = principal.key_id
    _log.info("request", extra={_FIELDS: fields})
