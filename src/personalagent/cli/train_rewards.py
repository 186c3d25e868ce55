"""``personalagent train rewards``: what the reward's rules say of a policy's turns, in a file that judges and people can be compared with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from personalagent.bench.verdict_files import write_lines
from personalagent.cli.bench import CORPUS, Data, refuse_unwritable
from personalagent.cli.doors import AsJson, schema_of, settings_of
from personalagent.cli.terminal import counting, emit, note, say
from personalagent.cli.train import train_extra
from personalagent.datasets.corpus import load_corpus
from personalagent.errors import UsageError
from personalagent.llm.base import LLM, open_llm
from personalagent.schema import ProfileSchema
from personalagent.train.episode import Episode, Trajectory, dialogue_episodes, roll_out


def rewards(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--out", help="Write a verdict a turn to this file.")],
    data: Data = CORPUS,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="Which personas.")] = "dev",
    limit_dialogues: Annotated[int | None, typer.Option(min=1, help="Only the first so many dialogues.")] = None,
    policy: Annotated[str | None, typer.Option(help="The policy, as the setting of that name.")] = None,
    adapter: Annotated[str | None, typer.Option(metavar="PATH|none|default", help="The LoRA of the embedded policy.")] = None,
    as_json: AsJson = False,
) -> None:
    """Play dialogues with a policy and decide the reward's four criteria of every turn by its rules, without a model."""
    with train_extra():
        from personalagent.train.rewards import rule_verdicts
    settings = settings_of(context, policy=policy, adapter=adapter)
    schema = schema_of(settings)
    episodes = dialogue_episodes(load_corpus(data), split)[:limit_dialogues]
    if not episodes:
        raise UsageError(f"expected dialogues of the split {split!r} in {str(data)!r}, got none; name another split or folder")
    refuse_unwritable(output)
    llm = open_llm(settings.policy, "policy", settings)
    lines: list[dict[str, Any]] = []
    for trajectory in asyncio.run(_roll_out_all(episodes, llm, schema)):
        lines += rule_verdicts(trajectory, schema, llm.name)
    write_lines(output, lines)
    note(f"written to {output}")
    scored = [line["verdict"] for line in lines if line["verdict"]]
    found: dict[str, Any] = {"turns": len(lines), "unreadable": len(lines) - len(scored)}
    if scored:
        found |= {name: round(sum(each["scores"][name] for each in scored) / len(scored), 3) for name in scored[0]["scores"]}
        found["all"] = round(sum(each["score"] for each in scored) / len(scored), 3)
    if as_json:
        emit(found)
    else:
        say(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.items()))


async def _roll_out_all(episodes: Sequence[Episode], llm: LLM, schema: ProfileSchema) -> list[Trajectory]:
    played = []
    try:
        with counting("dialogues", len(episodes)) as advance:
            for episode in episodes:
                played.append(await roll_out(episode, llm, schema))
                advance()
    finally:
        await llm.aclose()
    return played
