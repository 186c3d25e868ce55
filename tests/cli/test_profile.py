"""Seeing, correcting, erasing and carrying a profile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import THAI, Cli, facts


def test_an_edit_replaces_a_single_value_and_keeps_its_history(cli: Cli) -> None:
    cli("profile", "edit", "alice", "location.city", "Lisbon")
    assert cli("profile", "edit", "alice", "location.city", "Porto").out == "location.city: Porto\n"
    shown = cli("profile", "show", "alice", "--json").json
    assert [value["value"] for value in shown["profile"]] == ["Porto"]
    assert [value["value"] for value in shown["history"]] == ["Lisbon"]
    assert [op["value"] for op in cli("profile", "history", "alice", "--json").json] == ["Lisbon", "Porto"]


def test_show_is_a_table_in_the_order_of_the_schema(cli: Cli) -> None:
    cli("profile", "edit", "alice", "diet.cuisines", "Thai", "--polarity", "like")
    cli("profile", "edit", "alice", "location.city", "Porto")
    shown = cli("profile", "show", "alice").out
    assert shown.index("location.city") < shown.index("diet.cuisines")
    assert "Thai (like)" in shown
    assert "(edited)" in shown


def test_history_shows_one_slot_with_its_quotes(cli: Cli, script: Callable[..., None]) -> None:
    script("policy", THAI)
    cli("replay", "-", "--user", "alice", stdin=b'[{"role": "user", "content": "I love Thai food"}]')
    line = cli("profile", "history", "alice", "diet.cuisines").out
    assert "+ diet.cuisines  Thai (like)  “I love Thai food”  stated" in line
    assert cli("profile", "history", "alice", "location.city").out.startswith("nothing was ever recorded for")


def test_forget_erases_a_value_a_slot_or_everything(cli: Cli, tmp_path: Path) -> None:
    for value in ("Thai", "Mexican", "Greek"):
        cli("profile", "edit", "alice", "diet.cuisines", value)
    assert cli("profile", "forget", "alice", "diet.cuisines", "Thai", "--yes").code == 0
    assert [v["value"] for v in cli("profile", "show", "alice", "--json").json["profile"]] == ["Mexican", "Greek"]
    assert cli("profile", "forget", "alice", "diet.cuisines", "--yes", "--json").json["operations"] == 2
    assert cli("profile", "forget", "alice", "--everything", "--yes").code == 0
    assert cli("profile", "show", "alice").code == 2
    assert b"Mexican" not in b"".join(path.read_bytes() for path in tmp_path.glob("agent.db*"))


def test_forget_wants_to_be_sure(cli: Cli) -> None:
    cli("profile", "edit", "alice", "diet.cuisines", "Thai")
    assert "expected --yes where nobody can be asked" in cli("profile", "forget", "alice", "diet.cuisines").err
    assert "expected either a SLOT or --everything, got neither" in cli("profile", "forget", "alice", "--yes").err
    assert "got both" in cli("profile", "forget", "alice", "diet.cuisines", "--everything", "--yes").err
    assert len(cli("profile", "show", "alice", "--json").json["profile"]) == 1


def test_an_exported_profile_can_be_imported_elsewhere(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    script("policy", THAI)
    cli("replay", "-", "--user", "alice", stdin=b'[{"role": "user", "content": "I love Thai food"}]')
    file = str(tmp_path / "alice.json")
    assert cli("profile", "export", "alice", "--output", file).code == 0
    exported = cli("profile", "export", "alice").json
    assert exported["operations"] == json.loads(Path(file).read_text("utf-8"))["operations"]

    other = f"--set=database_url=sqlite:///{tmp_path / 'other.db'}"
    imported = cli(other, "profile", "import", "bob", file, "--json").json
    assert imported["user_id"] == "bob"
    (value,) = imported["profile"]
    assert (value["value"], value["source"], value["evidence"][0]["quote"]) == ("Thai", "imported", "I love Thai food")
    assert cli(other, "verify").code == 0


def test_an_import_with_a_slot_of_another_schema_is_refused_as_a_whole(cli: Cli) -> None:
    cli("profile", "edit", "alice", "diet.cuisines", "Thai")
    document = cli("profile", "export", "alice").json
    document["operations"].append({**document["operations"][0], "path": "consumption_lifestyle.diet.snacks"})
    result = cli("profile", "import", "bob", "-", stdin=json.dumps(document).encode())
    assert (result.code, "got 'consumption_lifestyle.diet.snacks' in the export" in result.err) == (2, True)
    assert cli("profile", "show", "bob").code == 2, "nothing was imported"


def test_slots_lists_the_schema_and_any_part_of_it(cli: Cli) -> None:
    assert len(cli("profile", "slots", "--json").json) == 274
    assert [slot["slot"].rpartition(".")[2] for slot in cli("profile", "slots", "pets", "--json").json] == [
        "owned", "desired_or_refused", "care_preferences", "constraints"
    ]  # fmt: skip
    assert "marriage_family.pets.owned" in cli("profile", "slots", "marriage_family.pets").out


def test_a_user_nobody_knows_is_not_an_empty_profile(cli: Cli) -> None:
    cli("profile", "edit", "alice", "diet.cuisines", "Thai")
    for command in ("show", "history", "export"):
        result = cli("profile", command, "alise")
        assert (result.code, "Did you mean 'alice'?" in result.err) == (2, True)


def test_diff_is_what_one_session_changed(cli: Cli, script: Callable[..., None], tmp_path: Path) -> None:
    cli("profile", "edit", "alice", "location.city", "Faro")
    for name, city, said in (("first", "Lisbon", "I live in Lisbon"), ("second", "Porto", "I moved to Porto")):
        script("policy", facts(f"geography_environment.location.city | add | neutral | {city} | {said}"))
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps([{"role": "user", "content": said}]))
        cli("replay", str(file), "--user", "alice")
    first, _ = [each["session_id"] for each in cli("profile", "review", "alice", "--json").json]
    shown = cli("profile", "diff", "alice").out
    assert "+ location.city: Porto  “I moved to Porto”" in shown
    assert "- location.city: Lisbon" in shown
    diff = cli("profile", "diff", "alice", first, "--json").json
    assert [value["value"] for value in diff["old"]] == ["Faro"]
    assert [value["value"] for value in diff["new"]] == ["Lisbon"]
    assert [op["quote"] for turn in diff["turns"] for op in turn["operations"]] == ["I live in Lisbon"]


def test_diff_wants_a_session_of_the_user(cli: Cli) -> None:
    cli("profile", "edit", "alice", "location.city", "Porto")
    assert "expected a user who had a session" in cli("profile", "diff", "alice").err
    assert "expected a session of 'alice', got 's9'" in cli("profile", "diff", "alice", "s9").err
