"""``personalagent bench coldstart`` and ``transcripts``: does it ask when, and only when, it should, and what does asking bring?"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from personalagent.agent import PersonalAgent, notation_of
from personalagent.bench.closure import NOW, ClosureCase, ClosureRow, closure_cases, play_case, summarise_closure
from personalagent.bench.coldstart import AskRow, Case, cases_of, curve, run_case, summarise_asks, trivial
from personalagent.bench.manifest import manifest_of
from personalagent.bench.transcripts import TranscriptRow, load_transcripts, play, summarise_transcripts
from personalagent.cli.bench import CORPUS, Data, refuse_unwritable, text_of, weights_of
from personalagent.cli.doors import AsJson, schema_of, settings_of
from personalagent.cli.terminal import counting, emit, note, out, say
from personalagent.cli.views import plain_table
from personalagent.config import Settings
from personalagent.datasets.corpus import load_corpus
from personalagent.llm.base import LLM, open_llm
from personalagent.llm.scripted import ScriptedLLM
from personalagent.schema import ProfileSchema
from personalagent.sufficiency import AskRules

CaseT = TypeVar("CaseT")
RowT = TypeVar("RowT")


def coldstart(
    context: typer.Context,
    data: Data = CORPUS,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Which personas and pairs.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many requests.")] = None,
    policy: Annotated[str | None, typer.Option(help="The policy, as the setting of that name.")] = None,
    adapter: Annotated[str | None, typer.Option(metavar="PATH|none|default", help="The LoRA of the embedded policy.")] = None,
    ask_at_least: Annotated[
        float | None, typer.Option(min=0, max=1, help="Probability from which a slot is asked for; as served when left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the policy that tosses a coin.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--out", help="Write manifest, summary, curve and rows to this JSON file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure whether the agent asks when, and only when, something that decides the answer is unknown."""
    settings = settings_of(context, policy=policy, adapter=adapter)
    schema, corpus = schema_of(settings), load_corpus(data)
    refuse_unwritable(output)
    cases = cases_of(corpus, schema, split)[:limit]
    llm = open_llm(settings.policy, "policy", settings)
    rules = AskRules() if ask_at_least is None else AskRules(ask_at_least=ask_at_least)
    rows = asyncio.run(_ask_rows(llm, cases, schema, rules))
    manifest = manifest_of(
        "bench coldstart",
        policy=llm,
        weights=weights_of(settings),
        data=data,
        seed=seed,
        facts={"split": split, "requests": len(cases), "ask_at_least": rules.ask_at_least, "notation": notation_of(llm)},
    )
    others = trivial(cases, corpus, schema, seed=seed)
    summary = {"policy": summarise_asks(rows), **{name: summarise_asks(each) for name, each in others.items()}}
    report = {"manifest": manifest, "summary": summary, "curve": curve(rows)}
    _write(output, report, rows)
    if as_json:
        emit(report)
    else:
        _show_asks(summary)


def closure(
    context: typer.Context,
    data: Data = CORPUS,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Which personas.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many requests.")] = None,
    policy: Annotated[str | None, typer.Option(help="The policy, as the setting of that name.")] = None,
    adapter: Annotated[str | None, typer.Option(metavar="PATH|none|default", help="The LoRA of the embedded policy.")] = None,
    decline_rate: Annotated[
        float, typer.Option(min=0, max=1, help="Share of questions for sensitive slots that the user declines.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Which of them are declined.")] = 0,
    parallel: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 1,
    output: Annotated[Path | None, typer.Option("--out", help="Write manifest, summary and rows to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a simulated user answer the questions, and measure what the profile then knows of what decides the answer."""
    settings = settings_of(context, policy=policy, adapter=adapter, consent="all")
    schema, corpus = schema_of(settings), load_corpus(data)
    refuse_unwritable(output)
    cases = closure_cases(corpus, schema, split)[:limit]
    llm = open_llm(settings.policy, "policy", settings)

    async def play_one(case: ClosureCase, agent: PersonalAgent) -> ClosureRow:
        return await play_case(case, agent, decline_rate=decline_rate, seed=seed)

    rows = asyncio.run(_play(cases, settings, llm, parallel, play_one, lambda: NOW))
    facts = {"split": split, "requests": len(rows), "decline_rate": decline_rate}
    manifest = manifest_of("bench closure", policy=llm, weights=weights_of(settings), data=data, seed=seed, facts=facts)
    report = {"manifest": manifest, "summary": summarise_closure(rows)}
    _write(output, report, rows)
    if as_json:
        emit(report)
        return
    table = plain_table("measure", "value", "95 %")
    for name, figure in report["summary"].items():
        if not name.endswith("_95"):
            table.add_row(name.replace("_", " "), text_of(figure), text_of(report["summary"].get(f"{name}_95") or ""))
    out().print(table)


def transcripts(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines: id, theme, turns of user, may_ask and why.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many conversations.")] = None,
    policy: Annotated[str | None, typer.Option(help="The policy, as the setting of that name.")] = None,
    adapter: Annotated[str | None, typer.Option(metavar="PATH|none|default", help="The LoRA of the embedded policy.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Conversations at once.")] = 1,
    output: Annotated[Path | None, typer.Option("--out", help="Write manifest, summary and rows to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Play conversations through the agent and count the questions that should not have been asked; the answers are not written."""
    settings = settings_of(context, policy=policy, adapter=adapter, consent="all")
    played = load_transcripts(file)[:limit]
    refuse_unwritable(output)
    llm = open_llm(settings.policy, "policy", settings)
    rows = [row for turns in asyncio.run(_play(played, settings, llm, parallel, play)) for row in turns]
    manifest = manifest_of(
        "bench transcripts", policy=llm, weights=weights_of(settings), data=file, seed=0, facts={"turns": len(rows)}
    )
    report = {"manifest": manifest, "summary": summarise_transcripts(rows)}
    _write(output, report, rows)
    if as_json:
        emit(report)
        return
    for row in rows:
        if row.is_wrong:
            say(f"{row.transcript_id}, {row.why_not}: {row.utterance!r} was answered with {row.question!r}")
    summary = report["summary"]
    say(
        f"{summary['wrong_questions']} wrong questions in {summary['turns']} turns of {summary['conversations']} conversations; "
        f"{summary['questions_where_one_may_come']} questions on {summary['turns_where_one_may_come']} turns where one may come"
    )


def _write(output: Path | None, report: dict[str, Any], rows: Sequence[AskRow | ClosureRow | TranscriptRow]) -> None:
    if output is not None:
        output.write_text(json.dumps({**report, "rows": list(map(asdict, rows))}, ensure_ascii=False, indent=1) + "\n", "utf-8")
        note(f"written to {output}")


async def _play(
    cases: Sequence[CaseT],
    settings: Settings,
    llm: LLM,
    parallel: int,
    play_one: Callable[[CaseT, PersonalAgent], Awaitable[RowT]],
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> list[RowT]:
    """Play each case through an agent on a database of its own whose answers are not written; rows in the order of the cases."""
    room = asyncio.Semaphore(parallel)
    with tempfile.TemporaryDirectory() as folder:
        own = settings.model_copy(update={"database_url": f"sqlite:///{folder}/played.db"})
        responder = ScriptedLLM(lambda messages: "Here you are.")
        agent = PersonalAgent(own, policy=llm, responder=responder, clock=clock)
        try:
            with counting("cases", len(cases)) as advance:

                async def one(case: CaseT) -> RowT:
                    async with room:
                        row = await play_one(case, agent)
                    advance()
                    return row

                return list(await asyncio.gather(*map(one, cases)))
        finally:
            await agent.aclose()


async def _ask_rows(llm: LLM, cases: list[Case], schema: ProfileSchema, rules: AskRules) -> list[AskRow]:
    rows: list[AskRow] = []
    try:
        with counting("requests", len(cases)) as advance:
            for case in cases:
                rows.append(await run_case(case, llm=llm, schema=schema, notation=notation_of(llm), rules=rules))
                advance()
    finally:
        await llm.aclose()
    return rows


def _show_asks(summary: dict[str, dict[str, Any]]) -> None:
    table = plain_table("measure", *summary)
    for name in ("balanced_accuracy", "ask_recall", "over_ask", "ask_f1", "slot_hit_at_1", "slot_hit_at_3"):
        table.add_row(name.replace("_", " "), *(text_of(figures[name]) for figures in summary.values()))
    policy = summary["policy"]
    empty = [""] * (len(summary) - 1)
    table.add_row("95 % of balanced accuracy", text_of(policy["balanced_accuracy_95"]), *empty)
    table.add_row("insufficient / sufficient", f"{policy['insufficient']} / {policy['sufficient']}", *empty)
    out().print(table)
