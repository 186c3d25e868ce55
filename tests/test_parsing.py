"""Both notations of facts, and the list of needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalagent.inference import Gate, is_quote_of
from personalagent.parsing import (
    Fact,
    ParsedFacts,
    ParsedNeeds,
    ParseOutcome,
    format_fact,
    parse_compact,
    parse_general,
    parse_needs,
)
from personalagent.profile import OpKind, Polarity, Profile
from personalagent.prompts import load_prompt
from personalagent.schema import ProfileSchema
from tests.conftest import AT

LIVES_ALONE = Fact("household.size_members", "lives alone", "Only me in the house")
NO_CORIANDER = Fact("diet.restrictions", "coriander", "I strictly avoid the stuff", polarity=Polarity.AVOID)
PORTO = Fact("location.city", "Porto", "I've moved to Porto", OpKind.UPDATE)
NO_JAZZ = Fact("music.genres", "jazz", "I'm off jazz", OpKind.RETRACT, Polarity.LIKE)


@pytest.mark.parametrize(
    ("fact", "line"),
    [
        (LIVES_ALONE, "Only me in the house => household.size_members: lives alone"),
        (NO_CORIANDER, "I strictly avoid the stuff => diet.restrictions avoid: coriander"),
        (PORTO, "I've moved to Porto => location.city update: Porto"),
        (NO_JAZZ, "I'm off jazz => music.genres retract like: jazz"),
    ],
)
def test_a_fact_is_one_line_of_the_compact_notation(fact: Fact, line: str) -> None:
    assert format_fact(fact) == line
    assert parse_compact(line) == ParsedFacts(ParseOutcome.OK, (fact,))


def test_compact_lines_keep_their_order_and_repeats_count_once() -> None:
    text = "\n".join(map(format_fact, [PORTO, LIVES_ALONE, PORTO]))
    assert parse_compact(text) == ParsedFacts(ParseOutcome.OK, (PORTO, LIVES_ALONE))


def test_the_first_line_may_say_that_something_is_new() -> None:
    assert parse_compact(f"new\n{format_fact(PORTO)}") == ParsedFacts(ParseOutcome.OK, (PORTO,))
    assert parse_compact("new").outcome is ParseOutcome.UNREADABLE


@pytest.mark.parametrize("text", ["none", " none\n", "None.", "NONE"])
def test_none_says_that_the_turn_reveals_nothing(text: str) -> None:
    assert parse_compact(text) == ParsedFacts(ParseOutcome.EMPTY)


def test_a_line_that_cannot_be_read_makes_the_output_partial() -> None:
    text = f"{format_fact(PORTO)}\nI think the user likes trains."
    assert parse_compact(text) == ParsedFacts(ParseOutcome.PARTIAL, (PORTO,), ("I think the user likes trains.",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sure! Here is the profile.",
        "a quote => diet.restrictions adore: coriander",
        "a quote => diet.restrictions: ",
        " => diet.restrictions: coriander",
        "a quote => diet.restrictions forget: coriander",
    ],
)
def test_an_output_without_one_readable_line_is_unreadable(text: str) -> None:
    parsed = parse_compact(text)
    assert (parsed.outcome, parsed.facts) == (ParseOutcome.UNREADABLE, ())


def test_a_truncated_output_loses_its_last_line_only() -> None:
    text = f"{format_fact(PORTO)}\n{format_fact(LIVES_ALONE)[:-3]}"
    assert parse_compact(text, truncated=True) == ParsedFacts(ParseOutcome.TRUNCATED, (PORTO,))
    assert parse_compact("Only me in the", truncated=True) == ParsedFacts(ParseOutcome.TRUNCATED)


def test_a_quote_that_holds_the_arrow_is_cut_there_and_still_stands_in_the_utterance(schema: ProfileSchema) -> None:
    """The notation has no escape; what the first arrow leaves is a path that no schema has, so the gate refuses it."""
    said = "map x => y: fine"
    parsed = parse_compact(format_fact(Fact("diet.restrictions", "nuts", said)))
    gate = Gate(said, Profile(), schema, "s", 0, AT)
    assert [fact.path for fact in parsed.facts] == ["y"]
    assert is_quote_of(parsed.facts[0].quote, said)
    assert gate.run(parsed.facts)[0].operations == ()


def test_general_output_is_read_from_its_classification_block() -> None:
    text = """<inferred_profile>
The user lives alone.
</inferred_profile>
<inferred_personality>none</inferred_personality>
<classification>
- household.size_members | add | neutral | lives alone | "Only me in the house"
- `diet.restrictions` | Add | Avoid | coriander | “I strictly avoid the stuff”
- location.city | update | neutral | Porto | I've moved to Porto
</classification>"""
    assert parse_general(text) == ParsedFacts(ParseOutcome.OK, (LIVES_ALONE, NO_CORIANDER, PORTO))


def test_a_general_value_may_not_hold_a_bar_but_a_quote_may() -> None:
    fact = parse_general("<classification>tech.devices | add | neutral | a laptop | laptop | tablet").facts[0]
    assert (fact.value, fact.quote) == ("a laptop", "laptop | tablet")


@pytest.mark.parametrize("block", ["none", "None.", "\n", "```\nnone\n```"])
def test_an_empty_classification_says_that_the_turn_reveals_nothing(block: str) -> None:
    text = f"<inferred_profile>none</inferred_profile><classification>{block}</classification>"
    assert parse_general(text) == ParsedFacts(ParseOutcome.EMPTY)


def test_tags_may_be_in_any_case() -> None:
    text = "<Classification>\nlocation.city | update | neutral | Porto | I've moved to Porto\n</CLASSIFICATION>"
    assert parse_general(text, truncated=True) == ParsedFacts(ParseOutcome.OK, (PORTO,))


def test_a_general_output_without_the_block_is_unreadable_or_truncated() -> None:
    text = "<inferred_profile>The user"
    assert parse_general(text) == ParsedFacts(ParseOutcome.UNREADABLE, unread=(text,))
    assert parse_general(text, truncated=True).outcome is ParseOutcome.TRUNCATED


def test_a_general_block_that_was_cut_loses_its_last_line() -> None:
    text = "<classification>\nlocation.city | update | neutral | Porto | I've moved to Porto\ndiet.restrictions | add | avo"
    assert parse_general(text, truncated=True) == ParsedFacts(ParseOutcome.TRUNCATED, (PORTO,))


def test_a_header_line_is_unread_and_the_rest_is_kept() -> None:
    header = "path | op | polarity | value | quote"
    text = f"<classification>{header}\nlocation.city | update | neutral | Porto | I've moved to Porto</classification>"
    assert parse_general(text) == ParsedFacts(ParseOutcome.PARTIAL, (PORTO,), (header,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("diet.restrictions\nlocation.city", ParsedNeeds(ParseOutcome.OK, ("diet.restrictions", "location.city"))),
        ("<needs>\n- diet.restrictions\n</needs> as asked", ParsedNeeds(ParseOutcome.OK, ("diet.restrictions",))),
        ("diet.restrictions\ndiet.restrictions", ParsedNeeds(ParseOutcome.OK, ("diet.restrictions",))),
        ("none", ParsedNeeds(ParseOutcome.EMPTY)),
        ("<needs>None.</needs>", ParsedNeeds(ParseOutcome.EMPTY)),
        ("```\nlocation.city\n```", ParsedNeeds(ParseOutcome.OK, ("location.city",))),
        ("Where you live:\nlocation.city", ParsedNeeds(ParseOutcome.PARTIAL, ("location.city",), ("Where you live:",))),
        ("I would need to know more.", ParsedNeeds(ParseOutcome.UNREADABLE, unread=("I would need to know more.",))),
        ("", ParsedNeeds(ParseOutcome.UNREADABLE)),
    ],
)
def test_needs_are_one_slot_name_a_line(text: str, expected: ParsedNeeds) -> None:
    assert parse_needs(text) == expected


def test_truncated_needs_lose_their_last_line() -> None:
    assert parse_needs("diet.restrictions\nlocation.ci", truncated=True) == ParsedNeeds(
        ParseOutcome.TRUNCATED, ("diet.restrictions",)
    )


words = st.text(min_size=1).map(lambda text: " ".join(text.split())).filter(bool)
facts = st.builds(
    Fact,
    path=st.sampled_from(["diet.restrictions", "location.city", "marriage_family.household.size_members"]),
    value=words,
    quote=words.filter(lambda text: "=>" not in text),
    op=st.sampled_from([OpKind.ADD, OpKind.UPDATE, OpKind.RETRACT]),
    polarity=st.sampled_from(Polarity),
)


@given(st.lists(facts, min_size=1, max_size=8, unique=True))
def test_what_is_written_in_the_compact_notation_is_read_back(written: list[Fact]) -> None:
    assert parse_compact("\n".join(map(format_fact, written))) == ParsedFacts(ParseOutcome.OK, tuple(written))


messy = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            ["<classification>", "</classification>", "<needs>", "</needs>", "none", " | ", " => ", "a.b", ": ", "\n", "```"]
        )
    ).map("".join),
)


@given(messy, st.booleans())
def test_whatever_a_policy_writes_has_an_outcome(text: str, truncated: bool) -> None:
    for parsed in (parse_compact(text, truncated=truncated), parse_general(text, truncated=truncated)):
        assert bool(parsed.facts) == (parsed.outcome in (ParseOutcome.OK, ParseOutcome.PARTIAL)) or truncated
        assert all(fact.value and fact.quote and fact.path for fact in parsed.facts)
    needs = parse_needs(text, truncated=truncated)
    assert not needs.paths or needs.outcome in (ParseOutcome.OK, ParseOutcome.PARTIAL, ParseOutcome.TRUNCATED)


def test_the_examples_of_the_general_prompt_are_read_and_pass_the_gate(schema: ProfileSchema) -> None:
    """What the prompt shows a model as right must be right."""
    examples = load_prompt("infer_general").template.split("\nExample\n")[1:]
    outcomes = []
    for example in examples:
        head, _, answer = example.partition("<inferred_profile>")
        message = head.partition("Message: ")[2]
        parsed = parse_general(answer)
        delta, refusals, mapped = Gate(message, Profile(), schema, "s", 0, AT).run(parsed.facts)
        assert (len(delta.operations), refusals, mapped) == (len(parsed.facts), (), 0)
        outcomes.append(parsed.outcome)
    assert outcomes == [ParseOutcome.OK, ParseOutcome.EMPTY]


def test_the_example_of_the_needs_prompt_is_read(schema: ProfileSchema) -> None:
    parsed = parse_needs(load_prompt("needs_general").template)
    assert (parsed.outcome, [schema.slot(path).short for path in parsed.paths]) == (ParseOutcome.OK, ["diet.restrictions"])


@pytest.mark.parametrize("name", ["answer", "infer_compact", "infer_general", "needs_compact", "needs_general"])
def test_a_prompt_has_a_version_and_a_hash(name: str) -> None:
    prompt = load_prompt(name)
    assert prompt.version.isdigit()
    assert len(prompt.sha256) == 64
