"""A sensitive fact is withheld until the user agrees; forgetting it erases it."""

import asyncio

from personalagent import PersonalAgent

ALLERGIES = "health.allergies_intolerances"


async def main() -> None:
    agent = PersonalAgent()
    learned = await agent.learn("alice", "No dairy for me, I'm lactose intolerant.")
    print("withheld:", [fact.value for fact in learned.withheld])

    profile = await agent.grant("alice", "basic_demographics", learned)
    print("kept after consent:", [value.value for value in profile])

    forgotten = await agent.forget("alice", ALLERGIES)
    print("erased operations:", forgotten.operations)
    print("left:", [value.value for value in await agent.profile("alice")])
    await agent.aclose()


asyncio.run(main())
