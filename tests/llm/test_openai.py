"""What an OpenAI-compatible endpoint is sent, and what becomes of everything it may answer."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import pytest

from personalagent.dialogue import Message
from personalagent.errors import LLMError, LLMRefused, LLMResponseError, LLMTimeout, LLMUnreachable
from personalagent.llm.base import Completion, FinishReason, TokenLogprob, Usage
from personalagent.llm.openai import OpenAICompatibleLLM

SECRET = "my sister lives in Lyon"
ASKED = [Message("user", SECRET)]
REPLY = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny-2",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Noted."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 4}},
}


@dataclass(frozen=True)
class Answer:
    body: object
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass
class Endpoint:
    """Gives its answers in order, the last one for ever, and keeps what it was sent."""

    answers: list[Answer]
    url: str = ""
    received: list[dict[str, object]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def llm(self, **options: object) -> OpenAICompatibleLLM:
        return OpenAICompatibleLLM("tiny", base_url=f"{self.url}/v1", **({"max_retries": 0} | options))  # type: ignore[arg-type]


@pytest.fixture
def answering(serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> Callable[..., Endpoint]:
    def start(*answers: Answer) -> Endpoint:
        endpoint = Endpoint(list(answers))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.keys.append(self.headers["Authorization"])
                endpoint.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = endpoint.answers[min(len(endpoint.received), len(endpoint.answers)) - 1]
                self.send_response(answer.status)
                for name, value in (answer.headers | {"Content-Length": str(len(answer.encoded()))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.encoded())

            def log_message(self, format: str, *args: object) -> None:
                pass

        endpoint.url = serve(Handler)
        return endpoint

    return start


def refusal(status: int, **error: object) -> Answer:
    return Answer({"error": {"message": f"cannot process: {SECRET}", **error}}, status)


def events(*chunks: object) -> Answer:
    lines = [f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n" for chunk in chunks]
    return Answer("".join(lines).encode(), headers={"Content-Type": "text/event-stream"})


def piece(text: str | None, finish: str | None = None) -> dict[str, object]:
    delta = {} if text is None else {"content": text}
    return {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }


async def test_an_answer_is_read_with_model_usage_and_time(answering: Callable[..., Endpoint]) -> None:
    completion = await answering(Answer(REPLY)).llm().complete(ASKED, max_tokens=8)
    assert completion.elapsed_s > 0
    assert completion == Completion("Noted.", Usage(9, 2, 4), "tiny-2", FinishReason.STOP, completion.elapsed_s)


async def test_usage_that_the_endpoint_does_not_give_is_unknown(answering: Callable[..., Endpoint]) -> None:
    reply = {key: value for key, value in REPLY.items() if key != "usage"}
    completion = await answering(Answer(reply)).llm().complete(ASKED, max_tokens=8)
    assert completion.usage == Usage(None, None, None)


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("eos", FinishReason.OTHER),
        (None, FinishReason.OTHER),
    ],
)
async def test_why_an_answer_ended(answering: Callable[..., Endpoint], wire: str | None, reason: FinishReason) -> None:
    reply = REPLY | {"choices": [{"index": 0, "message": {"role": "assistant", "content": "No"}, "finish_reason": wire}]}
    assert (await answering(Answer(reply)).llm().complete(ASKED, max_tokens=1)).finish_reason is reason


async def test_everything_asked_for_is_on_the_wire(answering: Callable[..., Endpoint]) -> None:
    endpoint = answering(Answer(REPLY))
    llm = endpoint.llm(api_key="k-1", extra_body={"lora": []})
    await llm.complete(
        ASKED,
        max_tokens=8,
        temperature=0.5,
        seed=7,
        stop=["\n"],
        json_schema={"type": "object"},
        logit_bias={"a": -1.5},
        logprobs=True,
    )
    assert endpoint.keys == ["Bearer k-1"]
    assert endpoint.received == [
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": SECRET}],
            "max_tokens": 8,
            "temperature": 0.5,
            "seed": 7,
            "stop": ["\n"],
            "lora": [],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True},
            },
            "logit_bias": {"a": -1.5},
            "logprobs": True,
            "top_logprobs": 5,
        }
    ]


async def test_nothing_that_was_not_asked_for_is_on_the_wire(answering: Callable[..., Endpoint]) -> None:
    endpoint = answering(Answer(REPLY))
    await endpoint.llm().complete(ASKED, max_tokens=8)
    assert set(endpoint.received[0]) == {"model", "messages", "max_tokens", "temperature"}


async def test_token_logprobs_are_read(answering: Callable[..., Endpoint]) -> None:
    token = {
        "token": "No",
        "logprob": -0.1,
        "bytes": None,
        "top_logprobs": [{"token": "No", "logprob": -0.1, "bytes": None}, {"token": "Yes", "logprob": -2.4, "bytes": None}],
    }
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "No"},
        "finish_reason": "stop",
        "logprobs": {"content": [token]},
    }
    completion = await answering(Answer(REPLY | {"choices": [choice]})).llm().complete(ASKED, max_tokens=1, logprobs=True)
    assert completion.token_logprobs == (TokenLogprob("No", -0.1, (("No", -0.1), ("Yes", -2.4))),)


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (refusal(401, code="invalid_api_key"), "HTTP 401 (invalid_api_key); set OPENAI_API_KEY"),
        (refusal(404, code="model_not_found"), "HTTP 404 (model_not_found); check the model's name"),
        (refusal(429, type="insufficient_quota"), "HTTP 429 (insufficient_quota); the endpoint's rate or quota is used up"),
        (
            refusal(400, code=400, type="exceed_context_size_error"),
            "HTTP 400 (exceed_context_size_error); the messages are longer",
        ),
        (Answer(SECRET.encode(), 403, {"Content-Type": "text/plain"}), "HTTP 403; the key has no right"),
    ],
)
async def test_a_refusal_says_what_to_do_and_repeats_nobody(
    answering: Callable[..., Endpoint], answer: Answer, advice: str
) -> None:
    with pytest.raises(LLMRefused) as caught:
        await answering(answer).llm().complete(ASKED, max_tokens=8)
    assert advice in str(caught.value)
    assert caught.value.status == answer.status
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


async def test_a_refused_json_schema_is_named(answering: Callable[..., Endpoint]) -> None:
    with pytest.raises(
        LLMRefused, match=r"\(response_format\); the request asks for JSON-schema output, which this endpoint may not"
    ):
        await answering(refusal(400, param="response_format")).llm().complete(ASKED, max_tokens=8, json_schema={"type": "object"})


async def test_parameters_that_newer_models_renamed_are_adapted_once(answering: Callable[..., Endpoint]) -> None:
    endpoint = answering(refusal(400, param="max_tokens"), refusal(400, param="temperature"), Answer(REPLY))
    llm = endpoint.llm()
    for _ in range(2):
        assert (await llm.complete(ASKED, max_tokens=8)).text == "Noted."
    assert [sorted(set(body) - {"model", "messages"}) for body in endpoint.received] == [
        ["max_tokens", "temperature"],
        ["max_completion_tokens", "temperature"],
        ["max_completion_tokens"],
        ["max_completion_tokens"],
    ]


async def test_a_server_error_is_tried_again(answering: Callable[..., Endpoint]) -> None:
    soon = {"Content-Type": "application/json", "retry-after-ms": "1"}
    endpoint = answering(Answer({"error": {"message": SECRET}}, 503, soon), Answer(REPLY))
    assert (await endpoint.llm(max_retries=1).complete(ASKED, max_tokens=8)).text == "Noted."
    assert len(endpoint.received) == 2


async def test_a_server_error_that_stays_is_unreachable(answering: Callable[..., Endpoint]) -> None:
    with pytest.raises(LLMUnreachable, match="HTTP 503 after 0 retries"):
        await answering(refusal(503)).llm().complete(ASKED, max_tokens=8)


async def test_an_endpoint_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        llm = OpenAICompatibleLLM("tiny", base_url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1", max_retries=0)
        with pytest.raises(LLMUnreachable, match="start it or correct its address"):
            await llm.complete(ASKED, max_tokens=8)


@pytest.fixture
def silent(serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> Iterator[str]:
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            done.wait()

        def log_message(self, format: str, *args: object) -> None:
            pass

    yield serve(Handler)
    done.set()


async def test_an_endpoint_that_does_not_answer_in_time(silent: str) -> None:
    llm = OpenAICompatibleLLM("tiny", base_url=silent, timeout_s=0.1, max_retries=0)
    with pytest.raises(LLMTimeout, match=r"within 0.1 s"):
        await llm.complete(ASKED, max_tokens=8)
    with pytest.raises(LLMTimeout):
        _ = [text async for text in llm.stream(ASKED, max_tokens=8)]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html>Welcome</html>", headers={"Content-Type": "text/html"}),
        Answer(b'{"choices": [', headers={"Content-Type": "application/json"}),
        Answer(b'{"choices": ["\xff"]}', headers={"Content-Type": "application/json"}),
        Answer({"choices": []}),
        Answer({"choices": [{"index": 0}]}),
        Answer({"error": "overloaded"}),
        Answer([]),
    ],
    ids=["html", "half", "not utf-8", "no choice", "no message", "error with 200", "list"],
)
async def test_an_answer_that_is_no_completion(answering: Callable[..., Endpoint], answer: Answer) -> None:
    with pytest.raises(LLMResponseError, match="expected a chat completion"):
        await answering(answer).llm().complete(ASKED, max_tokens=8)
    with pytest.raises(LLMResponseError):
        _ = [text async for text in answering(answer).llm().stream(ASKED, max_tokens=8)]


async def test_an_answer_is_streamed_piece_by_piece(answering: Callable[..., Endpoint]) -> None:
    endpoint = answering(events(piece(""), piece("Not"), piece("ed."), piece(None, "stop"), "[DONE]"))
    assert [text async for text in endpoint.llm().stream(ASKED, max_tokens=8)] == ["Not", "ed."]
    assert endpoint.received[0]["stream"] is True


@pytest.mark.parametrize(
    ("last", "error"),
    [
        (None, LLMResponseError),
        ({"error": {"message": SECRET, "type": "server_error"}}, LLMResponseError),
        ('{"cut', LLMResponseError),
    ],
    ids=["breaks off", "error event", "half an event"],
)
async def test_a_stream_that_fails_half_way_gives_its_pieces_and_then_fails(
    answering: Callable[..., Endpoint], last: object, error: type[LLMError]
) -> None:
    pieces: list[str] = []
    with pytest.raises(error) as caught:
        async for text in answering(events(piece("Not"), *([last] if last else []))).llm().stream(ASKED, max_tokens=8):
            pieces.append(text)
    assert pieces == ["Not"]
    assert SECRET not in str(caught.value)


async def test_a_stream_is_refused_like_an_answer(answering: Callable[..., Endpoint]) -> None:
    with pytest.raises(LLMRefused, match="HTTP 401"):
        _ = [text async for text in answering(refusal(401)).llm().stream(ASKED, max_tokens=8)]


async def test_a_stream_may_be_left_early(answering: Callable[..., Endpoint]) -> None:
    llm = answering(events(piece("Not"), piece("ed."), piece(None, "stop"))).llm()
    async for text in llm.stream(ASKED, max_tokens=8):
        assert text == "Not"
        break
    await llm.aclose()


def test_one_llm_serves_several_event_loops(answering: Callable[..., Endpoint]) -> None:
    llm = answering(Answer(REPLY)).llm()
    texts = [asyncio.run(llm.complete(ASKED, max_tokens=8)).text for _ in range(3)]
    assert texts == ["Noted.", "Noted.", "Noted."]


async def test_a_proxy_of_the_environment_is_not_for_loopback(
    answering: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert (await answering(Answer(REPLY)).llm().complete(ASKED, max_tokens=8)).text == "Noted."


async def test_closing_twice_is_fine(answering: Callable[..., Endpoint]) -> None:
    llm = answering(Answer(REPLY)).llm()
    await llm.complete(ASKED, max_tokens=8)
    await llm.aclose()
    await llm.aclose()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "86400"}, None),
        ({}, None),
    ],
)
async def test_how_long_a_busy_endpoint_asks_to_wait(
    answering: Callable[..., Endpoint], headers: dict[str, str], seconds: float | None
) -> None:
    answer = Answer({"error": {"message": "busy"}}, 429, {"Content-Type": "application/json", **headers})
    with pytest.raises(LLMRefused) as refused:
        await answering(answer).llm().complete(ASKED, max_tokens=8)
    assert (refused.value.status, refused.value.retry_after_s) == (429, seconds)
