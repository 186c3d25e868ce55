"""``personalagent train dpo``: an adapter for the embedded responder, from preferred and rejected replies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from personalagent.cli.bench import CORPUS, Data
from personalagent.cli.doors import AsJson, schema_of, settings_of
from personalagent.cli.terminal import note
from personalagent.cli.train import (
    Aloe,
    Alpha,
    FirstLayer,
    MaxLength,
    MaxSteps,
    Model,
    Rank,
    Resume,
    SaveSteps,
    Schedule,
    Threads,
    WarmupSteps,
    check_start,
    fields_of,
    load_replies,
    refuse_given,
    say_adapter,
    train_extra,
)
from personalagent.datasets.corpus import load_corpus
from personalagent.llm.models import find_model
from personalagent.train.replies import pairs, policy_pairs


def dpo(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="The folder of the run: checkpoints, adapter, manifest.")],
    data: Data = CORPUS,
    task: Annotated[
        Literal["reply", "policy"],
        typer.Option(help="reply: for the responder; policy: what users put right, of `data from-store`."),
    ] = "reply",
    aloe: Aloe = None,
    init_adapter: Annotated[
        Path | None,
        typer.Option(help="Go on from this PEFT adapter, e.g. of `train sft --task reply`; it is the reference then."),
    ] = None,
    resume: Resume = False,
    model: Model = None,
    rank: Rank = 12,
    alpha: Alpha = 24,
    first_layer: FirstLayer = 4,
    beta: Annotated[float, typer.Option(min=0, help="How dear it is to leave the reference.")] = 0.1,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate; on a GPU the paper's 5e-6.")] = 5e-5,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs a step; on a GPU the paper's 32.")] = 8,
    micro_batch_size: Annotated[int, typer.Option(min=1, help="Pairs in one pass, at most; on a GPU 8.")] = 2,
    warmup_steps: WarmupSteps = 10,
    schedule: Schedule = "cosine",
    epochs: Annotated[float, typer.Option(help="Times through the pairs.")] = 1.0,
    max_steps: MaxSteps = -1,
    max_length: MaxLength = 1024,
    seed: Annotated[int, typer.Option(help="Of the adapter and of the order of the pairs.")] = 0,
    save_steps: SaveSteps = 50,
    threads: Threads = 0,
    as_json: AsJson = False,
) -> None:
    """Train a LoRA by preference, for replies or for what users put right, with checkpoints, a log and a manifest."""
    with train_extra():
        from personalagent.train.dpo import DPOSettings, default_settings, train
    settings = settings_of(context)
    weights = find_model(model or settings.embedded_model, settings.models_dir)
    check_start(output, init_adapter, resume)
    refuse_given(context, ("aloe",) if task == "policy" else (), f"--task {task}")
    schema = schema_of(settings)
    chosen = pairs(policy_pairs(load_corpus(data), schema) if task == "policy" else load_replies(data, aloe, schema))
    note(f"{len(chosen)} pairs, backbone {weights.name}")
    adapter = train(
        chosen,
        weights=weights,
        output=output,
        settings=DPOSettings(**fields_of(default_settings(), context)),
        init_adapter=init_adapter,
        resume=resume,
    )
    say_adapter(adapter, {"pairs": len(chosen)}, as_json)
