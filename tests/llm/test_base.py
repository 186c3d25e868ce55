"""Specs, and what they open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from personalagent.config import Settings
from personalagent.dialogue import Message
from personalagent.errors import ConfigError, ModelMissingError
from personalagent.llm.base import open_llm
from personalagent.llm.openai import OpenAICompatibleLLM


def settings(tmp_path: Path, **values: object) -> Settings:
    return Settings.model_validate({"models_dir": tmp_path} | values)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("llama3.2:1b@http://localhost:11434/v1", "llama3.2:1b@http://localhost:11434/v1"),
        ("openai:Qwen/Qwen3@https://vllm.example/v1", "Qwen/Qwen3@https://vllm.example/v1"),
        ("@cf/meta/llama", "@cf/meta/llama"),
        ("claude@20240229", "claude@20240229"),
    ],
)
def test_a_model_and_its_endpoint(tmp_path: Path, spec: str, name: str) -> None:
    llm = open_llm(spec, "responder", settings(tmp_path, openai_api_key="k"))
    assert isinstance(llm, OpenAICompatibleLLM)
    assert llm.name == name


def test_a_model_without_an_endpoint_goes_to_the_one_of_the_environment(tmp_path: Path) -> None:
    llm = open_llm("llama3.2:1b", "policy", settings(tmp_path, openai_base_url="http://localhost:11434/v1"))
    assert llm.name == "llama3.2:1b@http://localhost:11434/v1"


def test_a_model_without_key_and_endpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got 'gpt-4o-mini' and neither OPENAI_BASE_URL nor OPENAI_API_KEY"):
        open_llm("gpt-4o-mini", "responder", settings(tmp_path))


@pytest.mark.parametrize(
    "spec", ["", " ", "openai", "openai:", "llama3@localhost:8000", "llama3@localhost", "llama3@vllm.example/v1"]
)
def test_a_spec_that_cannot_be_meant_is_refused(tmp_path: Path, spec: str) -> None:
    with pytest.raises(ConfigError, match=r"expected the policy to be embedded"):
        open_llm(spec, "policy", settings(tmp_path, openai_api_key="k"))


def test_a_slip_in_a_kind_is_not_taken_for_a_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got 'embeded'. Did you mean 'embedded'\?"):
        open_llm("embeded", "policy", settings(tmp_path, openai_api_key="k"))


def test_embedded_without_weights_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"run `personalagent model pull qwen2.5-coder-0.5b-instruct`") as caught:
        open_llm("embedded", "policy", settings(tmp_path))
    assert caught.value.exit_code == 3


def test_embedded_with_an_unknown_model_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'smollm2-135m-instruct'\?"):
        open_llm("embedded:smollm-135m", "policy", settings(tmp_path))


async def test_scripted_reads_its_replies_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "replies.json"
    file.write_text(json.dumps(["one", "two"]), encoding="utf-8")
    llm = open_llm(f"scripted:{file}", "policy", settings(tmp_path))
    assert [(await llm.complete([Message("user", "?")], max_tokens=8)).text for _ in range(2)] == ["one", "two"]


@pytest.mark.parametrize("content", [None, "[1]", '{"a": "b"}', "not json"])
def test_scripted_without_a_list_of_texts_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "replies.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"JSON list of texts"):
        open_llm(f"scripted:{file}", "policy", settings(tmp_path))


def test_scripted_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scripted:FILE"):
        open_llm("scripted", "policy", settings(tmp_path))
