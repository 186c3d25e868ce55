"""Spans, as a collector gets them over real HTTP."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the otel extra")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from personalagent import PersonalAgent, ScriptedLLM, Settings
from personalagent.errors import ConfigError
from personalagent.llm.openai import OpenAICompatibleLLM
from personalagent.server.app import create_app
from personalagent.server.auth import Scope
from tests.server.endpoint import Endpoint
from tests.server.serving import serving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REQUEST = {"model": "tiny", "user": "canary-alice", "messages": [{"role": "user", "content": "I'm vegan, canary-word. Dinner?"}]}
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "canary-answer"}, "finish_reason": "stop"}
COMPLETION = {"id": "c", "object": "chat.completion", "created": 1, "model": "tiny-2026", "choices": [CHOICE], "usage": USAGE}


@dataclass
class Collector:
    """What was exported."""

    address: str = ""
    bodies: list[bytes] = field(default_factory=list)

    def spans(self, name: str) -> list[Span]:
        """Return the spans of a name."""
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        scopes = [scope for request in requests for resource in request.resource_spans for scope in resource.scope_spans]
        return [span for scope in scopes for span in scope.spans if span.name == name]

    def span(self, name: str) -> Span:
        """Return the only span of a name."""
        (found,) = self.spans(name)
        return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    """An OTLP collector."""
    collected = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collected.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    collected.address = f"http://127.0.0.1:{server.server_port}"
    yield collected
    server.shutdown()
    server.server_close()
    thread.join()


def attributes(span: Span) -> dict[str, object]:
    """Return a span's attributes as plain values."""
    plain: dict[str, object] = {}
    for each in span.attributes:
        kind = each.value.WhichOneof("value")
        value = getattr(each.value, str(kind))
        plain[each.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return plain


def test_a_request_and_its_calls_are_spans_of_the_callers_trace(tmp_path: Path, endpoint: Endpoint, collector: Collector) -> None:
    endpoint.plan.raw = json.dumps(COMPLETION).encode()
    with serving(tmp_path, endpoint, otel_endpoint=collector.address) as served:
        assert served.post(REQUEST, traceparent=f"00-{TRACE}-{PARENT}-01").status_code == 200
        served.wait_until_inferred("canary-alice")
        passed_on = endpoint.headers[-1]["traceparent"]
    request, call = collector.span("POST /v1/chat/completions"), collector.span("chat tiny")
    assert (request.trace_id.hex(), request.parent_span_id.hex(), request.kind) == (TRACE, PARENT, Span.SPAN_KIND_SERVER)
    assert (call.trace_id.hex(), call.parent_span_id, call.kind) == (TRACE, request.span_id, Span.SPAN_KIND_CLIENT)
    assert passed_on == f"00-{TRACE}-{call.span_id.hex()}-01"
    assert attributes(request) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
    }
    port = int(endpoint.address.rpartition(":")[2].removesuffix("/v1"))
    assert attributes(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "tiny",
        "gen_ai.response.model": "tiny-2026",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.response.finish_reasons": ["stop"],
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    of_policy = collector.spans("chat scripted")
    assert {attributes(span)["gen_ai.provider.name"] for span in of_policy} == {"scripted"}
    assert any(span.parent_span_id == request.span_id for span in of_policy), "whether to ask is decided within the request"
    assert any(not span.parent_span_id for span in of_policy), "what it taught is inferred in the background"


def test_a_stream_is_one_span_until_its_end(tmp_path: Path, endpoint: Endpoint, collector: Collector) -> None:
    chunks = [
        {"model": "tiny-2026", "choices": [{"index": 0, "delta": {"content": "canary-answer"}, "finish_reason": None}]},
        {"model": "tiny-2026", "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        {"model": "tiny-2026", "choices": [], "usage": USAGE},
    ]
    frames = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    endpoint.plan.raw, endpoint.plan.content_type = "".join([*frames, "data: [DONE]\n\n"]).encode(), "text/event-stream"
    with serving(tmp_path, endpoint, otel_endpoint=collector.address) as served:
        assert "canary-answer" in served.post({**REQUEST, "stream": True}).text
    told = attributes(collector.span("chat tiny"))
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (11, 7)
    assert (told["gen_ai.response.model"], told["gen_ai.response.finish_reasons"]) == ("tiny-2026", ["length"])


def test_failures_are_named(tmp_path: Path, endpoint: Endpoint, collector: Collector) -> None:
    with serving(tmp_path, endpoint, otel_endpoint=collector.address) as served:
        endpoint.plan.cut_after = 1
        assert "upstream_cut" in served.post({**REQUEST, "model": "cut", "stream": True}).text
        endpoint.plan.status, endpoint.plan.raw = 429, b'{"error": {"message": "canary-refusal"}}'
        assert served.post({**REQUEST, "model": "busy"}).status_code == 429
        endpoint.plan.status, endpoint.plan.raw = 200, b"canary-noise"
        assert served.post({**REQUEST, "model": "odd"}).status_code == 502
    kinds = {name: attributes(collector.span(f"chat {name}"))["error.type"] for name in ("cut", "busy", "odd")}
    assert kinds == {"cut": "upstream_cut", "busy": "429", "odd": "upstream_bad_answer"}
    assert all(collector.span(f"chat {name}").status.code == 2 for name in kinds)
    requests = {attributes(span)["http.response.status_code"]: span for span in collector.spans("POST /v1/chat/completions")}
    assert sorted(requests) == [200, 429, 502]
    assert attributes(requests[502])["error.type"] == "502" and "error.type" not in attributes(requests[429])


def test_no_span_has_a_word_a_user_or_a_key(tmp_path: Path, endpoint: Endpoint, collector: Collector) -> None:
    endpoint.plan.raw = json.dumps(COMPLETION).encode()
    with serving(tmp_path, endpoint, otel_endpoint=collector.address) as served:
        secret, key = served.agent.store.create_key("canary-tenant", list(Scope), name="canary-key")
        named = {"Authorization": f"Bearer {secret}", "X-PersonalAgent-Session": "canary-session", "baggage": "user=canary-alice"}
        served.post({**REQUEST, "model": "canary of a model"}, **named)
        httpx.get(f"{served.address}/v1/users/canary-alice/profile?x=canary", headers=named)
        httpx.request("CANARY", f"{served.address}/canary", headers=named)
        served.policy.infer = lambda prompt: ValueError("canary-error")
        served.post(REQUEST, **named)
        served.get("/healthz")
        assert "baggage" not in {name.lower() for name in endpoint.headers[-1]}
    exported = b"".join(collector.bodies)
    assert collector.spans("chat") and collector.spans("GET /v1/users/{user_id}/profile")
    assert b"canary" not in exported.lower() and b"healthz" not in exported
    assert secret.encode() not in exported and key.key_id.encode() not in exported


def test_a_callers_decision_not_to_sample_holds(tmp_path: Path, endpoint: Endpoint, collector: Collector) -> None:
    with serving(tmp_path, endpoint, worker=False, otel_endpoint=collector.address) as served:
        assert served.post(REQUEST, traceparent=f"00-{TRACE}-{PARENT}-00").status_code == 200
        assert endpoint.headers[-1]["traceparent"].startswith(f"00-{TRACE}-") and served.get("/v1/models").status_code == 200
    assert collector.spans("POST /v1/chat/completions") == collector.spans("chat tiny") == []
    assert len(collector.spans("GET /v1/models")) == 1


def test_without_the_setting_nothing_is_traced(tmp_path: Path, endpoint: Endpoint) -> None:
    with serving(tmp_path, endpoint) as served:
        served.post(REQUEST, traceparent=f"00-{TRACE}-{PARENT}-01")
        assert "traceparent" not in endpoint.headers[-1]


def agent_with(tmp_path: Path, otel_endpoint: str) -> PersonalAgent:
    """Return an agent that is to be traced."""
    return PersonalAgent(
        Settings.load(database_url=f"sqlite:///{tmp_path / 'x.db'}", otel_endpoint=otel_endpoint),
        policy=ScriptedLLM([]),
        responder=OpenAICompatibleLLM("tiny", base_url="http://127.0.0.1:9/v1"),
    )


def test_without_the_packages_the_server_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "personalagent.server.open_telemetry", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    agent = agent_with(tmp_path, "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"pip install 'personalagent\[otel\]'"):
        create_app(agent)
    agent.store.close()


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    agent = agent_with(tmp_path, "collector:4317")
    with pytest.raises(ConfigError, match=r"expected otel_endpoint to be the http:// .* got 'collector:4317'"):
        create_app(agent)
    agent.store.close()
