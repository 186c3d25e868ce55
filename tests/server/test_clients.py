"""Clients that people have, against a running server with a key: each is personal without a line of its own changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AuthenticationError, OpenAI

from tests.server.endpoint import Endpoint
from tests.server.serving import Served, serving

NPM_PACKAGE = "openai@6"


@pytest.fixture
def keyed(tmp_path: Path, endpoint: Endpoint) -> Iterator[tuple[Served, str]]:
    """A server, and a service key of it."""
    with serving(tmp_path, endpoint) as running:
        secret, _ = running.agent.store.create_key("default", ["chat"], name="clients")
        yield running, secret


def test_the_python_client(keyed: tuple[Served, str]) -> None:
    served, key = keyed
    client = OpenAI(base_url=f"{served.address}/v1", api_key=key, max_retries=0)
    said = [{"role": "user", "content": "I'm vegan"}]
    assert (
        client.chat.completions.create(model="personalagent", user="alice", messages=said).choices[0].message.content
        == "Try a curry."
    )
    chunks = client.chat.completions.create(model="personalagent", user="alice", messages=said, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks).strip() == "Try a curry."
    served.wait_until_inferred("alice")
    assert served.values("alice") == ["vegan"]
    with pytest.raises(AuthenticationError, match="expected a valid key"):
        OpenAI(base_url=f"{served.address}/v1", api_key="pa_live_wrong", max_retries=0).models.list()


def test_langchain(keyed: tuple[Served, str], endpoint: Endpoint) -> None:
    langchain_openai = pytest.importorskip("langchain_openai", reason="needs the dev extra")
    served, key = keyed
    chat = langchain_openai.ChatOpenAI(
        base_url=f"{served.address}/v1", api_key=key, model="personalagent", max_retries=0, extra_body={"user": "carol"}
    )
    assert chat.invoke("I'm vegan").content == "Try a curry."
    served.wait_until_inferred("carol")
    assert "".join(str(chunk.content) for chunk in chat.stream("What diet should dinner suit?")).strip() == "Try a curry."
    assert "vegan" in json.dumps(endpoint.last["messages"]), "what was said before is in the next prompt"


def test_the_javascript_client(keyed: tuple[Served, str], tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("needs node and npm")
    served, key = keyed
    shutil.copy(Path(__file__).parent / "client.mjs", tmp_path)
    installed = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path), NPM_PACKAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm could not install {NPM_PACKAGE}: {installed.stderr[-200:]}")
    environment = {**os.environ, "SERVER": f"{served.address}/v1", "KEY": key}
    done = subprocess.run(
        [node, "client.mjs"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert (got["whole"], got["streamed"].strip()) == ("Try a curry.", "Try a curry.")
    assert got["models"] == ["personalagent", "tiny"]
    served.wait_until_inferred("dora")
    assert served.values("dora") == ["vegan"]
