"""A profile from conversations you already have: any list of {role, content}."""

import asyncio

from personalagent import Message, PersonalAgent
from personalagent.dialogue import turns_of

history = [
    Message("user", "I love Thai food"),
    Message("assistant", "Noted. I hate coriander, by the way."),
    Message("user", "Thanks, that's all"),
]


async def main() -> None:
    agent = PersonalAgent()
    for turn in turns_of(history):
        learned = await agent.learn("alice", turn.utterance, session_id="import-1")
        print(turn.utterance, "->", [value.value for value in learned.values])
    print(*(f"{value.path}: {value.value}, {value.polarity}" for value in await agent.profile("alice")), sep="\n")
    await agent.aclose()


asyncio.run(main())
