"""``personalagent data``: the corpus, checked, turned into training examples, and into cold-start twins."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from personalagent.cli.bench import CORPUS, Data
from personalagent.cli.doors import AsJson, schema_of, settings_of
from personalagent.cli.terminal import counting, emit, note, say
from personalagent.datasets.base import read_jsonl
from personalagent.datasets.corpus import load_corpus
from personalagent.datasets.unseen import (
    TOKENS_A_CASE,
    Candidate,
    UnseenCase,
    aloe_candidates,
    candidates,
    release,
    twin_messages,
    unlike,
    write_twins,
)
from personalagent.datasets.validation import validate
from personalagent.errors import DataError, LLMError, UsageError
from personalagent.inference import tokens_at_most
from personalagent.llm.base import LLM, open_llm
from personalagent.schema import ProfileSchema
from personalagent.shortlist import lines_of
from personalagent.train.samples import STAGES, compose, labelled_needs

app = typer.Typer(no_args_is_help=True, help="The corpus, checked, turned into training examples, and into cold-start twins.")
Stage = Annotated[
    Literal["breadth", "gold"], typer.Option(help="breadth: every slot from the bank; gold: mostly what people said.")
]


@app.command()
def synth(
    context: typer.Context,
    data: Data = CORPUS,
    stage: Stage = "breadth",
    seed: Annotated[int, typer.Option(help="Same corpus, same seed, same examples.")] = 0,
    output: Annotated[Path | None, typer.Option("--out", help="The JSON Lines file; standard output when left out.")] = None,
) -> None:
    """Compose training examples of both tasks from the corpus's train split."""
    examples = compose(load_corpus(data), schema_of(settings_of(context)), seed=seed, mixture=STAGES[stage])
    lines = "".join(json.dumps(asdict(example), ensure_ascii=False) + "\n" for example in examples)
    if output is None:
        sys.stdout.write(lines)
    else:
        try:
            output.write_text(lines, "utf-8")
        except OSError as error:
            raise UsageError(
                f"expected a file that can be written, got {error.strerror}: {output}; choose another place"
            ) from error
    counts = Counter(f"{example.task} from {example.origin}" for example in examples)
    note(f"{len(examples)} examples: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))


@app.command()
def shortlist(
    context: typer.Context,
    data: Data = CORPUS,
    output: Annotated[Path, typer.Option("--out", help="The JSON Lines file.")] = Path("src/personalagent/schema/requests.jsonl"),
) -> None:
    """Write the labelled requests that suggest slots for a request, from the corpus's train split."""
    lines = lines_of(labelled_needs(load_corpus(data), schema_of(settings_of(context))))
    try:
        output.write_text(lines, "utf-8")
    except OSError as error:
        raise UsageError(f"expected a file that can be written, got {error.strerror}: {output}; choose another place") from error
    note(f"{lines.count(chr(10))} requests written to {output}")


@app.command("validate")
def validate_(
    context: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSON Lines of dialogues, turns or phrase-bank records.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check corpus files against the schema; exit code 1 where something is wrong."""
    schema = schema_of(settings_of(context))
    report = validate(files, schema)
    if as_json:
        emit(
            {
                "records": report.records,
                "turns": report.turns,
                "empty_turns": report.empty_turns,
                "requests": report.requests,
                "sufficient_requests": report.sufficient_requests,
                "slots": len(report.slots),
                "problems": [{"where": where, "problem": problem} for where, problem in report.problems],
            }
        )
    else:
        for where, problem in report.problems:
            say(f"{where}: {problem}")
        say(
            f"{report.records} records, {report.turns} turns ({report.empty_turns} empty), {report.requests} requests "
            f"({report.sufficient_requests} sufficient), {len(report.slots)} of {len(schema)} slots; {len(report.problems)} problems"
        )
    if report.problems:
        raise typer.Exit(1)


@app.command()
def unseen(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="A corpus folder, or ALOE's conversations.jsonl.")] = CORPUS,
    output: Annotated[Path, typer.Option("--out", help="The folder of train.jsonl, dev.jsonl and test.jsonl.")] = Path(
        "data/unseen"
    ),
    llm: Annotated[
        str | None,
        typer.Option(help="A model that writes further twins, as the setting `responder`; none: what the corpus holds."),
    ] = None,
    per_persona: Annotated[int, typer.Option(min=1, help="Twins that the model writes for each persona.")] = 2,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many twins.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Requests to the model at once.")] = 4,
    seed: Annotated[int, typer.Option(help="Given to the model.")] = 0,
    price: Annotated[
        tuple[float, float], typer.Option(metavar="IN OUT", help="Of a million tokens, for the estimate of a dry run.")
    ] = (0.0, 0.0),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and call nothing.")] = False,
) -> None:
    """Build the cold-start set: requests whose deciding preference is unknown, and their twins where it is known.

    What is already in the folder is kept and not made again, so a run that was cut off goes on where it stopped.
    """
    settings = settings_of(context)
    schema = schema_of(settings)
    done = _ids_in(output)
    if llm is None:
        cases = [case for case in release(load_corpus(source), schema) if case.id not in done]
        _append(output, cases)
        _tell(len(cases), len(done), skipped=0, failures=())
        return
    found = (
        candidates(load_corpus(source), schema, per_persona=per_persona)
        if source.is_dir()
        else aloe_candidates(source, per_persona=per_persona)
    )
    todo = [each for each in found if f"{each.case_id}/insufficient" not in done and each.case_id not in done][:limit]
    if dry_run:
        read = sum(tokens_at_most(twin_messages(each, schema)[0].content) for each in todo)
        written = TOKENS_A_CASE * len(todo)
        cost = (price[0] * read + price[1] * written) / 1e6
        say(f"{len(todo)} twins to write: about {read} prompt and {written} completion tokens; {cost:.2f} at the given prices")
        return
    written, skipped, failures = asyncio.run(
        _write(todo, open_llm(llm, "responder", settings), schema, seed=seed, parallel=parallel, output=output)
    )
    _tell(written, len(done), skipped=skipped, failures=failures)
    if failures:
        raise typer.Exit(1)


async def _write(
    todo: Sequence[Candidate], llm: LLM, schema: ProfileSchema, *, seed: int, parallel: int, output: Path
) -> tuple[int, int, list[str]]:
    """Let the model write twins, each on disk as soon as it is there; return how many cases, how many it skipped, and what failed."""
    room = asyncio.Semaphore(parallel)
    written, skipped, failures = 0, 0, list[str]()

    async def one(candidate: Candidate, advance: Callable[..., None]) -> None:
        nonlocal written, skipped
        async with room:
            try:
                cases = await write_twins(candidate, llm=llm, schema=schema, seed=seed)
            except (DataError, LLMError) as error:
                failures.append(f"{candidate.case_id}: {error}")
            else:
                _append(output, cases)
                if not cases:
                    _append_line(output / "skipped.jsonl", json.dumps({"id": candidate.case_id}))
                written, skipped = written + len(cases), skipped + (not cases)
        advance()

    try:
        with counting("writing twins", len(todo)) as advance:
            await asyncio.gather(*(one(candidate, advance) for candidate in todo))
    finally:
        await llm.aclose()
    return written, skipped, failures


def _ids_in(folder: Path) -> set[str]:
    return {str(record["id"]) for path in sorted(folder.glob("*.jsonl")) for _, record in read_jsonl(path)}


def _append(folder: Path, cases: Iterable[UnseenCase]) -> None:
    for case in unlike(list(cases)):
        _append_line(folder / f"{case.split}.jsonl", case.as_json())


def _append_line(file: Path, line: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    except OSError as error:
        raise UsageError(
            f"expected a folder that can be written, got {error.strerror}: {file.parent}; choose another place"
        ) from error


def _tell(written: int, kept: int, *, skipped: int, failures: Sequence[str]) -> None:
    for failure in failures:
        note(failure, style="red")
    note(
        f"{written} cases written, {kept} kept, {skipped} skipped by the model, {len(failures)} failed; failed ones are tried again next time"
    )
