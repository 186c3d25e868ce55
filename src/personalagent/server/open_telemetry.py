"""Tracing with OpenTelemetry's SDK, sent as OTLP over HTTP. The only module that needs the extra ``otel``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from personalagent import __version__
from personalagent.agent import PersonalAgent
from personalagent.server.gate import ALWAYS_OPEN, LEFT, method_of, route_of
from personalagent.server.openai_errors import OpenAIError
from personalagent.server.tracing import ModelSpan, Target, Tracing, traced

_NAME = re.compile(r"[\w.:/@+-]{1,100}")
"""What a model's name looks like; a caller may send anything in its place."""
_CONTEXT = TraceContextTextMapPropagator()
"""W3C trace context alone: baggage may hold anything about a user."""


class OpenTelemetry(Tracing):
    """Spans, sent in the background; the SDK's own environment variables (sampling, headers, resource) hold."""

    def __init__(self, endpoint: str) -> None:
        named = Resource({"service.name": "personalagent", "service.version": __version__})
        self._provider = TracerProvider(resource=named.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer("personalagent", __version__)

    def of(self, agent: PersonalAgent) -> PersonalAgent:
        """Return the agent with models whose calls are spans."""
        return traced(agent, self)

    @contextmanager
    def model_call(self, target: Target) -> Iterator[ModelSpan]:
        """Open the span of a call."""
        model = target.model if _NAME.fullmatch(target.model) else None
        given = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": target.provider,
            "gen_ai.request.model": model,
            "server.address": target.address,
            "server.port": target.port,
        }
        known = {name: value for name, value in given.items() if value is not None}
        # Never the current span: a stream ends in another task, and OpenTelemetry cannot go back to what was current there.
        span = self._tracer.start_span(f"chat {model}" if model else "chat", kind=SpanKind.CLIENT, attributes=known)
        try:
            yield _Sent(span)
        except BaseException as error:
            _fail(span, error.code or str(error.status) if isinstance(error, OpenAIError) else type(error).__name__)
            raise
        finally:
            span.end()

    def around(self, app: ASGIApp) -> ASGIApp:
        """Return the application with a span around every request."""
        return _TracedApp(app, self._tracer)

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()


class _Sent(ModelSpan):
    def __init__(self, span: Span) -> None:
        self._span = span

    @property
    def headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        _CONTEXT.inject(carrier, set_span_in_context(self._span))
        return carrier

    def answered(self, completion: Mapping[str, Any]) -> None:
        model, usage, choices = (completion.get(name) for name in ("model", "usage", "choices"))
        if isinstance(model, str) and _NAME.fullmatch(model):
            self._span.set_attribute("gen_ai.response.model", model)
        if isinstance(usage, Mapping):
            for attribute, name in (("input", "prompt_tokens"), ("output", "completion_tokens")):
                if isinstance(tokens := usage.get(name), int):
                    self._span.set_attribute(f"gen_ai.usage.{attribute}_tokens", tokens)
        found = [each.get("finish_reason") for each in choices or () if isinstance(each, Mapping)]
        reasons = [reason for reason in found if isinstance(reason, str) and _NAME.fullmatch(reason)]
        if reasons:
            self._span.set_attribute("gen_ai.response.finish_reasons", reasons)

    def failed(self, kind: str) -> None:
        _fail(self._span, kind)


class _TracedApp:
    """An ASGI application whose requests are spans; a caller's own trace goes on in them."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in ALWAYS_OPEN:
            await self._app(scope, receive, send)
            return
        status = LEFT

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = method_of(scope)
        with self._tracer.start_as_current_span(
            method,
            context=_CONTEXT.extract(dict(Headers(scope=scope))),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.scheme": scope["scheme"]},
            record_exception=False,  # its words may be the user's
            set_status_on_exception=False,
        ) as span:
            try:
                await self._app(scope, receive, sending)
            except Exception:
                status = 500
                raise
            finally:
                span.update_name(f"{method} {route_of(scope)}")
                span.set_attributes({"http.route": route_of(scope), "http.response.status_code": status})
                if status >= 500:
                    _fail(span, str(status))


def _fail(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
