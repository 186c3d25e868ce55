"""An agent in four lines: what it answers, what it asks, and what it learned from which words."""

from personalagent import PersonalAgent

agent = PersonalAgent()
reply = agent.chat_sync("alice", "I'm vegan. What shall I cook tonight?")

print(reply.text)
for value in reply.learned:
    print(f"learned {value.path}: {value.value} ({value.evidence[0].quote!r})")
if reply.assessment is not None:
    print(*reply.assessment.reasons, sep="\n")
