"""Errors as OpenAI's clients read them: ``{"error": {message, type, param, code}}``."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fastapi import Response
from starlette.exceptions import HTTPException

from personalagent.errors import EnvironmentProblem, LLMTimeout, PersonalAgentError, UsageError

RETRY_AFTER_S = 5
_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_TYPES |= {413: "invalid_request_error", 422: "invalid_request_error", 429: "rate_limit_error"}


class OpenAIError(Exception):
    """A request of the proxy that cannot be answered, with the status that says so."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after = retry_after

    def body(self) -> dict[str, object]:
        """Return the error object of the wire."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """Return the answer."""
        more = {"Retry-After": self.retry_after} if self.retry_after else {}
        text = json.dumps(self.body(), ensure_ascii=False)
        return Response(text, self.status, headers={**(headers or {}), **more}, media_type="application/json")


def error_of(error: Exception) -> OpenAIError:
    """Return an exception as one of the wire; what nobody foresaw is a 500 that tells nothing about itself."""
    if isinstance(error, OpenAIError):
        return error
    if isinstance(error, HTTPException):
        code, retry_after = getattr(error, "code", None), (error.headers or {}).get("Retry-After")
        return OpenAIError(error.status_code, str(error.detail), code=code, retry_after=retry_after)
    if isinstance(error, UsageError):
        return OpenAIError(400, str(error))
    if isinstance(error, LLMTimeout):
        return OpenAIError(504, str(error))
    if isinstance(error, EnvironmentProblem):
        return OpenAIError(503, str(error), retry_after=str(RETRY_AFTER_S))
    if isinstance(error, PersonalAgentError):
        return OpenAIError(500, str(error))
    return OpenAIError(500, "expected an answer, got an error inside the server; its operator finds it in the log")
