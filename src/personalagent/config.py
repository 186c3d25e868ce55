"""Settings: flag > environment (`PERSONALAGENT_*`) > TOML file > default; what is not known is refused.

The file is `config.toml` in the user's config directory, or wherever PERSONALAGENT_CONFIG says. Nothing is read at import.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn, get_args

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from personalagent.errors import ConfigError
from personalagent.registry import did_you_mean

APP = "personalagent"
PREFIX = "PERSONALAGENT_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
STANDARD_VARIABLES = {
    "openai_api_key": "OPENAI_API_KEY",
    "openai_base_url": "OPENAI_BASE_URL",
    "otel_endpoint": "OTEL_EXPORTER_OTLP_ENDPOINT",
}
"""Settings whose environment variable is the one that every OpenAI client, or every OpenTelemetry exporter, reads."""
CONSENT_WORDS = ("ask", "all", "none")
CONTEXT_TOKENS = 4096
LIMIT_UNITS = ("second", "minute", "hour", "day", "month")
NO_LIMIT = "none"
HIDDEN = "********"
"""Stands for a secret wherever a setting is shown."""
_SECRET_PARTS = (
    re.compile(r"(://[^:/@]*:).*(?=@)"),
    re.compile(r"(https?://)[^/@]+(?=@)"),
    re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]+", re.IGNORECASE),
)
"""In a URL: a password, whatever names a caller of HTTP, and secrets among the parameters."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the value of a setting came from."""

    kind: Literal["default", "file", "environment", "flag"]
    place: str | None = None
    """The path of the TOML file, or the name of the environment variable; None for the other kinds."""

    def __str__(self) -> str:
        """Write it for people."""
        return f"{'environment variable' if self.kind == 'environment' else self.kind}{f' {self.place}' if self.place else ''}"


def _default_database() -> str:
    return f"sqlite:///{(platformdirs.user_data_path(APP) / 'personalagent.db').as_posix()}"


class Settings(BaseModel):
    """Everything that can be set, checked. Build it with `Settings.load`; `Settings(...)` alone reads no environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)

    policy: str = Field("embedded", min_length=1)
    """The LLM that infers: `embedded`, `embedded:MODEL`, `MODEL`, `MODEL@BASE_URL`, `scripted:FILE` or `transformers:FOLDER`."""

    responder: str = Field("embedded", min_length=1)
    """The LLM that writes the replies, in the same forms as `policy`."""

    embedded_model: str = Field("qwen2.5-coder-0.5b-instruct", min_length=1)
    """The model of `embedded`: a name of `personalagent model list`, or the path of a GGUF file."""

    adapter: str = Field("default", min_length=1)
    """The LoRA adapter of the embedded policy: `default` (the one shipped for the model), `none`, or the path of a GGUF file."""

    responder_adapter: str = Field("none", min_length=1)
    """The LoRA adapter of the embedded responder: `none`, or the path of a GGUF file."""

    embedded_threads: int | None = Field(None, ge=1)
    """Processor threads of the embedded model; by default one per processor, at most 8. Set fewer where other programs are busy."""

    embedded_context_tokens: int = Field(CONTEXT_TOKENS, ge=512)
    """Tokens that the embedded model holds of one request, prompt and answer together; more takes more memory, also when it is not used."""

    database_url: str = Field(default_factory=_default_database, min_length=1)
    """Where profiles are kept, as an SQLAlchemy URL; by default SQLite in the user's data directory."""

    models_dir: Path = Field(default_factory=lambda: platformdirs.user_cache_path(APP) / "models")
    """Where `personalagent model pull` keeps weights; by default in the user's cache directory."""

    schema_file: Path | None = None
    """A YAML file that adds to the profile schema, or hides parts of it."""

    categories: int | None = Field(None, ge=1)
    """Use only the first n categories of the profile schema; all when not set."""

    timeout_s: float = Field(120.0, gt=0)
    """How long an LLM may take to answer, in seconds."""

    max_retries: int = Field(2, ge=0)
    """How often a request that met a connection error, HTTP 408, 409, 429 or 5xx is sent again, with growing random pauses."""

    openai_api_key: SecretStr | None = None
    """The key for the OpenAI-compatible endpoint, sent to no other host than the one `policy` or `responder` names."""

    openai_base_url: str | None = Field(None, pattern=r"^https?://")
    """The OpenAI-compatible endpoint of a `MODEL` that names none, e.g. `http://localhost:11434/v1`."""

    language: str = Field("auto", min_length=1)
    """The language the agent asks and answers in, as a BCP 47 code; `auto` follows the user."""

    questions_per_session: int = Field(3, ge=0)
    """How many clarifying questions the agent may ask in one session."""

    learn_mode: Literal["after", "before"] = "after"
    """When the server infers what a message reveals: `after` it answered, in the background, or `before` it answers."""

    question_wait_s: float = Field(0.5, ge=0)
    """How long the server holds the end of an answer, in seconds, for the policy to say whether a question follows."""

    trusted_user_header: str | None = Field(None, min_length=1)
    """A header in which a trusted chat UI names the user to the server, e.g. `X-OpenWebUI-User-Id`; read with service keys only."""

    memobase_layer: bool = True
    """Whether the server also answers Memobase's clients, at `/api/v1`."""

    max_body_bytes: int = Field(10_000_000, ge=1)
    """The longest request that the server reads; a longer one is answered with 413."""

    max_in_flight: int = Field(1_000, ge=1)
    """Requests that the server works on at once; more are answered with 503 and Retry-After."""

    rate_limit: str | None = None
    """Requests that the server takes with one key, e.g. `120/minute`, or `none`; a key may have its own. No limit when not set."""

    quota: str | None = None
    """Requests that one key has for a longer time, e.g. `10000/day`, or `none`; a key may have its own. No limit when not set."""

    rate_limit_storage: str = Field("memory://", pattern="^[a-z+]+://")
    """Where requests are counted: `memory://`, in each process on its own, or a storage that processes share, e.g. `redis://HOST:6379`."""

    otel_endpoint: str | None = Field(None, min_length=1)
    """The OpenTelemetry collector that the server sends spans to, over HTTP, e.g. `http://localhost:4318`; no tracing when not set."""

    log_format: Literal["text", "json"] = "text"
    """What the server logs on standard error: what goes wrong as `text`, or as `json` that and every request, an object a line."""

    drain_s: float = Field(30.0, gt=0)
    """How long the server lets answers finish when it is told to stop, in seconds."""

    consent: tuple[str, ...] = ("ask",)
    """Which sensitive categories may be kept: `ask` the user first, `all`, `none`, or category names separated by commas."""

    @field_validator("models_dir", "schema_file")
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else None

    @field_validator("rate_limit", "quota")
    @classmethod
    def _is_a_limit(cls, text: str | None) -> str | None:
        return text if text is None else check_limit(text)

    @field_validator("consent", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("consent")
    @classmethod
    def _words_stand_alone(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or (len(names) > 1 and set(names) & set(CONSENT_WORDS)):
            raise ValueError("should be ask, all or none alone, or category names separated by commas")
        return names

    @classmethod
    def load(cls, **flags: object) -> Settings:
        """Return the settings of this process; a flag that is None was not given.

        Raises ConfigError for an unknown key, an impossible value or a TOML file that cannot be read.
        """
        return cls.load_with_origins(**flags)[0]

    @classmethod
    def load_with_origins(cls, **flags: object) -> tuple[Settings, Mapping[str, Origin]]:
        """Return the settings of this process, and where each of them came from; raises what `load` raises."""
        given = {name: value for name, value in flags.items() if value is not None}
        _refuse_unknown(given, {name: name for name in cls.model_fields}, "argument")
        file = Origin("file", str(config_path()))
        values: dict[str, object] = {}
        origins = dict.fromkeys(cls.model_fields, Origin("default"))
        for name, value in _from_file().items():
            values[name], origins[name] = value, file
        for name, text in _from_environment(os.environ).items():
            values[name], origins[name] = text, Origin("environment", environment_variable(name))
        for name, value in given.items():
            values[name], origins[name] = value, Origin("flag")
        try:
            return cls.model_validate(values), origins
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False)[0]
        _refuse_value(problem["loc"], problem["msg"], values, origins)


def check_limit(text: str) -> str:
    """Return the text where it is a limit: requests in a unit of time, as in `120/minute`, or `none`.

    Raises ValueError otherwise.
    """
    if text != NO_LIMIT and not re.fullmatch(rf"[1-9]\d{{0,8}}/({'|'.join(LIMIT_UNITS)})", text):
        raise ValueError(f"should be NUMBER/UNIT with a unit of {', '.join(LIMIT_UNITS)}, e.g. 120/minute, or {NO_LIMIT}")
    return text


def shown(setting: str, value: object) -> object:
    """Return the value of a setting as it may be seen: no key, no password of a URL."""
    if value is None:
        return None
    if SecretStr in get_args(Settings.model_fields[setting].annotation):
        return HIDDEN
    if not isinstance(value, str):
        return value
    for part in _SECRET_PARTS:
        value = part.sub(rf"\1{HIDDEN}", value)
    return value


def config_path() -> Path:
    """Return where the TOML file is looked for."""
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named).expanduser() if named else platformdirs.user_config_path(APP) / "config.toml"


def environment_variable(setting: str) -> str:
    """Return the name of the environment variable of a setting."""
    return STANDARD_VARIABLES.get(setting, PREFIX + setting.upper())


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Read the variables that are set; one that is set to nothing counts as not set."""
    settings = {environment_variable(name): name for name in Settings.model_fields}
    ours = {name: text for name, text in environment.items() if name.startswith(PREFIX) and name != CONFIG_VARIABLE}
    _refuse_unknown(ours, settings, "environment variable")
    return {setting: environment[name] for name, setting in settings.items() if environment.get(name)}


def _from_file() -> dict[str, object]:
    """Read the TOML file; a path in it is relative to the file."""
    path = config_path()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not os.environ.get(CONFIG_VARIABLE):
            return {}
        raise ConfigError(
            f"expected {CONFIG_VARIABLE} to name a TOML file, got {str(path)!r}, which is absent; create it or unset the variable"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"expected {path} to be a readable TOML file, got: {error}; correct or remove it") from error
    _refuse_unknown(table, {name: name for name in Settings.model_fields}, f"key in {path}")
    for name in ("models_dir", "schema_file"):
        if isinstance(table.get(name), str):
            table[name] = path.parent / Path(table[name]).expanduser()
    return table


def _refuse_unknown(given: Mapping[str, object], known: Mapping[str, str], kind: str) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(
                f"expected a known setting, got the {kind} {name!r}.{did_you_mean(name, known)} Known: {', '.join(sorted(known))}"
            )


def _refuse_value(
    where: tuple[int | str, ...], reason: str, values: Mapping[str, object], origins: Mapping[str, Origin]
) -> NoReturn:
    name = str(where[0])
    raise ConfigError(
        f"expected {name} to be valid ({reason.removeprefix('Value error, ')}), "
        f"got {shown(name, values.get(name))!r} from the {origins[name]}; "
        f"correct it there ({environment_variable(name)} in the environment, {name} in {config_path()})"
    )
