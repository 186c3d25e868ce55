"""A schema of your own: add slots, hide a category, and see that what is hidden cannot be kept."""

import asyncio
from pathlib import Path

from personalagent import PersonalAgent, PersonalAgentError, Settings

Path("slots.yaml").write_text(
    """
categories:
  - id: sailing
    groups:
      - id: boat
        slots:
          - {id: rig, type: text, cardinality: one, sensitivity: public, volatility: slow, ask: ok,
             description: How the user's boat is rigged}
hide: [career_finance]
""",
    encoding="utf-8",
)


async def main() -> None:
    agent = PersonalAgent(Settings.load(schema_file="slots.yaml"))
    profile = await agent.edit("alice", "boat.rig", "gaff cutter")
    print(*(f"{value.path}: {value.value}" for value in profile), sep="\n")
    try:
        await agent.edit("alice", "job.occupation", "skipper")
    except PersonalAgentError as error:
        print(error)
    await agent.aclose()


asyncio.run(main())
