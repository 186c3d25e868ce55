"""``personalagent train``: a policy for the embedded model. Needs ``pip install 'personalagent[train]'``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from personalagent.cli.bench import CORPUS, Data
from personalagent.cli.data import Stage
from personalagent.cli.doors import AsJson, schema_of, settings_of
from personalagent.cli.terminal import emit, note, say
from personalagent.datasets.corpus import load_corpus
from personalagent.datasets.in3 import LABELS, load_in3
from personalagent.errors import EnvironmentProblem, UsageError
from personalagent.llm.base import open_llm
from personalagent.llm.models import find_model
from personalagent.schema import ProfileSchema
from personalagent.train.replies import PreferenceExample, aloe_reply_examples, reply_examples
from personalagent.train.samples import STAGES, PolicyExample, compose

app = typer.Typer(no_args_is_help=True, help="Train a policy for the embedded model.")
RewardName = Literal["rubric", "f1", "bleu", "judge"]
Model = Annotated[
    str | None, typer.Option(help="The backbone: a known model or a GGUF file; the setting embedded_model when left out.")
]
Episodes = Annotated[
    Literal["turns", "dialogues", "both"], typer.Option(help="Single turns with their profile, or whole dialogues from none.")
]
Aloe = Annotated[
    Path | None,
    typer.Option(help="ALOE's datasets folder or conversations.jsonl: its training profiles' replies join the corpus's."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --output.")]
Rank = Annotated[int, typer.Option(min=1, help="Rank of the LoRA.")]
Alpha = Annotated[int, typer.Option(min=1, help="Its scale is alpha / rank.")]
FirstLayer = Annotated[int, typer.Option(min=0, help="Layers below carry no adapter.")]
WarmupSteps = Annotated[int, typer.Option(min=0, help="Steps until the peak.")]
Schedule = Annotated[Literal["cosine", "constant"], typer.Option(help="cosine to zero, or constant, e.g. before another stage.")]
MaxSteps = Annotated[int, typer.Option(help="Stop after so many steps; -1 for no limit.")]
MaxLength = Annotated[int, typer.Option(min=1, help="Tokens; longer examples are left out and counted.")]
SaveSteps = Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")]
Threads = Annotated[int, typer.Option(min=0, help="Torch threads; 0 for torch's own choice.")]


@contextmanager
def train_extra() -> Iterator[None]:
    """Turn a missing training package into what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"expected the training packages, got no {error.name!r}; pip install 'personalagent[train]'"
        ) from error


@app.command()
def sft(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="The folder of the run: checkpoints, adapter, manifest.")],
    data: Data = CORPUS,
    task: Annotated[
        Literal["policy", "reply"], typer.Option(help="policy: infer and needs; reply: the preferred replies, for the responder.")
    ] = "policy",
    stage: Stage = "breadth",
    aloe: Aloe = None,
    init_adapter: Annotated[Path | None, typer.Option(help="Go on from this PEFT adapter instead of a fresh one.")] = None,
    in3: Annotated[Path | None, typer.Option(help="IN3's train.jsonl or its folder: its requests join the corpus's own.")] = None,
    resume: Resume = False,
    model: Model = None,
    rank: Rank = 12,
    alpha: Alpha = 24,
    noise: Annotated[float, typer.Option(min=0, help="NEFTune's alpha: noise on the embeddings; 0 for none.")] = 5.0,
    first_layer: FirstLayer = 4,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 4e-4,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 16,
    warmup_steps: WarmupSteps = 20,
    schedule: Schedule = "cosine",
    epochs: Annotated[float, typer.Option(help="Times through the examples.")] = 1.0,
    max_steps: MaxSteps = -1,
    max_length: MaxLength = 512,
    seed: Annotated[int, typer.Option(help="Of the examples and of the run.")] = 0,
    save_steps: SaveSteps = 100,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a LoRA for both tasks of the policy, or for replies, with checkpoints and a manifest."""
    with train_extra():
        from personalagent.train.sft import SFTSettings, reply_settings, train
    settings = settings_of(context)
    weights = find_model(model or settings.embedded_model, settings.models_dir)
    check_start(output, init_adapter, resume)
    refuse_given(context, ("stage", "in3") if task == "reply" else ("aloe",), f"--task {task}")
    schema = schema_of(settings)
    examples: Sequence[PolicyExample | PreferenceExample] = (
        load_replies(data, aloe, schema) if task == "reply" else _policy_examples(data, in3, schema, seed, stage)
    )
    note(f"{len(examples)} examples, backbone {weights.name}")
    adapter = train(
        examples,
        weights=weights,
        output=output,
        settings=SFTSettings(**fields_of(reply_settings() if task == "reply" else SFTSettings(), context)),
        init_adapter=init_adapter,
        resume=resume,
    )
    say_adapter(adapter, {"examples": len(examples)}, as_json)


def _policy_examples(data: Path, in3: Path | None, schema: ProfileSchema, seed: int, stage: str) -> list[PolicyExample]:
    corpus = load_corpus(data)
    if in3 is not None:
        corpus = replace(corpus, needs=(*corpus.needs, *load_in3(in3, data / LABELS)))
    return compose(corpus, schema, seed=seed, mixture=STAGES[stage])


def load_replies(data: Path, aloe: Path | None, schema: ProfileSchema) -> list[PreferenceExample]:
    """Return the replies of the corpus's train split, and of ALOE's where it is given."""
    return [*reply_examples(load_corpus(data), schema), *(aloe_reply_examples(aloe) if aloe else ())]


def is_given(context: typer.Context, name: str) -> bool:
    """Tell whether an option was given, and is not only its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def refuse_given(context: typer.Context, names: Sequence[str], where: str) -> None:
    """Raise UsageError where an option was given that means nothing here."""
    for name in names:
        if is_given(context, name):
            raise UsageError(f"expected no --{name} with {where}, got {context.params[name]}; leave one of them out")


def check_start(output: Path, init_adapter: Path | None, resume: bool) -> None:
    if resume and not any((output / "checkpoints").glob("checkpoint-*")):
        raise UsageError(f"expected a checkpoint in {str(output / 'checkpoints')!r}, got none; leave out --resume to start")
    if init_adapter is not None and not (init_adapter / "adapter_config.json").is_file():
        raise UsageError(f"expected a PEFT adapter folder, got {str(init_adapter)!r}; give the 'adapter' folder of a run")


@app.command()
def grpo(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="The folder of the run: checkpoints, adapter, log, manifest.")],
    init_adapter: Annotated[Path, typer.Option(help="The PEFT adapter to go on from, as `train sft` writes it.")],
    data: Data = CORPUS,
    episodes: Episodes = "turns",
    judge: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Who decides the reward judge, as the setting responder.")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Verdicts asked for at once.")] = 4,
    resume: Resume = False,
    model: Model = None,
    reward: Annotated[RewardName, typer.Option(help="What a turn is rewarded for, over its format.")] = "rubric",
    batch_size: Annotated[int, typer.Option(min=1, help="Episodes a step.")] = 8,
    group_size: Annotated[int, typer.Option(min=2, help="Rollouts of an episode.")] = 6,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-5,
    warmup_steps: WarmupSteps = 5,
    schedule: Schedule = "constant",
    epochs: Annotated[float, typer.Option(help="Times through the episodes.")] = 1.0,
    max_steps: MaxSteps = -1,
    kl_coef: Annotated[float, typer.Option(min=0, help="Weight of the KL to the adapter that the run began with.")] = 0.01,
    clip_eps: Annotated[float, typer.Option(min=0, help="How far the ratio of probabilities may go from 1.")] = 0.2,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of the rollouts.")] = 1.0,
    turn_weights: Annotated[str, typer.Option(help="equal, or a number for each turn, separated by commas.")] = "equal",
    format_share: Annotated[float, typer.Option(min=0, max=1, help="Share of the reward that format alone brings.")] = 0.2,
    max_prompt_tokens: Annotated[int, typer.Option(min=1, help="Episodes with longer prompts are left out and counted.")] = 512,
    max_completion_tokens: Annotated[int, typer.Option(min=1, help="Tokens of one turn's output.")] = 128,
    micro_batch_size: Annotated[int, typer.Option(min=1, help="Rows in one pass, at most.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the order of the episodes and of the rollouts.")] = 0,
    save_steps: SaveSteps = 20,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Train an adapter further by multi-turn GRPO, with checkpoints, a line a step and a manifest."""
    with train_extra():
        from personalagent.train.episode import train_episodes
        from personalagent.train.grpo import GRPOSettings, train
        from personalagent.train.rewards import RewardJudge
    settings = settings_of(context)
    if (judge is None) == (reward == "judge"):
        raise UsageError(
            f"expected --judge with --reward judge and only there, got {judge!r} with {reward!r}; change one of them"
        )
    weights = find_model(model or settings.embedded_model, settings.models_dir)
    check_start(output, init_adapter, resume)
    schema = schema_of(settings)
    chosen = train_episodes(load_corpus(data), schema, episodes)
    note(f"{len(chosen)} episodes, backbone {weights.name}")
    adapter = train(
        chosen,
        weights=weights,
        init_adapter=init_adapter,
        output=output,
        schema=schema,
        settings=GRPOSettings(**fields_of(GRPOSettings(), context)),
        judge=RewardJudge(open_llm(judge, "judge", settings), schema, output / "verdicts.db", parallel) if judge else None,
        resume=resume,
    )
    say_adapter(adapter, {"episodes": len(chosen)}, as_json)


def say_adapter(adapter: Path, counts: dict[str, int], as_json: bool) -> None:
    """Say where the adapter is, and what to do with it."""
    if as_json:
        emit({"adapter": str(adapter), "manifest": str(adapter.parent / "manifest.json"), **counts})
    else:
        say(f"{adapter}; make it servable with: personalagent train export {adapter} --output policy.gguf")


def fields_of(defaults: Any, context: typer.Context) -> dict[str, Any]:
    """Return the fields of a run's settings: the options that were given over the defaults."""
    given = {each.name: context.params[each.name] for each in fields(defaults) if is_given(context, each.name)}
    return asdict(defaults) | given


@app.command()
def export(
    context: typer.Context,
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="The 'adapter' folder of a training run.")],
    output: Annotated[Path, typer.Option(help="The GGUF file to write.")],
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Write a trained adapter as the GGUF file that llama.cpp serves; use it with --set adapter=FILE, or responder_adapter=FILE."""
    with train_extra():
        from personalagent.train.export import export_adapter
    settings = settings_of(context)
    if not output.parent.is_dir():
        raise UsageError(f"expected --output in a folder that exists, got {str(output)!r}; create {str(output.parent)!r} first")
    written = export_adapter(adapter, output, backbone=find_model(model or settings.embedded_model, settings.models_dir))
    if as_json:
        emit({"path": str(written), "size_bytes": written.stat().st_size})
    else:
        say(f"{written} ({written.stat().st_size / 10**6:.1f} MB)")
