"""``personalagent bench run`` and ``bench report``: systems over a data set, a row on disk each, and tables and figures from the rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from personalagent.bench.conversation import Decoding
from personalagent.bench.embedding import Remembered
from personalagent.bench.figures import draw_figures
from personalagent.bench.manifest import file_sha256
from personalagent.bench.pacing import Pace, PacedLLM
from personalagent.bench.report_suite import as_html, as_markdown, load_agreements, tables_of
from personalagent.bench.rows import Cell, Row, RowLog, write_whole
from personalagent.bench.runner import cells_of, limited, run_cells
from personalagent.bench.scoring import rubrics_of, verdict_lines
from personalagent.bench.suite_manifest import model_facts, settle, suite_manifest
from personalagent.bench.suite_numbers import AGENT, counts, load_suite, suite_numbers
from personalagent.bench.systems.base import SYSTEMS, System, SystemParts, open_system
from personalagent.bench.verdict_files import write_lines
from personalagent.cli.doors import AsJson, settings_of
from personalagent.cli.terminal import emit, err, note, say
from personalagent.config import Settings
from personalagent.datasets.example import Example, load_examples
from personalagent.datasets.noise import NoisePool, NoiseProtocol, load_noise
from personalagent.datasets.prefeval import inter_turns_file
from personalagent.errors import UsageError
from personalagent.judge import VerdictCache
from personalagent.llm.base import LLM, LLMRole, open_llm
from personalagent.llm.models import find_model

OWN_DATA = {"corpus": Path("data/corpus"), "unseen": Path("data/unseen")}
VERDICTS = "verdicts.db"
Price = tuple[float, float]
"""Of a million prompt tokens, and of a million completion tokens."""

DataSet = Annotated[str, typer.Argument(metavar="DATASET", help="prefeval:explicit-mcq, aloe, unseen:dev, corpus:test, …")]
DataPath = Annotated[Path | None, typer.Option("--path", help="Where the data set is; not needed for corpus and unseen.")]
Out = Annotated[Path, typer.Option("--out", help="The run's folder; one that was cut off is gone on with.")]
Systems = Annotated[str, typer.Option(metavar="SPEC,…", help="What is benchmarked: base, reminder, cot, rag, personal-agent, …")]
Masks = Annotated[str, typer.Option(metavar="N,…", help="PersonalAgent with only the first N categories, as further systems.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only so many examples, or dialogues of ALOE, evenly over topics.")]
Noise = Annotated[str, typer.Option(metavar="TOKENS,…", help="Budgets of irrelevant turns before the request.")]
NoiseFile = Annotated[Path | None, typer.Option(help="Dialogues to insert; PrefEval's own where the data set is PrefEval.")]
Protocol = Annotated[NoiseProtocol, typer.Option(help="The same first turns for all, or dialogues drawn by the seed.")]
Spec = Annotated[str | None, typer.Option(metavar="SPEC", help="A model, as the setting of that name.")]
Judge = Annotated[str | None, typer.Option(metavar="SPEC", help="Who scores written answers; options need no judge.")]
Embedder = Annotated[
    str | None, typer.Option(metavar="SPEC", help="For rag, membank, mem0 and langmem: embedded, or MODEL@http://…/v1.")
]
Adapter = Annotated[str | None, typer.Option(metavar="PATH|none|default", help="The LoRA of the embedded policy.")]
ReplyTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Of a written reply.")]
Context = Annotated[
    int, typer.Option("--context-tokens", min=256, help="What the responder holds; more history is cut, and counted.")
]
Seed = Annotated[int, typer.Option(help="Of options, noise, drawn splits and decoding.")]
Parallel = Annotated[int, typer.Option(min=1, help="Requests to be answered at once.")]
Prices = Annotated[
    Price, typer.Option("--price", metavar="IN OUT", help="Of a million tokens of the systems, for the cost shown.")
]
DEFAULT = Decoding()
JudgePrices = Annotated[Price, typer.Option("--judge-price", metavar="IN OUT", help="The same for the judge.")]
Again = Annotated[bool, typer.Option("--retry-failed", help="Run rows that failed again.")]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run, and where to."""

    dataset: str
    examples: tuple[Example, ...]
    systems: tuple[str, ...]
    """Specs, as given."""
    noise: Mapping[str, Any]
    """``tokens``, ``protocol`` and ``sha256``, as the manifest has them."""
    pool: NoisePool | None
    folder: Path
    seed: int
    limit: int | None

    def cells(self, systems: Sequence[str]) -> list[Cell]:
        """Return the cells, for systems as they call themselves."""
        protocol = NoiseProtocol(self.noise["protocol"] or NoiseProtocol.PREFEVAL)
        tokens = self.noise["tokens"]
        return cells_of(self.examples, systems, noise_tokens=tokens, pool=self.pool, protocol=protocol, seed=self.seed)


def run(
    context: typer.Context,
    dataset: DataSet,
    output: Out,
    path: DataPath = None,
    systems: Systems = "base,personal-agent",
    masks: Masks = "",
    limit: Limit = None,
    noise: Noise = "0",
    noise_file: NoiseFile = None,
    noise_protocol: Protocol = NoiseProtocol.PREFEVAL,
    responder: Spec = None,
    policy: Spec = None,
    adapter: Adapter = None,
    judge: Judge = None,
    embedder: Embedder = None,
    max_tokens: ReplyTokens = DEFAULT.max_tokens,
    context_tokens: Context = DEFAULT.context_tokens,
    seed: Seed = 0,
    parallel: Parallel = 4,
    price: Prices = (0.0, 0.0),
    judge_price: JudgePrices = (0.0, 0.0),
    retry_failed: Again = False,
    as_json: AsJson = False,
) -> None:
    """Let systems answer the examples of a data set, and score what they answer; a row is on disk as soon as it is there."""
    settings = settings_of(context, responder=responder, policy=policy, adapter=adapter)
    where = _path_of(dataset, path)
    _refuse_context(settings, context_tokens)
    names = (*_listed(systems), *(f"{AGENT}:{size}" for size in _numbers("--masks", masks)))
    budgets = _numbers("--noise", noise)
    pool, noise_facts = _noise(dataset, where, noise_file, budgets, noise_protocol)
    examples = limited(load_examples(dataset, where, seed=seed), limit)
    plan = Plan(dataset, examples, names, noise_facts, pool, output, seed, limit)
    decoding = Decoding(max_tokens=max_tokens, context_tokens=context_tokens, seed=seed)
    how = {"parallel": parallel, "price": list(price), "judge_price": list(judge_price)}
    rows = asyncio.run(_run(plan, settings, decoding, how, judge=judge, embedder=embedder, again=retry_failed))
    found = counts(rows)
    note(f"written to {output}; show it with: personalagent bench report {output}")
    if as_json:
        emit(found)
    else:
        say(f"{found['rows']} rows: {found['scored']} scored, {found['unscored']} unscored, {found['failed']} failed")
    if found["failed"]:
        raise typer.Exit(1)


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of bench run.")],
    output: Annotated[Path | None, typer.Option("--out", help="Write report.md, .json, .html and the figures here.")] = None,
    agreement: Annotated[list[Path] | None, typer.Option(help="A file of bench agreement, for the table of kappa.")] = None,
    accept: Annotated[list[str] | None, typer.Option(metavar="FIELD", help="A field in which manifests may differ.")] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals' draws.")] = 0,
    without_figures: Annotated[bool, typer.Option("--no-figures", help="Draw none; they need matplotlib.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put stored runs into tables and figures like the paper's; runs that were not made alike are refused."""
    suite = load_suite(folders, accepted=accept or ())
    agreements = load_agreements(agreement or ())
    numbers = suite_numbers(suite, seed=seed) | {"agreement": agreements}
    tables = tables_of(numbers, agreements)
    drawn: dict[str, str] = {}
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        drawn = {} if without_figures else draw_figures(numbers, output)
        record = {"manifests": suite.manifests, **numbers}
        write_whole(output / "report.json", (json.dumps(record, ensure_ascii=False, indent=1) + "\n").encode())
        write_whole(output / "report.html", as_html(suite, numbers, tables, drawn, output).encode())
        write_whole(output / "report.md", as_markdown(suite, numbers, tables, drawn).encode())
        note(f"written to {output}: report.md, report.json, report.html{''.join(f', {name}.png' for name in drawn)}")
    if as_json:
        emit({"manifests": suite.manifests, **numbers})
    elif output is None:
        say(as_markdown(suite, numbers, tables, drawn))


def _remembered(spec: str, settings: Settings) -> Remembered:
    from personalagent.llm.embedding import open_embedder  # brings the openai package: most of a second

    return Remembered(open_embedder(spec, settings))


async def _run(
    plan: Plan,
    settings: Settings,
    decoding: Decoding,
    how: Mapping[str, Any],
    *,
    judge: str | None,
    embedder: str | None,
    again: bool,
) -> list[Row]:
    """Open models and systems, settle the folder, and run what has no row yet."""
    async with AsyncExitStack() as stack:
        models = _Models(settings, stack)
        responder = models.open(settings.responder, "responder")
        policy = models.open(settings.policy, "policy") if any(map(_needs_policy, plan.systems)) else None
        judging = models.open(judge, "judge") if judge else None
        remembered = _remembered(embedder, settings) if embedder else None
        if remembered is not None:
            stack.push_async_callback(remembered.aclose)
        parts = SystemParts(settings, decoding, remembered, policy, plan.seed)
        systems: dict[str, System] = {}
        for spec in plan.systems:
            system = open_system(spec, parts)
            systems[system.name] = system
            stack.push_async_callback(system.aclose)
        cells = plan.cells(list(systems))
        manifest = _manifest(plan, settings, decoding, how, systems, parts, responder=responder, judging=judging, judge=judge)
        goes_on = settle(plan.folder, manifest)
        log = stack.enter_context(RowLog(plan.folder, again=again))
        cache = VerdictCache(plan.folder / VERDICTS) if judging else None
        if cache is not None:
            stack.callback(cache.close)
        if goes_on:
            note(f"{len(log.rows)} of {len(cells)} rows are there; going on")
        with _progress(len(cells), log.rows.values(), how) as on_row:
            rows = await run_cells(
                cells,
                systems,
                responder,
                log,
                judge_llm=judging,
                cache=cache,
                parallel=how["parallel"],
                on_row=on_row,
            )
        if judging is not None:
            write_lines(plan.folder / "verdicts.jsonl", verdict_lines(cells, rows))
        return rows


def _manifest(
    plan: Plan,
    settings: Settings,
    decoding: Decoding,
    how: Mapping[str, Any],
    systems: Mapping[str, System],
    parts: SystemParts,
    *,
    responder: LLM,
    judging: LLM | None,
    judge: str | None,
) -> dict[str, Any]:
    policy, embedder = parts.policy, parts.embedder
    return suite_manifest(
        dataset=plan.dataset,
        examples=plan.examples,
        limit=plan.limit,
        systems=list(systems.values()),
        noise=plan.noise,
        models={
            "responder": model_facts(responder, _weights(settings.responder, settings)),
            "policy": model_facts(policy, _weights(settings.policy, settings) if policy else None),
            "judge": model_facts(judging, _weights(judge, settings) if judge else None),
            "embedder": {"spec": embedder.name} if embedder else None,
        },
        rubrics=rubrics_of(plan.examples) if judging else (),
        decoding=decoding,
        settings=settings,
        seed=plan.seed,
        how=how,
    )


class _Models:
    """Opens models that send nothing again themselves: the pace of their endpoint does, one for all who use it."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._paces: dict[str, Pace] = {}

    def open(self, spec: str, role: LLMRole) -> LLM:
        """Open a model; it is closed with the stack."""
        llm = open_llm(spec, role, self._settings.model_copy(update={"max_retries": 0}))
        self._stack.push_async_callback(llm.aclose)
        pace = self._paces.setdefault(llm.name.rpartition("@")[2], Pace())
        return PacedLLM(llm, max_retries=self._settings.max_retries, pace=pace)


def _needs_policy(spec: str) -> bool:
    name = spec.partition(":")[0]
    return name == AGENT or name not in SYSTEMS.targets


def _weights(spec: str, settings: Settings) -> Path | None:
    kind, _, name = spec.partition(":")
    if kind not in ("embedded", "transformers"):
        return None
    return find_model((kind == "embedded" and name) or settings.embedded_model, settings.models_dir)


def _refuse_context(settings: Settings, context_tokens: int) -> None:
    """Raise UsageError where the embedded responder holds less than the run would give it."""
    held = settings.embedded_context_tokens
    if settings.responder.partition(":")[0] == "embedded" and context_tokens > held:
        raise UsageError(
            f"expected --context-tokens of at most {held}, which the embedded model holds, got {context_tokens}; "
            f"write personalagent --set embedded_context_tokens={context_tokens} bench run …, or give less"
        )


def _path_of(dataset: str, path: Path | None) -> Path:
    where = path or OWN_DATA.get(dataset.partition(":")[0])
    if where is None:
        raise UsageError(
            f"expected --path with the folder or file of {dataset!r}, got none; docs/data-sets.md says where to get it"
        )
    return where


def _noise(
    dataset: str, path: Path, file: Path | None, budgets: Sequence[int], protocol: NoiseProtocol
) -> tuple[NoisePool | None, dict[str, Any]]:
    """Load what is inserted, where something is, and say for the manifest what it was."""
    if not any(budgets):
        return None, {"tokens": list(budgets), "protocol": None, "sha256": None}
    if file is None and dataset.partition(":")[0] != "prefeval":
        raise UsageError(f"expected --noise-file with dialogues to insert into {dataset!r}, got none; name one")
    source = file or inter_turns_file(path)
    facts = {"tokens": list(budgets), "protocol": str(protocol), "sha256": file_sha256(source) if source.is_file() else None}
    return load_noise(str(source)), facts


def _listed(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise UsageError(
            f"expected the names of systems, each once, separated by commas, got {text!r}; write base,personal-agent"
        )
    return names


def _numbers(option: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() for part in parts) or len(set(map(int, parts))) != len(parts):
        raise UsageError(f"expected {option} as whole numbers, each once, separated by commas, got {text!r}; write e.g. 0,3000")
    return list(map(int, parts))


def _cost(row: Row, how: Mapping[str, Any]) -> float:
    """Return what a row cost at the prices given."""

    def at(price: Sequence[float], part: str) -> float:
        spent = row.spent[part]
        return float(price[0] * spent["prompt_tokens"] + price[1] * spent["completion_tokens"]) / 1e6

    return at(how["price"], "history") + at(how["price"], "request") + at(how["judge_price"], "judge")


@contextmanager
def _progress(total: int, done: Any, how: Mapping[str, Any]) -> Iterator[Callable[[Row], None]]:
    """Show rows, the time left and the cost on standard error; without a terminal, a line for every tenth part."""
    rows = list(done)
    state: dict[str, Any] = {
        "rows": len(rows),
        "failed": sum(row.error is not None for row in rows),
        "cost": sum(_cost(row, how) for row in rows),
    }
    is_priced = any((*how["price"], *how["judge_price"]))

    def text() -> str:
        return f"{state['failed']} failed" + (f", cost {state['cost']:.2f}" if is_priced else "")

    def count(row: Row) -> None:
        state["rows"] += 1
        state["failed"] += row.error is not None
        state["cost"] += _cost(row, how)

    console = err()
    if not console.is_terminal:
        note(f"rows: {total}")

        def tell(row: Row) -> None:
            before = 10 * state["rows"] // total
            count(row)
            if 10 * state["rows"] // total > before:
                note(f"rows: {state['rows']} of {total}; {text()}")

        yield tell
        return
    columns = (TextColumn("rows"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(text(), total=total, completed=state["rows"])

        def advance(row: Row) -> None:
            count(row)
            progress.update(task, advance=1, description=text())

        yield advance
