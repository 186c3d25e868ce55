"""Vectors: ranked by cosine, computed once, counted each time."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from personalagent.bench.embedding import MAX_TEXT_TOKENS, Remembered, cosine, nearest, vectors_of
from personalagent.bench.metering import Meter, Phase
from personalagent.config import Settings
from personalagent.errors import ConfigError, LLMRefused, LLMResponseError
from personalagent.llm.embedding import open_embedder
from tests.bench.systems.parts import WordEmbedder
from tests.llm.conftest import Serve, serve  # noqa: F401 - a fixture


def test_the_cosine_of_two_vectors() -> None:
    assert cosine((3, 4), (4, 3)) == pytest.approx(0.96)
    assert cosine((1, 0), (0, 2)) == 0
    assert cosine((0, 0), (1, 1)) == 0


def test_the_nearest_come_first_and_of_equal_ones_the_earlier() -> None:
    assert nearest((1, 0), [(0, 1), (2, 0), (1, 0), (1, 1)], 3) == [1, 2, 3]


async def test_a_text_is_computed_once_and_counted_each_time() -> None:
    inner, meter = WordEmbedder(), Meter()
    embedder = Remembered(inner)
    assert await vectors_of(["a boat", "a tent", "a boat"], embedder, meter, Phase.HISTORY) == [
        (1, 0, 0, 0, 0),
        (0, 0, 0, 1, 0),
        (1, 0, 0, 0, 0),
    ]
    assert inner.texts == ["a boat", "a tent"]
    spent = meter.spent(Phase.HISTORY)
    assert (spent.embedded_texts, spent.embedding_tokens, spent.embedding_seconds) == (3, 6, 1.5)


async def test_a_long_text_is_embedded_by_its_first_and_last_part() -> None:
    embedder = WordEmbedder()
    await vectors_of(["boat " + "and " * 5_000 + "tent"], embedder, Meter(), Phase.HISTORY)
    assert embedder.texts[0].startswith("boat and") and embedder.texts[0].endswith("and tent")
    assert len(embedder.texts[0].split()) <= MAX_TEXT_TOKENS


class Vectors(BaseHTTPRequestHandler):
    """/v1/embeddings that answers `lost` with something else and refuses `long`."""

    def do_POST(self) -> None:
        """Answer one request."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert (self.path, asked["model"], asked["encoding_format"]) == ("/v1/embeddings", "minilm", "float")
        body: object = {
            "object": "list",
            "model": "minilm",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.6, 0.8]}],
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        }
        if asked["input"] == "lost":
            body = {"object": "list", "model": "minilm", "data": []}
        if asked["input"] == "long":
            body = {"error": {"type": "exceed_context_size_error", "message": "my secret is too long", "code": 400}}
        self.send_response(400 if asked["input"] == "long" else 200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Be silent."""


async def test_any_endpoint_gives_vectors_and_a_wrong_answer_is_an_error_of_ours(serve: Serve) -> None:  # noqa: F811
    embedder = open_embedder(f"minilm@{serve(Vectors)}/v1", Settings(max_retries=0))
    embedding = await embedder.embed("a boat")
    assert (embedding.vector, embedding.tokens) == ((0.6, 0.8), 4)
    assert embedding.elapsed_s > 0
    with pytest.raises(LLMResponseError):
        await embedder.embed("lost")
    with pytest.raises(LLMRefused) as refused:
        await embedder.embed("long")
    assert refused.value.is_too_long and "secret" not in str(refused.value)
    await embedder.aclose()


@pytest.mark.parametrize("spec", ["", "embeded", "minilm"])
def test_a_spec_that_cannot_be_meant_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError):
        open_embedder(spec, Settings())


@pytest.mark.model
async def test_the_embedded_model_gives_vectors_that_tell_texts_apart(qwen: Path) -> None:
    embedder = open_embedder("embedded", Settings(models_dir=qwen.parent, embedded_threads=1))
    texts = ["I never eat meat.", "I am a vegetarian.", "The train to Lyon leaves at nine."]
    first = [await embedder.embed(text) for text in texts]
    again = await embedder.embed(texts[0])
    vectors = [each.vector for each in first]
    assert first[0].tokens == 5
    assert again.vector == vectors[0]
    assert sum(value * value for value in vectors[0]) == pytest.approx(1, abs=1e-3)
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2])
    await embedder.aclose()
