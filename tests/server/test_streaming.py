"""Streams through the proxy: the truth about how they ended, questions at their end, callers who leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from personalagent.store import AskState
from tests.server.endpoint import Endpoint
from tests.server.serving import DIET_NEEDED, Served, serving

REQUEST: dict[str, Any] = {"model": "tiny", "stream": True, "messages": [{"role": "user", "content": "Dinner ideas?"}]}


def frames(answer: httpx.Response) -> list[Any]:
    """Return what a stream's events hold; ``[DONE]`` as it is."""
    data = [line.removeprefix("data: ") for line in answer.text.split("\n") if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def finish_reasons(events: list[Any]) -> list[str]:
    choices = [choice for event in events if event != "[DONE]" for choice in event.get("choices", [])]
    return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


def test_a_stream_without_a_user_comes_back_to_the_byte(served: Served, endpoint: Endpoint) -> None:
    answer = served.post(REQUEST)
    direct = httpx.post(f"{endpoint.address}/chat/completions", json=REQUEST)
    assert answer.content == direct.content
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_the_official_client_streams_and_the_answer_is_kept(served: Served) -> None:
    stream = served.client().chat.completions.create(**REQUEST, user="alice")
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Try a curry. "
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
    served.wait_for(lambda: [turn.response for turn in served.turns("alice")] == ["Try a curry. "])


def test_the_question_comes_before_the_end_and_the_extension_last(served: Served) -> None:
    served.policy.needs = lambda prompt: DIET_NEEDED
    events = frames(served.post({**REQUEST, "user": "alice", "personalagent": {"mode": "on"}}))
    assert events[-1] == "[DONE]"
    extension = events[-2]["personalagent"]
    assert events[-2]["choices"] == []
    text = "".join(choice["delta"].get("content", "") for event in events[:-2] for choice in event["choices"])
    assert text == f"Try a curry. \n\n{extension['question']}"
    assert [event["choices"][0]["finish_reason"] for event in events[:-2]] == [None, None, None, None, "stop"]
    served.wait_for(lambda: [turn.response for turn in served.turns("alice")] == [text])
    assert [ask.state for ask in served.agent.store.asks("alice")] == [AskState.ASKED]


def test_a_last_chunk_that_holds_words_keeps_them_before_the_question(served: Served, endpoint: Endpoint) -> None:
    served.policy.needs = lambda prompt: DIET_NEEDED
    endpoint.plan.chunks = [{"delta": {"role": "assistant", "content": "Try a curry."}, "finish_reason": "stop"}]
    events = frames(served.post({**REQUEST, "user": "alice"}))
    pieces = [event["choices"][0]["delta"].get("content") for event in events[:-1]]
    assert pieces[0] == "Try a curry."
    assert pieces[1].endswith("?")
    assert finish_reasons(events) == ["stop"]


def test_no_question_after_a_tool_call(served: Served, endpoint: Endpoint) -> None:
    served.policy.needs = lambda prompt: DIET_NEEDED
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    endpoint.plan.chunks = [
        {"delta": {"content": "Looking. ", "tool_calls": [call]}, "finish_reason": None},
        {"delta": {}, "finish_reason": "tool_calls"},
    ]
    direct = httpx.post(f"{endpoint.address}/chat/completions", json=REQUEST)
    assert served.post({**REQUEST, "user": "alice"}).content == direct.content


@pytest.mark.parametrize("cut_after", range(4))
def test_a_cut_stream_ends_with_an_error_and_no_invented_finish(served: Served, endpoint: Endpoint, cut_after: int) -> None:
    endpoint.plan.cut_after = cut_after
    events = frames(served.post({**REQUEST, "user": "alice"}))
    assert events[-1] == "[DONE]"
    assert events[-2]["error"]["code"] == "upstream_cut"
    assert finish_reasons(events) == []
    assert len(events) <= cut_after + 2
    served.wait_for(lambda: [turn.response for turn in served.turns("alice")] == [None])
    with pytest.raises(openai.APIError):
        list(served.client().chat.completions.create(**REQUEST, user="alice"))


def test_an_error_inside_a_stream_is_passed_on_as_it_is(served: Served, endpoint: Endpoint) -> None:
    endpoint.plan.raw = (
        b'data: {"choices":[{"index":0,"delta":{"content":"Try"}}]}\r\n\r\ndata: {"error": {"message": "full"}}\r\n\r\n'
    )
    endpoint.plan.content_type = "text/event-stream"
    answer = served.post({**REQUEST, "user": "alice"})
    assert answer.content == endpoint.plan.raw + b"data: [DONE]\n\n"
    served.wait_for(lambda: [turn.response for turn in served.turns("alice")] == [None])


def test_comments_split_characters_and_usage_chunks_go_through(served: Served, endpoint: Endpoint) -> None:
    endpoint.plan.raw = (
        b": ping\n\n"
        + 'data: {"choices":[{"index":0,"delta":{"content":"Å ✓"},"finish_reason":"stop"}]}\n\n'.encode()
        + b'data: {"choices":[],"usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
    )
    endpoint.plan.content_type = "text/event-stream"
    assert served.post({**REQUEST, "user": "alice"}).content == endpoint.plan.raw
    served.wait_for(lambda: [turn.response for turn in served.turns("alice")] == ["Å ✓"])


def test_a_silent_stream_ends_with_an_error(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.plan.stall_after = 1
    with serving(tmp_path, endpoint, timeout_s=0.3) as served:
        events = frames(served.post({**REQUEST, "user": "alice"}))
    assert events[-2]["error"]["code"] == "upstream_timeout"
    assert finish_reasons(events) == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stall_after", [0, 2])
def test_a_caller_who_leaves_stops_the_endpoint(served: Served, endpoint: Endpoint, stream: bool, stall_after: int) -> None:
    endpoint.plan.stall_after = stall_after
    url = f"{served.address}/v1/chat/completions"
    body = {**REQUEST, "stream": stream, "user": "alice"}
    with pytest.raises(httpx.ReadTimeout), httpx.stream("POST", url, json=body, timeout=1) as answer:
        for _ in answer.iter_raw():
            pass
    assert endpoint.left.wait(5)
    assert [(turn.utterance, turn.response) for turn in served.turns("alice")] == [("Dinner ideas?", None)]
    endpoint.plan.stall_after = None
    assert served.post({**REQUEST, "user": "bob"}).status_code == 200
    served.wait_for(lambda: "personalagent_requests_in_flight 1.0" in served.get("/metrics").text)
