"""``bench infer``: what is run, and what the rows add up to."""

from __future__ import annotations

from collections.abc import Sequence

from personalagent.bench.infer import Job, NeedsRow, TurnRow, history_cost, jobs_of, run_job, run_requests, summarise
from personalagent.datasets.corpus import Corpus
from personalagent.dialogue import Message
from personalagent.llm.base import Completion, Usage
from personalagent.llm.scripted import ScriptedLLM
from personalagent.parsing import Fact, ParseOutcome
from personalagent.profile import OpKind, Polarity
from personalagent.schema import ProfileSchema

CITY = "geography_environment.location.city"
GENRES = "interests_preferences.music.genres"
PORTO = Fact(CITY, "Porto", "in Porto")
LYON = Fact(CITY, "Lyon", "to Lyon", OpKind.UPDATE)
JAZZ = Fact(GENRES, "jazz", "love jazz", polarity=Polarity.LIKE)


def row(
    gold: tuple[Fact, ...] = (), predicted: tuple[Fact, ...] = (), *, kind: str = "dialogue", unit: str = "a", ms: float = 100
) -> TurnRow:
    """Return a turn's row."""
    return TurnRow(unit, kind, "said", gold, predicted, ParseOutcome.OK, {}, "none", None, ms, 50, 10)


async def test_a_job_is_walked_on_the_policys_own_predictions(schema: ProfileSchema) -> None:
    """What the policy wrongly inferred stands in the next prompt, as in serving."""
    llm = ScriptedLLM(
        [
            Completion("1 location.city: Braga", usage=Usage(40, 9), elapsed_s=0.5),
            Completion("none", usage=Usage(45, 1), elapsed_s=0.25),
        ]
    )
    job = Job("a-01", "dialogue", (("I live in Porto", (PORTO,)), ("Thanks", ())))
    rows = await run_job(job, llm=llm, schema=schema, notation="compact")
    assert llm.calls[1].messages[0].content == "infer\nlocation.city: Braga\nsaid:\n1 Thanks"
    assert rows == [
        TurnRow(
            "a-01",
            "dialogue",
            "I live in Porto",
            (PORTO,),
            (Fact(CITY, "Braga", "I live in Porto"),),
            ParseOutcome.OK,
            {},
            "1 location.city: Braga",
            None,
            500,
            40,
            9,
        ),
        TurnRow("a-01", "dialogue", "Thanks", (), (), ParseOutcome.EMPTY, {}, "none", None, 250, 45, 1),
    ]


async def test_later_turns_are_newer_in_the_bench_as_in_serving(schema: ProfileSchema) -> None:
    names = ["location.city", "music.genres", "diet.cuisines"]
    said = [f"the word is w{i}" for i in range(3)]
    llm = ScriptedLLM([*(f"1 {name}: w{i}" for i, name in enumerate(names)), "none"])
    await run_job(Job("a", "dialogue", tuple((text, ()) for text in [*said, "hm"])), llm=llm, schema=schema, notation="compact")
    assert llm.calls[3].messages[0].content == "infer\ndiet.cuisines: w2\nmusic.genres: w1\nlocation.city: w0\nsaid:\n1 hm"


async def test_gold_outside_a_masked_schema_does_not_count(schema: ProfileSchema) -> None:
    job = Job("a", "dialogue", (("I live in Porto and love jazz", (PORTO, JAZZ)),))
    rows = await run_job(job, llm=ScriptedLLM(["none"]), schema=schema.first_categories(1), notation="compact")
    assert rows[0].gold == ()


def test_jobs_are_the_held_out_personas_and_patterns_never_trained_on(corpus: Corpus, schema: ProfileSchema) -> None:
    jobs = jobs_of(corpus, schema, "test", bank_patterns=30, seed=0)
    dialogues = {job.unit for job in jobs if job.kind == "dialogue"}
    assert dialogues == {d.dialogue_id for d in corpus.dialogues_of("test")}
    for kind in ("third_party", "hypothetical"):
        chosen = [job for job in jobs if job.unit.startswith(f"{kind}:")]
        assert len(chosen) == 30
        assert all(gold == () for job in chosen for _, gold in job.turns)
    assert jobs == jobs_of(corpus, schema, "test", bank_patterns=30, seed=0)


async def test_requests_are_asked_on_the_gold_profile_of_their_dialogue(corpus: Corpus, schema: ProfileSchema) -> None:
    llm = ScriptedLLM(lambda messages: "none")
    rows = await run_requests(corpus, "dev", llm=llm, schema=schema, notation="compact")
    expected = [(d.dialogue_id, request.needs) for d in corpus.dialogues_of("dev") for request in d.requests]
    assert [(r.unit, r.gold) for r in rows] == expected
    assert all(r.predicted == () and r.asked_for is None for r in rows)


def test_facts_are_counted_over_all_turns_before_the_ratio_is_taken() -> None:
    """Gold 3, predicted 4, matched 2: precision 1/2, recall 2/3, F1 4/7."""
    rows = [row((PORTO, JAZZ), (PORTO,)), row((JAZZ,), (JAZZ, PORTO), unit="b"), row((), (LYON,), unit="b")]
    group = summarise(rows, [])["facts"]["group"]
    assert {key: group[key] for key in ("precision", "recall", "f1", "predicted", "gold")} == {
        "precision": 0.5,
        "recall": 0.667,
        "f1": 0.571,
        "predicted": 4,
        "gold": 3,
    }


def test_a_false_fact_is_any_fact_in_a_turn_that_reveals_nothing() -> None:
    rows = [
        row(),
        row((), (PORTO, JAZZ)),
        row((PORTO,), ()),
        row((), (JAZZ,), kind="third_party"),
        row(kind="hypothetical"),
        row(kind="hypothetical"),
    ]
    rates = summarise(rows, [])["false_fact_rate"]
    assert {name: (rate["rate"], rate["turns"]) for name, rate in rates.items()} == {
        "empty dialogue turns": (0.5, 2),
        "third_party": (1.0, 1),
        "hypothetical": (0.0, 2),
        "pasted": (None, 0),
        "empty": (None, 0),
        "third_party and hypothetical": (0.333, 3),
    }


def test_an_update_counts_when_the_same_change_of_the_same_group_was_inferred() -> None:
    country = Fact("geography_environment.location.country", "France", "to Lyon", OpKind.UPDATE)
    gone = Fact(GENRES, "jazz", "off jazz", OpKind.RETRACT)
    rows = [row((LYON,), (country,)), row((LYON,), (PORTO,)), row((gone,), (gone,))]
    assert summarise(rows, [])["change"] == {"update": {"accuracy": 0.5, "gold": 2}, "retract": {"accuracy": 1.0, "gold": 1}}


def test_polarity_is_judged_where_a_fact_was_found() -> None:
    disliked = Fact(GENRES, "jazz", "love jazz", polarity=Polarity.DISLIKE)
    assert summarise([row((JAZZ,), (disliked,)), row((JAZZ, PORTO), (JAZZ,))], [])["polarity_accuracy"] == 0.5


def test_needs_are_measured_by_the_slots_named_and_by_the_decision_to_ask() -> None:
    """Gold 3, named 3, matched 2: F1 2/3. Of two insufficient requests one was asked about, rightly; of one sufficient none."""
    rows = [
        NeedsRow("a", (CITY, GENRES), (CITY,), (CITY,), CITY, 100),
        NeedsRow("a", (GENRES,), (GENRES, CITY), (GENRES,), None, 300),
        NeedsRow("b", (), (), (), None, 200),
    ]
    assert summarise([], rows)["needs"] == {
        "f1": 0.667,
        "asks_when_insufficient": 0.5,
        "asks_when_sufficient": 0.0,
        "asked_the_right_slot": 0.5,
        "requests": 3,
        "ms": {"p50": 200, "p95": 300},
    }


def test_costs_are_of_dialogue_turns() -> None:
    rows = [row(ms=ms) for ms in (100, 200, 300, 4_000)] + [row(kind="reveal", ms=9_000)]
    cost = summarise(rows, [])["cost"]
    assert cost["ms"] == {"p50": 200, "p95": 4_000}
    assert cost["prompt_tokens"] == {"p50": 50, "p95": 50}


def test_what_was_not_measured_is_none_and_never_nought() -> None:
    report = summarise([], [])
    assert (report["facts"]["group"]["f1"], report["needs"], report["polarity_accuracy"]) == (None, None, None)
    assert (report["cost"]["ms"], report["single_turns"]["f1"]) == ({"p50": None, "p95": None}, None)


async def test_the_prompt_is_measured_after_histories_of_different_length(corpus: Corpus, schema: ProfileSchema) -> None:
    """The scripted model counts words; what is held to is that the longest history costs no more than the shortest."""

    def counted(messages: Sequence[Message]) -> Completion:
        return Completion("none", usage=Usage(len(messages[-1].content.split()), 1))

    costs = await history_cost(corpus, schema, llm=ScriptedLLM(counted), notation="compact", sample=10)
    assert set(costs) == {"10", "100", "1000"}
    assert costs["1000"] is not None
    assert costs["10"] is not None
    assert costs["1000"] <= 2 * costs["10"]
    few = Corpus(corpus.dialogues[:1], (), (), {})
    assert (await history_cost(few, schema, llm=ScriptedLLM(counted), notation="compact"))["1000"] is None
