"""The server: the proxy, the REST routes and the background worker over one agent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from personalagent import __version__
from personalagent.agent import PersonalAgent
from personalagent.config import Settings, shown
from personalagent.errors import ConfigError, PersonalAgentError
from personalagent.server import proxy
from personalagent.server.events import router as events_router
from personalagent.server.gate import Gate
from personalagent.server.jobs import Worker
from personalagent.server.learning import Learner, UserLocks
from personalagent.server.memobase_learning import Flusher
from personalagent.server.memobase_profile import router as memobase_profile_router
from personalagent.server.memobase_refused import refused_router
from personalagent.server.memobase_users import router as memobase_users_router
from personalagent.server.metrics import CONTENT_TYPE, Metrics
from personalagent.server.openai_errors import OpenAIError, error_of
from personalagent.server.rate_limits import RateLimits
from personalagent.server.rest_profile import router as profile_router
from personalagent.server.rest_sessions import router as sessions_router
from personalagent.server.rest_user import router as user_router
from personalagent.server.tracing import Tracing
from personalagent.server.upstream import Upstream
from personalagent.shortlist import shortlist_of

_log = logging.getLogger(__name__)


def create_app(agent: PersonalAgent, *, worker: bool = True) -> FastAPI:
    """Return the server of an agent, which it does not close.

    Args:
        agent: its settings are the server's; its responder must be an endpoint or embedded.
        worker: whether this process infers queued turns, too.

    Raises:
        ConfigError: the responder is nothing that requests can be passed on to, or requests cannot be counted or traced as the settings say.
    """
    settings, metrics, locks, tracing = agent.settings, Metrics(), UserLocks(), _open_tracing(agent.settings)
    upstream = Upstream(agent.responder, timeout_s=settings.timeout_s)
    agent = tracing.of(agent)
    background = Worker(agent, metrics, locks)
    learner = Learner(locks, background.wake)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(shortlist_of, agent.schema)  # now, and not while the first request waits for it
        working = asyncio.create_task(background.run()) if worker else None
        try:
            yield
        finally:
            app.state.is_draining = True
            if working is not None:
                background.stop(settings.drain_s)
                await working
            await learner.aclose()
            await upstream.aclose()
            await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="PersonalAgent",
        version=__version__,
        lifespan=lifespan,
        description="Any OpenAI client becomes personal: a proxy for chat completions, and each user's profile over REST.",
    )
    app.state.agent = agent
    app.state.is_draining = False
    app.state.metrics = metrics
    app.state.rate_limits = RateLimits(settings)
    app.state.proxy = proxy.Proxy(agent, upstream, learner, metrics, tracing)
    app.state.flusher = Flusher(locks, background.wake)
    _add_routes(app, memobase=settings.memobase_layer)
    _add_operations(app)
    for kind in (OpenAIError, HTTPException, RequestValidationError, PersonalAgentError, Exception):
        app.add_exception_handler(kind, _answer_error)
    app.add_middleware(
        Gate,
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
        max_in_flight=settings.max_in_flight,
        is_draining=lambda: bool(app.state.is_draining),
    )
    app.add_middleware(tracing.around)
    return app


def _add_routes(app: FastAPI, *, memobase: bool) -> None:
    for router in (proxy.router, profile_router, sessions_router, user_router, events_router):
        app.include_router(router)
    if memobase:
        for router in (memobase_users_router, memobase_profile_router, refused_router()):
            app.include_router(router)


def _open_tracing(settings: Settings) -> Tracing:
    endpoint = settings.otel_endpoint
    if endpoint is None:
        return Tracing()
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise ConfigError(
            f"expected otel_endpoint to be the http:// or https:// address of a collector, e.g. http://localhost:4318, "
            f"got {shown('otel_endpoint', endpoint)!r}; correct or unset OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    try:
        from personalagent.server.open_telemetry import OpenTelemetry
    except ImportError as error:
        raise ConfigError(
            f"expected the packages for tracing, since otel_endpoint is set, got no {error.name}; "
            "pip install 'personalagent[otel]', or unset OTEL_EXPORTER_OTLP_ENDPOINT"
        ) from error
    return OpenTelemetry(endpoint)


def _add_operations(app: FastAPI) -> None:
    @app.get("/healthz", tags=["operations"])
    async def healthz() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"])
    async def readyz(response: Response) -> dict[str, str]:
        """Say whether requests should be sent here: 503 while the server drains or cannot use its database."""
        status = "draining" if app.state.is_draining else "ok"
        if status == "ok":
            try:
                await asyncio.to_thread(app.state.agent.store.queue_depth)
            except PersonalAgentError:
                status = "no database"
        response.status_code = 200 if status == "ok" else 503
        return {"status": status}

    @app.get("/metrics", tags=["operations"])
    async def metrics() -> Response:
        """Return the counters in Prometheus' text format."""
        with contextlib.suppress(PersonalAgentError):  # /readyz tells
            app.state.metrics.queue.set(await asyncio.to_thread(app.state.agent.store.queue_depth))
        return Response(app.state.metrics.text(), media_type=CONTENT_TYPE)


async def _answer_error(request: Request, error: Exception) -> Response:
    """Answer an error of a route in the shape that OpenAI's clients read."""
    answered = error_of(error)
    if answered.status == 500:
        _log.error("a route failed: %s", type(error).__name__)
    headers = getattr(error, "headers", None) if isinstance(error, HTTPException) else None
    return answered.response(headers)
