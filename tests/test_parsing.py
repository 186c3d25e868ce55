"""Both notations of facts, and the list of needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personalagent.inference import Gate
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
from personalagent.profile import OpKind, Polarity, Profile, value_tokens
from personalagent.prompts import load_prompt
from personalagent.schema import ProfileSchema
from tests.conftest import AT

LIVES_ALONE = Fact("household.size_members", "lives alone", "Only me in the house")
NO_CORIANDER = Fact("diet.restrictions", "coriander", "I strictly avoid the stuff", polarity=Polarity.AVOID)
PORTO = Fact("location.city", "Porto", "I've moved to Porto", OpKind.UPDATE)
NO_JAZZ = Fact("music.genres", "jazz", "I'm off jazz", OpKind.RETRACT, Polarity.LIKE)
SAID = ("Only me in the house", "I strictly avoid the stuff", "I've moved to Porto", "I'm off jazz")
PORTO_LINE, ALONE_LINE = "3 location.city update: Porto", "1 household.size_members: lives alone"


@pytest.mark.parametrize(
    ("fact", "line"),
    [
        (LIVES_ALONE, "1 household.size_members: lives alone"),
        (NO_CORIANDER, "2 diet.restrictions avoid: coriander"),
        (PORTO, "3 location.city update: Porto"),
        (NO_JAZZ, "4 music.genres retract like: jazz"),
    ],
)
def test_a_fact_is_one_line_of_the_compact_notation(fact: Fact, line: str) -> None:
    assert format_fact(fact, SAID) == line
    assert parse_compact(line, SAID) == ParsedFacts(ParseOutcome.OK, (fact,))


def test_a_fact_that_no_clause_proves_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="expected a quote of the utterance, got 'quite elsewhere'"):
        format_fact(Fact("location.city", "Porto", "quite elsewhere"), SAID)


@pytest.mark.parametrize(
    ("line", "quote"),
    [
        ("1 knowledge.science_technology: space flight", "Space flight I follow since I was a boy"),
        ("1 knowledge.science_technology: Artemis", "I read about the Artemis mission"),
        ("1 knowledge.science_technology: Artemis flight", "I read about the Artemis mission"),
        ("2 job.occupation: astronaut", "Space flight I follow since I was a boy"),
        ("3 job.occupation: mission", "that is my newspaper"),
    ],
    ids=["held by another", "as named", "shares a word with the one named", "implied by the one named", "held by two others"],
)
def test_a_value_is_proved_by_the_clause_that_holds_its_words(line: str, quote: str) -> None:
    clauses = ("I read about the Artemis mission", "Space flight I follow since I was a boy", "that is my newspaper", "a mission")
    (fact,) = parse_compact(line, clauses).facts
    assert fact.quote == quote


def test_compact_lines_keep_their_order_and_repeats_count_once() -> None:
    text = f"{PORTO_LINE}\n{ALONE_LINE}\n{PORTO_LINE}"
    assert parse_compact(text, SAID) == ParsedFacts(ParseOutcome.OK, (PORTO, LIVES_ALONE))


def test_the_first_line_may_say_that_something_is_new() -> None:
    assert parse_compact(f"new\n{PORTO_LINE}", SAID) == ParsedFacts(ParseOutcome.OK, (PORTO,))
    assert parse_compact("new", SAID).outcome is ParseOutcome.UNREADABLE


@pytest.mark.parametrize("text", ["none", " none\n", "None.", "NONE"])
def test_none_says_that_the_turn_reveals_nothing(text: str) -> None:
    assert parse_compact(text, SAID) == ParsedFacts(ParseOutcome.EMPTY)


def test_a_line_that_cannot_be_read_makes_the_output_partial() -> None:
    text = f"{PORTO_LINE}\nI think the user likes trains."
    assert parse_compact(text, SAID) == ParsedFacts(ParseOutcome.PARTIAL, (PORTO,), ("I think the user likes trains.",))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sure! Here is the profile.",
        "1 diet.restrictions adore: coriander",
        "1 diet.restrictions: ",
        "diet.restrictions: coriander",
        "0 diet.restrictions: coriander",
        "5 diet.restrictions: coriander",
        "٣ diet.restrictions: coriander",
        "1 diet.restrictions forget: coriander",
    ],
)
def test_an_output_without_one_readable_line_is_unreadable(text: str) -> None:
    parsed = parse_compact(text, SAID)
    assert (parsed.outcome, parsed.facts) == (ParseOutcome.UNREADABLE, ())


def test_a_truncated_output_loses_its_last_line_only() -> None:
    text = f"{PORTO_LINE}\n{ALONE_LINE[:-3]}"
    assert parse_compact(text, SAID, truncated=True) == ParsedFacts(ParseOutcome.TRUNCATED, (PORTO,))
    assert parse_compact("1 household", SAID, truncated=True) == ParsedFacts(ParseOutcome.TRUNCATED)


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


said_words = frozenset[str]().union(*map(value_tokens, SAID))
words = (
    st.text(min_size=1)
    .map(lambda text: " ".join(text.split()))
    .filter(bool)
    .filter(lambda text: not value_tokens(text) & said_words)
)
facts = st.builds(
    Fact,
    path=st.sampled_from(["diet.restrictions", "location.city", "marriage_family.household.size_members"]),
    value=words,
    quote=st.sampled_from(SAID),
    op=st.sampled_from([OpKind.ADD, OpKind.UPDATE, OpKind.RETRACT]),
    polarity=st.sampled_from(Polarity),
)


@given(st.lists(facts, min_size=1, max_size=8, unique=True))
def test_what_is_written_in_the_compact_notation_is_read_back(written: list[Fact]) -> None:
    lines = "\n".join(format_fact(fact, SAID) for fact in written)
    assert parse_compact(lines, SAID) == ParsedFacts(ParseOutcome.OK, tuple(written))


messy = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            ["<classification>", "</classification>", "<needs>", "</needs>", "none", " | ", "1 ", "99 ", "a.b", ": ", "\n", "```"]
        )
    ).map("".join),
)


@given(messy, st.booleans())
def test_whatever_a_policy_writes_has_an_outcome(text: str, truncated: bool) -> None:
    for parsed in (parse_compact(text, SAID, truncated=truncated), parse_general(text, truncated=truncated)):
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
