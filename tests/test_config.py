"""Where settings come from, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from personalagent.config import Origin, Settings, config_path, environment_variable, shown
from personalagent.errors import ConfigError


@pytest.fixture(autouse=True)
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty TOML file, and no variable of the developer's own shell."""
    for name in Settings.model_fields:
        monkeypatch.delenv(environment_variable(name), raising=False)
    path = tmp_path / "config.toml"
    path.write_text("", encoding="utf-8")
    monkeypatch.setenv("PERSONALAGENT_CONFIG", str(path))
    return path


def test_the_defaults_need_no_key_and_no_service() -> None:
    settings = Settings.load()
    assert (settings.policy, settings.responder) == ("embedded", "embedded")
    assert settings.embedded_model == "qwen2.5-coder-0.5b-instruct"
    assert settings.database_url.startswith("sqlite:///") and settings.database_url.endswith("personalagent/personalagent.db")
    assert settings.consent == ("ask",)
    assert settings.questions_per_session == 3


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('policy = "file"\nresponder = "file"\nlanguage = "file"\n', encoding="utf-8")
    monkeypatch.setenv("PERSONALAGENT_POLICY", "environment")
    monkeypatch.setenv("PERSONALAGENT_RESPONDER", "environment")
    settings = Settings.load(policy="flag", language=None)
    assert (settings.policy, settings.responder, settings.language) == ("flag", "environment", "file")
    assert settings.max_retries == 2


def test_every_setting_knows_where_it_came_from(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text('policy = "file"\nresponder = "file"\nlanguage = "file"\n', encoding="utf-8")
    monkeypatch.setenv("PERSONALAGENT_POLICY", "environment")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    settings, origins = Settings.load_with_origins(policy="flag", responder=None)
    assert list(origins) == list(Settings.model_fields) and settings.policy == "flag"
    assert origins["policy"] == Origin("flag")
    assert origins["responder"] == origins["language"] == Origin("file", str(toml))
    assert origins["openai_api_key"] == Origin("environment", "OPENAI_API_KEY")
    assert origins["timeout_s"] == Origin("default")
    assert [str(origins[name]) for name in ("policy", "language", "openai_api_key", "timeout_s")] == [
        "flag",
        f"file {toml}",
        "environment variable OPENAI_API_KEY",
        "default",
    ]


@pytest.mark.parametrize(
    ("setting", "value", "seen"),
    [
        ("database_url", "postgresql+psycopg://app:hunter2@db/agent", "postgresql+psycopg://app:********@db/agent"),
        ("database_url", "postgresql://app:hun@ter/2@db:5432/agent", "postgresql://app:********@db:5432/agent"),
        (
            "database_url",
            "postgresql://db/agent?user=app&password=hunter2&x=1",
            "postgresql://db/agent?user=app&password=********&x=1",
        ),
        ("database_url", "sqlite:////home/me/agent.db", "sqlite:////home/me/agent.db"),
        ("policy", "llama3.2:1b@http://localhost:11434/v1", "llama3.2:1b@http://localhost:11434/v1"),
        ("policy", "m@https://hunter2@gateway/v1", "m@https://********@gateway/v1"),
        ("openai_base_url", "https://me:hunter2@gateway:8443/v1", "https://********@gateway:8443/v1"),
        ("openai_api_key", "hunter2", "********"),
        ("openai_api_key", None, None),
        ("timeout_s", 2.5, 2.5),
    ],
)
def test_what_is_secret_in_a_setting_is_not_shown(setting: str, value: object, seen: object) -> None:
    assert shown(setting, value) == seen


def test_an_error_about_a_setting_does_not_show_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "ftp://me:hunter2@gateway/v1")
    with pytest.raises(ConfigError, match="environment variable OPENAI_BASE_URL") as raised:
        Settings.load()
    assert "hunter2" not in str(raised.value)


def test_an_unknown_environment_variable_is_refused_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONALAGENT_POLCY", "embedded")
    with pytest.raises(ConfigError, match=r"'PERSONALAGENT_POLCY'. Did you mean 'PERSONALAGENT_POLICY'\?"):
        Settings.load()


def test_an_unknown_key_of_the_file_is_refused_with_the_nearest_name_and_the_path(toml: Path) -> None:
    toml.write_text("max_retry = 3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"key in .*config.toml 'max_retry'. Did you mean 'max_retries'\?"):
        Settings.load()


def test_an_unknown_flag_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"argument 'databse_url'. Did you mean 'database_url'\?"):
        Settings.load(databse_url="sqlite://")


def test_an_impossible_value_names_its_setting_its_origin_and_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONALAGENT_TIMEOUT_S", "soon")
    with pytest.raises(ConfigError, match=r"expected timeout_s .*valid number.* got 'soon' from the environment"):
        Settings.load()


def test_a_broken_file_names_path_and_line(toml: Path) -> None:
    toml.write_text('policy = "embedded"\nresponder = \n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config.toml .*line 2"):
        Settings.load()


def test_a_file_that_is_not_utf8_is_refused(toml: Path) -> None:
    toml.write_bytes(b'policy = "\xff"\n')
    with pytest.raises(ConfigError, match="readable TOML file"):
        Settings.load()


def test_a_named_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERSONALAGENT_CONFIG", str(tmp_path / "absent.toml"))
    with pytest.raises(ConfigError, match="PERSONALAGENT_CONFIG to name a TOML file"):
        Settings.load()


def test_the_usual_file_may_be_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PERSONALAGENT_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nothing-here"))
    assert config_path().name == "config.toml"
    assert Settings.load().policy == "embedded"


def test_a_path_in_the_file_is_relative_to_the_file(toml: Path) -> None:
    toml.write_text('schema_file = "mine.yaml"\n', encoding="utf-8")
    assert Settings.load().schema_file == toml.parent / "mine.yaml"


def test_the_key_of_openai_clients_is_honoured_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:11434/v1")
    settings = Settings.load()
    assert settings.openai_api_key is not None and settings.openai_api_key.get_secret_value() == "sk-secret"
    assert settings.openai_base_url == "http://localhost:11434/v1"
    assert "sk-secret" not in repr(settings)


def test_a_variable_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    monkeypatch.setenv("PERSONALAGENT_POLICY", "")
    assert (Settings.load().openai_base_url, Settings.load().policy) == (None, "embedded")


@pytest.mark.parametrize(("text", "names"), [("all", ("all",)), ("health, religion", ("health", "religion"))])
def test_consent_is_a_word_or_categories(text: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONALAGENT_CONSENT", text)
    assert Settings.load().consent == names


@pytest.mark.parametrize("text", ["all, health", ","])
def test_consent_to_all_and_to_some_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="consent"):
        Settings.load(consent=text)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().policy = "other"


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
